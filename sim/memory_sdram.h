// The project's SDRAM controller (trilobit/hdl/sdram.py) with its chip, state by state: equal to its RTL in every cycle. See memory_port.h for
// the protocol. Cycle 0 is the first in which the controller is ready, its refresh interval just begun.
// Names are those of the controller. Addresses count words of four bytes, what a column command brings.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>

#include "memory_port.h"

struct SdramParameters {  // times in cycles of the core: struct SdramSlots of trilobit/hdl/sdram_chip.py
    uint32_t column_bits = 8, row_bits = 13;  // of words
    uint32_t activate_column = 2, precharge = 2, activate_precharge = 3, activate_activate = 5, refresh = 5, write_precharge = 2;
    uint32_t read_write = 3, refresh_interval = 468;
    uint32_t flight = 7;   // cycles from a column command to its word in the controller
    uint32_t queue = 16;   // beats of a write that are gathered
};

class SdramMemory final : public MemoryModel {
   public:
    static constexpr uint32_t WORD_BYTES = 4, BANKS = 4, LARGEST_DEBT = 15;

    SdramMemory(uint32_t beat_bytes, const SdramParameters& p) : MemoryModel(beat_bytes), p_(p), words_(beat_bytes / WORD_BYTES) { reset(); }

    void reset() override {
        MemoryModel::reset();
        s_ = State{};
        s_.interval = p_.refresh_interval - 1;
        reads_.clear();
    }

    void take(const MemoryAsk& ask) override {
        const State s = s_;  // before the clock's edge
        State& n = s_;       // and after it
        // Column commands.
        const bool reads = s.now_valid && !s.now_write, writes = s.now_valid && s.now_write && s.turn == 0;
        const bool moves = reads || writes, last = s.now_left == 1;
        const bool pop = writes && s.part == words_ - 1;
        n.turn = reads ? p_.read_write - 1 : s.turn - (s.turn != 0);
        n.now_left -= moves;
        if (moves && last) n.now_valid = false;
        if (writes) n.part = pop ? 0 : s.part + 1;
        const bool written = writes && last && !(s.next_valid && s.next_write);
        if (written) n.writing = false;
        n.responds = written && s.write_left == 0;

        // Requests.
        const bool push = ask.wdata_valid && driven_.wdata_ready;
        n.level = s.level + push - pop;
        if (push) write_addr_ += beat_bytes_;
        if (ask.wr_valid && driven_.wr_ready) {
            write_addr_ = ask.wr_addr;
            n.write_address = ask.wr_addr / WORD_BYTES;
            n.write_left = ask.wr_beats;
        }
        if (!s.next_valid && writable(s)) {
            n.next_valid = n.next_write = n.writing = true;
            n.next_address = s.write_address;
            n.next_left = s.level * words_;
            n.write_left = s.write_left - s.level;
            n.write_address = s.write_address + s.level * words_;
        } else if (ask.rd_valid && driven_.rd_ready) {
            n.next_valid = true;
            n.next_write = false;
            n.next_address = ask.rd_addr / WORD_BYTES;
            n.next_left = ask.rd_beats * words_;
            reads_.push_back({ask.rd_addr, ask.rd_beats});
        }

        // Row commands.
        const uint64_t column = s.next_address & ((1u << p_.column_bits) - 1);
        const unsigned bank = s.next_address >> p_.column_bits & (BANKS - 1);
        const uint64_t row = s.next_address >> (p_.column_bits + 2) & ((1u << p_.row_bits) - 1);
        const bool open = s.opened >> bank & 1, match = open && s.rows[bank] == row;
        const bool refreshing = s.debt != 0, may_precharge = s.until_precharge == 0 && s.until_recovery == 0;
        bool paid = false, activate = false;
        n.pause = s.pause - (s.pause != 0);
        if (s.pause == 0) {
            if (refreshing) {
                if (!s.now_valid && !s.opened && s.until_activate == 0) {
                    n.pause = p_.refresh - 1;
                    paid = true;
                } else if (!s.now_valid && s.opened && may_precharge) {
                    n.pause = p_.precharge - 1;
                    n.opened = 0;
                }
            } else if (s.next_valid && !match) {
                if (!open) {
                    if (s.until_activate == 0) {
                        activate = true;
                        n.opened |= 1u << bank;
                        n.rows[bank] = row;
                    }
                } else if (may_precharge && !(s.now_valid && s.now_bank == bank)) {
                    n.pause = p_.precharge - 1;
                    n.opened &= ~(1u << bank);
                }
            }
        }
        count(n.until_column, activate, p_.activate_column - 1);
        count(n.until_activate, activate, p_.activate_activate);
        count(n.until_precharge, activate, p_.activate_precharge);
        count(n.until_recovery, writes, p_.write_precharge);
        const bool due = s.interval == 0 && s.debt != LARGEST_DEBT;
        n.interval = s.interval == 0 ? p_.refresh_interval - 1 : s.interval - 1;
        n.debt = s.debt + due - paid;

        // What is prepared begins to burst, up to the end of its row.
        if (s.next_valid && match && s.until_column == 0 && !refreshing && (!s.now_valid || (last && moves))) {
            const uint32_t chunk = std::min<uint64_t>(s.next_left, (1u << p_.column_bits) - column);
            n.now_valid = true;
            n.now_write = s.next_write;
            n.now_bank = bank;
            n.now_left = chunk;
            n.next_address = s.next_address + chunk;
            n.next_left = s.next_left - chunk;
            n.next_valid = s.next_left != chunk;
        }

        // Words on their way back, and beats out of them.
        const bool came = s.flight >> (p_.flight - 1) & 1;
        n.flight = s.flight << 1 | reads;
        n.beat = came && s.came == words_ - 1;
        if (came) n.came = n.beat ? 0 : s.came + 1;
    }

   private:
    struct State {
        bool next_valid = false, next_write = false, now_valid = false, now_write = false, writing = false, responds = false, beat = false;
        uint64_t next_address = 0, write_address = 0;
        uint32_t next_left = 0, now_bank = 0, now_left = 0, write_left = 0, level = 0, part = 0, came = 0;
        uint32_t turn = 0, pause = 0, interval = 0, debt = 0, opened = 0;
        uint32_t until_column = 0, until_activate = 0, until_precharge = 0, until_recovery = 0;
        uint64_t rows[BANKS] = {}, flight = 0;
    };
    struct Read {
        uint64_t addr;
        uint32_t beats;
    };

    bool writable(const State& s) const {
        return s.write_left != 0 && !s.writing && (s.level == s.write_left || s.level == p_.queue);
    }

    // A timer that is set by an event and runs down.
    static void count(uint32_t& left, bool event, uint32_t clocks) { left = event ? clocks - 1 : left - (left != 0); }

    void next_drive() override {
        driven_.rd_ready = !s_.next_valid && !writable(s_);
        driven_.wr_ready = s_.write_left == 0 && !s_.writing && !s_.responds;
        driven_.wdata_ready = s_.level != p_.queue;
        driven_.wresp_valid = s_.responds;
        driven_.rdata_valid = s_.beat;
        if (s_.beat) {
            Read& read = reads_.front();
            driven_.rdata_addr = read.addr;
            read.addr += beat_bytes_;
            if (--read.beats == 0) reads_.pop_front();
        }
    }

    const SdramParameters p_;
    const uint32_t words_;
    State s_;
    std::deque<Read> reads_;
};
