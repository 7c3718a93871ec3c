"""The performance counters: one list of names, in the order in which the host reads them, and two forms of one behaviour."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trilobit.isa.counters import COUNTERS, STALLS

__all__ = ["COUNTERS", "READ_CLOCKS", "STALLS", "Counters", "SweptCounters"]

WIDTH = 40
RUN_BITS = 8
SLOT_BITS = 5
LOW_BITS = SLOT_BITS + 1
"""Of a counter between two visits: it moves by half of its range at most, so its top bit tells whether it has wrapped."""
READ_CLOCKS = 2 << SLOT_BITS
"""Cycles after which :attr:`SweptCounters.value` is exact: since ``select`` changed, and since the last event."""


class Counters(wiring.Component):
    """Counters of :data:`COUNTERS`, 40 bits each, cleared by ``clear``, counting while ``enable`` is high: the form for a simulator, with
    little to do in a cycle, large in gates. :class:`SweptCounters` is the one for gates.

    Events last. So a counter is increased when one of them changes, by the clocks since the last change, which one short counter counts
    for all of them; the counters work in clock domain ``counts``, whose clock is needed only in cycles in which ``changes`` is high.

    Members
    -------
    changes: Out(1), an edge of ``counts`` changes something.
    events: Out of the core, a bit a counter (the last, ``saturated``, adds ``saturated`` instead).
    select, value: combinational read-out; beyond the last counter it reads 0.
    """

    def __init__(self, *, saturated_bits: int):
        super().__init__({
            "clear": In(1), "enable": In(1), "events": In(len(COUNTERS)), "saturated": In(saturated_bits),
            "select": In(6), "value": Out(48), "changes": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        counters = [Signal(WIDTH, name=name) for name in COUNTERS]
        latest = Signal(len(counters) - 1)  # events of the last ``run`` cycles
        run = Signal(RUN_BITS)
        events, update = Signal.like(latest), Signal()
        m.d.comb += [
            events.eq(self.events[: len(latest)] & self.enable.replicate(len(latest))),
            update.eq((events != latest) | run.all()),
            self.changes.eq(update | (self.enable & (self.saturated != 0)) | self.clear),
        ]
        chosen, lasting = Signal(WIDTH), Signal()
        with m.Switch(self.select):
            for i, (counter, event) in enumerate(zip(counters, [*latest, 0], strict=True)):
                with m.Case(i):
                    m.d.comb += [chosen.eq(counter), lasting.eq(event)]
        m.d.comb += self.value.eq(chosen + Mux(lasting, run, 0))
        m.d.sync += run.eq(Mux(update, 1, run + 1))
        with m.If(update):
            m.d.counts += latest.eq(events)
            for event, counter in zip(latest, counters[:-1], strict=True):
                with m.If(event):
                    m.d.counts += counter.eq(counter + run)
        with m.If(self.enable):
            m.d.counts += counters[-1].eq(counters[-1] + self.saturated)
        with m.If(self.clear):
            m.d.counts += [latest.eq(0), *(counter.eq(0) for counter in counters)]
        return m


class SweptCounters(wiring.Component):
    """The same counters in one block RAM, for gates; ``value`` follows :data:`READ_CLOCKS` cycles later.

    Each counter has its low LOW_BITS in registers. A sweep visits one counter a cycle and brings its word in the RAM, the bits above and
    the top one of the low bits as it was, up to date. Only ``saturated`` may move by more than one in a cycle: its registers are
    longer, and a visit takes away what is above the low bits.

    Parameters
    ----------
    saturated_bits: of ``saturated``. live: the counters that count, ``saturated`` last; all others read 0, and a sweep is as short.

    Members
    -------
    events, saturated, clear, enable: as :class:`Counters`.
    select, value: read-out, by place in COUNTERS; beyond the last counter it reads 0.
    """

    def __init__(self, *, saturated_bits: int, live: Sequence[str] = COUNTERS):
        self.live = tuple(live)
        assert self.live[-1] == COUNTERS[-1], "saturated is the last"
        super().__init__({
            "clear": In(1), "enable": In(1), "events": In(len(self.live)), "saturated": In(saturated_bits),
            "select": In(6), "value": Out(48),
        })  # fmt: skip

    def _place(self, m):
        """The chosen counter's slot, and whether there is none."""
        if self.live == COUNTERS:
            return self.select[:SLOT_BITS], self.select[SLOT_BITS:].any()
        place, none = Signal(range(len(self.live))), Signal(init=1)
        with m.Switch(self.select):
            for slot, name in enumerate(self.live):
                with m.Case(COUNTERS.index(name)):
                    m.d.comb += [place.eq(slot), none.eq(0)]
        return place, none

    def elaborate(self, platform):
        m = Module()
        slot_bits = (len(self.live) - 1).bit_length()
        low_bits = slot_bits + 1  # as LOW_BITS for all counters
        slots = 1 << slot_bits
        # A word that is written is read a whole sweep later, never at once.
        shape = WIDTH - low_bits + 1
        m.submodules.words = words = memory.Memory(shape=shape, depth=slots, init=[], attrs={"no_rw_check": 1, "ram_style": "block"})
        rport, wport = words.read_port(), words.write_port()

        # ---- the low bits ------------------------------------------------------------------------------------------------
        slot, here = Signal(slot_bits), Signal(slots, init=1)  # the visited counter: number, one-hot
        m.d.sync += [slot.eq(slot + 1), here.eq(here.rotate_left(1))]
        lows = [Signal(low_bits, name=f"low_{name}") for name in self.live[:-1]]
        events, amount = Signal(len(lows)), Signal.like(self.saturated)  # of the cycle before: they come late in it
        m.d.sync += [events.eq(self.events & self.enable.replicate(len(lows))), amount.eq(Mux(self.enable, self.saturated, 0))]
        for low, event in zip(lows, events, strict=True):
            m.d.sync += low.eq(low + event)
        saturated = Signal(low_bits + len(self.saturated))
        last = here[len(lows)]
        m.d.sync += saturated.eq(Mux(last, saturated[:low_bits], saturated) + amount)
        with m.If(self.clear):
            m.d.sync += [*(low.eq(0) for low in lows), saturated.eq(0), events.eq(0), amount.eq(0)]

        # ---- a visit: the word is read, then written ---------------------------------------------------------------------
        chosen = reduce(or_, (low & bit.replicate(low_bits) for low, bit in zip([*lows, saturated[:low_bits]], here, strict=False)))
        low1, slot1, last1, above1 = Signal(low_bits), Signal(slot_bits), Signal(), Signal(len(self.saturated))
        m.d.sync += [low1.eq(chosen), slot1.eq(slot), last1.eq(last), above1.eq(saturated[low_bits:] & last.replicate(len(above1)))]
        stale = Signal(range(slots + 2), init=slots + 1)  # visits after ``clear`` start from zero instead of from their words
        with m.If(self.clear):
            m.d.sync += stale.eq(slots + 1)
        with m.Elif(stale != 0):
            m.d.sync += stale.eq(stale - 1)
        old, upper = Signal(shape), Signal(WIDTH - low_bits)
        wrapped = old[0] & ~low1[-1] & ~last1
        m.d.comb += [
            rport.en.eq(1), rport.addr.eq(slot),
            old.eq(Mux(stale != 0, 0, rport.data)),
            upper.eq(old[1:] + (above1 | wrapped)),
            wport.en.eq(1), wport.addr.eq(slot1), wport.data.eq(Cat(low1[-1], upper)),
        ]  # fmt: skip
        place, none = self._place(m)
        with m.If(slot1 == place):
            m.d.sync += self.value.eq(Cat(low1, upper))
            with m.If(none):
                m.d.sync += self.value.eq(0)
        return m
