"""How fast the hardware is simulated: the whole core with a trained model, and its ternary product unit alone, in one run.

``python bench/simulation.py [--core ulx3s] [-o FILE.json]``. One thread; builds are excluded. Speeds are ternary weights (padding of the
unit's matrix excluded: it has none) a second of processor time, the best of several alternating rounds.
"""

import argparse
import ctypes
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler.pipeline import compile_model
from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.fixed import MANTISSA_BITS
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.rtl import RtlSimulator
from trilobit.sim.rtl_build import TOP, build_library

ROUNDS = 5
CYCLES = 400_000
COLUMNS, ROWS = 256, 800  # no padding at any width up to 256


class UnitBench(wiring.Component):
    """The product unit with everything it waits for always there: commands, headers, activations (pseudo-random), weights."""

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "weight": In(8 * config.beat_bytes), "word": In(ISA.word_bits), "rows": In(16), "columns": In(16), "mantissa": In(18),
            "exponent": In(10), "ready": In(1), "beat": Out(1), "checksum": Out(32),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self._config
        unit = TernaryMatmul(config)
        # Registers in front of all inputs, as in the simulated core's top.
        m.domains.core = inner = ClockDomain()
        m.d.comb += inner.clk.eq(ClockSignal("sync"))
        m.d.sync += inner.rst.eq(ResetSignal("sync"))
        m.submodules.unit = DomainRenamer("core")(unit)
        noise = Signal(32, init=0x2545F491)
        shifted = noise ^ (noise << 13)[:32]
        again = shifted ^ (shifted >> 17)
        m.d.core += noise.eq(again ^ (again << 5)[:32])
        # All inputs change at run time for all that the compiler knows, as in the core.
        held = {name: Signal.like(getattr(self, name), name=f"held_{name}") for name in self.signature.members
                if name not in ("beat", "checksum")}  # fmt: skip
        m.d.sync += [register.eq(getattr(self, name)) for name, register in held.items()]
        scales = (unit.act.scale, unit.header.scale)
        m.d.comb += [
            unit.cmd.valid.eq(held["ready"]), unit.cmd.word.eq(held["word"]), unit.write.ok.eq(held["ready"]),
            unit.act.ok.eq(held["ready"]), unit.act.scale_ok.eq(held["ready"]), unit.act.length.eq(held["columns"]),
            unit.header_valid.eq(held["ready"]), unit.header.rows.eq(held["rows"]), unit.header.columns.eq(held["columns"]),
            unit.weight_valid.eq(held["ready"]), unit.weight_data.eq(held["weight"]), self.beat.eq(unit.beat),
            *(s.mantissa.eq(held["mantissa"]) for s in scales), *(s.exponent.eq(held["exponent"]) for s in scales),
        ]  # fmt: skip
        for i in range(0, config.beat_bytes, 4):
            part = unit.act.data[8 * i : 8 * (i + 4)]
            m.d.comb += part.eq(noise.rotate_left(i // 4 % 32)[: len(part)])
        with m.If(unit.write.en):
            m.d.core += self.checksum.eq(self.checksum + unit.write.data[:32])
        return m


class Unit:
    """The compiled unit."""

    def __init__(self, config: CoreConfig, folder: Path, rng: np.random.Generator):
        source = (Path(__file__).parent / "unit.cpp").read_text()
        build_library(folder, to_verilog(UnitBench(config), TOP), {"harness.cpp": source}, [f"-DBEAT_BYTES={config.beat_bytes}"],
                      waves=False, log=folder / "log")  # fmt: skip
        self.lib = ctypes.CDLL(str(folder / "core.so"))
        self.lib.unit_run.restype = self.lib.unit_checksum.restype = ctypes.c_uint64
        self.lib.unit_run.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64]
        self.weights = rng.integers(0, 243, 4096 * config.beat_bytes).astype(np.uint8)
        word = np.frombuffer(ISA.encode("tmatmul", vd=0, act=0, addr=0, len=ROWS, bp=8).to_bytes(16, "little"), dtype=np.uint32)
        self.lib.unit_reset(ctypes.c_void_p(word.ctypes.data), ROWS, COLUMNS, 1 << (MANTISSA_BITS - 1), -25 & 0x3FF)

    def run(self, cycles: int) -> int:
        """Beats consumed."""
        return self.lib.unit_run(cycles, self.weights.ctypes.data, 4096)


def measure(core_name: str, model: str) -> dict:
    """All figures as one dictionary."""
    config = load_core(core_name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        compile_model(model, config, folder / "bundle")
        bundle = load_bundle(folder / "bundle")
        (folder / "unit").mkdir()
        unit = Unit(config, folder / "unit", np.random.default_rng(1))
        core = RtlSimulator(config, bundle.program, bundle.memory(), HostSettings())
        core.push([0])
        core.run(max_cycles=CYCLES)
        unit.run(CYCLES)
        best = {"core": 0.0, "unit": 0.0}
        utilisation = {}
        for _ in range(ROUNDS):
            before, begin = core.result().counters["matmul_beats"], time.process_time()
            core.run(max_cycles=CYCLES)
            seconds = time.process_time() - begin
            beats = core.result().counters["matmul_beats"] - before
            best["core"], utilisation["core"] = max(best["core"], 5 * config.beat_bytes * beats / seconds), beats / CYCLES
            begin = time.process_time()
            beats = unit.run(CYCLES)
            seconds = time.process_time() - begin
            best["unit"], utilisation["unit"] = max(best["unit"], 5 * config.beat_bytes * beats / seconds), beats / CYCLES
        core.close()
        if not unit.lib.unit_checksum():
            raise SystemExit("the unit wrote no results; the measurement means nothing")
        with FunctionalSimulator(config, bundle.program, bundle.memory(), HostSettings(limit=20)) as functional:
            functional.push([0])
            functional.run(max_instructions=len(bundle.program.code))  # decode once
            before, begin = functional.result().weights, time.perf_counter()
            result = functional.run()
            functional_speed = (result.weights - before) / (time.perf_counter() - begin)
    return {
        "core": core_name, "model": model, "evidence": "measured, one thread",
        "core_weights_per_second": round(best["core"]), "unit_weights_per_second": round(best["unit"]),
        "core_cycles_per_second": round(best["core"] / (5 * config.beat_bytes * utilisation["core"])),
        "unit_cycles_per_second": round(best["unit"] / (5 * config.beat_bytes * utilisation["unit"])),
        "share_of_unit": round(best["core"] / best["unit"], 3), "functional_weights_per_second": round(functional_speed),
        "unit_utilisation": round(utilisation["unit"], 4), "processor": _processor(),
    }  # fmt: skip


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def main() -> None:
    """Measure, print, and write the JSON file if asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", default="ulx3s")
    parser.add_argument("--model", default="tales")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.core, arguments.model), indent=2) + "\n"
    print(text, end="")
    if arguments.output:
        temporary = arguments.output.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(arguments.output)


if __name__ == "__main__":
    main()
