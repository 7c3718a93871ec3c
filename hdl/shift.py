"""Shifting, rounding and saturating, as the units share it.

Functions return expressions and add no registers; :class:`RoundSaturate` is the last stage of a product: a rounding shift
to the right, an addend, saturation to 32 or 16 bits, as ``trilobit.isa.semantics`` finishes its results.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ROUND_SATURATE_LATENCY", "RoundSaturate", "add_carry", "fits", "greater", "highest_one", "limit", "normalise_left",
           "shift_right_signed"]  # fmt: skip

ROUND_SATURATE_LATENCY = 4
_SUM_BITS = 33  # a shifted product beyond this leaves 32 bits whatever 32-bit number is added to it


def add_carry(a, b, carry) -> Value:
    """``a + b + carry`` in one carry chain; ``carry`` is one bit. One bit wider than the wider operand, signed if either is."""
    a, b = Value.cast(a), Value.cast(b)
    is_signed = a.shape().signed or b.shape().signed

    def extend(x, low):
        bits = Cat(low, x)
        return bits.as_signed() if x.shape().signed else Cat(bits, 0).as_signed() if is_signed else bits

    total = (extend(a, Const(1, 1)) + extend(b, carry))[1 : max(len(a), len(b)) + 2]
    return total.as_signed() if is_signed else total


def fits(x, bits: int) -> Value:
    """Whether the signed value ``x`` is a signed number of ``bits`` bits (one bit)."""
    high = Value.cast(x)[bits - 1 :]
    return high.all() | ~high.any()


def limit(sign, bits: int) -> Value:
    """The largest (``sign`` 0) or smallest (``sign`` 1) signed number of ``bits`` bits."""
    return Cat((~sign).replicate(bits - 1), sign).as_signed()


def greater(a, b) -> Value:
    """Whether a > b (one bit), as the sign of a difference: one carry chain, where Yosys' comparison takes a LUT a bit more."""
    return (Value.cast(b) - Value.cast(a))[-1]


def highest_one(x) -> tuple[Value, Value]:
    """Whether any bit of ``x`` is set, and the index of the highest; without one the index means nothing."""
    x = Value.cast(x)
    if len(x) == 1:
        return x[0], Const(0, 0)
    half = 1 << ((len(x) - 1).bit_length() - 1)
    low_some, low = highest_one(x[:half])
    some, high = highest_one(x[half:])
    return some | low_some, Cat(Mux(some, high, low), some)


def shift_right_signed(x, amount, step: int, width: int) -> Value:
    """The low ``width`` bits of the signed ``x`` shifted right by ``amount * step``, for a short ``amount``; not rounded."""
    x = Value.cast(x)

    def shifted(n):
        kept = x[min(n * step, len(x) - 1) :]
        return Cat(kept, x[-1].replicate(max(width - len(kept), 0)))[:width]

    def select(low, bits):
        if not bits:
            return shifted(low)
        return Mux(amount[bits - 1], select(low + (1 << (bits - 1)), bits - 1), select(low, bits - 1))

    return select(0, len(amount)).as_signed()


def normalise_left(m: Module, x, steps: tuple[int, ...], keep: int, name: str) -> tuple[Value, Value]:
    """Shifts left by each of ``steps`` in turn if that many top bits are zero.

    Returns:
        The top ``keep`` bits of the result, and one bit a step (the first step highest) that says whether it shifted. With
        steps 16, 8, 4, 2, 1 that is the number of leading zeros of a 32-bit number (31 for zero).
    """
    x = Value.cast(x)
    taken: list[Value] = []
    for step in steps:
        zero = Signal(name=f"{name}_zero{step}")
        moved = Signal(len(x), name=f"{name}_by{step}")
        m.d.comb += [zero.eq(~x[-step:].any()), moved.eq(Mux(zero, Cat(Const(0, step), x[:-step]), x))]
        x = moved
        taken.insert(0, zero)
    return x[-keep:], Cat(*taken)


class RoundSaturate(wiring.Component):
    """``sat(addend + rs(value, shift))``, to 32 bits if wide, else 16.

    Latency :data:`ROUND_SATURATE_LATENCY` cycles, a result a clock, no back-pressure; free of resets. The inputs are taken
    at different cycles so that no one has to delay them: with ``value`` in cycle t, the result stands in cycle t + 4.

    Parameters
    ----------
    width : int
        Bits of the value, at most 64.

    Members
    -------
    value : In(signed(width)), cycle t
    shift : In(6), cycle t
        To the right, rounded half up.
    short : In(1), cycle t
        The shift was negative: the result saturates unless the value is zero (``shift`` is then don't-care).
    addend : In(signed(32)), cycle t + 2
        Added after the shift.
    wide : In(1), cycle t + 3
    result : Out(signed(32)), cycle t + 4
        Sign-extended if it is not wide.
    saturated : Out(1), cycle t + 4
    """

    def __init__(self, width: int):
        if not 1 <= width <= 64:
            raise ValueError(f"expected a width from 1 to 64, got {width!r}")
        self.width = width
        super().__init__({
            "value": In(signed(width)), "shift": In(6), "short": In(1), "addend": In(signed(32)), "wide": In(1),
            "result": Out(signed(32)), "saturated": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        # One bit below the point holds what rounds: rs(x, n) = floor(x / 2^n) + bit n-1 of x.
        value = Cat(0, self.value).as_signed()
        sign = self.value[-1]

        # Cycle t: by multiples of 16. Up to 15 more are to come, so 15 bits more than the sum needs are kept.
        kept = _SUM_BITS + 1 + 15
        coarse1 = Signal(signed(kept), reset_less=True)
        over1, sign1, fine1 = Signal(reset_less=True), Signal(reset_less=True), Signal(4, reset_less=True)
        beyond = [
            (self.shift[4:] == n) & ~fits(value[16 * n :], kept) for n in range(4) if len(value) - 16 * n > kept
        ]  # fmt: skip
        m.d.sync += [
            coarse1.eq(shift_right_signed(value, self.shift[4:], 16, kept)),
            over1.eq((self.short & self.value.any()) | Cat(*beyond).any()),
            sign1.eq(sign),
            fine1.eq(self.shift[:4]),
        ]

        # Cycle t+1: the other 0..15.
        by4 = Signal(signed(kept))
        fine2 = Signal(signed(_SUM_BITS + 1), reset_less=True)
        over2, sign2 = Signal(reset_less=True), Signal(reset_less=True)
        # What the last shift by 0 to 3 leaves above the sum's bits.
        late = [(fine1[:2] == n) & ~fits(by4[n : _SUM_BITS + 4], _SUM_BITS + 1) for n in range(3)]
        m.d.comb += by4.eq(shift_right_signed(coarse1, fine1[2:], 4, kept))
        m.d.sync += [
            fine2.eq(shift_right_signed(by4, fine1[:2], 1, _SUM_BITS + 1)),
            over2.eq(over1 | ~fits(by4, _SUM_BITS + 4) | Cat(*late).any()),
            sign2.eq(sign1),
        ]

        # Cycle t+2: the rounding bit is the carry into the addition.
        sum3 = Signal(signed(_SUM_BITS + 1), reset_less=True)
        over3, sign3 = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            sum3.eq(add_carry(fine2[1:].as_signed(), self.addend, fine2[0])),
            over3.eq(over2),
            sign3.eq(sign2),
        ]

        # Cycle t+3: saturation.
        over, low = Signal(), Signal()
        m.d.comb += [
            over.eq(over3 | Mux(self.wide, ~fits(sum3, 32), ~fits(sum3, 16))),
            low.eq(Mux(over3, sign3, sum3[-1])),
        ]
        m.d.sync += [
            self.saturated.eq(over),
            self.result.eq(Mux(over, Mux(self.wide, limit(low, 32), limit(low, 16)), sum3[:32].as_signed())),
        ]
        return m
