// Interface of the cycle model (see cycles.cpp), called through ctypes by trilobit/sim/cycles.py.
// The structures are laid out without padding; their sizes are checked when the library is loaded.
#pragma once
#include <cstdint>

enum Unit : uint8_t { LDST, RMSNORM, TMATMUL, ROWWISE, CONTROL, UNITS = CONTROL };

// What an instruction does to time. Everything of unit ROWWISE but argmax is ELEMENTWISE.
enum Kind : uint8_t {
    ELEMENTWISE, ARGMAX, RMS, NORM, NORMQ, PRODUCT, LOAD, STORE, EMBED, CLEAR,
    NOP, STREAM, POLL, BPROMPT, JUMP, SETI, LOOP, WAIT, EMIT, BDONE, HALT,
};

enum Flag : uint8_t { WIDE = 1, GAIN = 2, SCALED = 4, LAST = 8, TOKEN = 16 };  // TOKEN: waits for a token that argmax owes

// A decoded instruction word.
struct Instruction {
    uint64_t addr;
    uint32_t beats, rows;  // rows: of the table (emb)
    uint16_t length, pitch, target, imm;
    uint8_t kind, unit, problem, flags;       // problem: a fault that decoding finds, 0 for none
    uint8_t reads, writes, uses, registers3;  // a bit a register; uses: a bit each for va, vb, vc; registers3: zero
    uint8_t va, vb, vc, vd;
    uint8_t act, counter;
    uint16_t zero;
};

// A segment of the weight stream. kind 0: its header is bad.
struct Segment {
    uint64_t addr;
    uint16_t rows, columns;
    uint32_t kind;  // 1 ternary, 2 gains
};

constexpr uint32_t MOST_SLOTS = 8;

// A core's parameters (trilobit.isa.core.CoreConfig) and the memory window.
struct Machine {
    uint32_t beat_bytes, lanes, max_length, weight_fifo_beats, gain_buffer_elements, burst_beats, load_fifo_beats, program_words;
    uint64_t window_size, write_start;
    uint32_t eos, limit, batch, zero;
};

// sim/timing.yaml, in its order.
struct Timing {
    uint32_t rowwise_result, rowwise_retire;
    uint32_t rms_square_x, rms_z, rms_reduce, rms_drained, rms_write, rms_feed_ahead, rms_total, rms_inverse, rms_norm_factor,
        rms_normq_factor, rms_tail;
    uint32_t product_dot, product_levels_a_stage, product_scale, product_group;
    uint32_t stream_regions, stream_headers, stream_gain_segments, stream_landing_blocks, stream_landing_least, stream_boundary;
    uint32_t memory_outstanding, host_queue, host_offer, host_settle, watchdog;
};

struct RetireRecord {
    uint64_t cycle;
    uint16_t pc, unit;
    uint32_t zero;
};

enum Reason : int32_t { REASON_LIMIT, REASON_TOKEN, REASON_HALTED, REASON_FAULT, REASON_WAITING, REASON_RETIRE };
