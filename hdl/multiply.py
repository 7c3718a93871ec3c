"""Multiplication in limbs that fit the 18x18 multipliers of small FPGAs."""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.shift import add_carry

__all__ = ["LIMB_BITS", "MULTIPLY_LATENCY", "Multiplier", "limbs"]

LIMB_BITS = 17  # unsigned limbs of 17 bits are signed numbers of 18
MULTIPLY_LATENCY = 2


def limbs(x) -> list[Value]:
    """A signed value of at most 34 bits as one signed limb, or an unsigned low limb and a signed high one."""
    x = Value.cast(x)
    if len(x) <= LIMB_BITS + 1:
        return [x.as_signed()]
    return [x[:LIMB_BITS], x[LIMB_BITS:].as_signed()]


def as_signed(x: Value) -> Value:
    """The same number as a signed value, a bit wider if it was unsigned."""
    return x if x.shape().signed else Cat(x, 0).as_signed()


class Multiplier(wiring.Component):
    """The product of two signed numbers of at most 34 bits, in up to four 18x18 multipliers.

    Latency :data:`MULTIPLY_LATENCY` cycles (partial products, sum), a product a clock, no back-pressure; free of resets.

    Parameters
    ----------
    a_width, b_width : int
        Bits of the operands, sign included, at most 34.

    Members
    -------
    a : In(signed(a_width)), b : In(signed(b_width))
    product : Out(signed(a_width + b_width)), two cycles later
    """

    def __init__(self, a_width: int, b_width: int):
        for width in (a_width, b_width):
            if not 1 <= width <= 2 * LIMB_BITS:
                raise ValueError(f"expected operands of 1 to {2 * LIMB_BITS} bits, got {width!r}")
        super().__init__({
            "a": In(signed(a_width)), "b": In(signed(b_width)), "product": Out(signed(a_width + b_width)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        a, b = limbs(self.a), limbs(self.b)
        partial = {}
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                # Mixed signs as two signed factors; two unsigned ones stay unsigned (and their product has no sign bit).
                mixed = x.shape().signed != y.shape().signed
                product = as_signed(x) * as_signed(y) if mixed else x * y
                partial[i, j] = Signal(product.shape(), name=f"partial{i}{j}", reset_less=True)
                m.d.sync += partial[i, j].eq(product)
        if (1, 1) in partial:
            # The outer two do not overlap, so that one addition joins the middle ones to both.
            outer = Cat(partial[0, 0], partial[1, 1]).as_signed()
            middle = add_carry(partial[0, 1], partial[1, 0], Const(0, 1))  # so that two carry chains stay two
            high = (outer >> LIMB_BITS) + middle
            total = Cat(outer[:LIMB_BITS], high)
        elif len(partial) == 2:
            middle = partial[0, 1] if (0, 1) in partial else partial[1, 0]
            high = (partial[0, 0] >> LIMB_BITS) + middle
            total = Cat(partial[0, 0][:LIMB_BITS], high)
        else:
            total = partial[0, 0]
        product = Signal.like(self.product, name="total", reset_less=True)
        m.d.sync += product.eq(total)
        m.d.comb += self.product.eq(product)
        return m
