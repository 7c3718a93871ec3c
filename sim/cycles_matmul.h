// The ternary product unit (hdl/matmul.py): consumes weight beats, and writes results a fixed time behind each group of rows.
#pragma once
#include "cycles_registers.h"

struct Header {
    uint64_t addr;
    uint32_t rows, columns;
};

struct Matmul {
    enum State : uint8_t { IDLE, HEADER, RUN, FAULT };
    struct Result {
        uint8_t vd;
        uint16_t pc;
    };
    const Timing& timing;
    const uint32_t lanes, beat_bytes, group, dot_latency;
    Queue<Result> oldest{8};  // instructions whose results are still to be written
    // The front: commands, headers, weights.
    State state = IDLE;
    Instruction now{};
    uint32_t rows = 0, end_row = 0, beat_index = 0, beats = 0, space = 0;
    bool handed = true, first = true, last_beat = false, last_group = false, may_write = false;
    uint64_t ends_line = 0, firsts_line = 0;  // bit k: k cycles after a group (a product's first group) ended
    // The back: rows, words.
    uint32_t slots = 0, left = 0, lane = 0;
    uint64_t valid = 0, row_last = 0;  // bit k: k + 1 cycles after a sum entered the scaling
    bool writes = false, retires = false;
    // Signals of this cycle.
    bool ready = false, header_ready = false, weight_ready = false, beat = false, wait_activations = false, wait_output = false,
         wait_weights = false, word_free = false;

    Matmul(const Machine& m, const Timing& t)
        : timing(t), lanes(m.lanes), beat_bytes(m.beat_bytes), group(t.product_group), dot_latency(dot(m, t)) {}
    // hdl/dot.py: dot_latency.
    static uint32_t dot(const Machine& m, const Timing& t) {
        const uint32_t stages = ceil_div(log2_of(m.beat_bytes), t.product_levels_a_stage);
        return t.product_dot + (stages ? stages : 1);
    }
    bool active() const { return oldest.valid(); }
    bool faulty() const { return state == FAULT; }

    void signals(const Registers& registers, const Activations& acts, bool header_valid, bool weight_valid) {
        word_free = registers.may_write(now.vd);
        ready = state == IDLE && handed;
        header_ready = weight_ready = beat = wait_activations = wait_output = wait_weights = false;
        if (state == HEADER) {
            header_ready = acts.scale_known(now.act);
            wait_activations = !header_ready;
            wait_weights = header_ready && !header_valid;
        } else if (state == RUN) {
            const bool there = acts.may_read(now.act, beat_index), may_end = may_write && space == 0;
            weight_ready = there && (!last_beat || may_end);
            beat = weight_ready && weight_valid;
            wait_activations = !there;
            wait_output = there && last_beat && !may_end;
            wait_weights = weight_ready && !weight_valid;
        }
    }

    void clock(Registers& registers, Activations& acts, bool accept, const Instruction& next, uint16_t next_pc, bool header_valid,
               const Header& header) {
        const bool ends = beat && last_beat;
        // The back.
        ends_line = ends_line << 1 | ends;
        firsts_line = firsts_line << 1 | (ends && first);
        const bool sums = ends_line >> dot_latency & 1, first_sums = firsts_line >> dot_latency & 1;
        const bool row = slots != 0 && left != 0, row_is_last = row && left == 1;
        const bool out = valid >> (timing.product_scale - 1) & 1, out_last = row_last >> (timing.product_scale - 1) & 1;
        const bool done = out && (out_last || lane == lanes - 1);
        if (writes) registers.write(oldest.front().vd);
        oldest.clock(accept, {next.vd, next_pc}, retires);
        writes = done;
        retires = out && out_last;
        if (out) lane = done ? 0 : lane + 1;
        valid = valid << 1 | row;
        row_last = row_last << 1 | row_is_last;
        if (slots) --slots;
        if (row) --left;
        if (sums) slots = group;
        if (first_sums) left = rows;
        // The front.
        may_write = word_free && !ends;
        if (ends) space = group - 1;
        else if (space) --space;
        if (first_sums) handed = true;
        switch (state) {
            case IDLE:
                if (accept) {
                    now = next;
                    rows = next.length;
                    end_row = group - 1;
                    last_group = rows <= group;
                    state = HEADER;
                }
                break;
            case HEADER:
                if (header_ready && header_valid) {
                    const bool fits = header.addr == now.addr && header.rows == rows && header.columns == acts.buffers[now.act].length;
                    state = fits ? RUN : FAULT;
                    if (fits) handed = false;
                    beat_index = 0;
                    beats = ceil_div(header.columns, beat_bytes);
                    last_beat = beats == 1;
                    first = true;
                }
                break;
            case RUN:
                if (beat) {
                    beat_index = last_beat ? 0 : beat_index + 1;
                    last_beat = beat_index == beats - 1;
                }
                if (ends) {
                    if (last_group) {
                        acts.release(now.act);
                        state = IDLE;
                    }
                    last_group = end_row + 1 + group >= rows;
                    end_row += group;
                    first = false;
                }
                break;
            case FAULT: break;
        }
    }
};
