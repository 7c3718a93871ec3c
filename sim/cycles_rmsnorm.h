// The RMSNorm unit (hdl/rmsnorm.py) and its scalar engine (hdl/rmsnorm_scalar.py).
#pragma once
#include "cycles_registers.h"

// Everything that is computed once a vector. One job at a time; its steps take fixed numbers of cycles.
struct ScalarEngine {
    enum State : uint8_t { IDLE, TOTAL, INVERT, LARGEST, FACTOR };
    const Timing& timing;
    State state = IDLE;
    bool quantising = false;
    uint32_t clocks = 0;  // in this state, this cycle included
    // Signals of this cycle.
    bool stored = false, feed = false;

    explicit ScalarEngine(const Timing& t) : timing(t) {}
    bool idle() const { return state == IDLE; }
    void signals(bool norm) {
        stored = state == TOTAL && clocks == timing.rms_total && !norm;
        feed = state == FACTOR && clocks >= (quantising ? timing.rms_normq_factor : timing.rms_norm_factor + 1) - timing.rms_feed_ahead;
    }
    // quantise: a normq wants the engine; total: the sums are handed over; norm: and they are a norm's.
    void clock(bool total, bool norm, bool quantise, bool scaled, bool largest_known, bool release) {
        const auto go = [this](State next) { state = next, clocks = 1; };
        ++clocks;
        switch (state) {
            case IDLE:
                quantising = quantise && !total;
                if (total) go(TOTAL);
                else if (quantise) go(scaled ? INVERT : LARGEST);
                break;
            case TOTAL:
                if (clocks > timing.rms_total) go(norm ? INVERT : IDLE);
                break;
            case INVERT:
                if (clocks > timing.rms_inverse) go(quantising ? LARGEST : FACTOR);
                break;
            case LARGEST:
                if (largest_known) go(FACTOR);
                break;
            case FACTOR:
                if (release) go(IDLE);
                break;
        }
    }
};

struct RmsNorm {
    enum State : uint8_t { IDLE, SEGMENT, READ, DRAIN, WAIT, FEED, FINISH, FAULT };
    const Timing& timing;
    const uint32_t lanes, levels;
    const uint32_t largest_delay, sums_delay;
    ScalarEngine engine;
    State state = IDLE;
    Instruction now{};
    uint16_t pc = 0, owner_pc = 0;
    bool owner_norm = false, fresh = false, two = false, owed = false, wanted = false, largest_known = false, started = false;
    uint32_t last_word = 0, read_word = 0, feed_word = 0, write_word = 0;
    // Bit k: k cycles after a word was read (token), the last one (last), read from the z buffer (out, out_last). Bit 0 is this cycle.
    uint32_t token = 0, last = 0, out = 0, out_last = 0;
    uint64_t largest_line = 0, sums_line = 0;  // bit k: k cycles after the last word's magnitude (its square) was there
    // Signals of this cycle.
    bool read = false, feeds = false, retires = false, segment_ready = false, gain_ready = false, release = false,
         may_feed = false;

    RmsNorm(const Machine& m, const Timing& t)
        : timing(t), lanes(m.lanes), levels(log2_of(m.lanes)), largest_delay(levels + t.rms_reduce), sums_delay(levels + 2), engine(t) {}

    bool ready(const Instruction& next) const { return state == IDLE && (next.kind == NORMQ || (engine.idle() && !owed)); }
    bool faulty() const { return state == FAULT; }
    bool active() const {
        const uint32_t tokens = (1u << (timing.rms_tail + 1)) - 2, outs = (1u << (timing.rms_write + 1)) - 2;
        return state != IDLE || !engine.idle() || owed || (token & tokens) || (out & outs);
    }
    uint16_t retired_pc() const { return engine.stored ? owner_pc : pc; }

    void signals(const Registers& registers, const Activations& acts, bool gain_valid) {
        const bool gain = now.flags & GAIN;
        read = feeds = segment_ready = gain_ready = release = false;
        engine.signals(owner_norm);
        switch (state) {
            case SEGMENT: segment_ready = true; break;
            case READ: {
                const bool sources = registers.may_read(now.va, read_word) && (!two || registers.may_read(now.vb, read_word));
                read = sources && (!gain || gain_valid);
                gain_ready = sources && gain;
                break;
            }
            case FEED: feeds = now.kind == NORMQ || registers.may_write(now.vd); break;
            case FINISH: release = out_last >> (timing.rms_write - 1) & 1; break;
            default: break;
        }
        token = (token & ~1u) | read;
        last = (last & ~1u) | (read && read_word == last_word);
        out = (out & ~1u) | feeds;
        out_last = (out_last & ~1u) | (feeds && feed_word == last_word);
        retires = engine.stored || (out_last >> timing.rms_write & 1);
        may_feed = state == WAIT && engine.feed && (now.kind == NORM || acts.may_write(now.act));
    }

    void clock(Registers& registers, Activations& acts, bool accept, const Instruction& next, uint16_t next_pc, bool segment_valid,
               uint32_t segment_length) {
        const bool rms = now.kind == RMS, norm = now.kind == NORM, normq = now.kind == NORMQ;
        // What follows the lanes.
        largest_line = largest_line << 1 | ((last >> timing.rms_z & 1) && !rms);
        sums_line = sums_line << 1 | ((last >> (timing.rms_square_x - 1) & 1) && !normq);
        const bool reduced = largest_line >> largest_delay & 1, total = sums_line >> sums_delay & 1;
        const bool takes = wanted && engine.idle() && !owed;
        engine.clock(total, owner_norm, wanted && !owed, now.flags & SCALED, largest_known, release);
        wanted = (wanted && !takes) || (accept && next.kind == NORMQ);
        owed = (owed && !total) || (accept && next.kind != NORMQ);
        if ((last >> 1 & 1) && !normq) owner_pc = pc, owner_norm = norm;
        // Registers and buffers.
        if (read) {
            registers.read(now.va);
            if (two) registers.read(now.vb);
        }
        const bool written = out >> timing.rms_write & 1;
        if (written && norm) registers.write(now.vd);
        const bool begins = (out >> timing.rms_feed_ahead & 1) && !started && normq;
        if (begins) acts.start(now.act, now.length);
        if (written && normq) acts.write(now.act, write_word);
        if (fresh) {
            feed_word = write_word = 0;
            largest_known = started = false;
        } else {
            feed_word += feeds;
            write_word += written;
            started |= out >> timing.rms_feed_ahead & 1;
            largest_known |= reduced;
        }
        read_word = accept ? 0 : read_word + read;
        switch (state) {
            case IDLE:
                if (accept) state = next.flags & GAIN ? SEGMENT : READ;
                break;
            case SEGMENT:
                if (segment_valid) state = segment_length == now.length ? READ : FAULT;
                break;
            case READ:
                if (last & 1) state = rms ? DRAIN : WAIT;
                break;
            case DRAIN:
                if (last >> timing.rms_drained & 1) state = IDLE;
                break;
            case WAIT:
                if (may_feed) state = FEED;
                break;
            case FEED:
                if (out_last & 1) state = FINISH;
                break;
            case FINISH:
                if (release) state = IDLE;
                break;
            case FAULT: break;
        }
        token <<= 1, last <<= 1, out <<= 1, out_last <<= 1;
        fresh = accept;
        if (accept) {
            now = next;
            pc = next_pc;
            last_word = (next.length - 1u) / lanes;
            two = next.kind == RMS && next.va != next.vb;
        }
    }
};
