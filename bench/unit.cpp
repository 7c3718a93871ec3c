// Clocks the ternary product unit alone, with weights in every cycle (bench/simulation.py).
#include <cstdint>
#include <cstring>

#include "Vcore.h"
#include "verilated.h"

static VerilatedContext context;
static Vcore* top = nullptr;

static void tick() {
    top->clk = 1;
    top->eval();
    top->clk = 0;
    top->eval();
}

extern "C" {

void unit_reset(const uint32_t* word, uint32_t rows, uint32_t columns, uint32_t mantissa, uint32_t exponent) {
    if (!top) top = new Vcore(&context, "unit");
    std::memcpy(&top->word, word, 16);
    top->rows = rows;
    top->columns = columns;
    top->mantissa = mantissa;
    top->exponent = exponent;
    top->ready = 1;
    top->rst = 1;
    for (int i = 0; i < 4; ++i) tick();
    top->rst = 0;
}

// Runs `cycles` cycles; weights are `count` beats of BEAT_BYTES bytes, used over and over. Returns the beats consumed.
uint64_t unit_run(uint64_t cycles, const uint8_t* weights, uint64_t count) {
    uint64_t beats = 0, next = 0;
    for (uint64_t n = 0; n < cycles; ++n) {
        std::memcpy(&top->weight, weights + next * BEAT_BYTES, BEAT_BYTES);
        if (++next == count) next = 0;
        tick();
        beats += top->beat;
    }
    return beats;
}

uint64_t unit_checksum() { return top->checksum; }
}
