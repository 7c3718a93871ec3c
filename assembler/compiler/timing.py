"""A rough model of when instructions issue, read and write: what the scheduler weighs its choices with.

It knows units, ports, chaining and the activation buffers, but not memory contention or the exact latencies; the cycle
counts that Trilobit reports come from the simulators.
"""

from dataclasses import dataclass, field

from trilobit.assembler.compiler.instr import Instr
from trilobit.assembler.compiler.ir import Value
from trilobit.isa.core import CoreConfig
from trilobit.isa.slots import stored_elements

__all__ = ["Clock", "cost"]

_LATENCY = {"rowwise": 10, "rmsnorm": 40, "tmatmul": 30, "ldst": 60}


def _words(instr: Instr, core: CoreConfig) -> int:
    return instr.length if instr.op == "argmax" else -(-instr.length // core.lanes)


def _beats(instr: Instr, core: CoreConfig) -> int:
    assert instr.matrix is not None
    return -(-instr.length // 5) * -(-instr.matrix.columns // core.beat_bytes)


def cost(instr: Instr, core: CoreConfig) -> int:
    """Clocks that an instruction adds to a chain of dependent ones."""
    if instr.op == "tmatmul":
        return _beats(instr, core) + _LATENCY["tmatmul"]
    passes = 2 if instr.op in ("normq", "norm") else 1
    return passes * _words(instr, core) + _LATENCY[instr.unit]


@dataclass
class _Span:
    """When the first and the last element of a value are there."""

    first: int = 0
    last: int = 0


@dataclass
class Clock:
    """The machine's state after the instructions so far."""

    core: CoreConfig
    now: int = 0
    units: dict[str, int] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)
    spans: dict[int, _Span] = field(default_factory=dict)
    buffers: list[int] = field(default_factory=lambda: [0, 0])

    def issue_time(self, instr: Instr) -> int:
        """When the instruction could leave the program counter if it came next."""
        ports = (self.ports.get(id(v), 0) for v in instr.reads.values())
        return max(self.now, self.units.get(instr.unit, 0), *ports, 0)

    def issue(self, instr: Instr, buffer: int = 0) -> None:
        """Account for the instruction; ``buffer`` is the activation buffer that it writes or reads."""
        time = self.issue_time(instr)
        self.now = time + 1
        latency = _LATENCY[instr.unit]
        sources = [self._span(v) for v in instr.reads.values()]
        begin = max([time, *(s.first for s in sources)])
        if instr.op == "tmatmul":
            assert instr.act is not None
            begin = max(begin, self._span(instr.act).first)
            group = _beats(instr, self.core) // max(-(-instr.length // 5), 1)
            read = max(begin + _beats(instr, self.core), self._span(instr.act).last)
            self._finish(instr, read, _Span(begin + group + latency, read + latency))
            self.buffers[buffer] = read
            return
        read = max([begin + _words(instr, self.core), *(s.last + 1 for s in sources)])
        if instr.op in ("normq", "norm"):  # the second pass begins when the first has ended
            if instr.scalar is not None:
                read = max(read, self._span(instr.scalar).last)
            second = max(read + latency, self.buffers[buffer] if instr.op == "normq" else 0)
            end = second + _words(instr, self.core)
            self._finish(instr, read, _Span(second, end), unit=end)
        elif instr.op == "rms":
            self._finish(instr, read, _Span(read + latency, read + latency))
        elif instr.unit == "ldst":
            elements = instr.length if instr.op == "emb" else stored_elements(self.core, instr.length)
            rows = self.core.batch if instr.op == "emb" else 1
            beats = rows * -(-elements * (4 if instr.fields.get("wide") else 2) // self.core.beat_bytes)
            end = max(read, time + latency + beats)
            self._finish(instr, read, _Span(time + latency, end), unit=end)
        else:
            self._finish(instr, read, _Span(begin + latency, read + latency))

    def _span(self, value: Value) -> _Span:
        return self.spans.get(id(value), _Span())

    def _finish(self, instr: Instr, read: int, span: _Span, unit: int | None = None) -> None:
        self.units[instr.unit] = read if unit is None else unit
        for value in instr.reads.values():
            self.ports[id(value)] = read
        if instr.writes is not None:
            self.spans[id(instr.writes)] = span
