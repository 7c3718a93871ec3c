"""A rounding shift with optional saturation in three pipeline stages."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundShift"]

_FINE_BITS = 3  # the coarse stage shifts by multiples of 8, the fine one by 0 to 7
_FINE = (1 << _FINE_BITS) - 1


class RoundShift(wiring.Component):
    """``o = rs(i, amount - left)``: a shift right with rounding half up, to the left if negative; optionally saturated.

    Latency: ``o`` and ``saturated`` follow ``i`` by three cycles, one value a cycle. ``amount`` and ``limit`` must be constant
    while a value is on its way. Without limit the result is taken modulo ``2**out_width``.

    Parameters
    ----------
    in_width: bits of the operand, signed.
    left: the longest shift to the left.
    longest: the largest ``amount`` that occurs.
    out_width: bits of the result.
    limit_width: signed bits to which ``limit`` saturates, at most out_width; None: never.

    Members
    -------
    i: In(signed(in_width));  amount: In(6), the shift to the right plus ``left``;  limit: In(1)
    o: Out(out_width), two's complement;  saturated: Out(1)
    """

    def __init__(self, *, in_width: int, left: int, longest: int, out_width: int, limit_width: int | None = None):
        self.in_width = in_width
        self.left = left
        self.longest = longest
        self.out_width = out_width
        self.limit_width = limit_width
        super().__init__({
            "i": In(signed(in_width)), "amount": In(6), "limit": In(1),
            "o": Out(out_width), "saturated": Out(1),
        })  # fmt: skip

    def _multiples_of_8(self, x, width: int):
        """x shifted right by ``amount`` without its low bits: a tree of only those shifts that occur."""
        most = self.longest >> _FINE_BITS

        def select(low: int, bits: int):
            if bits == 0:
                kept = x[min(low << _FINE_BITS, len(x) - 1) :]
                return Cat(kept, x[-1].replicate(max(width - len(kept), 0)))[:width]
            half = 1 << (bits - 1)
            if low + half > most:
                return select(low, bits - 1)
            return Mux(self.amount[_FINE_BITS + bits - 1], select(low + half, bits - 1), select(low, bits - 1))

        return select(0, 6 - _FINE_BITS)

    def elaborate(self, platform):
        m = Module()
        # Bit 0 of every stage is the bit that rounds.
        extended = Cat(Const(0, self.left + 1), self.i).as_signed()
        window = min(1 + self.out_width + _FINE, len(extended))
        coarse = Signal(signed(window))
        fine = Signal(signed(window))
        sign = Signal()  # of the operand: what is above the window, unless it is lost and the result saturates
        m.d.sync += [
            coarse.eq(self._multiples_of_8(extended, window)),
            sign.eq(self.i[-1]),
            fine.eq(Cat(coarse, sign.replicate(_FINE)) >> self.amount[:_FINE_BITS]),
        ]
        total = Signal(self.out_width)
        m.d.comb += total.eq(fine[1:] + fine[0])
        if self.limit_width is None:
            m.d.sync += self.o.eq(total)
            return m

        # What the coarse stage cuts off above its window must be copies of the sign; so must what the result cuts off.
        bits = self.limit_width
        negative = Signal()
        above = Signal(2)
        lost = []
        step = 1 << _FINE_BITS
        first = window - (self.left + 1)  # operand bit just above the window when the coarse stage doesn't shift
        for index, low in enumerate(range(first, self.in_width, step)):
            group = self.i[max(low, 0) : max(low + step, 0)]
            if len(group):
                differs = Mux(self.i[-1], ~group.all(), group.any())
                lost.append(differs & (self.amount[_FINE_BITS:] <= index))
        m.d.sync += [
            negative.eq(sign),
            above.eq(Cat(Cat(*lost).any(), above[0])),
        ]
        # Rounding up may leave the range, or come back into it: the sum's sign bit tells. The bits above are not touched by that.
        top = fine[bits:]
        low = top[0] | total[bits - 1]
        over = Signal()
        m.d.comb += over.eq(self.limit & (above[1] | Mux(negative, ~(top[1:].all() & low), top[1:].any() | low)))
        m.d.sync += [
            self.o.eq(Mux(over, Cat((~negative).replicate(bits - 1), negative.replicate(self.out_width - bits + 1)), total)),
            self.saturated.eq(over),
        ]
        return m
