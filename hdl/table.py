"""The elementary functions' tables in block RAM, with interpolation (see :mod:`trilobit.isa.tables`)."""

import numpy as np
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from trilobit.hdl.shift import add_carry
from trilobit.isa.tables import FRACTION_BITS, INDEX_BITS, REST_BITS, Table

__all__ = ["TABLE_LATENCY", "TableFunction"]

TABLE_LATENCY = 3


class TableFunction(wiring.Component):
    """A table function of a 17-bit fraction.

    Latency :data:`TABLE_LATENCY` cycles (memory, its output register, multiply and add), a result a clock, no back-pressure;
    free of resets. One block RAM and one 18x18 multiplier.

    Parameters
    ----------
    table : Table
        The function, from ``trilobit.isa.tables``.

    Members
    -------
    u : In(17)
        The fraction; may come straight from logic, the memory registers its address.
    o : Out(bits of table.limit), three cycles later
    """

    def __init__(self, table: Table):
        self.table = table
        if self._limited() not in ([], [0]):
            raise ValueError(f"table {table.name!r}: expected values within its limit but for u = 0")
        super().__init__({"u": In(FRACTION_BITS), "o": Out(table.limit.bit_length())})

    def _limited(self) -> list[int]:
        """The fractions at which the function's limit binds."""
        table, u = self.table, np.arange(1 << FRACTION_BITS)
        unlimited = Table(table.name, table.base, table.slope, 1 << 62)
        return np.flatnonzero(unlimited(u) > table.limit).tolist()

    def elaborate(self, platform):
        m = Module()
        table = self.table
        base_bits = int(table.base.max()).bit_length()
        negative = bool((table.slope < 0).any())
        slope_bits = int(np.abs(table.slope).max()).bit_length() + negative
        entries = [
            int(base) | (int(slope) & ((1 << slope_bits) - 1)) << base_bits
            for base, slope in zip(table.base, table.slope, strict=True)
        ]  # fmt: skip
        m.submodules.memory = memory = Memory(shape=base_bits + slope_bits, depth=1 << INDEX_BITS, init=entries)
        read = memory.read_port()
        m.d.comb += [read.en.eq(1), read.addr.eq(self.u[REST_BITS:])]

        rest1, rest2 = Signal(REST_BITS, reset_less=True), Signal(REST_BITS, reset_less=True)
        entry2 = Signal(base_bits + slope_bits, reset_less=True)
        m.d.sync += [rest1.eq(self.u[:REST_BITS]), rest2.eq(rest1), entry2.eq(read.data)]

        base, slope = entry2[:base_bits], entry2[base_bits:]
        if negative:  # two signed factors
            step = Signal(signed(slope_bits + REST_BITS + 1))
            m.d.comb += step.eq(slope.as_signed() * Cat(rest2, 0).as_signed())
        else:
            step = Signal(slope_bits + REST_BITS)
            m.d.comb += step.eq(slope * rest2)
        total = add_carry(base, step >> REST_BITS, step[REST_BITS - 1])  # the step is rounded half up
        result = Signal.like(self.o, name="result", reset_less=True)
        m.d.sync += result.eq(total)
        if self._limited() == [0]:  # 1 / 1 is the only value beyond the limit; its fraction is known early
            zero1, zero2 = Signal(reset_less=True), Signal(reset_less=True)
            m.d.sync += [zero1.eq(~self.u.any()), zero2.eq(zero1)]
            with m.If(zero2):
                m.d.sync += result.eq(table.limit)
        m.d.comb += self.o.eq(result)
        return m
