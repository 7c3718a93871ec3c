"""What a token costs on a core: cycles, stalls, traffic and share of the roofline, from the cycle model.

The program runs until it has emitted enough tokens; what lies between two of them is the steady state, from a token's embedding to the
next token. Cycles are exact: the model equals the RTL to the cycle (trilobit.sim.cycles). With a batch above one every pass over the
weights makes a token of each sequence: what is said of a token then counts for a pass, but for the tokens a second, which are those
of all sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trilobit.errors import ProgramError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.segments import Segment
from trilobit.sim.backend import FAULTS, HostSettings
from trilobit.sim.cycles import CycleModel
from trilobit.sim.geometry import roofline_share
from trilobit.sim.memory import IDEAL, Memory, parse_memory
from trilobit.sim.on_chip import on_chip_memories
from trilobit.sim.trace import write_trace

__all__ = ["Estimate", "estimate"]

ENOUGH = 1_000_000  # cycles: short tokens are averaged over about so many
MOST_PASSES = 64
PROMPT = 0  # any token
UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise")
PRODUCT_WAITS = {"weights": "matmul_wait_weights", "activations": "matmul_wait_activations", "output": "matmul_wait_output"}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured stretch of tokens in the steady state.

    Attributes:
        core: what the program ran on. memory: its memory.
        clock_mhz: clock of the figures in seconds.
        weights: ternary weights that a token reads, unpadded; all sequences of a batch read them together.
        passes: in the stretch, each a token of every sequence; counters, waits: what they took together
            (:data:`trilobit.sim.cycles_build.COUNTERS`, ``WAITS``).
    """

    core: CoreConfig
    memory: Memory
    clock_mhz: float
    weights: int
    passes: int
    counters: dict[str, int]
    waits: dict[tuple[str, str], int]

    def _each(self, value: int) -> int | float:
        """A share of a pass, a whole number if it is one."""
        return value // self.passes if value % self.passes == 0 else value / self.passes

    @property
    def cycles_per_token(self) -> int | float:
        """Clocks from a token's embedding to the next token's; those of all sequences of a batch are made together."""
        return self._each(self.counters["cycles"])

    @property
    def tokens_per_second(self) -> float:
        """At the clock asked for, of all sequences together."""
        return self.core.batch * self.tokens_per_second_per_sequence

    @property
    def tokens_per_second_per_sequence(self) -> float:
        """At the clock asked for, of each sequence."""
        return self.clock_mhz * 1e6 / self.cycles_per_token

    @property
    def roofline(self) -> float:
        """1.6 bits a weight over what the memory port could bring in these cycles."""
        return roofline_share(self.weights, self.core.beat_bytes, self.cycles_per_token)

    @property
    def bytes_per_token(self) -> int | float:
        """Bytes that cross the memory port, both ways."""
        beats = sum(self.counters[name] for name in ("stream_read_beats", "ldst_read_beats", "write_beats"))
        return self._each(beats * self.core.beat_bytes)

    @property
    def peak_bytes_per_cycle(self) -> float:
        """What port and memory pins could move in a clock at most."""
        pins = self.memory.pin_bytes_per_cycle(self.clock_mhz)
        return self.core.beat_bytes if pins is None else min(self.core.beat_bytes, pins)

    @property
    def required_bytes_per_cycle(self) -> float:
        """Bytes a clock on what the peak is a peak of: a memory's pins move reads and writes, the port has a channel for each."""
        beats = self.counters["stream_read_beats"] + self.counters["ldst_read_beats"]
        if self.memory.pin_bytes_per_cycle(self.clock_mhz) is not None:
            beats += self.counters["write_beats"]
        return beats * self.core.beat_bytes / self.counters["cycles"]

    @property
    def units(self) -> dict[str, dict[str, Any]]:
        """Busy cycles a token, and waiting cycles by cause: of each unit, of the stream's fetch, of issue."""
        issue = {name.removeprefix("stall_"): count for name, count in self.counters.items() if name.startswith("stall_")}
        units: dict[str, dict[str, Any]] = {unit: {"busy": self.counters[f"busy_{unit}"], "stalls": {}} for unit in UNITS}
        units["tmatmul"] |= {"beats": self.counters["matmul_beats"]}
        units["tmatmul"]["stalls"] = {cause: self.counters[name] for cause, name in PRODUCT_WAITS.items()}
        units["stream"] = {"busy": self.counters["stream_read_beats"], "stalls": {}}
        units["issue"] = {"busy": self.counters["issued"], "stalls": issue}
        for (unit, cause), count in self.waits.items():
            units[unit]["stalls"][cause] = count
        return {
            unit: {
                key: {c: self._each(n) for c, n in value.items()} if key == "stalls" else self._each(value) for key, value in row.items()
            }
            for unit, row in units.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        on_chip = on_chip_memories(self.core)
        return {
            "core": self.core.name, "batch": self.core.batch, "memory": self.memory.name, "clock_mhz": self.clock_mhz,
            "tokens": self.passes * self.core.batch,
            "cycles_per_token": self.cycles_per_token, "tokens_per_second": self.tokens_per_second,
            "tokens_per_second_per_sequence": self.tokens_per_second_per_sequence, "roofline_share": self.roofline,
            "bytes_per_token": self.bytes_per_token,
            "weight_bytes_per_token": self._each(self.counters["matmul_beats"] * self.core.beat_bytes),
            "required_bytes_per_cycle": self.required_bytes_per_cycle, "peak_bytes_per_cycle": self.peak_bytes_per_cycle,
            "memory_share": self.required_bytes_per_cycle / self.peak_bytes_per_cycle,
            "ternary_weights_per_token": self.weights, "units": self.units,
            "on_chip_bits": sum(on_chip.values()), "on_chip_memories": on_chip,
            "evidence": "exact", "evidence_text": "cycle model, equal to the RTL to the cycle; seconds follow from the clock given",
        }  # fmt: skip


def estimate(program: Program, core: CoreConfig, *, weights: int, memory: "str | Memory" = IDEAL, clock_mhz: float | None = None,
             segments: Sequence[Segment] | None = None, image: np.ndarray | None = None,
             trace: Path | None = None) -> Estimate:  # fmt: skip
    """Measure the steady state of a language model's program: one that waits for prompt tokens and emits tokens.

    Args:
        program: as the compiler makes it.
        core: the core; its ``clock_mhz`` is used unless another is given.
        weights: ternary weights that a token reads, unpadded.
        memory: as :func:`trilobit.sim.memory.parse_memory` takes it.
        clock_mhz: clock in MHz; dynamic memories have a clock of their own.
        segments: the stream's segments; default: those in the image.
        image: as for :class:`trilobit.sim.cycles.CycleModel`.
        trace: file for a timeline of the first token that is measured.

    Raises:
        ProgramError: the program faults, or stops before it has emitted two tokens.
    """
    if clock_mhz is not None:
        core = core.replace(clock_mhz=clock_mhz)
    memory = parse_memory(memory)
    with CycleModel(program, core, memory, HostSettings(limit=MOST_PASSES + 2), image=image, segments=segments) as model:
        for slot in range(core.batch):
            model.push([PROMPT], slot=slot)
        begin = _after_pass(model)
        passes = 0
        model.trace(trace is not None)
        while passes < MOST_PASSES:
            end = _after_pass(model)
            passes += 1
            model.trace(False)
            if end[0]["cycles"] - begin[0]["cycles"] >= ENOUGH:
                break
        if trace is not None:
            write_trace(trace, program, model.trace_records(), title=f"{program.name} on {core.name}, memory {memory.name}")
    counters, waits = ({name: count - before[name] for name, count in after.items()} for before, after in zip(begin, end, strict=True))
    return Estimate(core=core, memory=memory, clock_mhz=core.clock_mhz, weights=weights, passes=passes, counters=counters, waits=waits)


def _after_pass(model: CycleModel) -> tuple[dict, dict]:
    """Counters and waits when the next token of every sequence has been emitted."""
    for _ in range(model.config.batch):
        if not model.run_to_token():
            result = model.result()
            what = f"fault {result.fault} ({FAULTS[result.fault]}) at pc {result.fault_pc}" if result.fault else "its end"
            raise ProgramError(f"program {model.program.name!r}: expected a program that emits token after token, got {what} "
                               f"after {len(result.tokens)}")  # fmt: skip
    return model.result().counters, model.waits()
