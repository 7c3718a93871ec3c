// Small parts of the cycle model, each with the state that its namesake in hdl/ has: queues (hdl/fifo.py, Amaranth's) and gearboxes
// (hdl/gearbox.py). Signals of a cycle are computed from the state; clock() is the edge that ends the cycle.
#pragma once
#include <cstdint>
#include <vector>

inline uint32_t ceil_div(uint64_t a, uint64_t b) { return uint32_t((a + b - 1) / b); }

inline uint32_t log2_of(uint32_t power) {
    uint32_t bits = 0;
    while ((1u << bits) < power) ++bits;
    return bits;
}

// A queue whose item is offered in the cycle after it entered: Amaranth's SyncFIFO, hdl/fifo.py's SmallFifo.
template <typename T>
struct Queue {
    std::vector<T> items;
    uint32_t depth = 0, first = 0, level = 0;
    explicit Queue(uint32_t depth) : items(depth), depth(depth) {}
    bool ready() const { return level != depth; }
    bool valid() const { return level != 0; }
    const T& front() const { return items[first]; }
    void clock(bool put, const T& item, bool take) {
        put = put && ready();
        take = take && valid();
        if (put) items[(first + level) % depth] = item;
        if (take) first = first + 1 == depth ? 0 : first + 1;
        level += put - take;
    }
};

// A queue in block memory with an output register, its items uncounted: hdl/fifo.py's BlockFifo (inner = depth), Amaranth's
// SyncFIFOBuffered (inner = depth - 1).
struct BlockQueue {
    uint32_t inner = 0, stored = 0;
    bool offered = false;
    explicit BlockQueue(uint32_t inner) : inner(inner) {}
    bool ready() const { return stored != inner; }
    uint32_t level() const { return stored + offered; }
    void clock(bool put, bool take) {
        const bool fetch = stored != 0 && (!offered || take);
        stored += (put && ready()) - fetch;
        offered = fetch || (offered && !take);
    }
};

// Beats to words. gather: several beats make a word; else a beat holds several words.
struct Unpacker {
    bool gather;
    uint32_t lanes, beat_bytes, slots, half, narrow_slots;
    uint32_t words = 0, beats = 0, index = 0, have = 0;
    bool wide = false, full = false;
    Unpacker(uint32_t beat_bytes, uint32_t lanes, uint32_t element_bytes)
        : gather(beat_bytes <= 2 * lanes), lanes(lanes), beat_bytes(beat_bytes), slots(lanes * element_bytes / beat_bytes),
          half(2 * lanes / beat_bytes ? 2 * lanes / beat_bytes : 1), narrow_slots(beat_bytes / (2 * lanes)) {}
    bool busy() const { return words != 0; }
    bool o_valid() const { return gather ? full : have != 0; }
    bool o_last() const { return words == 1; }
    bool i_ready(bool o_ready) const {
        if (gather) return beats != 0 && (!full || o_ready);
        const bool last = have != 0 && o_ready && words == 1;
        return words != 0 && !last && (have == 0 || (have == 1 && o_ready));
    }
    void clock(bool put, bool o_ready, bool start, uint32_t length, bool start_wide) {
        const bool taken = o_valid() && o_ready, last = taken && words == 1;
        if (gather) {
            if (taken) full = false;
            if (put) {
                const bool ends = index == (wide ? slots : half) - 1 || beats == 1;
                full = ends;
                index = ends ? 0 : index + 1;
                --beats;
            }
        } else {
            if (taken) have = last ? 0 : have - 1;
            if (put) have = wide ? narrow_slots / 2 : narrow_slots;
        }
        if (taken) --words;
        if (start) {
            words = ceil_div(length, lanes);
            beats = ceil_div(uint64_t(length) * (start_wide ? 4 : 2), beat_bytes);
            wide = start_wide;
        }
    }
};

// Words to beats. scatter: a word makes several beats; else a beat collects several words.
struct Packer {
    bool scatter;
    uint32_t lanes, beat_bytes, wide_slots, slots;
    uint32_t words = 0, beats = 0, have = 0, index = 0;
    bool wide = false, full = false;
    Packer(uint32_t beat_bytes, uint32_t lanes)
        : scatter(beat_bytes <= 2 * lanes), lanes(lanes), beat_bytes(beat_bytes), wide_slots(4 * lanes / beat_bytes),
          slots(beat_bytes / (2 * lanes)) {}
    bool o_valid() const { return scatter ? have != 0 : full; }
    bool i_ready(bool o_ready) const {
        if (scatter) return words != 0 && (have == 0 || (have == 1 && o_ready));
        return words != 0 && (!full || o_ready);
    }
    void clock(bool put, bool o_ready, bool start, uint32_t length, bool start_wide) {
        const bool taken = o_valid() && o_ready;
        if (scatter) {
            if (taken) have = beats == 1 ? 0 : have - 1;
            if (put) have = wide ? wide_slots : wide_slots / 2;
        } else {
            if (taken) full = false;
            if (put) {
                const bool ends = index == (wide ? slots - 2 : slots - 1) || words == 1;
                full = ends;
                index = ends ? 0 : index + (wide ? 2 : 1);
            }
        }
        if (taken) --beats;
        if (put) --words;
        if (start) {
            words = ceil_div(length, lanes);
            beats = ceil_div(uint64_t(length) * (start_wide ? 4 : 2), beat_bytes);
            wide = start_wide;
        }
    }
};
