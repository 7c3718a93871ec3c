// The lean core's sequencer, engine and host side for its cycle model (see lean.cpp); what Python gives it.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "cycles_matmul.h"
#include "lean_memory.h"
#include "lean_micro.h"
#include "memory_model.h"
#include "trace.h"

// A segment header's bytes and where they lie.
struct LeanHeader {
    uint64_t addr;
    uint16_t words[8];
};

// What the host asks for, beside what Machine has.
struct LeanSettings {
    uint32_t seed, temperature_m;
    int32_t temperature_e;
    uint32_t zero;
};

// An instruction word: two halves, the low one first.
struct LeanWord {
    uint64_t half[2];
    int64_t get(const micro::WordField& field) const {
        const unsigned __int128 word = (unsigned __int128)half[1] << 64 | half[0];
        const uint64_t value = uint64_t(word >> field.lo) & ((uint64_t(1) << field.width) - 1);
        return field.is_signed ? int64_t(value << (64 - field.width)) >> (64 - field.width) : int64_t(value);
    }
};

// Where an opcode's microcode begins, and its unit.
struct LeanEntry {
    uint16_t at, unit;
};

// hdl/counters.py's counters, in their order; those that a lean core doesn't have stay 0, and so does the last, saturated elements.
enum LeanCounter : uint32_t {
    LEAN_CYCLES, LEAN_ISSUED, LEAN_BUSY = LEAN_ISSUED + 14, LEAN_BEATS = LEAN_BUSY + UNITS, LEAN_WAIT_WEIGHTS, LEAN_STREAM_BEATS = LEAN_BEATS + 4,
    LEAN_LOAD_BEATS, LEAN_WRITE_BEATS, LEAN_COUNTERS = LEAN_WRITE_BEATS + 2,
};

// Those of the pipelined model's waits (trilobit.sim.cycles_build.WAITS) that a lean core has.
enum LeanWait : uint32_t { LEAN_WAIT_MEMORY = 1, LEAN_STREAM_FULL = 7, LEAN_WAITS };

struct LeanModel {
    enum State : uint8_t { FETCH, LATCH, EXECUTE, RUN, DRAIN };
    // A result for a register outside the engine, LATENCY - 1 cycles after its element.
    struct Event {
        uint64_t cycle;
        int32_t target;
        int64_t value;
    };

    const Machine machine;
    const Timing timing;
    const LeanSettings settings;
    const std::vector<LeanWord> program;
    const std::vector<micro::Micro> code;
    const std::vector<LeanEntry> entries;  // of each opcode
    const std::vector<LeanHeader> headers;  // by address
    const uint32_t token_scalar, memory_kind, shift;  // shift: bits of an address in a beat

    // The sequencer.
    State state = FETCH;
    uint32_t upc = 0, back = 0;
    const micro::Micro none{};
    const micro::Micro* at = &none;
    // The engine.
    std::vector<int64_t> scalars;
    bool conditions[16] = {};
    int64_t hashes[16] = {};
    bool negative = false, zero = false;
    uint64_t ready_at = 0, drained_at = 0, ending_at = 0;
    uint32_t length = 0, moved = 0;  // of the pass or move under way
    bool elements = false;           // a move of elements goes on
    std::vector<uint64_t> beats;     // that it has taken, their addresses
    std::deque<int32_t> gains;
    std::deque<Event> events;
    uint32_t limit = 0, columns = 0, queue_write = 0, queue_read = 0;
    // The instruction.
    LeanWord word{};
    uint32_t pc = 0, unit = 0;
    bool busy = false, running = true;
    uint8_t fault = 0;
    uint16_t fault_pc = 0;
    // The product.
    Registers registers;
    Activations acts;
    Matmul matmul;
    bool product_waits = false, product_busy = false, product_valid = false, product_last = false;
    // Memory.
    uint64_t address = 0;
    uint32_t own_beats = 1;
    LeanFetch fetch;
    LeanQueue queue;
    LeanStore store;
    std::unique_ptr<MemoryModel> memory;
    const MemoryDrive* drive = nullptr;

    // Mistakes of the microprogram: what is read before it is there. written: the cycle in which a scalar's latest value was issued.
    std::vector<uint64_t> written;
    uint64_t hazards = 0;
    uint32_t hazard_at = 0;  // of the latest, its microinstruction

    uint64_t now = 0;
    uint64_t counters[LEAN_COUNTERS] = {}, waits[LEAN_WAITS] = {};
    // The host.
    std::deque<uint32_t> prompts, generated;  // to be pushed, to be found by argmax
    std::deque<uint32_t> prompt_tokens;       // in the core's queue
    BlockQueue prompt_queue;
    bool prompt_offered = false, prompt_taken = false, emit = false, waiting = false;
    uint32_t since_push = 0;
    std::vector<uint32_t> tokens, token_slots;
    uint32_t emits = 0;  // bit k: a token was emitted k + 1 cycles ago
    std::vector<RetireRecord> retires;
    std::vector<uint64_t> retired_by_pc = std::vector<uint64_t>(1 << 16);
    bool record = false, started = false;
    Tracer tracer;

    LeanModel(const Machine& machine, const Timing& timing, const LeanSettings& settings, std::vector<LeanWord> program,
              std::vector<micro::Micro> code, std::vector<LeanEntry> entries, std::vector<LeanHeader> headers, const int64_t* values,
              uint32_t token_scalar, const MemoryParameters& memory);
    Reason run(uint64_t max_cycles, bool until_retire, bool until_token);

   private:
    bool cycle();
    uint64_t quiet_cycles() const;
    void skip(uint64_t cycles);
    bool ready() const { return now >= ready_at; }
    bool drained() const { return now >= drained_at; }
    bool polls(int32_t cond) const;
    uint32_t length_of(const micro::Micro& m) const;
    bool condition(int32_t cond) const;
    void begin(const micro::Micro& m, LeanStrobes& strobes);
    void pass(const micro::Micro& m);
    void check(const micro::Micro& m, bool good);
    void check_reads(const micro::Micro& m, uint64_t issue, uint32_t element);
    void stamp(const micro::Micro& m, uint64_t issue, uint32_t element);
    uint32_t place(uint32_t index, bool stride, const micro::Micro& m, uint32_t element) const;
    int64_t operand(int32_t encoded, const micro::Micro& m, uint32_t element) const;
    int64_t slice(int32_t what) const;
    int64_t element_word(const micro::Micro& m, uint32_t element) const;
    void write(const micro::Micro& m, uint32_t element, int64_t value);
    void target(int32_t which, uint64_t last_element, int64_t value);
    void step(LeanStrobes& strobes, bool& over);
    void strobe(const micro::Micro& m, LeanStrobes& strobes);
    bool act_on(const micro::Micro& m);
};
