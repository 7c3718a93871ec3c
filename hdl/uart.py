"""A UART: 8 data bits, no parity, one stop bit, as two streams of bytes."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.link import BREAK_BITS, LOWEST_DIVISOR

__all__ = ["DIVISOR_BITS", "UartReceiver", "UartTransmitter"]


DIVISOR_BITS = 16


def _check(divisor: int) -> None:
    if not LOWEST_DIVISOR <= divisor < 1 << DIVISOR_BITS:
        raise ValueError(f"expected a divisor from {LOWEST_DIVISOR} to {(1 << DIVISOR_BITS) - 1} clocks a bit, got {divisor!r}")


class UartReceiver(wiring.Component):
    """Bytes from a serial line.

    A byte is offered 9.5 bits and three clocks after its start bit began, until it is taken. The line can't wait: a byte that ends while
    the one before it is still offered is dropped (``overrun``). A byte without a stop bit is dropped (``error``), and nothing is
    received until the line is high again.

    Parameters
    ----------
    divisor : int
        Clocks a bit after reset.

    Members
    -------
    rx : In(1)
        The line; not synchronous to the clock.
    divisor : In(16)
        Clocks a bit, at least 4; changes between bytes only. Unconnected it is the parameter.
    o : Out(stream of 8 bits)
    error, overrun : Out(1)
        A cycle each: a byte was dropped.
    line_break : Out(1)
        The line has been low for ``BREAK_BITS`` bits of the parameter's length.
    """

    def __init__(self, divisor: int):
        _check(divisor)
        self._divisor = divisor
        super().__init__({"rx": In(1, init=1), "divisor": In(DIVISOR_BITS, init=divisor), "o": Out(stream.Signature(8)),
                          "error": Out(1), "overrun": Out(1), "line_break": Out(1)})  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchroniser = cdc.FFSynchronizer(self.rx, rx, init=1)
        timer, bits, shift = Signal(DIVISOR_BITS), Signal(range(8)), Signal(8)
        low = Signal(range(BREAK_BITS * self._divisor + 1))  # clocks since the line was high
        timer_done = Signal()
        m.d.comb += self.line_break.eq(low == BREAK_BITS * self._divisor)
        with m.If(rx):
            m.d.sync += low.eq(0)
        with m.Elif(~self.line_break):
            m.d.sync += low.eq(low + 1)
        m.d.comb += timer_done.eq(timer == 0)
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(~rx):
                    m.d.sync += timer.eq((self.divisor >> 1) - 1)
                    m.next = "START"
            with m.State("START"):  # the middle of the start bit: a glitch is over by now
                with m.If(timer_done):
                    m.d.sync += [timer.eq(self.divisor - 1), bits.eq(7)]
                    with m.If(rx):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "DATA"
            with m.State("DATA"):
                with m.If(timer_done):
                    m.d.sync += [shift.eq(Cat(shift[1:], rx)), timer.eq(self.divisor - 1), bits.eq(bits - 1)]
                    with m.If(bits == 0):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(timer_done):
                    m.next = "IDLE"
                    with m.If(~rx):
                        m.d.comb += self.error.eq(1)
                        m.next = "BREAK"
                    with m.Elif(self.o.valid & ~self.o.ready):
                        m.d.comb += self.overrun.eq(1)
                    with m.Else():
                        m.d.sync += [self.o.payload.eq(shift), self.o.valid.eq(1)]
            with m.State("BREAK"):
                with m.If(rx):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes onto a serial line, ``10 * divisor`` clocks each, without a gap if the next byte is offered in time.

    Parameters
    ----------
    divisor : int
        Clocks a bit after reset.

    Members
    -------
    divisor : In(16)
        Clocks a bit, at least 4; changes while ``idle`` only. Unconnected it is the parameter.
    i : In(stream of 8 bits)
        Taken when its start bit can begin in the next cycle.
    tx : Out(1)
        The line, high when idle.
    idle : Out(1)
        No byte is on the line.
    """

    def __init__(self, divisor: int):
        _check(divisor)
        self._divisor = divisor
        super().__init__({"divisor": In(DIVISOR_BITS, init=divisor), "i": In(stream.Signature(8)), "tx": Out(1, init=1), "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        timer, bits, shift = Signal(DIVISOR_BITS), Signal(range(11)), Signal(9)
        m.d.comb += self.idle.eq(bits == 0)
        m.d.comb += self.i.ready.eq((bits == 0) | ((bits == 1) & (timer == 0)))
        with m.If(bits != 0):
            m.d.sync += timer.eq(timer - 1)
            with m.If(timer == 0):
                m.d.sync += [self.tx.eq(shift[0]), shift.eq(Cat(shift[1:], 1)), bits.eq(bits - 1), timer.eq(self.divisor - 1)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self.tx.eq(0), shift.eq(Cat(self.i.payload, 1)), bits.eq(10), timer.eq(self.divisor - 1)]
        return m
