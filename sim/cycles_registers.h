// What instructions chain on: vector registers (hdl/regfile.py) and activation buffers (hdl/actbuf.py), as counts of words and beats.
#pragma once
#include "cycles.h"
#include "cycles_parts.h"

struct Registers {
    struct Port {
        bool busy = false, dependent = false;  // dependent: of the reader on the writer (RAW), of the writer on the reader (WAR)
        uint32_t count = 0, words = 0;
        bool step() {  // a word has gone; true with the last
            if (++count != words) return false;
            busy = dependent = false;
            return true;
        }
    };
    Port readers[8], writers[8];
    uint8_t read_busy = 0, write_busy = 0;

    bool may_read(uint32_t reg, uint32_t word) const { return !readers[reg].dependent || word < writers[reg].count; }
    bool may_write(uint32_t reg) const { return !writers[reg].dependent; }

    // The edge: words that were read and written, then the claims of the instruction that issues.
    void read(uint32_t reg) {
        if (readers[reg].step()) writers[reg].dependent = false, read_busy &= ~(1u << reg);
    }
    void write(uint32_t reg) {
        if (writers[reg].step()) readers[reg].dependent = false, write_busy &= ~(1u << reg);
    }
    void claim(uint8_t reads, uint8_t writes, uint32_t words) {
        for (unsigned r = 0; r < 8; ++r) {
            const bool reading = readers[r].busy, writing = writers[r].busy;
            if (reads >> r & 1) readers[r] = {true, writing, 0, words};
            if (writes >> r & 1) writers[r] = {true, reading, 0, words};
        }
        read_busy |= reads;
        write_busy |= writes;
    }
};

struct Activations {
    struct Buffer {
        bool writing = false, reading = false, raw = false, war = false, started = false;
        uint32_t words = 0, ready = 0, length = 0;  // ready: beats that are complete
    };
    Buffer buffers[2];
    uint32_t lanes, words_a_beat;
    Activations(const Machine& m) : lanes(m.lanes), words_a_beat(m.beat_bytes / m.lanes) {}

    bool may_write(uint32_t b) const { return !buffers[b].war; }
    bool scale_known(uint32_t b) const { return !buffers[b].raw || buffers[b].started; }
    bool may_read(uint32_t b, uint32_t beat) const { return !buffers[b].raw || (buffers[b].started && beat < buffers[b].ready); }

    void start(uint32_t b, uint32_t length) {
        buffers[b].length = length;
        buffers[b].words = ceil_div(length, lanes);
        buffers[b].ready = 0;
        buffers[b].started = true;
    }
    void write(uint32_t b, uint32_t word) {
        Buffer& buffer = buffers[b];
        if ((word + 1) % words_a_beat == 0) ++buffer.ready;
        if (word + 1 == buffer.words) buffer.writing = buffer.raw = false;
    }
    void release(uint32_t b) { buffers[b].reading = buffers[b].war = false; }
    void claim_write(uint32_t b) {
        buffers[b].writing = true;
        buffers[b].started = false;
        buffers[b].war = buffers[b].reading;
    }
    void claim_read(uint32_t b) {
        buffers[b].reading = true;
        buffers[b].raw = buffers[b].writing;
    }
};
