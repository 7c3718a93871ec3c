"""The weight stream: fetches regions ahead of the program, takes segments apart and steers their payload."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.fifo import BLOCK_FIFO_LATENCY, BlockFifo, SmallFifo
from trilobit.hdl.gearbox import Unpacker
from trilobit.hdl.header import HeaderReader
from trilobit.hdl.interfaces import GAIN_BITS, GainSignature, HeaderLayout
from trilobit.isa.core import CoreConfig
from trilobit.isa.trits import ROWS_PER_BYTE

__all__ = ["GAIN_SEGMENTS", "HEADERS", "HEADER_CLOCKS", "REGIONS", "WEIGHT_LATENCY", "StreamFetch", "landing_beats"]

REGIONS = 4
HEADERS = 8
"""Matrix headers that wait for their products."""
GAIN_SEGMENTS = 16
"""Gain segments that wait for their norms: no more may travel ahead of a product."""
HEADER_CLOCKS = 2
"""Cycles a segment costs the steering besides its beats."""
WEIGHT_LATENCY = 2 * BLOCK_FIFO_LATENCY
"""Cycles from a weight beat's arrival to its offer, through empty queues."""


def landing_beats(config: CoreConfig) -> int:
    """Beats that may be outstanding or unsteered: what memory latency is covered by."""
    return max(4 * config.burst_block, 64)


class StreamFetch(wiring.Component):
    """Reads queued regions of memory in order, as far ahead as its queues allow.

    Requests are issued while all their beats fit the landing queue (:func:`landing_beats`), so that responses never
    wait. They end at multiples of burst_beats (and at 4 KiB). From the landing queue a beat a clock is steered:
    headers are checked and matrices' ones queued (HEADERS of them), weights go to the weight queue
    (weight_fifo_beats), gains to the gain buffer (gain_buffer_elements in whole beats, GAIN_SEGMENTS segments). A
    full queue stops the steering, hence all behind it in the stream: gains that are placed ahead of their product,
    within the sizes of the buffer, are reached before it can stop for good. Every region is a run of whole segments.

    Latency: a request follows in the third cycle after a region is pushed; a weight beat is offered WEIGHT_LATENCY
    cycles after it arrived; a segment costs header_beats + HEADER_CLOCKS cycles of steering. Payload is steered and
    offered at a beat a clock.

    A header whose magic, kind, sizes, scale (top bit of the mantissa set, or zero) or check are wrong raises
    ``fault``, which stays until ``flush``; nothing behind it is steered.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    push_valid, push_ready, push_addr (40), push_beats (32)
        Appends a region; byte offset in the window, length in beats (at least 1).
    flush : In(1)
        Drops regions, queues and what is outstanding as it arrives. Hold it until ``idle``.
    idle : Out(1)
        Nothing is queued, outstanding, or waiting to be consumed.
    req_valid, req_ready, req_addr (40), req_len (8)
        Read requests; beats less one. A request that is offered stays until it is taken, even in a flush.
    rdata_valid, rdata : 8 * beat_bytes bits
    weight_valid, weight_ready, weight_data
    header_valid, header_ready, header : HeaderLayout
    gain : Out(GainSignature)
        A segment is offered when the words of the one before have been taken.
    fault : Out(1)
    level : Out
        Beats in the weight queue.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        n = config.beat_bytes
        super().__init__({
            "push_valid": In(1), "push_ready": Out(1), "push_addr": In(40), "push_beats": In(32),
            "flush": In(1), "idle": Out(1),
            "req_valid": Out(1), "req_ready": In(1), "req_addr": Out(40), "req_len": Out(8),
            "rdata_valid": In(1), "rdata": In(8 * n),
            "weight_valid": Out(1), "weight_ready": In(1), "weight_data": Out(8 * n),
            "header_valid": Out(1), "header_ready": In(1), "header": Out(HeaderLayout()),
            "gain": Out(GainSignature(config)),
            "fault": Out(1), "level": Out(range(config.weight_fifo_beats + 2)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self._config
        n = config.beat_bytes
        m.submodules.regions = regions = _Regions(config)
        m.submodules.landing = landing = BlockFifo(8 * n, landing_beats(config))
        reader = HeaderReader(config)
        m.submodules.reader = ResetInserter(self.flush)(reader)
        m.submodules.weights = weights = BlockFifo(8 * n, config.weight_fifo_beats)
        m.submodules.headers = headers = SmallFifo(HeaderLayout(), HEADERS)
        gain_beats = config.gain_buffer_elements * GAIN_BITS // 8 // n
        m.submodules.gains = gains = BlockFifo(8 * n, 1 << ceil_log2(gain_beats))
        m.submodules.lengths = lengths = SmallFifo(16, GAIN_SEGMENTS)
        m.submodules.unpacker = unpacker = Unpacker(n, config.lanes, config.max_length, GAIN_BITS)

        for queue in (landing, weights, headers, gains, lengths, unpacker):
            m.d.comb += queue.flush.eq(self.flush)
        m.d.comb += [
            regions.push_valid.eq(self.push_valid),
            self.push_ready.eq(regions.push_ready),
            regions.push_addr.eq(self.push_addr),
            regions.push_beats.eq(self.push_beats),
            regions.flush.eq(self.flush),
            self.req_valid.eq(regions.req_valid),
            regions.req_ready.eq(self.req_ready),
            self.req_addr.eq(regions.req_addr),
            self.req_len.eq(regions.req_len),
            regions.arrived.eq(self.rdata_valid),
            landing.i_valid.eq(self.rdata_valid),
            landing.i_data.eq(self.rdata),
        ]
        self._steer(m, regions, landing, reader, weights, headers, gains, lengths)

        # Consumers.
        take_segment = self.gain.segment_valid & self.gain.segment_ready
        m.d.comb += [
            self.weight_valid.eq(weights.o_valid),
            weights.o_ready.eq(self.weight_ready),
            self.weight_data.eq(weights.o_data),
            self.level.eq(weights.level),
            self.header_valid.eq(headers.o_valid),
            headers.o_ready.eq(self.header_ready),
            self.header.eq(headers.o_data),
            self.gain.segment_valid.eq(lengths.o_valid & ~unpacker.busy),
            self.gain.length.eq(lengths.o_data),
            lengths.o_ready.eq(take_segment),
            unpacker.start.eq(take_segment),
            unpacker.length.eq(lengths.o_data),
            unpacker.i_valid.eq(gains.o_valid),
            gains.o_ready.eq(unpacker.i_ready),
            unpacker.i_data.eq(gains.o_data),
            self.gain.valid.eq(unpacker.o_valid),
            unpacker.o_ready.eq(self.gain.ready),
            self.gain.data.eq(unpacker.o_data),
            self.idle.eq(
                regions.idle & ~reader.busy & landing.empty & weights.empty & ~headers.o_valid & gains.empty & ~lengths.o_valid
                & ~unpacker.busy
            ),
        ]  # fmt: skip
        return m

    def _steer(self, m, regions, landing, reader, weights, headers, gains, lengths):
        """A segment's header to the reader, then its payload to a queue: columns' beats by groups of rows."""
        is_gains = Signal()
        column_beats = Signal.like(reader.column_beats)
        beat = Signal.like(reader.column_beats)  # beats of the group after this one
        rows = Signal(16)  # of this group and those after it
        payload = Signal()
        available = Signal()  # a beat, and the region that it belongs to
        taken = landing.o_valid & landing.o_ready
        queue_ready = Mux(is_gains, gains.i_ready, weights.i_ready)
        header = reader.header

        m.d.comb += [
            available.eq(landing.o_valid & regions.steer_valid),
            reader.i_valid.eq(available & ~payload),
            reader.i_data.eq(landing.o_data),
            reader.addr.eq(regions.steer_addr),
            landing.o_ready.eq(regions.steer_valid & Mux(payload, queue_ready, reader.i_ready)),
            weights.i_valid.eq(available & payload & ~is_gains),
            weights.i_data.eq(landing.o_data),
            gains.i_valid.eq(available & payload & is_gains),
            gains.i_data.eq(landing.o_data),
            regions.steered.eq(taken),
            self.fault.eq(reader.fault),
            headers.i_valid.eq(reader.o_valid & ~reader.is_gains),
            headers.i_data.eq(header),
            lengths.i_valid.eq(reader.o_valid & reader.is_gains),
            lengths.i_data.eq(header.columns),
            reader.o_ready.eq(Mux(reader.is_gains, lengths.i_ready, headers.i_ready)),
        ]
        with m.If(reader.o_valid & reader.o_ready):
            m.d.sync += [
                payload.eq(1),
                is_gains.eq(reader.is_gains),
                column_beats.eq(reader.column_beats),
                beat.eq(reader.column_beats),
                rows.eq(header.rows),
            ]
        with m.If(payload & taken):
            m.d.sync += beat.eq(beat - 1)
            with m.If(beat == 0):
                m.d.sync += [beat.eq(column_beats), rows.eq(rows - ROWS_PER_BYTE)]
                with m.If(rows <= ROWS_PER_BYTE):
                    m.d.sync += payload.eq(0)
        with m.If(self.flush):
            m.d.sync += payload.eq(0)


class _Regions(wiring.Component):
    """The queue of regions: read requests from its one end, addresses of what arrived from the other."""

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "push_valid": In(1), "push_ready": Out(1), "push_addr": In(40), "push_beats": In(32), "flush": In(1),
            "req_valid": Out(1), "req_ready": In(1), "req_addr": Out(40), "req_len": Out(8), "arrived": In(1),
            "steer_valid": Out(1), "steer_addr": Out(40), "steered": In(1), "idle": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        beat_shift = ceil_log2(self._config.beat_bytes)
        address_bits = 40 - beat_shift
        block = self._config.burst_block
        capacity = landing_beats(self._config)

        # Both ends read the same memory through one port; each does so once a region.
        m.submodules.addrs = addrs = memory.Memory(shape=address_bits, depth=REGIONS, init=[])
        m.submodules.beats = beats = memory.Memory(shape=32, depth=REGIONS, init=[])
        pushed, asked, steered = (Signal(range(2 * REGIONS), name=name) for name in ("pushed", "asked", "steered_regions"))
        reads = Signal(range(REGIONS))
        region_addr, region_beats = Signal(address_bits), Signal(32)
        for storage, value, out in ((addrs, self.push_addr >> beat_shift, region_addr), (beats, self.push_beats, region_beats)):
            wport, rport = storage.write_port(), storage.read_port(domain="comb")
            m.d.comb += [
                wport.addr.eq(pushed[:-1]),
                wport.data.eq(value),
                wport.en.eq(self.push_valid & self.push_ready),
                rport.addr.eq(reads),
                out.eq(rport.data),
            ]

        def full_for(mark):
            return (pushed - mark)[: len(pushed)] == REGIONS

        m.d.comb += self.push_ready.eq(~full_for(asked) & ~full_for(steered) & ~self.flush)
        with m.If(self.push_valid & self.push_ready):
            m.d.sync += pushed.eq(pushed + 1)

        # The far end: where the beats that arrive come from.
        steer_left, steer_addr = Signal(32), Signal(address_bits)
        load_steer = Signal()
        m.d.comb += [
            self.steer_valid.eq(steer_left != 0),
            self.steer_addr.eq(steer_addr << beat_shift),
            load_steer.eq((steer_left == 0) & (steered != pushed)),
            reads.eq(Mux(load_steer, steered[:-1], asked[:-1])),
        ]
        with m.If(load_steer):
            m.d.sync += [steer_left.eq(region_beats), steer_addr.eq(region_addr), steered.eq(steered + 1)]
        with m.If(self.steered):
            m.d.sync += [steer_left.eq(steer_left - 1), steer_addr.eq(steer_addr + 1)]

        # The near end: requests, up to the next multiple of a block, while the landing queue has room for all of them.
        left, addr = Signal(32), Signal(address_bits)
        room = Signal(range(capacity + 1), init=capacity)
        outstanding = Signal(range(capacity + 1))
        count = Signal(range(block + 1))
        issue = Signal()
        to_boundary = block - addr[: ceil_log2(block)]
        m.d.comb += [
            count.eq(Mux(left < to_boundary, left, to_boundary)),
            issue.eq((left != 0) & (room >= block) & (~self.req_valid | self.req_ready) & ~self.flush),
            self.idle.eq((left == 0) & (steer_left == 0) & (asked == pushed) & ~self.req_valid & (outstanding == 0)),
        ]
        with m.If(self.req_ready):
            m.d.sync += self.req_valid.eq(0)
        with m.If(issue):
            m.d.sync += [
                self.req_valid.eq(1),
                self.req_addr.eq(addr << beat_shift),
                self.req_len.eq(count - 1),
                left.eq(left - count),
                addr.eq(addr + count),
            ]
        with m.If((left == 0) & (asked != pushed) & ~load_steer):
            m.d.sync += [left.eq(region_beats), addr.eq(region_addr), asked.eq(asked + 1)]
        m.d.sync += [
            room.eq(room - Mux(issue, count, 0) + self.steered),
            outstanding.eq(outstanding + Mux(issue, count, 0) - self.arrived),
        ]
        with m.If(self.flush):
            m.d.sync += [left.eq(0), steer_left.eq(0), asked.eq(pushed), steered.eq(pushed), room.eq(capacity)]
        return m
