// The cycle model of the lean core (hdl/lean): it runs the core's own microprogram, with the sequencer's timing, so it has the same times for
// every instruction without knowing any. Scalars are computed, as branches look at them; of vectors only the length counts. Equal to the
// RTL to the cycle. The memory's side stands in lean_memory.h, the memories and the host are those of the RTL simulation (harness.cpp).
#include "lean_scalars.h"

LeanModel::LeanModel(const Machine& m, const Timing& t, const LeanSettings& s, std::vector<LeanWord> p, std::vector<Micro> c,
                     std::vector<LeanEntry> e, std::vector<LeanHeader> h, const int64_t* values, uint32_t token, const MemoryParameters& mp)
    : machine(m), timing(t), settings(s), program(std::move(p)), code(std::move(c)), entries(std::move(e)), headers(std::move(h)),
      token_scalar(token), memory_kind(mp.kind), shift(log2_of(m.beat_bytes)), scalars(values, values + SCALARS), written(SCALARS), acts(machine),
      matmul(machine, timing), fetch(std::min(m.burst_beats, t.stream_boundary / m.beat_bytes), m.weight_fifo_beats), queue(m.beat_bytes),
      memory(make_memory(mp, m.beat_bytes)), prompt_queue(t.host_queue) {
    if (memory) drive = &memory->drive();
}

// ---- the sequencer --------------------------------------------------------------------------------------------------------------------------

bool LeanModel::condition(int32_t cond) const {
    switch (cond) {
        case Cond::ALWAYS: return true;
        case Cond::NEGATIVE: return negative;
        case Cond::ZERO: return zero;
        case Cond::PC_BAD: return pc >= program.size();
        case Cond::LENGTH_BAD: return word.get(Field::len) == 0 || word.get(Field::len) > int64_t(machine.max_length);
        case Cond::ADDRESS_HIGH: return word.get(Field::addr) >> (32 + shift);
        case Cond::WIDE: return word.get(Field::wide);
        case Cond::GAIN: return word.get(Field::gain);
        case Cond::SCALED: return word.get(Field::scaled);
        case Cond::NEG: return word.get(Field::neg);
        case Cond::FIRST: return word.get(Field::first);
        case Cond::LAST: return word.get(Field::last);
        case Cond::NOISE: return word.get(Field::noise);
        case Cond::ACT: return word.get(Field::act);
        case Cond::QUEUE_EMPTY: return queue_write == queue_read;
        case Cond::QUEUE_FULL: return ((queue_write - queue_read) & 7) >= 6;
        case Cond::GAINS: return !gains.empty();
        case Cond::QUIET: return fetch.quiet();
        case Cond::READ_DONE: return fetch.read_done();
        case Cond::WRITE_DONE: return !store.waiting;
        case Cond::TAKEN: return fetch.taken() && !store.wr_valid;
        case Cond::PRODUCT_DONE: return !product_busy;
        case Cond::PROMPT: return prompt_queue.offered;
        case Cond::OUT_READY: return true;
        case Cond::FLUSHED: return fetch.flushed;
        default: return false;  // ERROR: these memories have none
    }
}

// A pass or move begins in this cycle.
void LeanModel::begin(const Micro& m, LeanStrobes& strobes) {
    length = length_of(m);
    if (m.kind == Kind::PASS) {
        pass(m);
        ending_at = now + length;
        ready_at = std::max(now + LATENCY, ending_at + 1);
        drained_at = ending_at + LATENCY;
    } else if (m.slice == Slice::STREAM || m.slice == Slice::LOAD) {
        ending_at = ready_at = drained_at = UINT64_MAX;  // known when its last element comes
        moved = 0;
        beats.clear();
        strobes.element_start = true;
        strobes.element_load = m.slice == Slice::LOAD;
    } else {
        ending_at = now + 1;
        ready_at = drained_at = ending_at + LATENCY;
        const int64_t value = slice(m.slice);
        stamp(m, ending_at, 0);
        write(m, 0, m.is_signed ? lean::sign_extend(uint64_t(value), 16) : value);
        if (m.dest == Dest::HARDWARE) target(m.dest_index, ending_at, value);
    }
}

// The sequencer's cycle; `over`: the microinstruction's last.
void LeanModel::step(LeanStrobes& strobes, bool& over) {
    const Micro& m = *at;
    over = false;
    switch (state) {
        case FETCH: state = LATCH; return;
        case LATCH: state = EXECUTE; return;  // at the edge, see cycle()
        case EXECUTE:
            if (m.kind == Kind::CONTROL) {
                over = !m.drain || drained();
                if (!over) state = DRAIN;
            } else if (m.kind == Kind::PASS ? ready() : drained()) {
                begin(m, strobes);
                state = RUN;
            }
            break;
        case RUN: {
            bool ends = now == ending_at;
            if (elements && queue.element_valid) {
                ends = ++moved == length;
                strobes.element_end = ends;
                if (ends) ready_at = drained_at = now + LATENCY;
            }
            if (!ends) return;
            over = !m.drain;
            if (!over) state = DRAIN;
            break;
        }
        case DRAIN: over = drained(); break;
    }
    if (!over) return;
    state = LATCH;
    if (m.strobe == Strobe::DISPATCH) {
        upc = entries[word.half[0] & 0xFF].at;
        state = FETCH;
    } else if (m.strobe == Strobe::RETURN) {
        upc = back;
        state = FETCH;
    } else if (check(m, (m.cond != Cond::NEGATIVE && m.cond != Cond::ZERO) || drained()); condition(m.cond) != bool(m.invert)) {
        if (m.strobe == Strobe::CALL) back = upc;
        upc = uint32_t(m.target);
        state = FETCH;
    }
    strobe(m, strobes);
}

// What the memory's side sees of a strobe.
void LeanModel::strobe(const Micro& m, LeanStrobes& strobes) {
    constexpr uint32_t NEEDS = 1u << Strobe::READ | 1u << Strobe::WRITE | 1u << Strobe::ZEROS | 1u << Strobe::PUSH | 1u << Strobe::PRODUCT |
                               1u << Strobe::COMMIT;
    check(m, !(NEEDS >> m.strobe & 1) || drained());
    switch (m.strobe) {
        case Strobe::HOLD: strobes.hold = true; break;
        case Strobe::RELEASE: strobes.release = true; break;
        case Strobe::READ: strobes.read = true; break;
        case Strobe::WRITE: strobes.write = true; break;
        case Strobe::ZEROS: strobes.zeros = true; break;
        case Strobe::PUSH: strobes.push = true; break;
        case Strobe::FLUSH: strobes.flush = true; break;
        default: break;
    }
}

// What a strobe changes elsewhere, at the end of its cycle. True if an instruction retires.
bool LeanModel::act_on(const Micro& m) {
    switch (m.strobe) {
        case Strobe::BEGIN:
            pc = queue_write = queue_read = 0;
            gains.clear();
            break;
        case Strobe::FETCH: word = pc < program.size() ? program[pc] : LeanWord{}; break;
        case Strobe::DISPATCH:
            ++counters[LEAN_ISSUED];
            if (tracer.on) tracer.issue(now, uint16_t(pc));
            unit = entries[word.half[0] & 0xFF].unit;
            busy = true;
            break;
        case Strobe::RETIRE: case Strobe::RETIRE_BRANCH:
            ++retired_by_pc[pc];
            if (record) retires.push_back({now, uint16_t(pc), uint16_t(unit), 0});
            if (tracer.on) tracer.retire(now, uint16_t(pc), unit);
            busy = false;
            pc = m.strobe == Strobe::RETIRE ? (pc + 1) & 0xFFFF : uint32_t(word.get(Field::target));
            return true;
        case Strobe::PUSH: queue_write = (queue_write + 1) & 7; break;
        case Strobe::MEET: queue_read = (queue_read + 1) & 7; break;
        case Strobe::PRODUCT: product_waits = product_busy = true; break;
        case Strobe::COMMIT:
            scalars[token_scalar] = generated.empty() ? 0 : generated.front();
            if (!generated.empty()) generated.pop_front();
            break;
        case Strobe::HALT: running = false; break;
        case Strobe::FAULT:
            running = false;
            fault = uint8_t(m.fault);
            fault_pc = uint16_t(pc);
            break;
        default: break;
    }
    return false;
}

// Whether it waits for a condition, and looks at it again and again.
bool LeanModel::polls(int32_t cond) const {
    return at->cond == cond && at->invert && at->strobe == Strobe::NONE && at->target == int32_t(at - code.data());
}

// ---- time -----------------------------------------------------------------------------------------------------------------------------------

// A clock cycle. True if an instruction retires.
bool LeanModel::cycle() {
    const MemoryDrive drives = *drive;
    LeanStrobes strobes;
    // ---- signals -----------------------------------------------------------------------------------------------------------------------
    prompt_taken = prompt_offered && prompt_queue.ready();
    waiting = at->strobe == Strobe::WAITING && !prompt_queue.offered;
    emit = false;
    Event event{};
    if (!events.empty() && events.front().cycle == now) {
        event = events.front();
        events.pop_front();
        strobes.hw_data = uint64_t(event.value);
        emit = event.target == Target::OUT;
        strobes.set_address = event.target == Target::ADDRESS;
        strobes.set_beats = event.target == Target::BEATS;
        strobes.set_region = event.target == Target::REGION;
        strobes.set_region_end = event.target == Target::REGION_END;
    }
    fetch.signals(strobes.set_address || strobes.set_region);
    strobes.element_wide = word.get(Field::wide);
    const State before = state;
    const bool taking = elements;
    bool over;
    step(strobes, over);
    const bool pops = over && at->strobe == Strobe::POP;
    const bool product = product_busy;
    if (product) matmul.signals(registers, acts, true, queue.weight_valid());
    queue.signals(strobes, taking, product && matmul.weight_ready);
    const bool rdata = drives.rdata_valid, rdata_own = rdata && fetch.own;

    MemoryAsk ask;
    ask.rd_valid = fetch.rd_valid;
    ask.rd_addr = fetch.rd_addr << shift;
    ask.rd_beats = fetch.rd_beats;
    ask.wr_valid = store.wr_valid;
    ask.wr_addr = address << shift;
    ask.wr_beats = own_beats;
    ask.wdata_valid = store.wdata_valid();

    // ---- what is counted and recorded --------------------------------------------------------------------------------------------------
    ++counters[LEAN_CYCLES];
    if (busy && unit < UNITS) ++counters[LEAN_BUSY + unit];
    const bool wait_weights = product && matmul.wait_weights;
    counters[LEAN_BEATS] += product && matmul.beat;
    counters[LEAN_WAIT_WEIGHTS] += wait_weights;
    counters[LEAN_STREAM_BEATS] += rdata && !rdata_own;
    counters[LEAN_LOAD_BEATS] += rdata_own;
    counters[LEAN_WRITE_BEATS] += ask.wdata_valid && drives.wdata_ready;
    waits[LEAN_WAIT_MEMORY] += polls(Cond::QUIET) || polls(Cond::READ_DONE) || polls(Cond::WRITE_DONE) || polls(Cond::TAKEN);
    waits[LEAN_STREAM_FULL] += fetch.full() && !(rdata && !rdata_own);
    const uint32_t level = queue.level;
    const Micro& m = *at;
    const bool retired = over && act_on(m);
    if (tracer.on) tracer.cycle(now, Tracer::NONE, uint16_t(pc), wait_weights ? 0 : Tracer::NONE, level, rdata && !rdata_own);
    if (emit) {
        tokens.push_back(uint32_t(event.value & 0xFFFFFF));
        token_slots.push_back(0);
    }

    // ---- the edge ----------------------------------------------------------------------------------------------------------------------
    if (before == LATCH) at = &code[upc++];
    if (strobes.element_start) elements = true;
    else if (strobes.element_end) elements = false;
    if (taking && queue.pop) beats.push_back(queue.addresses.front());
    if (strobes.element_end) {
        for (uint32_t i = 0; i < length; ++i) {
            write(m, i, element_word(m, i));
            stamp(m, now, i);
        }
    }
    if (product) {
        const bool accepts = product_waits && matmul.ready;
        if (accepts) {
            Instruction next{};
            next.length = uint16_t(word.get(Field::len));
            next.act = uint8_t(word.get(Field::act));
            acts.buffers[next.act].length = columns;
            matmul.clock(registers, acts, true, next, uint16_t(pc), true, {0, next.length, columns});
            product_waits = false;
        } else {
            const bool valid = matmul.writes, last = matmul.retires;
            matmul.clock(registers, acts, false, {}, 0, true, {0, uint32_t(word.get(Field::len)), columns});
            if (product_last) product_busy = false;
            if (product_valid) drained_at = now + LATENCY;
            product_valid = valid;
            product_last = last;
        }
    }
    memory->take(ask);
    const bool flushing = !fetch.flushed;
    if (flushing) gains.clear();
    queue.clock(strobes, taking, rdata && !rdata_own && !flushing, drives.rdata_addr, flushing);
    store.clock(strobes, own_beats, drives.wr_ready, drives.wdata_ready, drives.wresp_valid);
    fetch.clock(strobes, own_beats, queue.pop, rdata, drives.rd_ready);
    if (strobes.set_address) address = strobes.hw_data & 0xFFFFFFFF;
    if (strobes.set_beats) own_beats = uint32_t(strobes.hw_data) % fetch.block + 1;
    if (pops) prompt_tokens.pop_front();
    if (prompt_taken) {
        prompt_tokens.push_back(prompts.front());
        prompts.pop_front();
    }
    prompt_queue.clock(prompt_taken, pops);
    drive = &memory->drive();
    ++now;
    return retired;
}

// Cycles from now on in which nothing happens but that time passes in a pass or behind it.
uint64_t LeanModel::quiet_cycles() const {
    const uint64_t wake = state == RUN ? ending_at : state == DRAIN ? drained_at : state == EXECUTE && at->kind == Kind::PASS ? ready_at : 0;
    if (wake <= now + 1 || wake == UINT64_MAX || tracer.on || product_busy || elements || emits || prompt_offered) return 0;
    if (!fetch.settled() || !queue.settled() || !store.settled()) return 0;
    if (prompt_queue.stored && !prompt_queue.offered) return 0;
    return (events.empty() ? wake : std::min(wake, events.front().cycle)) - now;
}

void LeanModel::skip(uint64_t cycles) {
    counters[LEAN_CYCLES] += cycles;
    if (busy && unit < UNITS) counters[LEAN_BUSY + unit] += cycles;
    if (fetch.full()) waits[LEAN_STREAM_FULL] += cycles;
    // A fixed latency doesn't look at the time; refreshes do.
    for (uint64_t k = memory_kind == MEMORY_FIXED ? cycles : 0; k < cycles; ++k) {
        memory->take({});
        drive = &memory->drive();
    }
    since_push = uint32_t(std::min<uint64_t>(since_push + cycles, UINT32_MAX / 2));
    now += cycles;
}

// As harness.cpp's sim_run, but for what follows the last instruction.
Reason LeanModel::run(uint64_t max_cycles, bool until_retire, bool until_token) {
    if (!started) {
        started = true;
        while (!prompts.empty() && prompt_queue.ready()) {
            prompt_tokens.push_back(prompts.front());
            prompts.pop_front();
            for (const bool put : {true, false, false}) prompt_queue.clock(put, false);
        }
    }
    for (uint64_t n = 0; n < max_cycles; ++n) {
        if (const uint64_t quiet = std::min(quiet_cycles(), max_cycles - n - 1)) {
            skip(quiet);
            n += quiet;
        }
        const bool token = emits >> (timing.host_offer - 1) & 1;  // one is at the host in this cycle
        const bool retired = cycle();
        emits = emits << 1 | emit;
        since_push = prompt_taken ? 0 : since_push + 1;
        prompt_offered = !prompts.empty();
        const bool waits = waiting && since_push > timing.host_settle + (prompt_offered ? 1 : 0);
        if (!running) return fault ? REASON_FAULT : REASON_HALTED;
        if (until_token && emit) return REASON_TOKEN;
        if (until_retire && retired) return REASON_RETIRE;
        if (waits && !token) return REASON_WAITING;
    }
    return REASON_LIMIT;
}

extern "C" {

uint32_t lean_sizes(uint32_t what) {
    const uint32_t sizes[] = {sizeof(Machine),          sizeof(Timing),      sizeof(LeanSettings), sizeof(LeanHeader),
                              sizeof(MemoryParameters), sizeof(TraceRecord), LEAN_COUNTERS,        LEAN_WAITS};
    return what < sizeof sizes / sizeof *sizes ? sizes[what] : 0;
}

// Null if the kind of memory is unknown.
LeanModel* lean_new(const Machine* machine, const Timing* timing, const LeanWord* program, uint32_t words, const LeanHeader* headers,
                    uint32_t header_count, const LeanSettings* settings, const LeanEntry* entries, const int64_t* scalars, const Micro* code,
                    uint32_t length, uint32_t token_scalar, const MemoryParameters* memory) {
    auto model = std::make_unique<LeanModel>(*machine, *timing, *settings, std::vector<LeanWord>(program, program + words),
                                             std::vector<Micro>(code, code + length), std::vector<LeanEntry>(entries, entries + 256),
                                             std::vector<LeanHeader>(headers, headers + header_count), scalars, token_scalar, *memory);
    return model->memory ? model.release() : nullptr;
}

void lean_delete(LeanModel* model) { delete model; }

void lean_push(LeanModel* model, const uint32_t* tokens, uint32_t count, uint32_t) {
    model->prompts.insert(model->prompts.end(), tokens, tokens + count);
    model->since_push = 0;
}

// What argmax finds, in order; 0 behind the last.
void lean_generated(LeanModel* model, const uint32_t* tokens, uint32_t count) {
    model->generated.insert(model->generated.end(), tokens, tokens + count);
}

// until: 1, the next retirement; 2, the next emitted token.
int32_t lean_run(LeanModel* model, uint64_t max_cycles, int32_t until) { return model->run(max_cycles, until == 1, until == 2); }
uint64_t lean_now(LeanModel* model) { return model->now; }
// How often the microprogram has read what was not there yet, and the latest microinstruction that did.
uint64_t lean_hazards(LeanModel* model, uint32_t* at) {
    *at = model->hazard_at;
    return model->hazards;
}
uint32_t lean_fault(LeanModel* model) { return model->fault; }
uint32_t lean_fault_pc(LeanModel* model) { return model->fault_pc; }
const uint64_t* lean_counters(LeanModel* model) { return model->counters; }
const uint64_t* lean_waits(LeanModel* model) { return model->waits; }

uint64_t lean_tokens(LeanModel* model, const uint32_t** tokens) {
    *tokens = model->tokens.data();
    return model->tokens.size();
}

const uint32_t* lean_token_slots(LeanModel* model) { return model->token_slots.data(); }

void lean_trace(LeanModel* model, int32_t on) {
    model->tracer.on = on;
    if (!on) model->tracer.end(model->now);
}

uint64_t lean_trace_records(LeanModel* model, const TraceRecord** records) {
    const auto& all = model->tracer.records(model->now);
    *records = all.data();
    return all.size();
}

void lean_record(LeanModel* model, int32_t on) { model->record = on; }

uint64_t lean_retires(LeanModel* model, const RetireRecord** records) {
    *records = model->retires.data();
    return model->retires.size();
}

const uint64_t* lean_retired_by_pc(LeanModel* model) { return model->retired_by_pc.data(); }
}
