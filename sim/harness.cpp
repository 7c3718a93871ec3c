// The compiled part of the RTL simulation: clocks the verilated core, is its memory and its host.
// The top (sim/rtl_top.py) has a register behind every input. One cycle t: its outputs stand; what they ask for is done, the inputs
// of cycle t+1 are set, and the clock ticks, after which the outputs of cycle t+1 stand.
// Parameters are macros from trilobit/sim/rtl_build.py: BEAT_BYTES, LANES, BATCH, GATED if the clocks of UNIT_CLOCKS are separate inputs,
// and WAVES, the class of Verilator's that writes every signal, with its header.
#include "harness.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>
#include <memory>
#include <vector>

#include "Vcore.h"
#include "Vcore___024root.h"
#include "memory_model.h"
#include "trace.h"
#include "verilated.h"
#ifdef WAVES
#include WAVES_HEADER
#endif

// Parts of Verilator's own evaluation, see tick().
#ifndef WAVES
void Vcore___024root___eval_nba(Vcore___024root*);
void Vcore___024root___eval_triggers_vec__act(Vcore___024root*);
#endif

// Verilator writes a double underscore in a port's name as ___05F.
#define MEM(name) mem___05F##name

// The settling of prompt_valid into `waiting`: a pushed token is seen in the next cycle.
static constexpr uint32_t PROMPT_SETTLE = 3;

struct Simulation {
    VerilatedContext context;
    std::unique_ptr<Vcore> top;
#ifdef WAVES
    std::unique_ptr<WAVES> waves;
    bool shown = true;  // whether ticks are part of the waves
#endif
    uint64_t now = 0;    // cycles since the reset
    uint64_t begin = 0;  // `now` of the first cycle after start

    // Memory.
    uint8_t* window = nullptr;
    uint64_t size = 0;
    std::unique_ptr<MemoryModel> memory;
    bool write_error = false;  // a beat of the write under way was outside the window

    // Host.
    std::deque<uint32_t> prompts[BATCH];
    uint32_t offered_slot = 0;  // whose token is offered, or was last
    uint32_t since_push = 0;
    std::vector<uint32_t> tokens, token_slots;
    std::vector<RetireRecord> retires;
    std::vector<uint64_t> retired_by_pc = std::vector<uint64_t>(65536, 0);
    bool record = false;
    Tracer tracer;
    uint64_t cycles = 0;
#ifndef GATED
    uint64_t counts[COUNTERS - 1] = {};  // of events while the core runs, whose own counters answer later
    void count();
#endif

#ifdef WAVES
    void evaluate();
#else
    // Triggers of each clock: host, clk, and those of UNIT_CLOCKS.
    struct {
        uint64_t host, clk;
#ifdef GATED
        uint64_t settle;
#define UNIT_FIELD(name) uint64_t name;
        UNIT_CLOCKS(UNIT_FIELD)
#endif
    } clocks = {};
    void find_triggers();
    void evaluate(uint64_t triggers);
#endif
    void tick(bool all_clocks, bool host_clock = false);
    void host_edge();
    void quiet();
    void memory_inputs();
    void memory_outputs();
    bool cycle_retires();
    void trace();
    void set_prompt_slot();
    uint32_t out_slot() const;
    bool has_prompts() const {
        for (const auto& queue : prompts)
            if (!queue.empty()) return true;
        return false;
    }
    bool in_window(uint64_t addr) const { return addr < size && size - addr >= BEAT_BYTES; }
};

#ifdef WAVES
// Clocks are toggled and evaluated as usual.
#define UNIT_RISE(name) top->clk_##name = all_clocks | top->en_##name;
#define UNIT_FALL(name) top->clk_##name = 0;

void Simulation::evaluate() { top->eval(); }  // not less of it: it is what tells the writer that signals may have changed

void Simulation::tick(bool all_clocks, bool host_clock) {
#ifdef GATED
    UNIT_CLOCKS(UNIT_RISE)
#endif
    top->clk_host = all_clocks | host_clock;
    top->clk = 1;
    evaluate();
#ifdef GATED
    while (top->en_settle) {
        top->clk_settle = 1;
        evaluate();
        top->clk_settle = 0;
        evaluate();
    }
#endif
    ++now;
    if (waves && shown) waves->dump(now * 10);
    top->clk = top->clk_host = 0;
#ifdef GATED
    UNIT_CLOCKS(UNIT_FALL)
#endif
    evaluate();
    if (waves && shown) waves->dump(now * 10 + 5);
}

void Simulation::host_edge() {
    top->clk_host = 1;
    evaluate();
    top->clk_host = 0;
    evaluate();
#ifdef GATED
    top->clk_readout = 1;
    evaluate();
    top->clk_readout = 0;
    evaluate();
#endif
}
#else
// Clocks are inputs and nothing behind them makes another clock, so one pass over what they trigger is a whole evaluation. The pass is called
// directly with the triggers of the clocks that tick: comparing each clock with its value before, twice an evaluation, took an eighth of the
// time. Which trigger is whose is found out at the start.
static_assert(sizeof(Vcore___024root::__VnbaTriggered) == sizeof(uint64_t), "more than 64 triggers");
#define UNIT_TRIGGER(name) \
    if (all_clocks | top->en_##name) triggers |= clocks.name;

void Simulation::evaluate(uint64_t triggers) {
    top->rootp->__VnbaTriggered[0] = triggers;
    Vcore___024root___eval_nba(top->rootp);
}

// Toggles each clock without evaluating what it triggers; call it when all is settled.
void Simulation::find_triggers() {
    const auto of = [this](CData& clock) {
        clock ^= 1;
        Vcore___024root___eval_triggers_vec__act(top->rootp);
        return uint64_t(top->rootp->__VactTriggered[0]);
    };
    clocks.clk = of(top->clk);
    clocks.host = of(top->clk_host);
#ifdef GATED
#define UNIT_FIND(name) clocks.name = of(top->clk_##name);
    UNIT_CLOCKS(UNIT_FIND)
    clocks.settle = of(top->clk_settle);
#endif
}

// The end of a cycle: inputs that were set count for the next, those of the host only if its clock ticks.
void Simulation::tick(bool all_clocks, bool host_clock) {
    uint64_t triggers = clocks.clk;
    if (all_clocks | host_clock) triggers |= clocks.host;
#ifdef GATED
    UNIT_CLOCKS(UNIT_TRIGGER)
#endif
    evaluate(triggers);
#ifdef GATED
    while (top->en_settle) evaluate(clocks.settle);
#endif
    ++now;
}

// The host's inputs count and the counter that it chose is read, without a cycle of the core.
void Simulation::host_edge() {
    evaluate(clocks.host);
#ifdef GATED
    evaluate(clocks.readout);
#endif
}
#endif

// The memory drives nothing from the next cycle on.
void Simulation::quiet() { top->MEM(rdata_valid) = top->MEM(wresp_valid) = top->MEM(rd_ready) = top->MEM(wr_ready) = top->MEM(wdata_ready) = 0; }

// What the memory drives in the next cycle.
void Simulation::memory_inputs() {
    Vcore& t = *top;
    const MemoryDrive& drive = memory->drive();
    t.MEM(rd_ready) = drive.rd_ready;
    t.MEM(rdata_valid) = drive.rdata_valid;
    if (drive.rdata_valid) {
        const bool good = in_window(drive.rdata_addr);
        t.MEM(rdata_error) = !good;
        if (good) std::memcpy(&t.MEM(rdata), window + drive.rdata_addr, BEAT_BYTES);
    }
    t.MEM(wr_ready) = drive.wr_ready;
    t.MEM(wdata_ready) = drive.wdata_ready;
    t.MEM(wresp_valid) = drive.wresp_valid;
    if (drive.wresp_valid) t.MEM(wresp_error) = write_error;
}

// What the core asked of the memory in this cycle.
void Simulation::memory_outputs() {
    Vcore& t = *top;
    MemoryAsk ask;
    ask.rd_valid = t.MEM(rd_valid);
    ask.rd_addr = t.MEM(rd_addr);
    ask.rd_beats = uint32_t(t.MEM(rd_len)) + 1;
    ask.wr_valid = t.MEM(wr_valid);
    ask.wr_addr = t.MEM(wr_addr);
    ask.wr_beats = uint32_t(t.MEM(wr_len)) + 1;
    ask.wdata_valid = t.MEM(wdata_valid);
    if (ask.wdata_valid && t.MEM(wdata_ready)) {
        const uint64_t addr = memory->write_addr();
        if (in_window(addr)) {
            uint8_t data[BEAT_BYTES], strobe[(BEAT_BYTES + 7) / 8];
            std::memcpy(data, &t.MEM(wdata), sizeof data);
            std::memcpy(strobe, &t.MEM(wdata_strobe), sizeof strobe);
            for (unsigned i = 0; i < BEAT_BYTES; ++i)
                if (strobe[i / 8] >> (i % 8) & 1) window[addr + i] = data[i];
        } else {
            write_error = true;
        }
    }
    if (ask.wr_valid && t.MEM(wr_ready)) write_error = false;
    memory->take(ask);
}

// Instructions that retire in this cycle.
bool Simulation::cycle_retires() {
    const unsigned valid = top->retire_valid;
    if (!valid) return false;
    uint16_t pcs[6];
    std::memcpy(pcs, &top->retire_pc, 10);
    for (unsigned unit = 0; unit < 5; ++unit) {
        if (!(valid >> unit & 1)) continue;
        ++retired_by_pc[pcs[unit]];
        if (record) retires.push_back({now - begin, pcs[unit], uint16_t(unit), 0});
        if (tracer.on) tracer.retire(now - begin, pcs[unit], unit);
    }
    return true;
}

#ifndef GATED
// Events of this cycle; saturated elements are not among them.
void Simulation::count() {
    if (!top->running) return;
    for (uint32_t bits = top->events; bits; bits &= bits - 1) ++counts[__builtin_ctz(bits)];
}
#endif

// What else happens in this cycle; bits of `events` stand in the order of isa/counters.py.
void Simulation::trace() {
    constexpr unsigned FIRST_STALL = 2, STALLS = 13, FIRST_WAIT = FIRST_STALL + STALLS + 5, WAITS = 3, STREAM = FIRST_WAIT + WAITS;
    const auto lowest = [events = uint32_t(top->events)](unsigned first, unsigned count) -> uint8_t {
        const uint32_t bits = events >> first & ((1u << count) - 1);
        return bits ? uint8_t(__builtin_ctz(bits)) : Tracer::NONE;
    };
    if (!top->running) return tracer.end(now - begin);
    if (top->issue_valid) tracer.issue(now - begin, top->issue_pc);
    tracer.cycle(now - begin, lowest(FIRST_STALL, STALLS), top->issue_pc, lowest(FIRST_WAIT, WAITS), top->stream_level,
                 uint32_t(top->events) >> STREAM & 1);
}

// A core of one slot has no ports for it.
#if BATCH > 1
void Simulation::set_prompt_slot() { top->prompt_slot = offered_slot; }
uint32_t Simulation::out_slot() const { return top->out_slot; }
#else
void Simulation::set_prompt_slot() {}
uint32_t Simulation::out_slot() const { return 0; }
#endif

extern "C" {

int32_t sim_beat_bytes() { return BEAT_BYTES; }
int32_t sim_lanes() { return LANES; }
int32_t sim_batch() { return BATCH; }

Simulation* sim_new(const char* wave_file) {
    auto sim = std::make_unique<Simulation>();
    sim->context.randReset(0);
#ifdef WAVES
    if (wave_file) sim->context.traceEverOn(true);
#endif
    sim->top = std::make_unique<Vcore>(&sim->context, "core");
#ifdef WAVES
    if (wave_file) {
        sim->waves = std::make_unique<WAVES>();
        sim->top->trace(sim->waves.get(), 99);
        sim->waves->open(wave_file);
        if (!sim->waves->isOpen()) return nullptr;
    }
#else
    if (wave_file) return nullptr;
#endif
    sim->top->eval();
#ifndef WAVES
    sim->find_triggers();
#endif
    sim->top->out_ready = 1;
    sim->tick(true);
    return sim.release();
}

void sim_delete(Simulation* sim) {
#ifdef WAVES
    if (sim->waves) sim->waves->close();
#endif
    sim->top->final();
    delete sim;
}

int32_t sim_memory(Simulation* sim, uint8_t* window, uint64_t size, uint64_t write_start, const MemoryParameters* parameters) {
    sim->window = window;
    sim->size = size;
    sim->memory = make_memory(*parameters, BEAT_BYTES);
    sim->top->window_size = size;
    sim->top->write_start = write_start;
    return sim->memory != nullptr;
}

void sim_settings(Simulation* sim, uint32_t seed, uint32_t temperature_m, int32_t temperature_e, uint32_t eos, uint32_t limit) {
    Vcore& t = *sim->top;
    t.seed = seed;
    t.temperature_m = temperature_m;
    t.temperature_e = temperature_e & 0x3ff;
    t.eos = eos;
    t.limit = limit;
}

void sim_program(Simulation* sim, const uint32_t* words, uint32_t count) {
    Vcore& t = *sim->top;
    t.prog_en = 1;
    for (uint32_t i = 0; i < count; ++i) {
        t.prog_addr = i;
        std::memcpy(&t.prog_data, words + 4 * i, 16);
        sim->tick(true);
    }
    t.prog_en = 0;
    t.program_length = count;
    sim->tick(true);
}

void sim_push(Simulation* sim, const uint32_t* tokens, uint32_t count, uint32_t slot) {
    sim->prompts[slot].insert(sim->prompts[slot].end(), tokens, tokens + count);
    sim->since_push = 0;
}

void sim_start(Simulation* sim) {
    Vcore& t = *sim->top;
    sim->quiet();
    // Tokens that are already there are in the core's queues before its first instruction.
    for (sim->offered_slot = 0; sim->offered_slot < BATCH; ++sim->offered_slot) {
        auto& queue = sim->prompts[sim->offered_slot];
        while (!queue.empty()) {
            t.prompt_valid = 1;
            t.prompt_token = queue.front();
            sim->set_prompt_slot();
            sim->tick(true);
            const bool taken = t.prompt_ready;  // in this cycle the core sees it
            t.prompt_valid = 0;
            sim->tick(true);
            if (!taken) break;
            queue.pop_front();
        }
    }
    sim->offered_slot = 0;
    sim->tokens.clear();
    sim->token_slots.clear();
    sim->retires.clear();
    const bool traced = sim->tracer.on;
    sim->tracer = {};
    sim->tracer.on = traced;
    std::fill(sim->retired_by_pc.begin(), sim->retired_by_pc.end(), 0);
#ifndef GATED
    t.counter_select = COUNTERS - 1;  // saturated elements: of all others the events are counted here
    std::fill(std::begin(sim->counts), std::end(sim->counts), 0);
#endif
    t.start = 1;
    sim->tick(true);
    t.start = 0;
    sim->memory->reset();
    sim->memory_inputs();
    sim->tick(true);
    sim->begin = sim->now;
}

Reason sim_run(Simulation* sim, uint64_t max_cycles, int32_t until_retire) {
    Vcore& t = *sim->top;
    for (uint64_t n = 0; n < max_cycles; ++n) {
        sim->memory_outputs();
        const bool retired = sim->cycle_retires();
        if (sim->tracer.on) sim->trace();
#ifndef GATED
        sim->count();
#endif
        const bool token = t.out_valid;
        if (token) {
            sim->tokens.push_back(t.out_token);
            sim->token_slots.push_back(sim->out_slot());
        }
        ++sim->since_push;
        if (t.prompt_valid && t.prompt_ready) {
            sim->prompts[sim->offered_slot].pop_front();
            sim->since_push = 0;
        }
        // What is still here after all slots had their turn finds no room: only the host can end a wait for another slot's token.
        const bool prompts = sim->has_prompts();
        const bool waiting = t.waiting && sim->since_push > PROMPT_SETTLE + (prompts ? BATCH : 0);
        sim->memory_inputs();
        const bool offered = t.prompt_valid;
        t.prompt_valid = prompts;
        if (prompts) {
            do sim->offered_slot = (sim->offered_slot + 1) % BATCH;
            while (sim->prompts[sim->offered_slot].empty());
            t.prompt_token = sim->prompts[sim->offered_slot].front();
            sim->set_prompt_slot();
        }
        sim->tick(false, offered | t.prompt_valid);
        if (token) return REASON_TOKEN;
        if (until_retire && retired) return REASON_RETIRE;
        if (!t.running && (t.halted || t.fault) && !t.out_valid) return t.fault ? REASON_FAULT : REASON_HALTED;
        if (waiting) return REASON_WAITING;
    }
    return REASON_LIMIT;
}

uint64_t sim_cycles(Simulation* sim) { return sim->now - sim->begin; }
uint32_t sim_fault(Simulation* sim) { return sim->top->fault; }
uint32_t sim_fault_pc(Simulation* sim) { return sim->top->fault_pc; }
int32_t sim_running(Simulation* sim) { return sim->top->running; }

uint64_t sim_counter(Simulation* sim, uint32_t index) {
    Vcore& t = *sim->top;
#ifdef GATED
    t.counter_select = index;
    sim->host_edge();
#else
    // The counters of gates answer some cycles later; only while the core doesn't run are those no cycles of it.
    if (t.running) {
        if (index < COUNTERS - 1) return sim->counts[index];
    } else {
        t.counter_select = index;
        const uint64_t now = sim->now;
        sim->quiet();
#ifdef WAVES
        sim->shown = false;
#endif
        for (int k = 0; k < COUNTER_CLOCKS; ++k) sim->tick(true);
        sim->now = now;
#ifdef WAVES
        sim->shown = true;
#endif
    }
#endif
    return t.counter_value;
}

void sim_register(Simulation* sim, uint32_t index, uint32_t words, uint32_t* elements) {
    Vcore& t = *sim->top;
    sim->quiet();
    t.dbg_reg = index;
    for (uint32_t k = 0; k < words; ++k) {
        t.dbg_addr = k;
        sim->tick(true);  // the core sees the address,
        sim->tick(true);  // and answers
        std::memcpy(elements + k * LANES * BATCH, &t.dbg_data, LANES * BATCH * 4);
    }
}

uint64_t sim_tokens(Simulation* sim, const uint32_t** tokens) {
    *tokens = sim->tokens.data();
    return sim->tokens.size();
}

const uint32_t* sim_token_slots(Simulation* sim) { return sim->token_slots.data(); }

void sim_trace(Simulation* sim, int32_t on) { sim->tracer.on = on; }

uint64_t sim_trace_records(Simulation* sim, const TraceRecord** records) {
    const auto& all = sim->tracer.records(sim->now - sim->begin);
    *records = all.data();
    return all.size();
}

void sim_record(Simulation* sim, int32_t on) { sim->record = on; }

uint64_t sim_retires(Simulation* sim, const RetireRecord** records) {
    *records = sim->retires.data();
    return sim->retires.size();
}

const uint64_t* sim_retired_by_pc(Simulation* sim) { return sim->retired_by_pc.data(); }
}
