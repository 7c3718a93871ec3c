// Feeds the ternary product unit alone: a command, a header, a weight beat and activations are there whenever it can take them.
// The top has a register behind every input: what is set before a tick is seen after it.
#include <cstdint>
#include <cstring>

#include "Vcore.h"
#include "Vcore___024root.h"
#include "verilated.h"

#define P(a, b) a##___05F##b

void Vcore___024root___eval_nba(Vcore___024root*);

struct Product {
    uint32_t word[4], header[4], columns, first_beat;
};

static constexpr uint64_t LIMIT = uint64_t(1) << 40;

extern "C" uint64_t run(const uint8_t* beats, const Product* products, uint32_t count, const uint8_t* activations, int32_t* results,
                        uint32_t* written) {
    VerilatedContext context;
    Vcore top(&context, "matmul");
    // As in harness.cpp: the one trigger, the clock's, is set directly.
    const auto tick = [&top] {
        top.rootp->__VnbaTriggered[0] = 1;
        Vcore___024root___eval_nba(top.rootp);
    };
    top.eval();
    top.P(write, ok) = 1;
    top.P(act, ok) = 1;
    top.P(act, scale_ok) = 1;
    // 2^17 * 2^-20; ScalarLayout: mantissa 18, exponent 10 bits.
    const uint32_t scale = 1u << 17 | uint32_t(-20 & 0x3ff) << 18;
    std::memcpy(&top.P(act, scale), &scale, 4);
    tick();

    uint32_t commands = 0, headers = 0, retired = 0, rows = 0;
    const uint8_t* next = beats;
    uint64_t cycle = 0;
    while (retired < count && cycle < LIMIT) {
        // What the unit did in this cycle, and what it sees in the next.
        if (top.weight_valid && top.weight_ready) next += BEAT_BYTES;
        if (top.P(cmd, valid) && top.P(cmd, ready)) ++commands;
        if (top.header_valid && top.header_ready) next = beats + uint64_t(products[headers++].first_beat) * BEAT_BYTES;
        if (top.P(act, en)) std::memcpy(&top.P(act, data), activations + uint32_t(top.P(act, beat)) * BEAT_BYTES, BEAT_BYTES);
        if (top.P(write, en)) {
            int32_t data[LANES];
            std::memcpy(data, &top.P(write, data), sizeof data);
            for (int i = 0; i < LANES; ++i)
                if (top.P(write, mask) >> i & 1) results[rows++] = data[i];
        }
        retired += top.P(retire, valid);
        top.weight_valid = 1;
        std::memcpy(&top.weight_data, next, BEAT_BYTES);
        top.P(cmd, valid) = commands < count;
        if (commands < count) std::memcpy(&top.P(cmd, word), products[commands].word, 16);
        top.header_valid = headers < count;
        if (headers < count) {
            std::memcpy(&top.header, products[headers].header, 16);
            top.P(act, length) = products[headers].columns;
        }
        tick();
        ++cycle;
    }
    *written = rows;
    top.final();
    return cycle;
}
