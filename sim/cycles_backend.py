"""Values from the functional simulator, time from the cycle model: both exact, and fast."""

from collections.abc import Callable, Sequence

import numpy as np

from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.sim.backend import Backend, HostSettings, Retire, RunResult
from trilobit.sim.cycles import CycleModel
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.memory import IDEAL, Memory
from trilobit.sim.trace_records import TraceRecords

__all__ = ["CycleBackend"]


class CycleBackend(Backend):
    """A program on both: the functional simulator goes first and finds the tokens, then the cycle model says when everything happens.

    Args:
        config, program, memory, settings: as for :class:`trilobit.sim.backend.Backend`.
        memory_model: timing of the memory, as for :class:`trilobit.sim.cycles.CycleModel`.
    """

    def __init__(self, config: CoreConfig, program: Program, memory: np.ndarray | None = None, settings: HostSettings | None = None, *,
                 memory_model: "str | Memory" = IDEAL):  # fmt: skip
        self.config, self.program, self.settings = config, program, settings or HostSettings()
        self.values = FunctionalSimulator(config, program, memory, self.settings)
        self.time = CycleModel(program, config, memory_model, self.settings, image=self.values.memory)
        self.record_retires = False
        self._given = 0  # tokens of argmax that the model has been given

    def push(self, tokens: Sequence[int], slot: int = 0) -> None:
        self.values.push(tokens, slot)
        self.time.push(tokens, slot)

    def run(self, on_token: Callable[[int], None] | None = None, *, on_slot_token: Callable[[int, int], None] | None = None,
            max_instructions: int | None = None, max_cycles: int | None = None) -> RunResult:  # fmt: skip
        """As :meth:`Backend.run`; with ``max_cycles`` the values are those at the end of the program, or where it waits."""
        self.values.run(on_token, on_slot_token=on_slot_token, max_instructions=max_instructions)
        self._give()
        self.time.record_retires = self.record_retires
        self.time.run(max_instructions=max_instructions, max_cycles=max_cycles)
        return self.result()

    def _give(self) -> None:
        self.time.give(self.values.committed[self._given :])
        self._given = len(self.values.committed)

    def step(self) -> Retire | None:
        """The next retirement with its cycle; the values are those at the end of the program, or where it waits."""
        self.values.run()
        self._give()
        return self.time.step()

    def result(self) -> RunResult:
        result = self.time.result()
        values = self.values.result()
        result.saturated = values.saturated
        result.counters["saturated"] = sum(values.saturated.values())
        return result

    def set_register(self, index: int, values: np.ndarray) -> None:
        self.values.set_register(index, values)

    def register(self, index: int) -> np.ndarray:
        return self.values.register(index)

    @property
    def memory(self) -> np.ndarray:
        return self.values.memory

    @property
    def fault_detail(self) -> str:
        """More about a fault, for people."""
        return self.values.fault_detail

    @property
    def retires(self) -> list[Retire]:  # type: ignore[override]  # an attribute there: read only here
        """Instructions retired since ``record_retires`` was set, in order of their cycle."""
        return self.time.retires

    @property
    def cycles(self) -> int:
        """Clock cycles since the program was started."""
        return self.time.cycles

    def trace(self, on: bool = True) -> None:
        """Record a timeline from now on."""
        self.time.trace(on)

    def trace_records(self) -> TraceRecords:
        """The timeline so far, for :func:`trilobit.sim.trace.write_trace`."""
        return self.time.trace_records()

    def close(self) -> None:
        self.values.close()
        self.time.close()
