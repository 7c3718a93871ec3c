"""The search behind argmax: the largest score so far and its index."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import TOKEN_BITS
from trilobit.hdl.shift import greater

__all__ = ["TOKEN_BITS", "ArgmaxSearch"]


class ArgmaxSearch(wiring.Component):
    """Keeps the largest score and the index of its first appearance.

    An element a clock; ``best`` includes an element one cycle later. The search goes on from
    instruction to instruction until one restarts it.

    Members
    -------
    valid : In(1), last : In(1)
        An element, the last one of its instruction.
    restart : In(1)
        The element's instruction starts a new search; with all its elements.
    score : In(signed(32)), index : In(24)
    best : Out(24)
    """

    valid: In(1)
    last: In(1)
    restart: In(1)
    score: In(signed(32))
    index: In(TOKEN_BITS)
    best: Out(TOKEN_BITS)

    def elaborate(self, platform):
        m = Module()
        begins = Signal(init=1)  # the next element is the first of its instruction
        largest = Signal(signed(32))
        with m.If(self.valid):
            m.d.sync += begins.eq(self.last)
            with m.If((begins & self.restart) | greater(self.score, largest)):  # the lowest index keeps a tie
                m.d.sync += [largest.eq(self.score), self.best.eq(self.index)]
        return m
