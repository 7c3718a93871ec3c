// Memory models alone, for tests.
#include <cstdint>

#include "memory_model.h"

// What a core asks in each of `cycles` cycles, and what the memory drives in it: bits 0 to 4 rd_ready, rdata_valid, wr_ready, wdata_ready,
// wresp_valid, the address of a read beat above them.
extern "C" int32_t replay_memory(const MemoryParameters* parameters, uint32_t beat_bytes, const uint64_t* asks, uint64_t cycles,
                                 uint64_t* drives) {
    auto memory = make_memory(*parameters, beat_bytes);
    if (!memory) return 0;
    for (uint64_t t = 0; t < cycles; ++t) {
        const MemoryDrive& d = memory->drive();
        drives[t] = d.rd_ready | d.rdata_valid << 1 | d.wr_ready << 2 | d.wdata_ready << 3 | d.wresp_valid << 4 | (d.rdata_valid ? d.rdata_addr << 5 : 0);
        const uint64_t* a = asks + 5 * t;  // bits 0 to 2: rd, wr, wdata; read address, beats, write address, beats
        MemoryAsk ask;
        ask.rd_valid = a[0] & 1, ask.wr_valid = a[0] >> 1 & 1, ask.wdata_valid = a[0] >> 2 & 1;
        ask.rd_addr = a[1], ask.rd_beats = a[2], ask.wr_addr = a[3], ask.wr_beats = a[4];
        memory->take(ask);
    }
    return 1;
}

// Requests to a memory model alone, for tests: each is asked for from the cycle in which the one before was taken, or done.
struct Request {
    uint64_t addr;
    uint32_t beats, write, alone, at;  // alone: only when all before are done; at: not before this cycle
};

// Cycle of each read beat and of each write's response, in request order (a write has one entry); -1 where it did not come.
// Returns the cycle after the last.
extern "C" uint64_t drive_memory(const MemoryParameters* parameters, uint32_t beat_bytes, const Request* requests, uint32_t count,
                                 uint64_t max_cycles, int64_t* done, uint64_t* taken, uint64_t* addresses) {
    auto memory = make_memory(*parameters, beat_bytes);
    if (!memory) return 0;
    uint32_t next = 0, write_beats = 0;
    uint64_t entries = 0, waiting = 0;
    // Entries of reads and writes in order: reads fill theirs front to back, the one write under way its own.
    int64_t write_entry = -1;
    std::deque<uint64_t> read_entries;
    MemoryDrive drive = memory->drive();
    for (uint64_t t = 0; t < max_cycles; ++t) {
        if (drive.rdata_valid) {
            if (read_entries.empty()) return 0;
            done[read_entries.front()] = t;
            addresses[read_entries.front()] = drive.rdata_addr;
            read_entries.pop_front();
            --waiting;
        }
        if (drive.wresp_valid) {
            if (write_entry < 0) return 0;
            done[write_entry] = t;
            write_entry = -1;
            --waiting;
        }
        if (next == count && waiting == 0) return t + 1;
        MemoryAsk ask;
        if (write_beats && drive.wdata_ready) {
            ask.wdata_valid = true;
            --write_beats;
        }
        if (next < count && t >= requests[next].at && (!requests[next].alone || waiting == 0)) {
            const Request& r = requests[next];
            if (r.write) {
                ask.wr_valid = true, ask.wr_addr = r.addr, ask.wr_beats = r.beats;
                if (drive.wr_ready) {
                    taken[next++] = t;
                    write_beats = r.beats;
                    write_entry = entries++;
                    ++waiting;
                }
            } else {
                ask.rd_valid = true, ask.rd_addr = r.addr, ask.rd_beats = r.beats;
                if (drive.rd_ready) {
                    taken[next++] = t;
                    for (uint32_t k = 0; k < r.beats; ++k) read_entries.push_back(entries++);
                    waiting += r.beats;
                }
            }
        }
        memory->take(ask);
        drive = memory->drive();
    }
    return 0;
}
