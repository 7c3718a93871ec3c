// The timing of the memories behind a simulated core, without data. Shared by the RTL simulation (harness.cpp) and the cycle model, so that both
// see the same memory; parameters come from trilobit/sim/memory.py, how to use a memory stands in memory_port.h.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>

#include "memory_dram.h"
#include "memory_port.h"
#include "memory_sdram.h"

enum MemoryKind : uint32_t {
    MEMORY_FIXED = 0,  // fixed latency, limited outstanding requests
    MEMORY_DRAM = 1,   // rows, banks, refresh: memory_dram.h
    MEMORY_SDRAM = 2,  // the project's SDRAM controller: memory_sdram.h
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

// As trilobit.sim.memory fills it (ctypes; only uint32_t, in this order).
struct MemoryParameters {
    uint32_t kind = MEMORY_FIXED;
    uint32_t latency = 1;      // cycles from a read request to its first beat, and from the last written beat to the response
    uint32_t outstanding = 0;  // read requests whose last beat has not been driven; 0: no limit
    DramParameters dram;       // of MEMORY_DRAM; the two above are of MEMORY_FIXED
    SdramParameters sdram;     // of MEMORY_SDRAM
};

// The model that the parameters describe, reset; null if there is none for the kind or for beats of this size.
inline std::unique_ptr<MemoryModel> make_memory(const MemoryParameters& p, uint32_t beat_bytes) {
    std::unique_ptr<MemoryModel> memory;
    if (p.kind == MEMORY_FIXED) memory = std::make_unique<FixedLatencyMemory>(beat_bytes, p.latency, p.outstanding);
    if (p.kind == MEMORY_DRAM) memory = std::make_unique<DramMemory>(beat_bytes, p.dram);
    if (p.kind == MEMORY_SDRAM && beat_bytes >= SdramMemory::WORD_BYTES) memory = std::make_unique<SdramMemory>(beat_bytes, p.sdram);
    if (memory) memory->reset();
    return memory;
}
