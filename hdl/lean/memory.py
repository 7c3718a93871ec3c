"""The lean core's side of the memory port: the stream ahead of the program, loads, stores, and the queue of gains."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.interfaces import MemorySignature
from trilobit.hdl.lean.buffers import HALF_BITS, GainQueue, StoreBuffer, block_memory, follow, vector_bits
from trilobit.hdl.lean.fetch import ADDRESS_BITS, LeanFetch
from trilobit.hdl.shift import add_carry
from trilobit.isa.core import CoreConfig

__all__ = ["ELEMENT_BITS", "LOAD_CLOCKS", "RESUME_CLOCKS", "STREAM_CLOCKS", "WEIGHT_CLOCKS", "LeanMemory"]

ELEMENT_BITS = 36
STREAM_CLOCKS = 2
"""Cycles from ``element_start`` to the first element, of a beat that is offered by then."""
LOAD_CLOCKS = 3
"""Cycles from ``element_start`` to the first element of the load buffer."""
WEIGHT_CLOCKS = 2
"""Cycles from a beat's arrival to its offer, through an empty queue."""
RESUME_CLOCKS = 2
"""Cycles from the last element of the load buffer to the offer of the stream's next beat."""


class LeanMemory(wiring.Component):
    """Everything between the engine, the product and the memory port. Addresses and lengths are in beats.

    The stream's queue (weight_fifo_beats) and the load buffer (a vector of max_length 32-bit elements) are halves of one block memory
    with one output register, so that one multiplexer takes elements out of both. That register holds the beat that is offered; while
    elements of the load buffer are taken it is theirs, and the stream's next beat is read again afterwards.

    Timing. Strobes and the ``set`` of a register act at the end of their cycle: conditions tell in the next one. A strobe that needs
    a register comes at least one cycle after its ``set``.

    - ``read`` at t: the request is offered at t + REQUEST_CLOCKS (``push``: one later), see :class:`trilobit.hdl.lean.fetch.LeanFetch`.
    - ``write`` or ``zeros`` at t: at t + 1, see :class:`trilobit.hdl.lean.buffers.StoreBuffer`.
    - ``taken`` is high from the cycle after the request was taken on, ``read_done`` from the second after the last beat's arrival,
      ``write_done`` from the first after the answer, ``flushed`` from the second cycle after ``flush`` at the earliest.
    - A beat that arrives at t is offered to the product at t + WEIGHT_CLOCKS if no other waits; then a beat a clock.
    - ``element_start`` at t: the first element is valid at t + STREAM_CLOCKS if the stream's next beat is offered at t + 1, else one
      cycle after that is; or at t + LOAD_CLOCKS. Then an element a clock, across beats too, while the queue has beats.
    - ``element_end`` at t: the next ``element_start`` may come at t + 1, and the stream's next beat is offered at t + 1, or at
      t + RESUME_CLOCKS if the elements were the load buffer's.

    Parameters
    ----------
    config : CoreConfig, beat_bytes from 4 to 64.

    Members
    -------
    mem : Out(MemorySignature(config))
    hw_data : In(36); set_address, set_beats, set_region, set_region_end : In(1)
        Registers: first beat of own requests, their beats less one (the request stays in its config.burst_block), first beat of the
        region that ``push`` appends, first beat behind it.
    push : In(1)
        At most :data:`trilobit.hdl.lean.fetch.REGIONS` regions wait, with the one that is being fetched.
    hold, release : In(1)
    read : In(1)
        Only while ``quiet``. Then what arrives lands in the load buffer, until ``release``; not before ``read_done``. ADDRESS and BEATS may
        change when ``taken``, and so may the next ``read`` come.
    reread : In(1)
        The next own read lands at the start of the load buffer; comes between taking elements of it and the next own read.
    write, zeros : In(1)
        Only while ``write_done``; ADDRESS and BEATS may change when it is ``taken``. ``zeros`` ends a store: the next one needs
        ``store_start``.
    store_start : In(1)
    flush : In(1)
        Drops regions, the queue, gains, and what is outstanding as it arrives; also releases. Own requests may be waiting, and a request
        that is offered stays; a write goes on.
    begin : In(1)
        Clears ``error`` and the gains.
    quiet, taken, read_done, write_done, flushed, error : Out(1)
    weight_valid, weight_ready, weight_data
        ``weight_valid`` is low while elements are taken.
    element_start, element_load : In(1)
        From now on elements are taken, of the load buffer or of the stream; of the former from its start, after ``read_done`` (``release``
        may have come, too).
    element_wide, element_signed : In(1)
        Stable from element_start to element_end. The stream's elements have 16 bits even if ``element_wide``.
    element_valid, element_ready, element_data : Out(36)
        Zero while not valid.
    element_end : In(1)
        Counts in the cycle of a transfer: this was the last one, and the rest of its beat is dropped.
    store_en, store_data : In(32), store_wide : In(1)
        Appends an element.
    gain_push, gain_data : In(16), gain_pop : In(1), gain_out : Out(signed(16)), gain_some : Out(1)
        As :class:`trilobit.hdl.lean.buffers.GainQueue`.
    stream_read_beat, load_read_beat, write_beat : Out(1)
        Events. What arrives in a flush counts as the stream's.
    level : Out
        Beats in the stream's queue, the offered one included.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        n = config.beat_bytes
        super().__init__({
            "mem": Out(MemorySignature(config)),
            "hw_data": In(36), "set_address": In(1), "set_beats": In(1), "set_region": In(1), "set_region_end": In(1),
            "push": In(1), "hold": In(1), "release": In(1), "read": In(1), "reread": In(1), "write": In(1), "zeros": In(1),
            "store_start": In(1), "flush": In(1), "begin": In(1),
            "quiet": Out(1), "taken": Out(1), "read_done": Out(1), "write_done": Out(1), "flushed": Out(1), "error": Out(1),
            "weight_valid": Out(1), "weight_ready": In(1), "weight_data": Out(8 * n),
            "element_start": In(1), "element_load": In(1), "element_wide": In(1), "element_signed": In(1),
            "element_valid": Out(1), "element_ready": In(1), "element_data": Out(ELEMENT_BITS), "element_end": In(1),
            "store_en": In(1), "store_data": In(32), "store_wide": In(1),
            "gain_push": In(1), "gain_data": In(16), "gain_pop": In(1), "gain_out": Out(signed(16)), "gain_some": Out(1),
            "stream_read_beat": Out(1), "load_read_beat": Out(1), "write_beat": Out(1),
            "level": Out(range(config.weight_fifo_beats + 1)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, mem = self._config, self.mem
        beat_shift = ceil_log2(config.beat_bytes)
        m.submodules.fetch = fetch = LeanFetch(config)
        m.submodules.store = store = StoreBuffer(config, fetch.length_bits)
        m.submodules.gains = gains = GainQueue(config)
        address, beats = Signal(ADDRESS_BITS), Signal(fetch.length_bits)
        with m.If(self.set_address):
            m.d.sync += address.eq(self.hw_data)
        with m.If(self.set_beats):
            m.d.sync += beats.eq(self.hw_data)
        pop = self._queue(m, fetch)
        m.d.comb += [
            fetch.hw_data.eq(self.hw_data), fetch.set_address.eq(self.set_address), fetch.set_region.eq(self.set_region),
            fetch.set_region_end.eq(self.set_region_end), fetch.beats.eq(beats), fetch.push.eq(self.push), fetch.hold.eq(self.hold),
            fetch.release.eq(self.release), fetch.read.eq(self.read), fetch.flush.eq(self.flush), fetch.pop.eq(pop),
            fetch.arrived.eq(mem.rdata_valid), fetch.rd_ready.eq(mem.rd_ready),
            mem.rd_valid.eq(fetch.rd_valid), mem.rd_addr.eq(fetch.rd_addr << beat_shift), mem.rd_len.eq(fetch.rd_len),
            self.quiet.eq(fetch.quiet), self.read_done.eq(fetch.read_done), self.flushed.eq(fetch.flushed),
            self.taken.eq(fetch.taken & ~mem.wr_valid),
            store.start.eq(self.store_start), store.en.eq(self.store_en), store.data.eq(self.store_data), store.wide.eq(self.store_wide),
            store.write.eq(self.write), store.zeros.eq(self.zeros), store.beats.eq(beats), self.write_done.eq(store.done),
            mem.wr_valid.eq(store.wr_valid), store.wr_ready.eq(mem.wr_ready), mem.wr_addr.eq(address << beat_shift), mem.wr_len.eq(beats),
            mem.wdata_valid.eq(store.wdata_valid), store.wdata_ready.eq(mem.wdata_ready), mem.wdata.eq(store.wdata),
            mem.wdata_strobe.eq(store.wdata_strobe), store.wresp_valid.eq(mem.wresp_valid),
            gains.push.eq(self.gain_push), gains.data.eq(self.gain_data), gains.pop.eq(self.gain_pop), self.gain_out.eq(gains.out),
            self.gain_some.eq(gains.some), gains.clear.eq(self.begin | ~fetch.flushed),
            self.stream_read_beat.eq(mem.rdata_valid & ~fetch.own), self.load_read_beat.eq(mem.rdata_valid & fetch.own),
            self.write_beat.eq(mem.wdata_valid & mem.wdata_ready),
        ]  # fmt: skip
        with m.If((mem.rdata_valid & mem.rdata_error) | (mem.wresp_valid & mem.wresp_error)):
            m.d.sync += self.error.eq(1)
        with m.If(self.begin):
            m.d.sync += self.error.eq(0)
        return m

    def _queue(self, m, fetch):
        """The stream's queue and the load buffer, up to the output register. Returns whether a beat of the stream is used up."""
        config = self._config
        bits = max(ceil_log2(config.weight_fifo_beats), vector_bits(config))
        m.submodules.storage = storage = block_memory(8 * config.beat_bytes, 2 << bits)
        wport, rport = storage.write_port(), storage.read_port()
        put, landed = Signal(bits), Signal(bits, reset_less=True)  # where the next beats of the stream and of own reads go
        place, again = Signal(bits), Signal(bits)  # the next beat to be read; the stream's first that is not used up
        offered, loading, active = Signal(), Signal(), Signal()  # a beat; the load buffer's instead of the stream's; elements are taken
        used, pop, restore, get = Signal(), Signal(), Signal(), Signal()
        free = ~offered | used  # the output register is
        arrived = self.mem.rdata_valid & ~fetch.own  # in a flush it does not count
        start_load = self.element_start & self.element_load
        element_used, over = self._elements(m, rport.data, offered, loading, active)
        m.d.comb += [
            wport.addr.eq(Cat(Mux(fetch.own, landed, put), fetch.own)), wport.data.eq(self.mem.rdata), wport.en.eq(self.mem.rdata_valid),
            rport.addr.eq(Cat(place, loading)), rport.en.eq(get), self.weight_data.eq(rport.data),
            self.weight_valid.eq(offered & ~active),
            used.eq(element_used | (self.weight_valid & self.weight_ready)), pop.eq(used & ~loading),
            get.eq(free & (loading | self.level[1:].any() | (self.level[0] & ~offered))),
            restore.eq(over & loading),
        ]  # fmt: skip
        with m.If(arrived):
            m.d.sync += put.eq(follow(put))
        with m.If(self.mem.rdata_valid & fetch.own):
            m.d.sync += landed.eq(follow(landed))
        with m.If(self.reread):
            m.d.sync += landed.eq(0)
        m.d.sync += [
            self.level.eq(add_carry(self.level, pop.replicate(len(self.level)), arrived)),
            offered.eq((get | (offered & ~used)) & ~start_load & ~restore),
            active.eq((active | self.element_start) & ~over), loading.eq((loading | start_load) & ~over),
        ]  # fmt: skip
        with m.If(restore):
            m.d.sync += place.eq(again)
        with m.Elif(get):
            m.d.sync += place.eq(follow(place))
        with m.If(free & ~loading):
            m.d.sync += again.eq(place)
        with m.If(start_load):
            m.d.sync += place.eq(0)
        with m.If(~fetch.flushed):
            m.d.sync += [put.eq(0), place.eq(0), self.level.eq(0), offered.eq(0), active.eq(0), loading.eq(0)]
        return pop

    def _elements(self, m, beat, offered, loading, active):
        """Half words of the beat to elements. Returns whether the beat is used up, and whether the elements are over."""
        halves = self._config.beat_bytes // 2
        half = Signal(ceil_log2(halves), reset_less=True)
        wide, load, advance, over, last = (Signal(name=name) for name in ("wide", "load", "advance", "over", "last"))
        pairs = half[1:]
        m.d.comb += [
            wide.eq(self.element_wide & loading), over.eq(self.element_end & self.element_valid & self.element_ready),
            advance.eq(~self.element_valid | self.element_ready), load.eq(active & offered & advance & ~over),
            last.eq(pairs.all() & (wide | half[0])),
        ]  # fmt: skip
        # The chosen half words, all others zero: a reset where a multiplexer would be gates.
        chosen = [Signal(HALF_BITS, name=f"half{k}", reset_less=True) for k in range(halves)]
        for k, kept in enumerate(chosen):
            mine = load & (wide | (half[0] == k % 2)) & (pairs == k // 2)
            with m.If(advance & ~mine):
                m.d.sync += kept.eq(0)
            with m.Elif(advance):
                m.d.sync += kept.eq(beat.word_select(k, HALF_BITS))
        with m.If(advance):
            m.d.sync += self.element_valid.eq(load)
        with m.If(load):
            m.d.sync += half.eq(Cat(half[0] ^ ~wide, pairs + (wide | half[0])))
        with m.If(self.element_start):
            m.d.sync += half.eq(0)
        even, odd = Signal(HALF_BITS), Signal(HALF_BITS)
        low, extension = Signal(HALF_BITS), Signal()
        m.d.comb += [
            even.eq(reduce(or_, chosen[::2])), odd.eq(reduce(or_, chosen[1::2])), low.eq(even | Mux(wide, 0, odd)),
            extension.eq(self.element_signed & Mux(wide, odd[-1], low[-1])),
            self.element_data.eq(Cat(low, Mux(wide, odd, extension.replicate(HALF_BITS)), extension.replicate(4))),
        ]  # fmt: skip
        # Behind the last element the rest of its beat, if any.
        return (load & last) | (over & (half != 0)), over
