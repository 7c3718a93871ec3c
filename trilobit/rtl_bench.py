"""Whole tokens of a geometry on the RTL, checked bit by bit against the functional simulator and to the cycle against the cycle model."""

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from trilobit.assembler.geometry import compile_geometry, random_memory
from trilobit.errors import ConfigError, TrilobitError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.spec import VECTOR_REGISTERS
from trilobit.machine import commit, machine
from trilobit.running import raise_fault
from trilobit.sim.backend import Backend, HostSettings, RunResult
from trilobit.sim.cycles import CycleModel
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.geometry import Geometry, parse_geometry, roofline_share
from trilobit.sim.memory import Memory
from trilobit.sim.rtl import RtlSimulator
from trilobit.sim.rtl_build import require_tools

__all__ = ["DifferenceError", "bench_rtl"]

PROMPT = 1
TRAFFIC = ("stream_read_beats", "ldst_read_beats", "write_beats")


class DifferenceError(TrilobitError):
    """Two simulators differ: a bug in one of them."""


class _State:
    """What a run leaves: tokens, registers, and the part of the memory that stores can reach."""

    def __init__(self, backend: Backend, result: RunResult, write_start: int):
        self.tokens = list(zip(result.slots, result.tokens, strict=True))
        self.registers = [backend.register(index) for index in range(VECTOR_REGISTERS)]
        self.written = backend.memory[write_start:].copy()

    def check_equal(self, other: "_State") -> None:
        """DifferenceError if the other state, the functional simulator's, is another one."""
        if self.tokens != other.tokens:
            raise DifferenceError(f"the RTL emitted (slot, token) {self.tokens}, the functional simulator {other.tokens}; this is a bug")
        for index, (mine, theirs) in enumerate(zip(self.registers, other.registers, strict=True)):
            if not np.array_equal(mine, theirs):
                place = tuple(int(axis[0]) for axis in np.nonzero(mine != theirs))
                raise DifferenceError(f"v{index}{list(place)}: the RTL has {mine[place]}, the functional simulator {theirs[place]}; "
                                      f"this is a bug")  # fmt: skip
        if not np.array_equal(self.written, other.written):
            raise DifferenceError("the RTL and the functional simulator left different bytes in memory; this is a bug")


class _Stopwatch:
    """Seconds by step; ``report`` names each step when it begins."""

    def __init__(self, report: Callable[[str], None]):
        self.seconds: dict[str, float] = {}
        self._report = report

    def __call__(self, step: str, what: str, work: Callable[[], Any]) -> Any:
        self._report(what)
        start = time.perf_counter()
        value = work()
        self.seconds[step] = round(time.perf_counter() - start, 3)
        return value


def bench_rtl(geometry: str, config: CoreConfig, memory_model: Memory, *, tokens: int = 2, seed: int = 0,
              report: Callable[[str], None] = lambda what: None) -> dict[str, Any]:  # fmt: skip
    """Run a geometry with random weights on the RTL of a core and check all of it.

    The functional simulator runs first, on the same memory, whose writable part is set back in between. Then the RTL must emit the same
    tokens and leave the same registers and the same memory, bit by bit, and the cycle model must say in which cycle each instruction
    retires and what every counter shows.

    Args:
        geometry: as :func:`trilobit.sim.geometry.parse_geometry` takes it.
        config: the core. memory_model: the memory behind it.
        tokens: generated of each sequence, at least 2; the cycles between them are the steady state.
        seed: of the weights.
        report: called with what begins.

    Returns:
        The figures, ready for JSON; all cycles are measured on the RTL. With a batch above one ``cycles_per_token`` are those of a pass,
        which makes a token of each sequence, and ``tokens_per_second`` counts all of them.

    Raises:
        DifferenceError: something differs.
        FaultError: the machine faulted.
        ToolError: the RTL can't be built; found before anything is computed.
    """
    if tokens < 2:
        raise ConfigError(f"expected at least 2 tokens, to measure the cycles between them, got {tokens}")
    g, watch = parse_geometry(geometry), _Stopwatch(report)
    require_tools()  # the functional simulator runs first, for minutes
    compiled = watch("compile", f"compiling {geometry} for {config.name}", lambda: compile_geometry(g, config, seed=seed))
    program: Program = compiled.program
    image = watch("image", f"drawing {g.ternary_weights:,} random weights", lambda: random_memory(compiled))
    writable, settings = image[program.write_start :], HostSettings(limit=tokens)
    initial = writable.copy()

    functional = FunctionalSimulator(config, program, image, settings)
    with functional:
        for slot in range(config.batch):
            functional.push([(PROMPT + slot) % g.V], slot=slot)
        result = watch("functional", f"{tokens} tokens on the functional simulator", functional.run)
        raise_fault(functional, result)
        expected, committed = _State(functional, result, program.write_start), functional.committed
    writable[:] = initial

    at: list[int] = []
    beats: list[int] = []  # moved until each pass, one token of each sequence, was emitted
    make = lambda: RtlSimulator(config, program, image, settings, memory_model=memory_model)  # noqa: E731
    with watch("build", f"building the RTL of {config.name}", make) as rtl:
        rtl.record_retires = True
        for slot in range(config.batch):
            rtl.push([(PROMPT + slot) % g.V], slot=slot)

        def emitted(token: int, slot: int) -> None:
            if slot < config.batch - 1:
                return
            at.append(rtl.cycles)
            beats.append(sum(rtl.counters()[name] for name in TRAFFIC))
            report(f"token {len(at)} of {tokens}{' of each sequence' if config.batch > 1 else ''} on the RTL, {rtl.cycles:,} cycles")

        processor = time.process_time()
        result = watch("rtl", f"{tokens} tokens on the RTL", lambda: rtl.run(on_slot_token=emitted))
        processor = time.process_time() - processor
        raise_fault(rtl, result)
        _State(rtl, result, program.write_start).check_equal(expected)
        retires = rtl.retires
    writable[:] = initial

    model = CycleModel(program, config, memory_model, settings, image=image, generated=committed)
    with model:
        model.record_retires = True
        for slot in range(config.batch):
            model.push([(PROMPT + slot) % g.V], slot=slot)
        modelled = watch("cycle_model", f"{tokens} tokens on the cycle model", model.run)
        raise_fault(model, modelled)
        for mine, theirs in zip(retires, model.retires, strict=False):
            if mine != theirs:
                raise DifferenceError(f"retired on the RTL: {mine}; on the cycle model: {theirs}; this is a bug")
        if len(retires) != len(model.retires) or _counters(result) != _counters(modelled):
            raise DifferenceError(f"counters: RTL {_counters(result)}, cycle model {_counters(modelled)}; this is a bug")

    cycles = (at[-1] - at[0]) / (tokens - 1)
    return {
        "benchmark": "rtl", "geometry": geometry, **vars(g), "core": config.name, "batch": config.batch, "lanes": config.lanes,
        "memory": memory_model.name, "seed": seed,
        "generated": result.tokens, "slots": result.slots, "instructions": len(program.code),
        "cycles": result.cycles, "cycles_per_token": cycles,
        "clock_mhz": config.clock_mhz, "tokens_per_second": config.batch * config.clock_mhz * 1e6 / cycles,
        "tokens_per_second_per_sequence": config.clock_mhz * 1e6 / cycles,
        **_shares(g, config, memory_model, cycles, (beats[-1] - beats[0]) / (tokens - 1)),
        "weights": result.weights, "weights_per_second": round(result.weights / processor),
        "weights_per_second_elapsed": round(result.weights / watch.seconds["rtl"]), "cycles_per_second": round(result.cycles / processor),
        "seconds": watch.seconds, "image_bytes": len(image), "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "equal_to_functional": True, "equal_to_cycle_model": True, "counters": result.counters,
        "evidence": {"cycles_per_token": "measured (RTL), equal to the cycle model",
                     "tokens_per_second": "from measured cycles, at clock_mhz; not routed at that clock"},
        "machine": machine(), "commit": commit(),
    }  # fmt: skip


def _counters(result: RunResult) -> dict[str, int]:
    """What both know: the cycle model has no data, so no saturations."""
    return {name: value for name, value in result.counters.items() if name != "saturated"}


def _shares(g: Geometry, config: CoreConfig, memory: Memory, cycles: float, beats: float) -> dict[str, Any]:
    """What a token moves, and shares of the port and of the slower of port and pins."""
    port = float(config.beat_bytes)
    pins = memory.pin_bytes_per_cycle(config.clock_mhz)
    peak = port if pins is None else min(port, pins)
    weights = roofline_share(g.ternary_weights, config.beat_bytes, cycles)
    return {
        "roofline_share": weights,
        "bytes_per_token": beats * config.beat_bytes,
        "weight_bytes_per_token": weights * config.beat_bytes * cycles,
        "peak_bytes_per_cycle": peak,
        "weight_share_of_peak": weights * port / peak,
        "required_share_of_peak": beats * config.beat_bytes / (cycles * peak),
    }
