"""The order of instructions: a list scheduler that keeps the ternary product busy.

Issue is in order, so an instruction that has to wait for its unit or a port holds up all behind it. At each step the
scheduler takes the instruction that can issue earliest; among equals the one with the longest chain of work behind it.
Loads wait until the products that their users depend on are under way, so that they don't hold registers for long.
"""

from collections.abc import Iterable, Sequence

from trilobit.assembler.compiler.instr import Instr
from trilobit.assembler.compiler.timing import Clock, cost
from trilobit.isa.core import CoreConfig

__all__ = ["mark_head", "schedule"]

_BUFFERS = 2
_SCALARS = 4


def _graph(instrs: Sequence[Instr]) -> tuple[dict[int, list[Instr]], dict[int, list[Instr]]]:
    """Predecessors and successors of each instruction, by id."""
    maker = {id(i.writes): i for i in instrs if i.writes is not None}
    before: dict[int, list[Instr]] = {}
    after: dict[int, list[Instr]] = {id(i): [] for i in instrs}
    for i in instrs:
        sources = [*i.reads.values(), *(v for v in (i.act, i.scalar) if v is not None)]
        found = dict.fromkeys([maker[id(v)] for v in sources] + i.after)
        before[id(i)] = list(found)
        for p in found:
            after[id(p)].append(i)
    return before, after


def mark_head(instrs: Sequence[Instr]) -> None:
    """Mark what only the logits need, from the norm of the last product on: prompt tokens skip it.

    A last product is one that no further product and no state depends on.
    """
    _, after = _graph(instrs)
    feeds: set[int] = set()  # instructions on which a product or the state depends
    for i in reversed(instrs):
        if any(id(n) in feeds or n.op == "tmatmul" or _keeps_state(n) for n in after[id(i)]):
            feeds.add(id(i))
    for i in instrs:
        if i.op == "tmatmul" and id(i) not in feeds:
            i.head = True
        if i.head:
            for n in after[id(i)]:
                n.head = True
    for i in reversed(instrs):
        if i.op in ("rms", "normq") and all(n.head for n in after[id(i)]):
            i.head = True


def _keeps_state(instr: Instr) -> bool:
    return instr.place is not None and instr.place.region == "state" and instr.op == "sv"


def schedule(instrs: Sequence[Instr], core: CoreConfig, registers: int = 8) -> list[Instr]:
    """The instructions in the order to issue them: the body, then the head. Sets the activation buffers' numbers."""
    return _Scheduler(instrs, core, registers).run()


class _Scheduler:
    def __init__(self, instrs: Sequence[Instr], core: CoreConfig, registers: int):
        self.core, self.registers = core, registers
        self.before, self.after = _graph(instrs)
        self.instrs = list(instrs)
        self.place = {id(i): n for n, i in enumerate(instrs)}
        self.tail = self._tails()
        self.gates = {id(i): self._products_behind(i) for i in instrs if i.op in ("ldv", "emb") and not i.after}
        self.clock = Clock(core)
        self.done: set[int] = set()
        self.order: list[Instr] = []
        self.uses: dict[int, int] = {}
        for i in instrs:
            for v in self._sources(i):
                self.uses[id(v)] = self.uses.get(id(v), 0) + 1
        self.live: set[int] = set()  # vectors in registers
        self.scalars: set[int] = set()
        self.buffer_of: dict[int, int] = {}
        self.buffers: list[int | None] = [None] * _BUFFERS  # the activations that still have products to come

    @staticmethod
    def _sources(i: Instr) -> list:
        vectors = list({id(v): v for v in i.reads.values()}.values())
        return [*vectors, *(v for v in (i.act, i.scalar) if v is not None)]

    def _tails(self) -> dict[int, int]:
        """Clocks from each instruction to the end along the longest chain."""
        tail: dict[int, int] = {}
        for i in reversed(self.instrs):
            tail[id(i)] = cost(i, self.core) + max((tail[id(n)] for n in self.after[id(i)]), default=0)
        return tail

    def _products_behind(self, load: Instr) -> list[Instr]:
        """The products that the load's users wait for: no use in loading before those are under way."""
        found: dict[int, Instr] = {}
        for user in self.after[id(load)]:
            stack, seen = [p for p in self.before[id(user)] if p is not load], set()
            while stack:
                p = stack.pop()
                if id(p) in seen:
                    continue
                seen.add(id(p))
                if p.op == "tmatmul":
                    found[id(p)] = p
                else:
                    stack.extend(self.before[id(p)])
            if not found:  # a user that needs no product can go on at once
                return []
        return list(found.values())

    def run(self) -> list[Instr]:
        for head in (False, True):
            waiting = [i for i in self.instrs if i.head == head]
            ready = [i for i in waiting if self._is_ready(i)]
            while ready:
                chosen = self._choose(ready)
                self._take(chosen)
                ready.remove(chosen)
                woken = [n for n in self.after[id(chosen)] if n.head == head and self._is_ready(n)]
                ready.extend(n for n in dict.fromkeys(woken) if n not in ready)
        assert len(self.order) == len(self.instrs)
        return self.order

    def _is_ready(self, i: Instr) -> bool:
        return id(i) not in self.done and all(id(p) in self.done for p in self.before[id(i)])

    def _choose(self, ready: Iterable[Instr]) -> Instr:
        allowed = [i for i in ready if self._has_buffer(i)]
        gated = [i for i in allowed if all(id(p) in self.done for p in self.gates.get(id(i), ()))] or allowed
        fitting = [i for i in gated if self._pressure(i) <= self.registers] or gated
        return min(fitting, key=lambda i: (self.clock.issue_time(i), -self.tail[id(i)], self.place[id(i)]))

    def _has_buffer(self, i: Instr) -> bool:
        if i.op == "normq":
            return None in self.buffers
        return i.op != "rms" or len(self.scalars) < _SCALARS

    def _pressure(self, i: Instr) -> int:
        """Vectors in registers after the instruction, if it reuses those that it reads last; 0 if it adds none."""
        if i.writes is None or i.writes.kind != "vector":
            return 0
        freed = sum(id(v) in self.live and self.uses[id(v)] == 1 for v in self._sources(i))
        return 0 if freed else len(self.live) + 1

    def _take(self, i: Instr) -> None:
        buffer = 0
        if i.op == "normq":
            free = [b for b in range(_BUFFERS) if self.buffers[b] is None]
            buffer = min(free, key=lambda b: self.clock.buffers[b])
            self.buffers[buffer] = id(i.writes)
            self.buffer_of[id(i.writes)] = buffer
            i.registers["act"] = buffer
        elif i.act is not None:
            buffer = i.registers["act"] = self.buffer_of[id(i.act)]
        self.clock.issue(i, buffer)
        self.order.append(i)
        self.done.add(id(i))
        for v in self._sources(i):
            self.uses[id(v)] -= 1
            if self.uses[id(v)] == 0:
                self.live.discard(id(v))
                self.scalars.discard(id(v))
                if v.kind == "act":
                    self.buffers[self.buffer_of[id(v)]] = None
        if i.writes is not None and self.uses.get(id(i.writes)):
            {"vector": self.live, "scalar": self.scalars}.get(i.writes.kind, set()).add(id(i.writes))
