// A memory as the core sees it: when it takes requests and brings beats, without data (see memory_model.h).
//
// Cycles are the core's, numbered from 0. After reset():
//     drive = memory->drive();           what the memory drives in cycle 0
//     for (t = 0;; ++t) {
//         memory->take(ask);             what the core asks in cycle t; decided with `drive` standing
//         drive = memory->drive();       what the memory drives in cycle t + 1
//     }
// The core's port is trilobit.hdl.interfaces.MemorySignature: reads are answered in request order, at most a beat a cycle, and the core always
// takes a beat; one write request is in flight at a time, its beats follow its request, its response follows the last beat.
// Data moves outside: a read beat is copied from `rdata_addr` in the cycle that drives it, a write beat goes to `write_addr()` in the cycle
// that takes it.
#pragma once
#include <cstdint>

// What the memory drives in a cycle.
struct MemoryDrive {
    bool rd_ready = false, rdata_valid = false, wr_ready = false, wdata_ready = false, wresp_valid = false;
    uint64_t rdata_addr = 0;  // first byte of the beat, if rdata_valid
};

// What the core asks in a cycle; addresses in bytes, lengths in beats (at least 1).
struct MemoryAsk {
    bool rd_valid = false, wr_valid = false, wdata_valid = false;
    uint64_t rd_addr = 0, wr_addr = 0;
    uint32_t rd_beats = 0, wr_beats = 0;
};

class MemoryModel {
   public:
    explicit MemoryModel(uint32_t beat_bytes) : beat_bytes_(beat_bytes) {}
    virtual ~MemoryModel() = default;

    // Nothing in flight, refresh counters zero; drive() is that of cycle 0.
    virtual void reset() {
        now_ = UINT64_MAX;
        driven_ = {};
    }

    // What the memory drives in the next cycle, which becomes the current one.
    const MemoryDrive& drive() {
        ++now_;
        next_drive();
        return driven_;
    }

    // What the core asks in the current cycle; counts only where the memory is ready.
    virtual void take(const MemoryAsk& ask) = 0;

    // Where a write beat that is taken in the current cycle goes; look before take().
    uint64_t write_addr() const { return write_addr_; }
    uint64_t now() const { return now_; }

   protected:
    virtual void next_drive() = 0;  // fills driven_ for cycle now_

    const uint32_t beat_bytes_;
    uint64_t now_ = UINT64_MAX;  // the current cycle
    MemoryDrive driven_;
    uint64_t write_addr_ = 0;
};

