"""Read requests of the lean core: the stream's, as far ahead as there is room, and those of its own."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.lean.buffers import block_memory, follow, vector_bits
from trilobit.hdl.shift import add_carry
from trilobit.isa.core import CoreConfig

__all__ = ["REGIONS", "REQUEST_CLOCKS", "LeanFetch"]

REGIONS = 7
"""Regions that may be queued."""
REQUEST_CLOCKS = 6
"""Cycles from ``read`` to the offer of the request; the stream takes one more."""
ADDRESS_BITS = 32
_REGION_BITS = 3


class LeanFetch(wiring.Component):
    """Asks for the beats of queued regions in order while the queue behind it has room for a whole block, and for those of own requests.

    The addresses, also that of an own request, stand in a small block memory: a region's first beat that has not been asked for is
    read, offered, and replaced by the beginning of the next block. The memory's output is zero unless it was read for that, and the
    word from the engine is zero unless one is written: so one adder does both. Requests end at multiples of config.burst_block beats.

    Timing: a request is offered REQUEST_CLOCKS after ``read``, and one more after ``push`` (with an empty queue). If the stream's are
    taken at once they follow each other every REQUEST_CLOCKS + 1, so blocks of 8 beats suffice for a beat a clock. A cycle with
    ``set_address`` or ``set_region`` delays a request that would be looked up in it by one. ``read`` and ``push`` come at least one cycle
    after the registers that they need were set. ``quiet`` and ``read_done`` are high from the second cycle after the last arrival on.

    Members
    -------
    hw_data : In(36), set_address, set_region, set_region_end : In(1)
    beats : In, of own requests, less one.
    push, hold, release, read, flush : In(1)
        ``flush`` also releases; it is over when ``flushed`` is high again.
    pop : In(1)
        A beat has left the queue of the stream.
    arrived : In(1)
    rd_valid, rd_ready, rd_addr (in beats), rd_len
    own : Out(1)
        What arrives is of own requests: from the first ``read`` to ``release``.
    quiet, taken, read_done, flushed : Out(1)
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self.length_bits = ceil_log2(config.burst_block)
        super().__init__({
            "hw_data": In(36), "set_address": In(1), "set_region": In(1), "set_region_end": In(1), "beats": In(self.length_bits),
            "push": In(1), "hold": In(1), "release": In(1), "read": In(1), "flush": In(1), "pop": In(1), "arrived": In(1),
            "rd_valid": Out(1), "rd_ready": In(1), "rd_addr": Out(ADDRESS_BITS), "rd_len": Out(self.length_bits), "own": Out(1),
            "quiet": Out(1), "taken": Out(1), "read_done": Out(1), "flushed": Out(1, init=1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        low, room_beats = self.length_bits, self._config.weight_fifo_beats

        # State: what waits, and how far a lookup has come.
        held, wanted, looking = Signal(), Signal(), Signal()
        second, third, fourth, fifth = (Signal(name=name) for name in ("second", "third", "fourth", "fifth"))
        head, tail = Signal(_REGION_BITS), Signal(_REGION_BITS)
        free = Signal(range(room_beats + 1), init=room_beats)  # beats that may be asked for
        outstanding = Signal(range(max(room_beats, 1 << vector_bits(self._config)) + 1))
        go, busy, idle, ask = Signal(), Signal(), Signal(), Signal()
        may, none = Signal(), Signal()  # the stream has something to ask; nothing is outstanding
        setting = self.set_address | self.set_region
        m.d.comb += [
            busy.eq(looking | self.rd_valid), go.eq(~setting & (may | wanted)), idle.eq(none & ~busy),
            self.read_done.eq(idle & ~wanted), self.quiet.eq(self.read_done & held), self.taken.eq(~(wanted | (self.own & busy))),
        ]  # fmt: skip
        m.d.sync += [
            held.eq((held | self.hold) & ~self.release), self.own.eq((self.own | self.read) & ~self.release),
            wanted.eq(self.read | (wanted & ~go)), self.flushed.eq((self.flushed | idle) & ~self.flush),
            looking.eq(go | (looking & ~fifth)), second.eq(go), third.eq(second), fourth.eq(third), fifth.eq(fourth),
            may.eq(free[low:].any() & (head != tail) & ~busy & ~go & ~held & ~self.hold & ~self.flush & self.flushed),
            none.eq((outstanding == 0) & ~busy),
        ]  # fmt: skip

        # First and last beats. The own address has the places in which bit 3 is set; the upper half is never written.
        m.submodules.starts = starts = block_memory(ADDRESS_BITS, 4 << _REGION_BITS)
        m.submodules.ends = ends = block_memory(ADDRESS_BITS, 1 << _REGION_BITS)
        sport, eport, put, put_end = starts.read_port(), ends.read_port(), starts.write_port(), ends.write_port()
        given, is_set, is_own = Signal(ADDRESS_BITS, reset_less=True), Signal(), Signal()
        advance = second & ~self.own
        with m.If(setting):
            m.d.sync += given.eq(self.hw_data)
        with m.Else():
            m.d.sync += given.eq(0)
        m.d.sync += [is_set.eq(setting), is_own.eq(self.set_address)]
        m.d.comb += [
            sport.addr.eq(Cat(head | self.own.replicate(_REGION_BITS), self.own, ~go)), sport.en.eq(1),
            eport.addr.eq(head), eport.en.eq(go),
            put.addr.eq(Cat(Mux(second, head, tail) | is_own.replicate(_REGION_BITS), is_own, 0)), put.en.eq(is_set | advance),
            put.data.eq(Cat(given[:low], add_carry(sport.data[low:], given[low:], second)[: ADDRESS_BITS - low])),
            put_end.addr.eq(tail), put_end.data.eq(self.hw_data), put_end.en.eq(self.set_region_end),
        ]  # fmt: skip

        # The request: to the end of the block, or of the region if that ends in it (with no beat left if it ended at the last block's).
        # Whether it does is found in three steps, of one look-up table each.
        last, end = Signal(), Signal(low, reset_less=True)
        same = [sport.data[k : k + 2] == eport.data[k : k + 2] for k in range(low, ADDRESS_BITS, 2)]
        for width in (1, 4):
            terms = [Cat(same[k : k + width]).all() for k in range(0, len(same), width)]
            same = [Signal(name=f"same{width}_{k}", reset_less=True) for k in range(len(terms))]
            m.d.sync += [signal.eq(term) for signal, term in zip(same, terms, strict=True)]
        m.d.sync += last.eq(Cat(same).all())
        with m.If(Cat(same).all()):
            m.d.sync += end.eq(eport.data)
        with m.Else():
            m.d.sync += end.eq(0)
        less = Signal(low + 1)  # the request's beats, negative; the top bit is set if the region's end lies behind its start
        m.d.comb += [less.eq(self.rd_addr[:low] - end), ask.eq(fifth & self.flushed & (self.own | ~last | less[low]))]
        with m.If(second):
            m.d.sync += self.rd_addr.eq(sport.data)
        beats = Mux(self.own, self.beats, ~less[:low])
        with m.If(fifth):
            m.d.sync += self.rd_len.eq(beats)
        m.d.sync += self.rd_valid.eq(ask | (self.rd_valid & ~self.rd_ready))
        with m.If(fifth & last & ~self.own):
            m.d.sync += head.eq(follow(head))
        with m.If(self.push):
            m.d.sync += tail.eq(follow(tail))

        # Room and what is outstanding, in the cycle after ``ask``. Registers that are reset instead of gates: minus (beats + 1), or
        # zero, and beats, or minus one.
        taking, adding = Signal(low + 1), Signal(low + 1, init=-1)
        m.d.sync += [taking.eq(Cat(less[:low], 1)), adding.eq(beats)]
        with m.If(~ask | self.own):
            m.d.sync += taking.eq(0)
        with m.If(~ask):
            m.d.sync += adding.eq(-1)
        m.d.sync += [
            free.eq(add_carry(free, _extended(taking, len(free)), self.pop)),
            outstanding.eq(add_carry(outstanding, _extended(adding, len(outstanding)), ~self.arrived)),
        ]
        with m.If(~self.flushed):
            m.d.sync += [held.eq(0), wanted.eq(0), self.own.eq(0), head.eq(0), tail.eq(0), free.eq(room_beats)]
        return m


def _extended(value, bits: int):
    """With its top bit repeated, as an unsigned value of ``bits`` bits."""
    return Cat(value, value[-1].replicate(bits - len(value)))[:bits]
