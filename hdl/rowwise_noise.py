"""Gumbel noise for argmax: a random number from seed, position and index, and its double logarithm, an element a clock."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.rowwise_delay import Chain
from trilobit.hdl.shift import add_carry, normalise_left
from trilobit.hdl.table import TableFunction
from trilobit.isa.semantics import POSITION_SALT
from trilobit.isa.tables import FRACTION_BITS, LOG2

__all__ = ["GUMBEL_BITS", "LOG2_LATENCY", "NOISE_LATENCY", "THREEFRY_LATENCY", "GumbelNoise", "Log2", "Threefry"]

THREEFRY_LATENCY = 8
LOG2_LATENCY = 4
NOISE_LATENCY = THREEFRY_LATENCY + 2 * LOG2_LATENCY + 2
GUMBEL_BITS = 22
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


class Threefry(wiring.Component):
    """First word of Threefry-2x32 with 13 rounds, as ``trilobit.isa.semantics.threefry``.

    Latency :data:`THREEFRY_LATENCY` cycles, a number a clock; free of resets. At most two additions between
    registers. The key must stand from two cycles before the first counter on (its sums are registered).

    Members
    -------
    key0, key1 : In(32); counter : In(32)
    o : Out(32)
    """

    key0: In(32)
    key1: In(32)
    counter: In(32)
    o: Out(32)

    def elaborate(self, platform):
        m = Module()

        def reg(name):
            return Signal(32, name=name, reset_less=True)

        # Sums of the key that the schedule injects; one word more than the round number comes as the carry of the addition.
        key = (self.key0, self.key1, Signal(32, name="key2"))
        key01, key013, key0_1 = reg("key01"), reg("key013"), reg("key0_1")
        m.d.comb += key[2].eq(POSITION_SALT ^ self.key0 ^ self.key1)
        m.d.sync += [key01.eq(self.key0 + self.key1), key013.eq(key01 + 3), key0_1.eq(self.key0 + 1)]
        stage = 0

        def hold(x0, x1):
            nonlocal stage
            stage += 1
            held = reg(f"x0_{stage}"), reg(f"x1_{stage}")
            m.d.sync += [held[0].eq(x0), held[1].eq(x1)]
            return held

        def turned_xor(x1, x0, number):
            return x1.rotate_left(_ROTATIONS[number % 8]) ^ x0

        def round_(x0, x1, number):
            added = Signal(32, name=f"sum{number}")
            m.d.comb += added.eq(x0 + x1)
            return added, turned_xor(x1, added, number)

        def inject(x0, x1, word0, word1):
            return (x0 + word0)[:32], add_carry(x1, word1, Const(1, 1))[:32]

        # The first round's sum is counter + key0 + key1.
        first = Signal(32)
        m.d.comb += first.eq(self.counter + key01)
        x = hold(*round_(first, turned_xor(key[1], first, 0), 1))
        x = hold(*round_(*round_(*x, 2), 3))
        x = hold(*round_(*inject(*x, key[1], key[2]), 4))
        x = hold(*round_(*round_(*x, 5), 6))
        x = hold(*inject(*round_(*x, 7), key[2], key0_1))
        x = hold(*round_(*round_(*x, 8), 9))
        x = hold(*round_(*round_(*x, 10), 11))
        # The last injection and the last sum: x0 + key0 + x1 + key1 + 3.
        result = reg("result")
        m.d.sync += result.eq(x[0] + x[1] + key013)
        m.d.comb += self.o.eq(result)
        return m


class Log2(wiring.Component):
    """Leading zeros and the fraction of the base-2 logarithm of a positive number.

    Latency :data:`LOG2_LATENCY` cycles, a number a clock; free of resets.

    Parameters
    ----------
    width : int
        Bits of the number, 25 to 33.

    Members
    -------
    i : In(width)
    zeros : Out(6), fraction : Out(20)
        ``log2(i) = width - 1 - zeros + fraction / 2^20``.
    """

    def __init__(self, width: int):
        if not FRACTION_BITS + 8 <= width <= 33:
            raise ValueError(f"expected a width from {FRACTION_BITS + 8} to 33, got {width!r}")
        self.width = width
        super().__init__({"i": In(width), "zeros": Out(6), "fraction": Out(20)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = TableFunction(LOG2)
        coarse, zeros = normalise_left(m, self.i, (16, 8), FRACTION_BITS + 8, "i")
        coarse1, zeros1 = Signal(len(coarse), reset_less=True), Signal(2, reset_less=True)
        m.d.sync += [coarse1.eq(coarse), zeros1.eq(zeros)]
        fine, zeros = normalise_left(m, coarse1, (4, 2, 1), FRACTION_BITS + 1, "coarse1")
        # With 33 bits the number 1 has 32 leading zeros; its fraction is zero, as after a shift by one more.
        one = ~fine[-1] if self.width == 33 else Const(0, 1)
        m.d.comb += [
            table.u.eq(fine[:FRACTION_BITS] & (~one).replicate(FRACTION_BITS)),
            self.zeros.eq(Chain(m, "zeros", add_carry(Cat(zeros, zeros1), Const(0, 1), one), 1).at(4)),
            self.fraction.eq(table.o),
        ]
        return m


class GumbelNoise(wiring.Component):
    """``trilobit.isa.semantics.gumbel(key0, key1, counter)``.

    Latency :data:`NOISE_LATENCY` cycles, a number a clock; free of resets. The key must stand from two cycles before.

    Members
    -------
    key0, key1 : In(32); counter : In(32)
        Seed, position, index.
    o : Out(signed(22))
        16 fraction bits, in units of ln 2.
    """

    key0: In(32)
    key1: In(32)
    counter: In(32)
    o: Out(signed(GUMBEL_BITS))

    def elaborate(self, platform):
        m = Module()
        m.submodules.threefry = threefry = Threefry()
        m.submodules.inner = inner = Log2(33)
        m.submodules.outer = outer = Log2(26)
        m.d.comb += [
            threefry.key0.eq(self.key0),
            threefry.key1.eq(self.key1),
            threefry.counter.eq(self.counter),
            inner.i.eq(Cat(Const(1, 1), threefry.o)),
        ]
        # y = -log2(u) = 33 - log2(2^33 u) = 1 + zeros - fraction, at least 2^-20.
        y, y1 = Signal(26), Signal(26, reset_less=True)
        m.d.comb += y.eq(((inner.zeros + 1) << 20) - inner.fraction)
        m.d.sync += y1.eq(Mux(y.any(), y, 1))
        m.d.comb += outer.i.eq(y1)
        # -log2(y) = (20 - (25 - zeros)) - fraction, rounded from 20 to 16 fraction bits.
        value = Signal(signed(27))
        o = Signal(signed(GUMBEL_BITS), reset_less=True)
        m.d.comb += value.eq(((outer.zeros - 5) << 20) - outer.fraction)
        m.d.sync += o.eq(add_carry(value >> 4, Const(0, 1), value[3]))
        m.d.comb += self.o.eq(o)
        return m
