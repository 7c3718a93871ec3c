// When a memory takes requests and brings beats: the timing of the memories behind a simulated core, without data. Shared by the RTL
// simulation (harness.cpp) and the cycle model, so that both see the same memory; parameters come from trilobit/sim/memory.py.
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
#include <deque>
#include <memory>

enum MemoryKind : uint32_t {
    MEMORY_FIXED = 0,  // fixed latency, limited outstanding requests
};

// As trilobit.sim.memory fills it (ctypes; only uint32_t, in this order).
struct MemoryParameters {
    uint32_t kind = MEMORY_FIXED;
    uint32_t latency = 1;      // cycles from a read request to its first beat, and from the last written beat to the response
    uint32_t outstanding = 0;  // read requests whose last beat has not been driven; 0: no limit
};

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

// A read request taken in cycle t brings its first beat in cycle t + latency at the earliest, behind all beats of earlier requests, and then a
// beat a cycle. A write request is taken when none is in flight, its beats are taken one a cycle from the next cycle on, and the response
// comes `latency` cycles after the last beat.
class FixedLatencyMemory final : public MemoryModel {
   public:
    FixedLatencyMemory(uint32_t beat_bytes, uint32_t latency, uint32_t outstanding)
        : MemoryModel(beat_bytes), latency_(latency), outstanding_(outstanding) {}

    void reset() override {
        MemoryModel::reset();
        reads_.clear();
        write_left_ = 0;
        responding_ = false;
    }

    void take(const MemoryAsk& ask) override {
        if (ask.rd_valid && driven_.rd_ready) reads_.push_back({ask.rd_addr, now_ + latency_, ask.rd_beats});
        if (ask.wdata_valid && driven_.wdata_ready) {
            write_addr_ += beat_bytes_;
            if (--write_left_ == 0) {
                responding_ = true;
                response_at_ = now_ + latency_;
            }
        }
        if (ask.wr_valid && driven_.wr_ready) {
            write_addr_ = ask.wr_addr;
            write_left_ = ask.wr_beats;
        }
    }

   private:
    struct Read {
        uint64_t addr, first;  // next byte; cycle of the first beat at the earliest
        uint32_t beats;
    };

    void next_drive() override {
        driven_.rd_ready = outstanding_ == 0 || reads_.size() < outstanding_;
        driven_.rdata_valid = !reads_.empty() && now_ >= reads_.front().first;
        if (driven_.rdata_valid) {
            Read& read = reads_.front();
            driven_.rdata_addr = read.addr;
            read.addr += beat_bytes_;
            if (--read.beats == 0) reads_.pop_front();
        }
        driven_.wr_ready = write_left_ == 0 && !responding_;
        driven_.wdata_ready = write_left_ != 0;
        driven_.wresp_valid = responding_ && now_ >= response_at_;
        if (driven_.wresp_valid) responding_ = false;
    }

    const uint32_t latency_, outstanding_;
    std::deque<Read> reads_;
    uint32_t write_left_ = 0;
    bool responding_ = false;
    uint64_t response_at_ = 0;
};

// The model that the parameters describe, reset; null if the kind is unknown.
inline std::unique_ptr<MemoryModel> make_memory(const MemoryParameters& p, uint32_t beat_bytes) {
    std::unique_ptr<MemoryModel> memory;
    if (p.kind == MEMORY_FIXED) memory = std::make_unique<FixedLatencyMemory>(beat_bytes, p.latency, p.outstanding);
    if (memory) memory->reset();
    return memory;
}
