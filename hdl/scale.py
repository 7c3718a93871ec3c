"""From the sums of a ternary product to its results: scale, rounding shift, saturation."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import ELEMENT_BITS, ScalarLayout
from trilobit.hdl.multiply import MULTIPLY_LATENCY, Multiplier
from trilobit.hdl.shift import ROUND_SATURATE_LATENCY, RoundSaturate, add_carry

__all__ = ["COMBINE_LATENCY", "SCALE_LATENCY", "FactorLayout", "ScaleCombine", "ScaleSums"]

COMBINE_LATENCY = 4
SCALE_LATENCY = MULTIPLY_LATENCY + 1 + ROUND_SATURATE_LATENCY
MANTISSA_BITS = 18
SHIFT_BITS = 6
LONGEST_SHIFT = (1 << SHIFT_BITS) - 1
WIDE_AGE = MULTIPLY_LATENCY + 1 + 3  # when RoundSaturate wants to know


class FactorLayout(data.StructLayout):
    """A scale as the results need it: a mantissa with its top bit set, unless ``zero``, then a right shift, or
    ``short``: one to the left."""

    def __init__(self):
        super().__init__({"fraction": MANTISSA_BITS - 1, "zero": 1, "shift": SHIFT_BITS, "short": 1, "wide": 1})


class ScaleCombine(wiring.Component):
    """The product of an activation buffer's and a segment's scale, and the shift that brings results to their binary
    point.

    ``trilobit.isa.semantics.matmul_scale``: 18 bits, truncated. With ``start`` in cycle t, ``factor`` stands from
    cycle t + COMBINE_LATENCY on until COMBINE_LATENCY cycles after the next start. A mantissa has its top bit set or
    is zero (stream fetch and norm unit see to it).

    Members
    -------
    start : In(1)
        Samples the scales and bp; ``wide`` must be stable from then on.
    activation, segment : In(ScalarLayout)
    bp : In(signed(8))
        Binary point of the results.
    wide : In(1)
        Passed on.
    factor : Out(FactorLayout)
    """

    start: In(1)
    activation: In(ScalarLayout())
    segment: In(ScalarLayout())
    bp: In(signed(8))
    wide: In(1)
    factor: Out(FactorLayout())

    def elaborate(self, platform):
        m = Module()
        # Cycle 0: the exact product, 35 or 36 significant bits. Cycle 1: its top 18.
        product = Signal(2 * MANTISSA_BITS, reset_less=True)
        exponent = Signal(signed(12), reset_less=True)
        exponents = add_carry(self.activation.exponent, self.segment.exponent, Const(0, 1))
        with m.If(self.start):
            m.d.sync += [
                product.eq(self.activation.mantissa * self.segment.mantissa),
                exponent.eq(exponents + add_carry(self.bp, Const(MANTISSA_BITS - 1, 6).as_signed(), Const(0, 1))),
            ]
        top = product[-1]
        mantissa = Signal(MANTISSA_BITS, reset_less=True)
        # Results shift right by -(exponent + top) = ~exponent + ~top + 1 (modulo 2).
        point = Signal(signed(13), reset_less=True)
        m.d.sync += [
            mantissa.eq(Mux(top, product[MANTISSA_BITS:], product[MANTISSA_BITS - 1 : -1])),
            point.eq(add_carry(~exponent, Const(0, 1), ~top)),
        ]
        # Cycle 2: beyond the shifter's reach results are zero anyway.
        right = Signal(signed(13), reset_less=True)
        m.d.sync += right.eq(point)
        m.d.sync += [
            self.factor.fraction.eq(mantissa[:-1]),
            self.factor.zero.eq(~mantissa[-1]),
            self.factor.short.eq(right < 0),
            self.factor.shift.eq(Mux(right > LONGEST_SHIFT, LONGEST_SHIFT, right[:SHIFT_BITS])),
            self.factor.wide.eq(self.wide),
        ]
        return m


class ScaleSums(wiring.Component):
    """A sum a clock, times the factor, rounded half up and saturated: ``trilobit.isa.semantics.scale_products``.

    Latency SCALE_LATENCY cycles, no back-pressure. The factor may change between two sums.

    Parameters
    ----------
    sum_width : int
        Bits of a sum, at most 21.

    Members
    -------
    sum : In(signed(sum_width))
    factor : In(FactorLayout)
        Of the sum in the same cycle.
    result : Out(32)
        Two's complement, sign-extended from 16 bits unless wide.
    saturated : Out(1)
    """

    def __init__(self, sum_width: int):
        if not 2 <= sum_width <= 21:
            raise ValueError(f"expected sums of 2 to 21 bits, got {sum_width!r}")
        self._sum_width = sum_width
        super().__init__({
            "sum": In(signed(sum_width)), "factor": In(FactorLayout()), "result": Out(ELEMENT_BITS), "saturated": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        # The mantissa's top bit is one: only the 17 below it are multiplied (18 bits with a sign), and the sum itself
        # is added above them.
        fraction_bits = MANTISSA_BITS - 1
        m.submodules.multiplier = multiplier = Multiplier(self._sum_width, MANTISSA_BITS)
        product = Signal(signed(self._sum_width + MANTISSA_BITS), reset_less=True)
        m.submodules.finish = finish = RoundSaturate(len(product))
        m.d.comb += [multiplier.a.eq(self.sum), multiplier.b.eq(Cat(self.factor.fraction, Const(0, 1)).as_signed())]

        def delayed(value, cycles: int, name: str):
            for age in range(1, cycles + 1):
                register = Signal(value.shape(), name=f"{name}{age}", reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

        whole = Signal(signed(self._sum_width))
        m.d.comb += whole.eq(Mux(self.factor.zero, 0, self.sum))
        whole = delayed(whole, MULTIPLY_LATENCY, "whole")
        zero = delayed(self.factor.zero, MULTIPLY_LATENCY, "zero")
        high = multiplier.product >> fraction_bits
        total = Cat(multiplier.product[:fraction_bits], (high + whole)[: len(product) - fraction_bits]).as_signed()
        m.d.sync += product.eq(Mux(zero, 0, total))
        m.d.comb += [
            finish.value.eq(product),
            finish.shift.eq(delayed(self.factor.shift, MULTIPLY_LATENCY + 1, "shift")),
            finish.short.eq(delayed(self.factor.short, MULTIPLY_LATENCY + 1, "short")),
            finish.wide.eq(delayed(self.factor.wide, WIDE_AGE, "wide")),
            self.result.eq(finish.result),
            self.saturated.eq(finish.saturated),
        ]
        return m
