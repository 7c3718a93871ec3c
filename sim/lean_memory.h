// The lean core's side of the memory port (hdl/lean/memory.py, fetch.py, buffers.py), without data: registers as they stand there.
// Signals of a cycle are computed from the state by signals(); clock() is the edge that ends the cycle.
#pragma once
#include <deque>

#include "cycles_parts.h"
#include "memory_port.h"

// What the microprogram tells the memory side in a cycle.
struct LeanStrobes {
    bool set_address = false, set_beats = false, set_region = false, set_region_end = false;
    uint64_t hw_data = 0;
    bool push = false, hold = false, release = false, read = false, write = false, zeros = false, flush = false;
    bool element_start = false, element_load = false, element_wide = false, element_end = false;
};

// Read requests: fetch.py's LeanFetch.
struct LeanFetch {
    static constexpr uint32_t PLACES = 8;
    static constexpr uint32_t LOOKUP = 4, SECOND = 1, FIFTH = 1 << (LOOKUP - 1);  // bits of `stage`
    const uint32_t block, room;
    uint64_t starts[PLACES] = {}, ends[PLACES] = {}, own_start = 0, given = 0, looked = 0, rd_addr = 0;
    uint32_t head = 0, tail = 0, rd_beats = 0, end = 0, stage = 0;
    int64_t free, outstanding = 0, taking = 0, adding = 0;  // taking, adding: what the request before takes of the two
    bool held = false, own = false, wanted = false, flushed = true, looking = false, rd_valid = false, last = false;
    bool may = false, none = false, is_set = false, is_own = false;
    // Signals.
    bool busy = false, idle = false, go = false, next_may = false;

    LeanFetch(uint32_t block, uint32_t room) : block(block), room(room), free(room) {}
    bool read_done() const { return idle && !wanted; }
    bool quiet() const { return read_done() && held; }
    bool taken() const { return !(wanted || (own && busy)); }
    bool full() const { return head != tail && free < int64_t(block); }
    // As the latest cycle left it nothing changes but by a strobe, or by what leaves the queue.
    bool settled() const {
        return none && !looking && !rd_valid && outstanding == 0 && !wanted && !may && flushed && taking == 0 && adding == 0 && !is_set &&
               (held || head == tail || free < int64_t(block));
    }

    void signals(bool setting) {
        busy = looking || rd_valid;
        idle = none && !busy;
        go = !setting && (may || wanted);
        next_may = free >= int64_t(block) && head != tail && !busy && !go && !held && flushed;
    }

    void clock(const LeanStrobes& s, uint32_t own_beats, bool pop, bool arrived, bool rd_ready) {
        const bool fifth = stage & FIFTH;
        const uint32_t low = uint32_t(rd_addr % block);
        const uint32_t beats = own ? own_beats : last ? end - low : block - low;
        const bool ask = fifth && flushed && (own || !last || end > low), next = fifth && last && !own;
        // The addresses.
        if (is_set) (is_own ? own_start : starts[tail]) = given;
        if (stage & SECOND) {
            rd_addr = looked;
            last = looked / block == ends[head] / block;
            end = uint32_t(ends[head] % block);
            if (!own) starts[head] = (looked / block + 1) * block;
        }
        if (go) looked = own ? own_start : starts[head];
        if (s.set_region_end) ends[tail] = s.hw_data & 0xFFFFFFFF;
        // Counts.
        none = outstanding == 0 && !busy;
        free += taking + pop;
        outstanding += adding - arrived;
        taking = ask && !own ? -int64_t(beats) : 0;
        adding = ask ? beats : 0;
        if (fifth) rd_beats = beats;
        rd_valid = ask || (rd_valid && !rd_ready);
        if (next) head = (head + 1) % PLACES;
        if (s.push) tail = (tail + 1) % PLACES;
        stage = (stage << 1 | go) & (2 * FIFTH - 1);
        looking = go || (looking && !fifth);
        may = next_may && !s.hold && !s.flush;
        wanted = s.read || (wanted && !go);
        held = (held || s.hold) && !s.release;
        own = (own || s.read) && !s.release;
        if (!flushed) {
            held = wanted = own = false;
            head = tail = 0;
            free = room;
        }
        flushed = (flushed || idle) && !s.flush;
        is_set = s.set_address || s.set_region;
        is_own = s.set_address;
        given = s.hw_data & 0xFFFFFFFF;
    }
};

// The stream's queue, the load buffer behind it, and elements taken out of both: memory.py's LeanMemory.
struct LeanQueue {
    const uint32_t halves;
    uint32_t level = 0, half = 0;
    bool offered = false, loading = false, active = false, element_valid = false;
    std::deque<uint64_t> addresses;  // of the beats of the stream that are not used up
    // Signals.
    bool over = false, load = false, element_used = false, pop = false, get = false;

    explicit LeanQueue(uint32_t beat_bytes) : halves(beat_bytes / 2) {}
    bool weight_valid() const { return offered && !active; }
    bool settled() const { return !active && !loading && !element_valid && (offered || level == 0); }

    // element_ready: someone takes elements. weight_ready: the product takes a beat, if one is offered.
    void signals(const LeanStrobes& s, bool element_ready, bool weight_ready) {
        const bool wide = s.element_wide && loading;
        over = s.element_end && element_valid && element_ready;
        load = active && offered && (!element_valid || element_ready) && !over;
        const bool last = half / 2 == halves / 2 - 1 && (wide || half % 2);
        element_used = (load && last) || (over && half != 0);
        const bool used = element_used || (weight_valid() && weight_ready);
        pop = used && !loading;
        get = (!offered || used) && (loading || level > 1 || (level == 1 && !offered));
        next_offered = get || (offered && !used);
        step = wide ? 2 : 1;
    }

    void clock(const LeanStrobes& s, bool element_ready, bool arrived, uint64_t address, bool flushing) {
        const bool start_load = s.element_start && s.element_load;
        level += arrived - pop;
        if (pop) addresses.pop_front();
        if (arrived) addresses.push_back(address);
        offered = next_offered && !start_load && !(over && loading);
        if (!element_valid || element_ready) element_valid = load;
        if (s.element_start) half = 0;
        else if (load) half = (half + step) % halves;
        active = (active || s.element_start) && !over;
        loading = (loading || start_load) && !over;
        if (flushing) {
            level = 0;
            offered = active = loading = false;
            addresses.clear();
        }
    }

   private:
    bool next_offered = false;
    uint32_t step = 1;
};

// Write requests: buffers.py's StoreBuffer.
struct LeanStore {
    bool wr_valid = false, sending = false, fetched = false, waiting = false;
    uint32_t left = 0;  // beats behind the next one
    bool wdata_valid() const { return sending && fetched; }
    bool settled() const { return !wr_valid && !waiting && !sending; }

    void clock(const LeanStrobes& s, uint32_t beats, bool wr_ready, bool wdata_ready, bool wresp_valid) {
        const bool given = wdata_valid() && wdata_ready, last = given && left == 0;
        const bool fetch = (wr_valid && !fetched) || (given && !last);
        sending = (wr_valid && wr_ready) || (sending && !last);
        fetched = fetch || (fetched && !last);
        if (wr_valid) left = beats - 1;
        else if (given) --left;
        if (wresp_valid) waiting = false;
        if (s.write || s.zeros) wr_valid = waiting = true;
        else if (wr_ready) wr_valid = false;
    }
};
