"""What a batch costs in area: Yosys' cells of the units and of the whole core, by number of sequences.

``python bench/area_batch.py [--core ulx3s] [--batch 1 --batch 2 --batch 4] [--part matmul ...]`` synthesises each part for ECP5, by
itself, with the options of the boards' builds, and prints JSON; it goes to ``bench/results/area-batch.json`` too, after each part. A
part whose Verilog and Yosys are those of the file is not synthesised again; ``--part`` leaves the others as they are there. Nothing is
placed: ``luts`` counts a carry cell as two and 16 x 4 bits of distributed memory as six.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from amaranth.lib import wiring

from trilobit.bitstreams.units import cell_counts, unit_table
from trilobit.hdl.actbuf import ActivationBuffers
from trilobit.hdl.boards.flow import synthesis_script
from trilobit.hdl.core import Core
from trilobit.hdl.ldst import LoadStore
from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.pc import ProgramCounter
from trilobit.hdl.regfile import RegisterFile
from trilobit.hdl.rmsnorm import RMSNorm
from trilobit.hdl.rowwise import RowWise
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import CoreConfig, load_core
from trilobit.machine import commit
from trilobit.output import write_text
from trilobit.sim.toolchain import YOSYS

RESULT = Path(__file__).parent / "results" / "area-batch.json"
PARTS: dict[str, Callable[[CoreConfig], wiring.Component]] = {
    "matmul": TernaryMatmul,
    "matmul16": lambda config: TernaryMatmul(config.replace(beat_bytes=16)),
    "rmsnorm": RMSNorm,
    "rowwise": RowWise,
    "ldst": LoadStore,
    "actbuf": ActivationBuffers,
    "regfile": lambda config: RegisterFile(config, reads=6, writes=4, debug=False),
    "pc": ProgramCounter,
    "core": lambda config: Core(config, debug=False),
}
EVIDENCE = "synthesised for ECP5 by itself (Yosys synth_ecp5), not placed; luts: LUT4, carry cells as two, distributed memory as six each"


def cells(verilog: str, name: str) -> dict[str, int]:
    """luts, registers, dsps and brams of a design."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "top.v").write_text(verilog)
        YOSYS.run(["-q", "-p", synthesis_script(name)], cwd=work)
        (total,) = unit_table(cell_counts(work / "top.json", name), []).values()
    return total


def shares(luts: int, config: CoreConfig) -> dict[str, float]:
    """LUTs per ternary weight a clock, per sequence, and per weight a clock and sequence."""
    weights = config.weights_per_clock
    return {"luts_per_weight_clock": round(luts / weights, 1), "luts_per_sequence": round(luts / config.batch, 1),
            "luts_per_weight_clock_and_sequence": round(luts / weights / config.batch, 1)}  # fmt: skip


def shares_of(parts: dict, config: CoreConfig) -> dict[str, dict[str, float]]:
    """Those of the whole core, and of the product alone at the core's width and at 16 bytes a clock."""
    configs = {"core": config, "matmul": config, "matmul16": config.replace(beat_bytes=16)}
    return {name: shares(parts[name]["luts"], c) for name, c in configs.items() if name in parts}


def measured(config: CoreConfig, names: list[str], before: dict) -> dict:
    """One batch's entry; ``before``: what the file has for it."""
    parts = dict(before.get("parts", {}))
    for name in names:
        verilog = to_verilog(PARTS[name](config), name)
        digest = hashlib.sha256("\0".join([verilog, synthesis_script(name), YOSYS.version]).encode()).hexdigest()[:16]
        if parts.get(name, {}).get("hash") != digest:
            parts[name] = {**cells(verilog, name), "hash": digest, "commit": commit()}
    return {"batch": config.batch, "weights_per_clock": config.weights_per_clock, "shares": shares_of(parts, config),
            "parts": {n: parts[n] for n in PARTS if n in parts}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", default="ulx3s")
    parser.add_argument("--batch", type=int, action="append", help="default: 1, 2, 4 and 8")
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    options = parser.parse_args()
    core = load_core(options.core)
    old = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    entries = {entry["batch"]: entry for entry in old.get("batches", [])} if old.get("core") == core.name else {}
    for batch in options.batch or (1, 2, 4, 8):
        for part in options.part or PARTS:
            entries[batch] = measured(core.replace(batch=batch), [part], entries.get(batch, {}))
            report = {"core": core.name, "lanes": core.lanes, "beat_bytes": core.beat_bytes, "evidence": EVIDENCE, "yosys": YOSYS.version,
                      "command": f"python bench/area_batch.py --core {core.name}",
                      "batches": [entries[b] for b in sorted(entries)]}  # fmt: skip
            write_text(RESULT, json.dumps(report, indent=2) + "\n")
    print(RESULT.read_text(), end="")


if __name__ == "__main__":
    main()
