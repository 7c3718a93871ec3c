"""Delays of the row-wise pipeline: short ones in registers, long ones of wide words in small memories."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.memory import Memory

__all__ = ["Chain", "Stage", "delay_in_memory", "one_domain"]

Stage = Callable[[int], str]
"""The clock domain of the registers whose value counts in a cycle of the pipeline."""


def one_domain(cycle: int) -> str:
    """The whole pipeline in one domain."""
    return "sync"


class Chain:
    """A control signal in each cycle of a pipeline; the registers that delay it are made when they are asked for.

    Args:
        m: where the registers go.
        name: of the signals, followed by the cycle.
        value: the signal in cycle ``cycle``.
        stage: clock domain of the registers whose value counts in a cycle, by that cycle.
    """

    def __init__(self, m: Module, name: str, value, cycle: int, stage: Stage = one_domain):
        self._m, self._name, self._stage = m, name, stage
        self._stages = {cycle: Value.cast(value)}

    def at(self, cycle: int) -> Value:
        """The signal in a cycle, not before the first.

        Raises:
            ValueError: the cycle is before the chain's first.
        """
        if cycle < min(self._stages):
            raise ValueError(f"{self._name}: expected a cycle from {min(self._stages)}, got {cycle}")
        if cycle not in self._stages:
            before = self.at(cycle - 1)
            now = Signal(before.shape(), name=f"{self._name}{cycle}", reset_less=True)
            self._m.d[self._stage(cycle)] += now.eq(before)
            self._stages[cycle] = now
        return self._stages[cycle]


def delay_in_memory(m: Module, name: str, tick, value, cycle: int, to: int, stage: Stage = one_domain) -> Value:
    """In cycle ``to``, ``value`` as it was in ``cycle``, 3 to 32 clocks ago, in a circular buffer of 32 words in block RAM and a register.

    Block RAM, since it would lie idle; the register, since its output is late.

    Args:
        m: where the memory goes, as submodule ``name``.
        tick: 5 bits that count up every clock, whatever they start from.
        value: the signal to delay.
        stage: as for :class:`Chain`.
    """
    cycles = to - cycle
    if not 3 <= cycles <= 32:
        raise ValueError(f"{name}: expected a delay of 3 to 32 clocks, got {cycles}")
    value = Value.cast(value)
    # What a word holds while it is read and written at once doesn't matter: that never happens.
    attributes: Any = {"ram_style": "block", "no_rw_check": 1}  # annotated as texts, but Amaranth takes integers too
    memory: Memory = Memory(shape=len(value), depth=32, init=[], attrs=attributes)
    m.submodules[name] = memory
    write, read = memory.write_port(domain=stage(cycle + 1)), memory.read_port(domain=stage(to - 1))
    held = Signal(value.shape(), name=f"{name}_held", reset_less=True)
    m.d.comb += [
        write.en.eq(1), write.addr.eq(tick), write.data.eq(value),
        read.en.eq(1), read.addr.eq(tick - (cycles - 2)),
    ]  # fmt: skip
    m.d[stage(to)] += held.eq(read.data)
    return held
