"""Serial integer square root and division: one bit of the result a clock, exact, small.

Both take their operands in the cycle of ``start``, are ``busy`` for ``clocks`` cycles after it, and hold the result from the
first cycle that isn't busy until the next start (not ``held``: in that cycle only). A start while busy begins anew.
"""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SerialDivide", "SerialRoot"]


class SerialRoot(wiring.Component):
    """``root = isqrt(radicand)``, the largest integer whose square isn't above the radicand.

    Latency: ``root`` is valid ``clocks + 1`` cycles after ``start``, whatever the operand.

    Parameters
    ----------
    width: bits of the radicand, even.
    held: count the steps, and stop after the last; without, ``busy`` and ``last`` mean nothing and whoever starts counts.

    Attributes
    ----------
    clocks: cycles that ``busy`` is high, ``width / 2``.

    Members
    -------
    start: In(1);  radicand: In(width), sampled with start
    busy: Out(1);  last: Out(1), the last busy cycle;  root: Out(width / 2)
    """

    def __init__(self, width: int, *, held: bool = True):
        if width < 2 or width % 2:
            raise ValueError(f"expected an even width of at least 2, got {width!r}")
        self.width = width
        self.held = held
        self.clocks = width // 2
        super().__init__({
            "start": In(1), "radicand": In(width), "busy": Out(1), "last": Out(1), "root": Out(width // 2),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        bits = self.clocks
        rest = Signal(self.width)  # digits still to come, the next pair on top
        remainder = Signal(bits + 1)  # at most twice the root
        left = Signal(range(bits + 1))
        difference = Signal(bits + 4)
        if self.held:
            m.d.comb += [self.busy.eq(left != 0), self.last.eq(left == 1)]
        m.d.comb += [
            # Bring down two bits and try 4*root + 1, the step to the square of 2*root + 1.
            difference.eq(Cat(rest[-2:], remainder) - Cat(Const(0b01, 2), self.root)),
        ]
        with m.If(self.start):
            m.d.sync += [rest.eq(self.radicand), remainder.eq(0), self.root.eq(0), left.eq(bits)]
        with m.Elif(self.busy if self.held else 1):
            fits = ~difference[-1]
            m.d.sync += [
                rest.eq(rest << 2),
                remainder.eq(Mux(fits, difference, Cat(rest[-2:], remainder))),
                self.root.eq(Cat(fits, self.root)),
                left.eq(left - 1),
            ]
        return m


class SerialDivide(wiring.Component):
    """``quotient = floor(dividend * 2**steps / divisor)`` for ``dividend < divisor``: the digits after the binary point.

    A longer dividend whose low ``steps`` bits are zero is given without them. If ``dividend < divisor`` doesn't hold (a divisor of
    zero included) the quotient means nothing, but takes as long.

    Latency: ``quotient`` is valid ``clocks + 1`` cycles after ``start``, whatever the operands.

    Parameters
    ----------
    width: bits of dividend and divisor.
    steps: bits of the quotient.
    held: as for :class:`SerialRoot`.

    Attributes
    ----------
    clocks: cycles that ``busy`` is high, ``steps``.

    Members
    -------
    start: In(1);  dividend, divisor: In(width), sampled with start
    busy: Out(1);  last: Out(1), the last busy cycle;  quotient: Out(steps)
    """

    def __init__(self, width: int, steps: int, *, held: bool = True):
        if width < 1 or steps < 1:
            raise ValueError(f"expected a width and steps of at least 1, got {width!r} and {steps!r}")
        self.width = width
        self.held = held
        self.steps = steps
        self.clocks = steps
        super().__init__({
            "start": In(1), "dividend": In(width), "divisor": In(width),
            "busy": Out(1), "last": Out(1), "quotient": Out(steps),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        divisor = Signal(self.width)
        remainder = Signal(self.width)
        left = Signal(range(self.steps + 1))
        difference = Signal(self.width + 2)
        if self.held:
            m.d.comb += [self.busy.eq(left != 0), self.last.eq(left == 1)]
        m.d.comb += [
            difference.eq((remainder << 1) - divisor),
        ]
        with m.If(self.start):
            m.d.sync += [divisor.eq(self.divisor), remainder.eq(self.dividend), left.eq(self.steps)]
        with m.Elif(self.busy if self.held else 1):
            fits = ~difference[-1]
            m.d.sync += [
                remainder.eq(Mux(fits, difference, remainder << 1)),
                self.quotient.eq(Cat(fits, self.quotient)),
                left.eq(left - 1),
            ]
        return m
