// The weight stream (hdl/stream.py, hdl/header.py): requests ahead of the program, headers, and the queues behind them.
#pragma once
#include <algorithm>

#include "cycles_matmul.h"

// The queue of regions: read requests from its one end, addresses of what arrived from the other.
struct Regions {
    struct Region {
        uint64_t addr;
        uint32_t beats;
    };
    const uint32_t beat_bytes, depth, block;
    std::vector<Region> regions;
    uint32_t pushed = 0, asked = 0, steered = 0;  // counts
    uint32_t steer_left = 0, left = 0, room, req_len = 0;
    uint64_t steer_addr = 0, addr = 0, req_addr = 0;
    bool req_valid = false;

    Regions(const Machine& m, const Timing& t, uint32_t block, uint32_t capacity)
        : beat_bytes(m.beat_bytes), depth(t.stream_regions), block(block), regions(depth), room(capacity) {}
    bool ready() const { return pushed - asked != depth && pushed - steered != depth; }
    bool steer_valid() const { return steer_left != 0; }

    void clock(bool push, uint64_t push_addr, uint32_t push_beats, bool req_ready, bool taken) {
        const bool load_steer = steer_left == 0 && steered != pushed, load = left == 0 && asked != pushed && !load_steer;
        const bool issue = left != 0 && room >= block && (!req_valid || req_ready);
        const uint32_t to_boundary = block - uint32_t(addr / beat_bytes % block), count = issue ? std::min(left, to_boundary) : 0;
        if (req_ready) req_valid = false;
        if (issue) {
            req_valid = true;
            req_addr = addr;
            req_len = count;
            left -= count;
            addr += uint64_t(count) * beat_bytes;
        }
        if (load) {
            const Region& region = regions[asked++ % depth];
            left = region.beats;
            addr = region.addr;
        }
        if (load_steer) {
            const Region& region = regions[steered++ % depth];
            steer_left = region.beats;
            steer_addr = region.addr;
        }
        if (taken) {
            --steer_left;
            steer_addr += beat_bytes;
        }
        room += taken - count;
        if (push) regions[pushed++ % depth] = {push_addr, push_beats};
    }
};

struct StreamFetch {
    enum Reader : uint8_t { COLLECT, SUM, OFFER, FAULT };
    const uint32_t beat_bytes, header_beats, group, block, capacity;
    const std::vector<Segment>& segments;  // by address
    Regions regions;
    BlockQueue landing, weights, gains;
    Queue<Header> headers;
    Queue<uint32_t> lengths;
    Unpacker unpacker;
    Reader reader = COLLECT;
    uint32_t index = 0;
    uint64_t header_addr = 0;
    Segment segment{};
    bool payload = false, is_gains = false;
    uint32_t column_beats = 0, beat = 0, rows = 0;

    StreamFetch(const Machine& m, const Timing& t, const std::vector<Segment>& segments)
        : beat_bytes(m.beat_bytes), header_beats(ceil_div(16, m.beat_bytes)), group(t.product_group),
          block(std::min(m.burst_beats, t.stream_boundary / m.beat_bytes)),
          capacity(std::max(t.stream_landing_blocks * block, t.stream_landing_least)), segments(segments), regions(m, t, block, capacity),
          landing(capacity), weights(m.weight_fifo_beats), gains(1u << log2_of(m.gain_buffer_elements * 2 / m.beat_bytes)),
          headers(t.stream_headers), lengths(t.stream_gain_segments), unpacker(m.beat_bytes, m.lanes, 2) {}
    bool push_ready() const { return regions.ready(); }
    bool faulty() const { return reader == FAULT; }
    bool weight_valid() const { return weights.offered; }
    bool header_valid() const { return headers.valid(); }
    bool segment_valid() const { return lengths.valid() && !unpacker.busy(); }
    bool gain_valid() const { return unpacker.o_valid(); }

    void clock(bool push, uint64_t push_addr, uint32_t push_beats, bool req_ready, bool rdata_valid, bool weight_ready, bool header_ready,
               bool segment_ready, bool gain_ready) {
        // Steering.
        const bool steer = regions.steer_valid();
        const bool queue_ready = is_gains ? gains.ready() : weights.ready();
        const bool o_ready = steer && (payload ? queue_ready : reader == COLLECT), taken = landing.offered && o_ready;
        const bool offers = reader == OFFER && segment.kind != 0, offers_gains = segment.kind == 2;
        const bool header_taken = offers && (offers_gains ? lengths.ready() : headers.ready());
        const bool put_weight = taken && payload && !is_gains, put_gain = taken && payload && is_gains;
        const uint64_t beat_addr = regions.steer_addr;
        // Consumers.
        const bool take_segment = segment_valid() && segment_ready, gains_ready = unpacker.i_ready(gain_ready);
        const uint32_t length = lengths.front();
        unpacker.clock(gains.offered && gains_ready, gain_ready, take_segment, length, false);
        gains.clock(put_gain, gains_ready);
        weights.clock(put_weight, weight_ready);
        headers.clock(offers && !offers_gains, {header_addr, segment.rows, segment.columns}, header_ready);
        lengths.clock(offers && offers_gains, segment.columns, take_segment);
        landing.clock(rdata_valid, o_ready);
        regions.clock(push, push_addr, push_beats, req_ready, taken);
        // The payload of a segment: columns' beats by groups of rows.
        if (payload && taken) {
            if (beat == 0) {
                beat = column_beats;
                if (rows <= group) payload = false;
                rows -= group;
            } else {
                --beat;
            }
        }
        switch (reader) {
            case COLLECT:
                if (taken && !put_weight && !put_gain) {
                    if (index == 0) header_addr = beat_addr;
                    if (++index == header_beats) {
                        index = 0;
                        segment = find(header_addr);
                        reader = SUM;
                    }
                }
                break;
            case SUM: reader = OFFER; break;
            case OFFER:
                if (!offers) reader = FAULT;
                if (header_taken) {
                    payload = true;
                    is_gains = offers_gains;
                    const uint32_t bytes = is_gains ? 2 * segment.columns : segment.columns;
                    column_beats = beat = ceil_div(bytes, beat_bytes) - 1;
                    rows = segment.rows;
                    reader = COLLECT;
                }
                break;
            case FAULT: break;
        }
    }

   private:
    Segment find(uint64_t addr) const {
        const auto before = [](const Segment& s, uint64_t a) { return s.addr < a; };
        const auto found = std::lower_bound(segments.begin(), segments.end(), addr, before);
        return found != segments.end() && found->addr == addr ? *found : Segment{};
    }
};
