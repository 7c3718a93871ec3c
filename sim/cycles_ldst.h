// The load/store unit (hdl/ldst.py): vectors between memory and registers.
#pragma once
#include "cycles_registers.h"

struct LoadStore {
    enum State : uint8_t { IDLE, ROW_PRODUCT, ROW_ADDRESS, ROW_CHECK, FAULT, LOAD_FREE, LOAD_RUN, STORE_START, WRITE_REQUEST, WRITE_DATA,
                           WRITE_RESPONSE };
    const uint32_t lanes, beat_bytes, beat_shift, burst;
    const uint64_t window_size;
    Unpacker unpacker;
    Packer packer;
    BlockQueue landing;
    Queue<uint8_t> words{2};
    State state = IDLE;
    Instruction now{};
    uint16_t pc = 0;
    bool wide = false, clearing = false, reading = false, coming = false;
    uint64_t addr = 0, row = 0;
    uint32_t beats = 0, last_word = 0, word = 0, sent = 0, credits;
    // Signals of this cycle.
    bool may_ask = false, asking = false, rd_valid = false, wr_valid = false, wdata_valid = false, read = false, writes = false;
    bool retires = false, free = false;
    uint32_t chunk = 0;

    explicit LoadStore(const Machine& m)
        : lanes(m.lanes), beat_bytes(m.beat_bytes), beat_shift(log2_of(m.beat_bytes)), burst(m.burst_beats), window_size(m.window_size),
          unpacker(m.beat_bytes, m.lanes, 4), packer(m.beat_bytes, m.lanes), landing(m.load_fifo_beats - 1), credits(m.load_fifo_beats) {}
    bool active() const { return state != IDLE; }
    bool ready() const { return state == IDLE; }
    bool faulty() const { return state == FAULT; }

    void signals(const Registers& registers, bool stop, bool wresp_valid) {
        const uint32_t to_block_end = burst - uint32_t(addr >> beat_shift) % burst;
        chunk = beats < to_block_end ? beats : to_block_end;
        writes = unpacker.o_valid();
        free = state == LOAD_FREE && registers.may_write(now.vd);
        may_ask = state == LOAD_RUN && beats != 0 && credits >= chunk;
        rd_valid = asking;
        wr_valid = state == WRITE_REQUEST && !stop;
        wdata_valid = state == WRITE_DATA && (clearing || packer.o_valid());
        read = reading && registers.may_read(now.va, word) && words.level + coming < 2;
        retires = (state == LOAD_RUN && unpacker.o_valid() && unpacker.o_last()) || (state == WRITE_RESPONSE && wresp_valid && beats == 0);
    }

    void clock(Registers& registers, bool accept, const Instruction& next, uint16_t next_pc, uint32_t token, bool rd_ready, bool rdata_valid,
               bool wr_ready, bool wdata_ready, bool wresp_valid) {
        const uint32_t length = now.length;
        // Loads: answers, queue, words.
        const bool asked = rd_valid && rd_ready, i_ready = unpacker.i_ready(true), take = landing.offered && i_ready;
        const bool starts = free, store_starts = state == STORE_START;
        if (writes) registers.write(now.vd);
        unpacker.clock(take, true, starts, length, wide);
        landing.clock(rdata_valid, i_ready);
        credits += take - (asked ? chunk : 0);
        asking = may_ask && !asked;
        // Stores: words, queue, beats.
        const bool o_ready = state == WRITE_DATA && wdata_ready && !clearing, p_ready = packer.i_ready(o_ready);
        packer.clock(words.valid() && p_ready, o_ready, store_starts, length, wide);
        words.clock(coming, 0, p_ready);
        coming = read;
        if (read) registers.read(now.va);
        if (store_starts) reading = true, word = 0;
        if (read && word++ == last_word) reading = false;

        switch (state) {
            case IDLE:
                if (!accept) break;
                now = next;
                pc = next_pc;
                wide = next.flags & WIDE;
                addr = next.addr;
                beats = ceil_div(uint64_t(next.length) << (wide ? 2 : 1), beat_bytes);
                last_word = (next.length - 1u) / lanes;
                row = uint64_t(token) * next.pitch;
                clearing = next.kind == CLEAR;
                if (clearing) beats = next.beats;
                state = next.kind == LOAD ? LOAD_FREE : next.kind == EMBED ? ROW_PRODUCT : next.kind == STORE ? STORE_START : WRITE_REQUEST;
                break;
            case ROW_PRODUCT: state = ROW_ADDRESS; break;
            case ROW_ADDRESS:
                addr += row;
                state = ROW_CHECK;
                break;
            case ROW_CHECK: state = addr + 2 * length > window_size ? FAULT : LOAD_FREE; break;
            case FAULT: break;
            case LOAD_FREE:
                if (free) state = LOAD_RUN;
                break;
            case LOAD_RUN:
                if (asked) step();
                if (retires) state = IDLE;
                break;
            case STORE_START: state = WRITE_REQUEST; break;
            case WRITE_REQUEST:
                if (wr_valid && wr_ready) {
                    sent = chunk;
                    step();
                    state = WRITE_DATA;
                }
                break;
            case WRITE_DATA:
                if (wdata_valid && wdata_ready && --sent == 0) state = WRITE_RESPONSE;
                break;
            case WRITE_RESPONSE:
                if (wresp_valid) state = beats ? WRITE_REQUEST : IDLE;
                break;
        }
    }

   private:
    void step() {  // past the burst that is asked for
        addr += uint64_t(chunk) << beat_shift;
        beats -= chunk;
    }
};
