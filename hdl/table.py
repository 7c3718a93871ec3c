"""The elementary functions' tables in block RAM, with interpolation (see :mod:`trilobit.isa.tables`)."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from trilobit.hdl.shift import round_half_up
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
        super().__init__({"u": In(FRACTION_BITS), "o": Out(table.limit.bit_length())})

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
        total = Signal(signed(base_bits + 2))
        m.d.comb += total.eq(base + round_half_up(step, REST_BITS))
        result = Signal.like(self.o, name="result", reset_less=True)
        u = np.arange(1 << FRACTION_BITS)
        rounded = (table.slope[u >> REST_BITS] * (u & ((1 << REST_BITS) - 1)) + (1 << (REST_BITS - 1))) >> REST_BITS
        if (table.base[u >> REST_BITS] + rounded > table.limit).any():
            m.d.sync += result.eq(Mux(total > table.limit, table.limit, total))
        else:  # the limit never binds
            m.d.sync += result.eq(total)
        m.d.comb += self.o.eq(result)
        return m
