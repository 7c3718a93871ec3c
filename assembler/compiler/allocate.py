"""Registers: vectors to v0-v7 in the scheduled order, spilling to memory where eight are not enough.

A result goes to the free register that has rested longest (its ports are then free), or else to one that the
instruction itself reads for the last time. A vector that must make room is the one used furthest ahead; it is stored to
scratch memory unless a copy is there already or it came from memory.
"""

from collections.abc import Sequence
from dataclasses import replace

from trilobit.assembler.compiler.instr import Instr, Place
from trilobit.assembler.compiler.ir import Value
from trilobit.errors import CompileError
from trilobit.isa.spec import VECTOR_REGISTERS

__all__ = ["allocate"]

_OPERANDS = 3  # the most vectors that one instruction reads
_SCALARS = 4


def allocate(order: Sequence[Instr], registers: int = VECTOR_REGISTERS) -> list[Instr]:
    """The instructions with register numbers, and with the stores and loads that spilling needs.

    Raises:
        CompileError: fewer registers than one instruction needs.
    """
    if not _OPERANDS + 1 <= registers <= VECTOR_REGISTERS:
        raise CompileError(f"expected {_OPERANDS + 1} to {VECTOR_REGISTERS} vector registers, got {registers}")
    return _Allocator(order, registers).run()


class _Allocator:
    def __init__(self, order: Sequence[Instr], registers: int):
        self.order = order
        self.free = list(range(registers))  # the longest rested first
        self.register: dict[int, int] = {}
        self.held: dict[int, Value] = {}
        self.uses: dict[int, list[int]] = {}
        self.source: dict[int, Instr] = {}  # how to load a vector that has a copy in memory
        self.made: dict[int, int] = {}  # when a vector was first there
        self.scalars: dict[int, int] = {}
        self.free_scalars = list(range(_SCALARS))
        for n, i in enumerate(order):
            for v in [*i.reads.values(), *([i.scalar] if i.scalar else [])]:
                self.uses.setdefault(id(v), []).append(n)
        self.result: list[Instr] = []

    def run(self) -> list[Instr]:
        for n, instr in enumerate(self.order):
            self._vectors(n, instr)
            self._scalar(n, instr)
        return self.result

    def _vectors(self, n: int, i: Instr) -> None:
        keep = {id(v) for v in i.reads.values()}
        for v in i.reads.values():
            if id(v) not in self.register:
                load = self.source[id(v)]
                load = replace(load, writes=v, registers={}, head=i.head)
                self._place(n, v, keep, i.head)
                load.registers["vd"] = self.register[id(v)]
                self.result.append(load)
        for key, v in i.reads.items():
            i.registers[key] = self.register[id(v)]
        ended = [v for v in i.reads.values() if self.uses[id(v)][-1] == n and id(v) in self.register]
        # The oldest first, not the first operand: which operand is which follows from binary points, registers should not.
        ended.sort(key=lambda v: self.made[id(v)])
        reused = None
        if i.writes is not None and i.writes.kind == "vector":
            if not self.free and ended:
                reused = self.register[id(ended[0])]
                self._release(ended[0], rest=False)
                self._hold(i.writes, reused)
            else:
                self._place(n, i.writes, keep, i.head)
            i.registers["vd"] = self.register[id(i.writes)]
            if i.op == "ldv" and i.place is not None and i.place.region in ("constants", "state"):
                self.source[id(i.writes)] = i
        self.result.append(i)
        for v in ended:
            self._release(v)
        if i.writes is not None and id(i.writes) in self.register and id(i.writes) not in self.uses:
            self._release(i.writes)

    def _place(self, n: int, value: Value, keep: set[int], head: bool) -> None:
        if not self.free:
            self._spill(n, keep, head)
        self._hold(value, self.free.pop(0))

    def _hold(self, value: Value, register: int) -> None:
        self.register[id(value)] = register
        self.held[id(value)] = value
        self.made.setdefault(id(value), len(self.made))

    def _release(self, value: Value, rest: bool = True) -> None:
        register = self.register.pop(id(value), None)
        self.held.pop(id(value), None)
        if register is not None and rest:
            self.free.append(register)

    def _spill(self, n: int, keep: set[int], head: bool) -> None:
        candidates = [v for k, v in self.held.items() if k not in keep]
        victim = max(candidates, key=lambda v: next(u for u in self.uses[id(v)] if u >= n))
        if id(victim) not in self.source:
            place = Place("scratch", victim.name)
            fields = {"len": victim.length, "wide": int(victim.wide)}
            register = self.register[id(victim)]
            self.result.append(Instr("sv", victim, dict(fields), {"va": victim}, place=place, head=head, registers={"va": register}))
            self.source[id(victim)] = Instr("ldv", victim, dict(fields), place=place)
        self._release(victim)

    def _scalar(self, n: int, i: Instr) -> None:
        if i.scalar is not None:
            i.registers["sc"] = self.scalars[id(i.scalar)]
            if self.uses[id(i.scalar)][-1] == n:
                self.free_scalars.append(self.scalars.pop(id(i.scalar)))
        if i.writes is not None and i.writes.kind == "scalar":
            i.registers["sc"] = self.scalars[id(i.writes)] = self.free_scalars.pop(0)
