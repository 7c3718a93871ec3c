"""One lane of the row-wise unit: an element a clock through one pipeline that serves every elementwise instruction.

The path of an element, by cycle (cycle 0 reads the registers, so operands arrive in cycle 1):

=======  =====================================================================================================
cycle    what
=======  =====================================================================================================
1        operands are captured
2        b is shifted by 0 to 15 bits, in two multipliers; p = a, b or the constant; c saturates to 25 bits
3        the rest of the shift by b in steps of 16, rounding, saturation to 32 bits: b'
4        D = p +- b' (or +-p); X = sat24(b'); V = +-X or |b'|; the early factor: 1, sat25(b') or c
5        maximum; X * log2(e) in limbs; leading zeros of |b'|
6        the sum of the limbs: a power of two; the divisor's fraction
6-9      EXP2 table
7-8      the final shift from the instruction's and the element's exponent
9        the argument of the reciprocal: e shifted by its exponent, or the divisor's fraction
9-12     RECIP table
12-13    e * reciprocal, rounded; the late factor: exponential, reciprocal or their product
14-15    D times the factor, in limbs
16-19    final shift with rounding, the addend of lerp, saturation
20       the result is written
=======  =====================================================================================================

What is needed later waits in small memories (:func:`~trilobit.hdl.rowwise_delay.delay_in_memory`).
"""

from amaranth.hdl import Cat, Const, DomainRenamer, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.multiply import Multiplier, limbs
from trilobit.hdl.rowwise_delay import Chain, Stage, delay_in_memory, one_domain
from trilobit.hdl.shift import RoundSaturate, add_carry, fits, normalise_left
from trilobit.hdl.table import TableFunction
from trilobit.isa.noise import NOISE_BITS
from trilobit.isa.semantics import LOG2E
from trilobit.isa.tables import EXP2, FRACTION_BITS, RECIP

__all__ = ["RESULT_CYCLE", "LaneControl", "RowWiseLane"]

RESULT_CYCLE = 20
LOG2E_HIGH = 3 << 19  # log2(e) as a sum of two bits minus a number of 17 bits, which fits a multiplier
LOG2E_LOW = LOG2E_HIGH - LOG2E


class LaneControl(data.StructLayout):
    """What all lanes are told; the number in a name is the cycle in which it counts.

    ``k_p1``: p is the constant ``k2``, which is zero otherwise; ``b_p2``: p is b (else a). ``power2``: 2 to the power of b's shift
    to the left modulo 16; ``coarse3``: then 16 more to the left (0), none, 16 or 32 to the right (3). ``add4``, ``subtract4``: b' into D;
    ``negate4``: p is negated; ``divide4``: negated if b' is negative. ``whole4``: V is b' instead of X; ``abs4``/``nabs4``: its absolute
    value / the negative of that; ``mirror4``: the sigmoid of the negative. ``b_factor4``/``c_factor4``: the early factor is sat25(b') / c
    (else 1). ``count_*4``: which saturations count.
    """

    def __init__(self):
        super().__init__({
            "k_p1": 1, "b_p2": 1, "k2": signed(32), "power2": 16, "coarse3": 2,
            "add4": 1, "subtract4": 1, "negate4": 1, "divide4": 1, "whole4": 1, "abs4": 1, "nabs4": 1, "mirror4": 1,
            "b_factor4": 1, "c_factor4": 1, "count_b4": 1, "count_x4": 1, "count_factor4": 1, "count_c4": 1,
            "max5": 1, "exp7": 1, "sigmoid7": 1, "divide7": 1, "shift7": signed(8),
            "divide9": 1, "exp12": 1, "sigmoid12": 1, "table13": 1, "addend18": 1, "noise18": 1, "wide19": 1,
        })  # fmt: skip


class RowWiseLane(wiring.Component):
    """One element a clock, result :data:`RESULT_CYCLE` - 1 cycles after the operands; free of resets, never stalls.

    Parameters
    ----------
    stage : clock domains of the stages, see :mod:`trilobit.hdl.rowwise_delay`.
    noisy : the lane that argmax goes through.

    Members
    -------
    control : In(LaneControl())
    tick : In(5)
        Counts up every clock.
    a, b, c : In(signed(32))
        Operands, in cycle 1.
    a_held : Out(signed(32))
        The captured a, in cycle 2.
    noise : In(signed(22))
        Added to the shifted product in cycle 18; only with ``noisy``.
    result : Out(signed(32)), saturated : Out(1)
        In cycle 20.
    """

    control: In(LaneControl())
    tick: In(5)
    a: In(signed(32))
    b: In(signed(32))
    c: In(signed(32))
    a_held: Out(signed(32))
    result: Out(signed(32))
    saturated: Out(1)

    noise: In(signed(NOISE_BITS))

    def __init__(self, stage: Stage = one_domain, *, noisy: bool = False):
        self._stage = stage
        self._noisy = noisy
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        stage = self._stage
        ctl = self.control

        def reg(shape, name):
            return Signal(shape, name=name, reset_less=True)

        # ---- cycle 1: capture ----------------------------------------------------------------------------------------
        a2, b2, c2 = (reg(signed(32), name) for name in ("a2", "b2", "c2"))
        m.d[stage(2)] += [a2.eq(self.a), b2.eq(self.b), c2.eq(self.c)]
        with m.If(ctl.k_p1):
            m.d[stage(2)] += a2.eq(0)  # a reset of the registers costs no logic
        m.d.comb += self.a_held.eq(a2)

        # ---- cycle 2: shift b by 0..15 to the left, in two multipliers -----------------------------------------------------
        low3, high3, b_sign3 = reg(33, "low3"), reg(signed(31), "high3"), reg(1, "b_sign3")
        p3, c3 = reg(signed(32), "p3"), reg(signed(32), "c3")
        low2, high2 = limbs(b2)
        m.d[stage(3)] += [
            low3.eq(low2 * ctl.power2),
            high3.eq(high2 * Cat(ctl.power2, 0).as_signed()),
            b_sign3.eq(b2[-1]),
            p3.eq(Mux(ctl.b_p2, b2, a2) | ctl.k2),
            c3.eq(c2),
        ]

        # ---- cycle 3: b' = sat32(rs(b, shift)) ------------------------------------------------------------------------
        b4, b_over4 = reg(signed(32), "b4"), reg(1, "b_over4")
        p4, c4 = reg(signed(32), "p4"), reg(signed(32), "c4")
        shifted, chosen, over = Signal(signed(48)), Signal(33), Signal()
        m.d.comb += [
            shifted.eq(Cat(low3[:17], low3[17:] | high3[:16], high3[16:])),  # the limbs' products don't overlap
            over.eq(~ctl.coarse3[1] & ~fits(shifted, 32) | ~ctl.coarse3[1] & ~ctl.coarse3[0] & ~fits(shifted[:32], 16)),
        ]  # fmt: skip
        with m.Switch(ctl.coarse3):  # the bit that rounds is the lowest
            for coarse, value in enumerate((shifted[:16] << 17, shifted[:32] << 1, shifted[15:], shifted[31:].as_signed())):
                with m.Case(coarse):
                    m.d.comb += chosen.eq(value)
        # Where b' would be limited, b4 has the sign and zeros: that is the smallest number. With top4 all bits but the sign count as ones,
        # which costs nothing where b4 is used. (A reset of registers costs no logic either.)
        top4 = reg(1, "top4")
        m.d[stage(4)] += [
            b4.eq(add_carry(chosen[1:], Const(0, 1), chosen[0])),
            top4.eq(over & ~b_sign3),
            b_over4.eq(over),
            p4.eq(p3), c4.eq(c3),
        ]  # fmt: skip
        with m.If(over):
            m.d[stage(4)] += b4.eq(Cat(Const(0, 31), b_sign3))

        # ---- cycle 4: D, V, the early factor ----------------------------------------------------------------------------
        d5, v5, p5 = reg(signed(33), "d5"), reg(signed(32), "v5"), reg(signed(32), "p5")
        factor5, over5, tail5, zero5 = reg(signed(25), "factor5"), reg(1, "over5"), reg(1, "tail5"), reg(1, "zero5")
        sign4, zero4, fits24, fits25 = b4[-1], Signal(), Signal(), Signal()
        negate_p, negate_v = Signal(), Signal()
        m.d.comb += [
            zero4.eq(~b4.any() & ~top4),
            fits24.eq(fits(b4, 24) & ~top4),
            fits25.eq(fits(b4, 25) & ~top4),
            negate_p.eq(ctl.negate4 | (ctl.divide4 & sign4)),
            negate_v.eq((ctl.abs4 & sign4) | (ctl.nabs4 & ~sign4)),
        ]
        p33 = Cat(p4, p4[-1]) ^ negate_p.replicate(33)
        q33 = (Cat(b4[:31] | top4.replicate(31), sign4, sign4) & (ctl.add4 | ctl.subtract4).replicate(33)) ^ ctl.subtract4.replicate(33)
        # V before its negation: bits of b', or all what the limit or the sign says.
        low_is_b, high_is_b, low_else, high_else = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            low_is_b.eq(fits24 | (ctl.whole4 & ~top4)), low_else.eq(~sign4 ^ negate_v),
            high_is_b.eq(ctl.whole4 & ~top4), high_else.eq(Mux(ctl.whole4, 1, sign4) ^ negate_v),
        ]  # fmt: skip
        v4 = Cat(
            *(Mux(low_is_b, bit ^ negate_v, low_else) for bit in b4[:23]),
            *(Mux(high_is_b, bit ^ negate_v, high_else) for bit in b4[23:31]),
            sign4 ^ negate_v,
        )
        # The early factor: c or b', limited to 25 bits, or one.
        some_factor4, c_fits25 = Signal(), Signal()
        factor_sign4, factor_over4 = Signal(), Signal()
        m.d.comb += [
            some_factor4.eq(ctl.c_factor4 | ctl.b_factor4),
            c_fits25.eq(fits(c4, 25)),
            factor_sign4.eq(Mux(ctl.c_factor4, c4[-1], sign4)),
            factor_over4.eq(Mux(ctl.c_factor4, ~c_fits25, ~fits25)),
        ]
        limited4 = Mux(ctl.c_factor4, c4[:24], b4[:24]) | (factor_over4 & ~factor_sign4).replicate(24)
        m.d[stage(5)] += [
            d5.eq(add_carry(p33, q33, negate_p | ctl.subtract4)[:33].as_signed()),
            v5.eq(add_carry(v4, Const(0, 1), negate_v)[:32].as_signed()),
            p5.eq(p4),
            factor5.eq(Cat(limited4, factor_sign4)),
            over5.eq((ctl.count_b4 & b_over4) | (ctl.count_x4 & ~fits24) | (ctl.count_factor4 & ~fits25) | (ctl.count_c4 & ~c_fits25)),
            tail5.eq(Mux(ctl.mirror4, ~sign4 & ~zero4, sign4)),
            zero5.eq(zero4),
        ]
        with m.If(~some_factor4 | (factor_over4 & factor_sign4)):
            m.d[stage(5)] += factor5.eq(Cat(~some_factor4, Const(0, 23), some_factor4))

        # ---- cycle 5: maximum; X * log2(e) = X * HIGH - X * LOW in limbs; leading zeros ------------------------------------
        d6 = reg(signed(33), "d6")
        low, high = limbs(v5[:24].as_signed())
        low6 = reg(len(low) + LOG2E_LOW.bit_length(), "low6")
        high6 = reg(signed(len(high) + LOG2E_LOW.bit_length() + 1), "high6")
        triple6 = reg(signed(26), "triple6")
        some_zeros, zeros6 = normalise_left(m, v5.as_unsigned(), (16, 8), 25, "v5")
        divisor6, count6 = reg(25, "divisor6"), reg(2, "count6")
        m.d[stage(6)] += [
            d6.eq(Mux(ctl.max5, Mux(d5[-1], v5, p5), d5)),
            low6.eq(low * LOG2E_LOW),
            high6.eq(high * Const(LOG2E_LOW, signed(18))),
            triple6.eq(add_carry(v5[:24].as_signed(), v5[:24].as_signed() << 1, Const(1, 1))),
            divisor6.eq(some_zeros), count6.eq(zeros6),
        ]  # fmt: skip

        # ---- cycle 6: power = rs(X * log2(e), 20), 17 fraction bits ---------------------------------------------------------
        # In units of 2^17: 3 * X * 4 + 4 (the half of 2^20) - high - low / 2^17, the last rounded up before it is taken away.
        exp2 = TableFunction(EXP2)
        m.submodules.exp2 = DomainRenamer(stage(9))(exp2)
        power6, coarse6 = Signal(signed(25)), Signal(signed(29))
        whole7, tail6, tail7, zero6, zero7 = reg(signed(8), "whole7"), reg(1, "tail6"), reg(1, "tail7"), reg(1, "zero6"), reg(1, "zero7")
        m.d.comb += [
            coarse6.eq(Cat(Const(0, 2), triple6).as_signed() - high6),
            # -ceil(low / 2^17) = ~(low >> 17) + (no bits below)
            power6.eq(add_carry(coarse6, Cat(~low6[17:], Const(1, 1)).as_signed(), ~low6[:17].any()) >> 3),
            exp2.u.eq(power6[:FRACTION_BITS]),
        ]
        fraction, zeros = normalise_left(m, divisor6, (4, 2, 1), 18, "divisor6")
        fraction7, zeros7 = reg(FRACTION_BITS, "fraction7"), reg(5, "zeros7")
        m.d[stage(6)] += [tail6.eq(tail5), zero6.eq(zero5)]
        m.d[stage(7)] += [
            whole7.eq(power6[FRACTION_BITS:]),
            fraction7.eq(fraction[:FRACTION_BITS]),
            zeros7.eq(Cat(zeros, count6)),
            tail7.eq(tail6), zero7.eq(zero6),
        ]  # fmt: skip

        # ---- cycles 7 and 8: the final shift --------------------------------------------------------------------------------
        # exp: - whole; sigmoid of a negative number: - whole - 1; quotient: the divisor's exponent.
        shift8, undefined8 = reg(signed(10), "shift8"), reg(1, "undefined8")
        shift9, short9 = reg(6, "shift9"), reg(1, "short9")
        down8, fraction8 = reg(8, "down8"), reg(FRACTION_BITS, "fraction8")
        fraction9, down9, unity9 = reg(FRACTION_BITS, "fraction9"), reg(5, "down9"), reg(1, "unity9")
        adjust = Signal(signed(8))
        with m.If(ctl.exp7 | (ctl.sigmoid7 & tail7)):
            m.d.comb += adjust.eq(~whole7)
        with m.Elif(ctl.divide7):
            m.d.comb += adjust.eq(Cat(~zeros7, 0))
        m.d[stage(8)] += [
            shift8.eq(add_carry(ctl.shift7, adjust, ctl.exp7)),
            undefined8.eq(ctl.divide7 & zero7),
            down8.eq(~whole7),
            fraction8.eq(fraction7),
        ]
        m.d[stage(9)] += [
            short9.eq(shift8[-1] | undefined8),
            shift9.eq(Mux(shift8[6:].any(), 63, shift8[:6])),
            # e is shifted by -whole, of which one is wires; whole = 0 is e = 1, and 1 + e then leaves the table's range.
            unity9.eq(down8[-1]),
            down9.eq(Mux(down8[5:7].any(), 31, down8[:5])),
            fraction9.eq(fraction8),
        ]

        # ---- cycle 9: the reciprocal's argument -------------------------------------------------------------------------------
        recip = TableFunction(RECIP)
        m.submodules.recip = DomainRenamer(stage(12))(recip)
        e9 = exp2.o
        e_down, e_by16, e_by4 = Signal(FRACTION_BITS), Signal(FRACTION_BITS), Signal(FRACTION_BITS)
        m.d.comb += [
            e_by16.eq(Mux(down9[4], e9[1:] >> 16, e9[1:])),
            e_by4.eq(Mux(down9[3], Mux(down9[2], e_by16 >> 12, e_by16 >> 8), Mux(down9[2], e_by16 >> 4, e_by16))),
            e_down.eq(Mux(down9[1], Mux(down9[0], e_by4 >> 3, e_by4 >> 2), Mux(down9[0], e_by4 >> 1, e_by4))),
            recip.u.eq(Mux(ctl.divide9, fraction9, e_down | unity9.replicate(FRACTION_BITS))),
        ]
        e10, e11, e12 = (reg(len(e9), f"e{n}") for n in (10, 11, 12))
        for register, value, cycle in ((e10, e9, 10), (e11, e10, 11), (e12, e11, 12)):
            m.d[stage(cycle)] += register.eq(value)

        # ---- cycles 12 and 13: the late factor, then the choice ----------------------------------------------------------------
        tail12 = Chain(m, "tail", tail7, 7, stage).at(12)
        tail_product13, table13 = reg(19, "tail_product13"), reg(18, "table13")
        m.d[stage(13)] += [
            tail_product13.eq((e12 * recip.o) >> 17),
            table13.eq(Mux(ctl.exp12, e12, recip.o)),
        ]
        with m.If(tail12 & ctl.sigmoid12):  # one of the two is zero
            m.d[stage(13)] += table13.eq(0)
        with m.Else():
            m.d[stage(13)] += tail_product13.eq(0)
        early13 = delay_in_memory(m, "factor_delay", self.tick, factor5, 5, 13, stage)
        late = add_carry(tail_product13[1:], Const(0, 1), tail_product13[0])[:18] | table13
        factor14 = reg(signed(25), "factor14")
        m.d[stage(14)] += factor14.eq(Mux(ctl.table13, Cat(Const(0, 6), late, 0).as_signed(), early13))

        # ---- cycles 14 to 19 ----------------------------------------------------------------------------------------------------
        multiply = Multiplier(33, 25)
        m.submodules.multiply = DomainRenamer(stage(16))(multiply)
        finish = RoundSaturate(58)
        m.submodules.finish = DomainRenamer(stage(20))(finish)
        late18 = delay_in_memory(m, "p_delay", self.tick, Cat(p5, over5), 5, 18, stage)
        addend18 = (late18[:32] & ctl.addend18.replicate(32)).as_signed()
        if self._noisy:
            addend18 |= self.noise & ctl.noise18.replicate(32).as_signed()
        over20 = Chain(m, "over", late18[-1], 18, stage).at(20)
        m.d.comb += [
            multiply.a.eq(delay_in_memory(m, "d_delay", self.tick, d6, 6, 14, stage)),
            multiply.b.eq(factor14),
            finish.value.eq(multiply.product),
            Cat(finish.shift, finish.short).eq(Chain(m, "shift", Cat(shift9, short9), 9, stage).at(16)),
            finish.addend.eq(addend18),
            finish.wide.eq(ctl.wide19),
        ]
        m.d.comb += [self.result.eq(finish.result), self.saturated.eq(finish.saturated | over20)]
        return m
