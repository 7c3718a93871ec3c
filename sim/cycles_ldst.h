// The load/store unit (hdl/ldst.py): vectors between memory and registers; of a batch, whole words of all slots.
#pragma once
#include "cycles_registers.h"

struct LoadStore {
    enum State : uint8_t { IDLE, ROW_PRODUCT, ROW_ADDRESS, ROW_CHECK, FAULT, LOAD_FREE, LOAD_RUN, STORE_START, WRITE_REQUEST, WRITE_DATA,
                           WRITE_RESPONSE };
    const uint32_t lanes, beat_bytes, beat_shift, burst, batch;
    const uint64_t window_size;
    Unpacker unpacker, rows;  // rows: of embeddings, if there are several slots
    Packer packer;
    BlockQueue landing;
    Queue<uint8_t> words{2};
    State state = IDLE;
    Instruction now{};
    uint16_t pc = 0;
    bool wide = false, clearing = false, reading = false, coming = false, by_rows = false;
    uint64_t addr = 0;
    uint32_t beats = 0, last_word = 0, word = 0, sent = 0, credits, moved = 0, slot = 0;
    uint32_t tokens[MOST_SLOTS] = {};
    // Signals of this cycle.
    bool may_ask = false, asking = false, rd_valid = false, wr_valid = false, wdata_valid = false, read = false, writes = false, comes = false;
    bool retires = false, free = false;
    uint32_t chunk = 0;

    explicit LoadStore(const Machine& m)
        : lanes(m.lanes), beat_bytes(m.beat_bytes), beat_shift(log2_of(m.beat_bytes)), burst(m.burst_beats), batch(m.batch),
          window_size(m.window_size), unpacker(m.beat_bytes, m.lanes * m.batch, 4), rows(m.beat_bytes, m.lanes, 2),
          packer(m.beat_bytes, m.lanes * m.batch), landing(m.load_fifo_beats - 1), credits(m.load_fifo_beats) {}
    bool active() const { return state != IDLE; }
    bool ready() const { return state == IDLE; }
    bool faulty() const { return state == FAULT; }

    void signals(const Registers& registers, bool stop, bool wresp_valid) {
        const uint32_t to_block_end = burst - uint32_t(addr >> beat_shift) % burst;
        chunk = beats < to_block_end ? beats : to_block_end;
        const Unpacker& words_of = by_rows ? rows : unpacker;
        comes = words_of.o_valid();
        writes = comes && (!by_rows || slot + 1 == batch);
        free = state == LOAD_FREE && registers.may_write(now.vd);
        may_ask = state == LOAD_RUN && beats != 0 && credits >= chunk;
        rd_valid = asking;
        wr_valid = state == WRITE_REQUEST && !stop;
        wdata_valid = state == WRITE_DATA && (clearing || packer.o_valid());
        read = reading && registers.may_read(now.va, word) && words.level + coming < 2;
        retires = (state == LOAD_RUN && writes && words_of.o_last()) || (state == WRITE_RESPONSE && wresp_valid && beats == 0);
    }

    void clock(Registers& registers, bool accept, const Instruction& next, uint16_t next_pc, const uint32_t* token, bool rd_ready,
               bool rdata_valid, bool wr_ready, bool wdata_ready, bool wresp_valid) {
        const uint32_t length = now.length;
        // Loads: answers, queue, words.
        Unpacker& words_of = by_rows ? rows : unpacker;
        const bool asked = rd_valid && rd_ready, i_ready = words_of.i_ready(true), take = landing.offered && i_ready;
        const bool row_ends = state == LOAD_RUN && comes && words_of.o_last() && !retires;
        const bool starts = free, store_starts = state == STORE_START;
        if (writes) registers.write(now.vd);
        words_of.clock(take, true, starts, by_rows ? length : moved, wide);
        landing.clock(rdata_valid, i_ready);
        credits += take - (asked ? chunk : 0);
        asking = may_ask && !asked;
        // Stores: words, queue, beats.
        const bool o_ready = state == WRITE_DATA && wdata_ready && !clearing, p_ready = packer.i_ready(o_ready);
        packer.clock(words.valid() && p_ready, o_ready, store_starts, moved, wide);
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
                last_word = (next.length - 1u) / lanes;
                moved = batch == 1 ? next.length : (last_word + 1) * lanes * batch;
                beats = ceil_div(uint64_t(moved) << (wide ? 2 : 1), beat_bytes);
                for (slot = batch; slot-- > 0;) tokens[slot] = token[slot];
                slot = 0;
                by_rows = batch > 1 && next.kind == EMBED;
                clearing = next.kind == CLEAR;
                if (clearing) beats = next.beats;
                state = next.kind == LOAD ? LOAD_FREE : next.kind == EMBED ? ROW_PRODUCT : next.kind == STORE ? STORE_START : WRITE_REQUEST;
                break;
            case ROW_PRODUCT: state = ROW_ADDRESS; break;
            case ROW_ADDRESS:
                addr = now.addr + uint64_t(tokens[slot]) * now.pitch;
                beats = ceil_div(2 * length, beat_bytes);
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
                if (row_ends) ++slot, state = ROW_PRODUCT;
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
