// What happens when, for a timeline (trilobit/sim/trace.py): recorded in the same way by the RTL simulation and by the cycle model.
#pragma once
#include <cstdint>
#include <vector>

enum TraceKind : uint8_t {
    TRACE_ISSUE,   // an instruction leaves the program counter
    TRACE_RETIRE,  // it retires; what: its unit
    TRACE_STALL,   // nothing issued for `value` cycles; pc: the instruction that waited; what: cause, in the order of isa/counters.py
    TRACE_WAIT,    // the product unit waited for `value` cycles; what: 0 for weights, 1 for activations, 2 for its output
    TRACE_LEVEL,   // value: beats in the weight queue
    TRACE_STREAM,  // beats of the stream came for `value` cycles, without a pause of STREAM_PAUSE cycles or more
};

struct TraceRecord {
    uint64_t cycle;  // since the start; where it begins
    uint32_t value;
    uint16_t pc;
    uint8_t kind, what;
};

class Tracer {
   public:
    bool on = false;

    void issue(uint64_t cycle, uint16_t pc) { records_.push_back({cycle, 0, pc, TRACE_ISSUE, 0}); }
    void retire(uint64_t cycle, uint16_t pc, unsigned unit) { records_.push_back({cycle, 0, pc, TRACE_RETIRE, uint8_t(unit)}); }

    // A cycle: causes of stall and of the product's waiting as numbers, NONE if there is none; the instruction that may issue;
    // whether a beat of the stream came.
    static constexpr uint8_t NONE = 255, FETCH = 0;
    void cycle(uint64_t now, uint8_t stall, uint16_t pc, uint8_t wait, uint32_t level, bool stream_beat) {
        stall_.step(records_, now, TRACE_STALL, stall, stall == FETCH ? 0 : pc);
        wait_.step(records_, now, TRACE_WAIT, wait, 0);
        if (level != level_ && (now - level_at_ >= LEVEL_STEP || level == 0 || level_ == 0)) {
            records_.push_back({now, level, 0, TRACE_LEVEL, 0});
            level_ = level;
            level_at_ = now;
        }
        if (streams_ && now - stream_end_ >= STREAM_PAUSE) end_stream();
        if (stream_beat) {
            if (!streams_) stream_begin_ = now;
            streams_ = true;
            stream_end_ = now + 1;
        }
    }

    // Spans that last end with the cycle before.
    void end(uint64_t now) {
        stall_.step(records_, now, TRACE_STALL, NONE, 0);
        wait_.step(records_, now, TRACE_WAIT, NONE, 0);
        if (streams_) end_stream();
    }

    // All records so far, those of spans where they ended.
    const std::vector<TraceRecord>& records(uint64_t now) {
        end(now);
        return records_;
    }

   private:
    static constexpr uint64_t LEVEL_STEP = 64;  // cycles between two levels, but for an empty queue
    static constexpr uint64_t STREAM_PAUSE = 64;

    struct Span {
        uint64_t begin = 0;
        uint16_t pc = 0;
        uint8_t what = NONE;
        void step(std::vector<TraceRecord>& records, uint64_t now, uint8_t kind, uint8_t next, uint16_t next_pc) {
            if (next == what && next_pc == pc) return;
            if (what != NONE) records.push_back({begin, uint32_t(now - begin), pc, kind, what});
            begin = now, pc = next_pc, what = next;
        }
    };

    void end_stream() {
        records_.push_back({stream_begin_, uint32_t(stream_end_ - stream_begin_), 0, TRACE_STREAM, 0});
        streams_ = false;
    }

    std::vector<TraceRecord> records_;
    Span stall_, wait_;
    uint32_t level_ = 0;
    uint64_t level_at_ = 0;
    bool streams_ = false;
    uint64_t stream_begin_ = 0, stream_end_ = 0;
};
