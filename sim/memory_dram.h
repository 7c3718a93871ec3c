// A dynamic memory (SDR, DDR3, DDR4) behind a first-come first-served controller that keeps rows open: see memory_port.h for the protocol.
//
// Time is counted in command clocks of the memory; the core's cycle t begins at t * clocks_num / clocks_den of them. When a request is taken, the
// commands of all its accesses are placed at once, each as early as the rules below and all requests before it allow, so precharges and
// activates of a request run under the data of earlier ones. The rules: tRCD, tRP, tRAS, tRC, tRTP, tWR within a bank; tRRD and tFAW between
// activates; tCCD (short between bank groups, long within one) and the turnarounds of the data bus between columns. Commands don't compete for
// the command bus. A refresh of all banks is due every tREFI, counted from the reset: a column command that would come at or after the due
// time comes after the refresh instead, which closes all rows (tRP) and takes tRFC. Every refresh is carried out, none is postponed.
// An access (access_bytes, aligned) is what one column command moves, on all channels in step; accesses go round the bank groups first, then
// through the columns of a row, then to the next bank, then to the next row.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "memory_port.h"

struct DramParameters {  // times in command clocks
    uint32_t clocks_num = 1, clocks_den = 1;           // command clocks in a cycle of the core
    uint32_t access_bytes = 64, access_clocks = 4;     // of one column command, on all channels; clocks on the data bus
    uint32_t banks = 16, bank_groups = 4;              // banks in all
    uint32_t row_bytes = 8192;                         // of an open row, on all channels
    uint32_t rcd = 16, rp = 16, ras = 39, rc = 55, rfc = 420, refi = 9360;
    uint32_t rrd_s = 4, rrd_l = 6, faw = 26, ccd_s = 4, ccd_l = 6;
    uint32_t cl = 16, cwl = 16, rtp = 9, wr = 18, wtr = 9, rtw = 8;  // wtr: last written data to read; rtw: read command to write command
    uint32_t queue = 16;                               // read requests whose last beat has not been driven
    uint32_t front = 0, back = 0;                      // request to its earliest command; last data of a beat to the beat at the core
    uint32_t posted = 0;                               // 1: a write is answered when its last beat was taken, 0: when its data are in the memory
};

// When accesses happen: the state of the banks and the bus.
class DramSchedule {
   public:
    explicit DramSchedule(const DramParameters& p) : p_(p), groups_(std::max(1u, p.bank_groups)) { reset(); }

    void reset() {
        banks_.assign(p_.banks, Bank{});
        group_column_.assign(groups_, 0);
        group_activate_.assign(groups_, 0);
        std::fill(std::begin(recent_), std::end(recent_), 0);
        column_ = read_ok_ = write_ok_ = activate_ok_ = 0;
        next_activate_ = 0;
        refresh_due_ = p_.refi;
        refreshes_ = activates_ = 0;
    }

    // Places an access that may begin at `earliest`; the clock at which its last data have passed the pins.
    uint64_t access(uint64_t addr, bool write, uint64_t earliest) {
        const uint64_t index = addr / p_.access_bytes;
        const unsigned group = index % groups_;
        const uint64_t columns = p_.row_bytes / p_.access_bytes, line = index / groups_ / columns;
        const unsigned in_group = p_.banks / groups_;
        Bank& bank = banks_[line % in_group * groups_ + group];
        const uint64_t row = line / in_group;
        for (;;) {
            const bool hit = bank.open && bank.row == row;
            uint64_t activate = 0, column = std::max(earliest, bank.column_ok);
            if (!hit) {
                const uint64_t from = bank.open ? std::max(earliest, bank.precharge_ok) + p_.rp : earliest;
                activate = std::max({from, bank.activate_ok, activate_ok_, group_activate_[group], recent_[next_activate_]});
                column = activate + p_.rcd;
            }
            column = std::max({column, column_, group_column_[group], write ? write_ok_ : read_ok_});
            if (column >= refresh_due_) {
                refresh();
                continue;
            }
            if (!hit) {
                bank.open = true;
                bank.row = row;
                bank.precharge_ok = activate + p_.ras;
                bank.activate_ok = activate + p_.rc;
                bank.column_ok = activate + p_.rcd;
                activate_ok_ = activate + p_.rrd_s;
                group_activate_[group] = activate + p_.rrd_l;
                recent_[next_activate_] = activate + p_.faw;  // the fourth activate from here
                next_activate_ = (next_activate_ + 1) % 4;
                ++activates_;
            }
            column_ = column + std::max(p_.ccd_s, p_.access_clocks);
            group_column_[group] = column + p_.ccd_l;
            const uint64_t end = column + (write ? p_.cwl : p_.cl) + p_.access_clocks;
            if (write) {
                bank.precharge_ok = std::max(bank.precharge_ok, end + p_.wr);
                read_ok_ = std::max(read_ok_, end + p_.wtr);
            } else {
                bank.precharge_ok = std::max(bank.precharge_ok, column + p_.rtp);
                write_ok_ = std::max(write_ok_, column + p_.rtw);
            }
            return end;
        }
    }

    uint64_t refreshes() const { return refreshes_; }
    uint64_t activates() const { return activates_; }

   private:
    struct Bank {
        bool open = false;
        uint64_t row = 0, column_ok = 0, precharge_ok = 0, activate_ok = 0;
    };

    void refresh() {
        uint64_t start = refresh_due_;
        for (const Bank& bank : banks_) start = std::max(start, bank.open ? std::max(refresh_due_, bank.precharge_ok) + p_.rp : bank.activate_ok);
        for (Bank& bank : banks_) {
            bank.open = false;
            bank.activate_ok = start + p_.rfc;
        }
        refresh_due_ += p_.refi;
        ++refreshes_;
    }

    const DramParameters p_;
    const unsigned groups_;
    std::vector<Bank> banks_;
    std::vector<uint64_t> group_column_, group_activate_;
    uint64_t recent_[4];  // the earliest activate that the four before allow
    uint64_t column_, read_ok_, write_ok_, activate_ok_;
    unsigned next_activate_;
    uint64_t refresh_due_, refreshes_, activates_;
};

class DramMemory final : public MemoryModel {
   public:
    DramMemory(uint32_t beat_bytes, const DramParameters& p) : MemoryModel(beat_bytes), p_(p), schedule_(p) {}

    void reset() override {
        MemoryModel::reset();
        schedule_.reset();
        beats_.clear();
        requests_ = 0;
        write_left_ = 0;
        responding_ = false;
    }

    void take(const MemoryAsk& ask) override {
        if (ask.rd_valid && driven_.rd_ready) {
            ++requests_;
            const uint64_t earliest = command_clock();
            uint64_t addr = ask.rd_addr, done = UINT64_MAX, ready = 0;
            for (uint32_t beat = 0; beat < ask.rd_beats; ++beat, addr += beat_bytes_) {
                // The accesses that hold this beat; the one shared with the beat before has been made.
                const uint64_t first = addr / p_.access_bytes, last = (addr + beat_bytes_ - 1) / p_.access_bytes;
                for (uint64_t k = first; k <= last; ++k) {
                    if (k == done) continue;
                    ready = cycle_after(schedule_.access(k * p_.access_bytes, false, earliest) + p_.back);
                    done = k;
                }
                beats_.push_back({addr, ready, beat + 1 == ask.rd_beats});
            }
        }
        if (ask.wdata_valid && driven_.wdata_ready) {
            write_addr_ += beat_bytes_;
            if (--write_left_ == 0) {
                const uint64_t earliest = command_clock();
                uint64_t end = 0;
                for (uint64_t k = write_first_ / p_.access_bytes; k <= (write_addr_ - 1) / p_.access_bytes; ++k)
                    end = schedule_.access(k * p_.access_bytes, true, earliest);
                responding_ = true;
                response_at_ = p_.posted ? now_ + 1 : cycle_after(end);
            }
        }
        if (ask.wr_valid && driven_.wr_ready) {
            write_addr_ = write_first_ = ask.wr_addr;
            write_left_ = ask.wr_beats;
        }
    }

    const DramSchedule& schedule() const { return schedule_; }

   private:
    struct Beat {
        uint64_t addr, ready;  // the cycle in which it can be driven at the earliest
        bool last;
    };

    void next_drive() override {
        driven_.rd_ready = requests_ < p_.queue;
        driven_.rdata_valid = !beats_.empty() && now_ >= beats_.front().ready;
        if (driven_.rdata_valid) {
            driven_.rdata_addr = beats_.front().addr;
            requests_ -= beats_.front().last;
            beats_.pop_front();
        }
        driven_.wr_ready = write_left_ == 0 && !responding_;
        driven_.wdata_ready = write_left_ != 0;
        driven_.wresp_valid = responding_ && now_ >= response_at_;
        if (driven_.wresp_valid) responding_ = false;
    }

    // The first command clock for what was taken in the current cycle: at the cycle's end.
    uint64_t command_clock() const { return ((now_ + 1) * p_.clocks_num + p_.clocks_den - 1) / p_.clocks_den + p_.front; }
    // The first cycle that begins at or after a clock.
    uint64_t cycle_after(uint64_t clock) const { return (clock * p_.clocks_den + p_.clocks_num - 1) / p_.clocks_num; }

    const DramParameters p_;
    DramSchedule schedule_;
    std::deque<Beat> beats_;
    uint32_t requests_ = 0, write_left_ = 0;
    bool responding_ = false;
    uint64_t write_first_ = 0, response_at_ = 0;
};
