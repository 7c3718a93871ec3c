"""The paper's own cases: its 29-instruction token mixer on one byte a clock at 60 MHz, and its 1.3B model on a D5005.

``python bench/paper.py [--d D,D,...]`` assembles ``examples/mixer29.s`` for each d (512, 1024 and 2048), runs it on the RTL of core
``paper8`` with ideal memory from start to halt, checks registers and memory against the functional simulator and every retirement
against the cycle model, and lists what moves through the memory port. Then it counts the cycles of a 1.3B token on cores ``d5005``
(one DDR4-2400 channel) and ``d5005x4`` (four). JSON goes to the standard output and to ``bench/results/paper.json``.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np

from trilobit.assembler import assemble_file
from trilobit.assembler.geometry import compile_geometry
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.machine import commit, machine
from trilobit.output import write_text
from trilobit.sim.cycles import CycleModel
from trilobit.sim.estimate import estimate
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.rtl import RtlSimulator

ROOT = Path(__file__).resolve().parent.parent
PAPER_MS = 43.0  # arXiv 2406.02528, section on the FPGA: d=512, 60 MHz, 8-bit memory interface
PAPER_1_3B = {"tokens_per_second": 23.8, "milliseconds": 42.0}  # its projection of the 1.3B model on a D5005
SIZES = (512, 1024, 2048)
BOARDS = {"d5005": "ddr4-2400", "d5005x4": "ddr4-2400-x4"}  # core: memory


def mixer(d: int, config: CoreConfig) -> Program:
    """The mixer of width d, its products scaled to an rms near one."""
    return assemble_file(ROOT / "examples" / "mixer29.s", core=config, defines={"D": str(d), "SCALE": repr(round(1.1 / math.sqrt(d), 3))})


def transfers(program: Program, config: CoreConfig) -> list[dict]:
    """What each instruction moves through the memory port, in bytes; the stream counts its headers."""
    moved = []
    for pc, word in enumerate(program.code):
        instruction = ISA.decode(word)
        if instruction.name == "stream":
            size = instruction["beats"] * config.beat_bytes
        elif instruction.name in ("ldv", "sv"):
            size = instruction["len"] * (4 if instruction["wide"] else 2)
        else:
            continue
        region = next(r.name for r in program.regions.values() if r.addr <= instruction["addr"] < r.end)
        moved.append({"pc": pc, "instruction": instruction.name, "region": region, "bytes": size,
                      "direction": "write" if instruction.name == "sv" else "read"})  # fmt: skip
    return moved


def measure(d: int, config: CoreConfig) -> dict:
    """One run, checked."""
    program = mixer(d, config)
    reference = FunctionalSimulator(config, program)
    expected = reference.run()
    model = CycleModel(program, config)
    model.record_retires = True
    model.run()
    with RtlSimulator(config, program) as rtl:
        rtl.record_retires = True
        start = time.process_time()
        result = rtl.run()
        seconds = time.process_time() - start
        if not (result.halted and expected.halted and np.array_equal(rtl.memory, reference.memory)):
            raise SystemExit(f"d={d}: the RTL's memory differs from the functional simulator's")
        if any(not np.array_equal(rtl.register(n), reference.register(n)) for n in range(8)):
            raise SystemExit(f"d={d}: the RTL's registers differ from the functional simulator's")
        if rtl.retires != model.retires or result.cycles != model.cycles:
            raise SystemExit(f"d={d}: the RTL's cycles differ from the cycle model's")
    assert result.cycles is not None
    moved = transfers(program, config)
    total = sum(t["bytes"] for t in moved)
    milliseconds = result.cycles / (config.clock_mhz * 1e3)
    return {
        "d": d, "instructions": len(program.code), "products": sum(ISA.decode(w).name == "tmatmul" for w in program.code),
        "saturated_elements": sum(expected.saturated.values()), "cycles": result.cycles, "milliseconds": round(milliseconds, 4),
        "weight_bytes": 3 * -(-d // 5) * d, "bytes_moved": total,
        "bytes_read": sum(t["bytes"] for t in moved if t["direction"] == "read"),
        "cycles_over_clocks_of_bytes_moved": round(result.cycles * config.beat_bytes / total, 4),
        "transfers": moved, "evidence": "measured: RTL simulation from start to halt, ideal memory; equal to the cycle model",
        "seconds": round(seconds, 2),
    }  # fmt: skip


def token(core: str, memory: str) -> dict:
    """A token of the 1.3B geometry, steady state."""
    config = load_core(core)
    compiled = compile_geometry("1.3b", config)
    found = estimate(compiled.program, config, weights=compiled.weights(), memory=memory, segments=compiled.layout.stream).to_dict()
    keys = ("clock_mhz", "cycles_per_token", "tokens_per_second", "roofline_share", "bytes_per_token", "evidence")
    return {"core": core, "memory": memory, **{key: found[key] for key in keys},
            "milliseconds": round(1e3 / found["tokens_per_second"], 2)}  # fmt: skip


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", default=",".join(map(str, SIZES)), help="widths, such as 512,1024,2048")
    config = load_core("paper8")
    cases = [measure(int(d), config) for d in parser.parse_args().d.split(",")]
    data = {"core": config.name, "clock_mhz": config.clock_mhz, "paper_milliseconds_at_d_512": PAPER_MS, "cases": cases,
            "paper_1_3b": PAPER_1_3B, "tokens_1_3b": [token(*board) for board in BOARDS.items()],
            "machine": machine(), "commit": commit()}  # fmt: skip
    text = json.dumps(data, indent=2) + "\n"
    print(text, end="")
    if [case["d"] for case in cases] == list(SIZES):
        results = Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        write_text(results / "paper.json", text)


if __name__ == "__main__":
    main()
