"""The performance counters of the lean core: those of :data:`trilobit.isa.counters.COUNTERS` that it has, in one block memory."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trilobit.isa.counters import COUNTERS

__all__ = ["LIVE", "LeanCounters"]

LIVE = ("cycles", "issued", "busy_ldst", "busy_rmsnorm", "busy_tmatmul", "busy_rowwise", "matmul_beats", "matmul_wait_weights",
        "stream_read_beats", "ldst_read_beats", "write_beats", "saturated")  # fmt: skip
"""The counters that count; the others, why an instruction couldn't issue, read zero: nothing is issued before the latest one is over."""
WIDTH = 40
SLOT_BITS = (len(LIVE) - 1).bit_length()
LOW_BITS = SLOT_BITS + 1


class LeanCounters(wiring.Component):
    """As :class:`trilobit.hdl.counters.SweptCounters`, for fewer counters and a sweep as short; an event is one a cycle at most.

    Each counter has its low bits in registers. A sweep visits one counter a cycle and brings its word in the memory, the bits above and the
    top one of the low bits as it was, up to date.

    Members
    -------
    events: In, a bit for each of LIVE. clear, enable: In(1).
    select: In(6), a place in COUNTERS; value: Out(48), within trilobit.hdl.counters.READ_CLOCKS.
    """

    def __init__(self):
        super().__init__({"clear": In(1), "enable": In(1), "events": In(len(LIVE)), "select": In(6), "value": Out(48)})

    def elaborate(self, platform):
        m = Module()
        slots = 1 << SLOT_BITS
        shape = WIDTH - LOW_BITS + 1
        m.submodules.words = words = memory.Memory(shape=shape, depth=slots, init=[], attrs={"no_rw_check": 1, "ram_style": "block"})
        rport, wport = words.read_port(), words.write_port()
        slot, here, events = Signal(SLOT_BITS), Signal(slots, init=1), Signal(len(LIVE))
        lows = [Signal(LOW_BITS, name=f"low_{name}") for name in LIVE]
        m.d.sync += [slot.eq(slot + 1), here.eq(here.rotate_left(1)), events.eq(self.events)]
        with m.If(~self.enable):
            m.d.sync += events.eq(0)
        for low, event in zip(lows, events, strict=True):
            with m.If(event):
                m.d.sync += low.eq(low + 1)
        with m.If(self.clear):
            m.d.sync += [*(low.eq(0) for low in lows), events.eq(0)]

        # A visit: the word is read, then written; those after ``clear`` start from zero, for a sweep and a cycle.
        low1, slot1, old = Signal(LOW_BITS), Signal(SLOT_BITS), Signal(shape)
        stale = Signal(slots + 1, init=-1)  # ones that move out
        m.d.sync += [
            low1.eq(reduce(or_, (low & bit.replicate(LOW_BITS) for low, bit in zip(lows, here, strict=False)))), slot1.eq(slot),
            stale.eq(stale >> 1),
        ]  # fmt: skip
        with m.If(self.clear):
            m.d.sync += stale.eq(-1)
        upper = Signal(WIDTH - LOW_BITS)
        m.d.comb += [
            rport.en.eq(1), rport.addr.eq(slot), old.eq(Mux(stale[0], 0, rport.data)), upper.eq(old[1:] + (old[0] & ~low1[-1])),
            wport.en.eq(1), wport.addr.eq(slot1), wport.data.eq(Cat(low1[-1], upper)),
        ]  # fmt: skip
        chosen, known = Signal(SLOT_BITS), Signal()
        with m.Switch(self.select):
            for place, name in enumerate(LIVE):
                with m.Case(COUNTERS.index(name)):
                    m.d.comb += [chosen.eq(place), known.eq(1)]
        with m.If(slot1 == chosen):
            m.d.sync += self.value.eq(Cat(low1, upper))
        with m.If(~known):
            m.d.sync += self.value.eq(0)
        return m
