// The cycle model: the control of the core, without data, equal to the RTL to the cycle. A struct a unit holds the state that the unit's
// control has in hdl/; latencies come from sim/timing.yaml, memory timing from memory_model.h. Each cycle has two halves: signals(), which
// computes what the units tell each other from their states, and clock(), the edge.
// The host is that of the RTL simulation (harness.cpp): tokens that are pushed before the start are in the core's queues before its first
// instruction, later ones come as the queues take them, slot after slot in turn, and emitted tokens are taken at once.
#include "cycles.h"

#include <algorithm>
#include <deque>
#include <memory>

#include "cycles_ldst.h"
#include "cycles_matmul.h"
#include "cycles_pc.h"
#include "cycles_rmsnorm.h"
#include "cycles_rowwise.h"
#include "cycles_stream.h"
#include "memory_model.h"
#include "trace.h"

namespace {

// hdl/counters.py's counters, in their order; the last, saturated elements, depends on data and stays 0.
enum Counter : uint32_t {
    CYCLES, ISSUED, STALL, BUSY = STALL + STALLS, BEATS = BUSY + UNITS, WAIT_WEIGHTS, WAIT_ACTIVATIONS, WAIT_OUTPUT, STREAM_BEATS,
    LDST_BEATS, WRITE_BEATS, SATURATED, COUNTERS,
};

// Why a unit waits, beside what the hardware counts; a unit with none of these and nothing to do is idle.
enum Wait : uint32_t {
    LDST_REGISTER, LDST_MEMORY, NORM_GAINS, NORM_REGISTERS, NORM_SCALARS, NORM_ACTIVATIONS, ROWWISE_REGISTERS, STREAM_FULL, WAITS,
};

// Two readers on the memory's read side (hdl/memarb.py).
struct Owner {
    uint32_t beats;
    bool ldst;
};

}  // namespace

struct CycleModel {
    const Machine machine;
    const Timing timing;
    std::vector<Instruction> code;
    std::vector<Segment> segments;
    Registers registers;
    Activations acts;
    LoadStore ldst;
    RmsNorm rmsnorm;
    Matmul matmul;
    RowWise rowwise;
    StreamFetch stream;
    ProgramCounter pc;
    Queue<Owner> owners;
    uint32_t beats_come = 0;  // of the oldest read request
    std::unique_ptr<MemoryModel> memory;
    const MemoryDrive* drive;

    uint64_t now = 0;
    uint64_t counters[COUNTERS] = {}, waits[WAITS] = {};
    // The host.
    std::deque<uint32_t> prompts[MOST_SLOTS], generated;  // to be pushed, to be found by argmax
    std::deque<uint32_t> prompt_tokens[MOST_SLOTS];       // in the core's queues
    std::vector<BlockQueue> prompt_queues;
    bool prompt_offered = false, prompt_taken = false;
    uint32_t offered_slot = 0, since_push = 0;
    std::vector<uint32_t> tokens, token_slots;
    uint32_t emits = 0;  // bit k: a token was emitted k + 1 cycles ago
    std::vector<RetireRecord> retires;
    std::vector<uint64_t> retired_by_pc = std::vector<uint64_t>(1 << 16);
    bool record = false, started = false;
    Tracer tracer;

    CycleModel(const Machine& m, const Timing& t, std::vector<Instruction> c, std::vector<Segment> s, const MemoryParameters& p)
        : machine(m), timing(t), code(std::move(c)), segments(std::move(s)), acts(machine), ldst(machine), rmsnorm(machine, timing),
          matmul(machine, timing), rowwise(machine, timing), stream(machine, timing, segments), pc(machine, timing, code),
          owners(timing.memory_outstanding), memory(make_memory(p, m.beat_bytes)), drive(nullptr),
          prompt_queues(m.batch, BlockQueue(timing.host_queue)) {
        if (memory) drive = &memory->drive();
    }
    void push_prompt(uint32_t slot) {
        prompt_tokens[slot].push_back(prompts[slot].front());
        prompts[slot].pop_front();
    }
    bool has_prompts() const {
        return std::any_of(prompts, prompts + machine.batch, [](const auto& queue) { return !queue.empty(); });
    }

    bool cycle();
    void count_waits(const MemoryDrive& drives);
    Reason run(uint64_t max_cycles, bool until_retire, bool until_token);
};

// A clock cycle. True if an instruction retires.
bool CycleModel::cycle() {
    // ---- signals ---------------------------------------------------------------------------------------------------------------------
    const MemoryDrive memory_drives = *drive;
    const bool rdata = memory_drives.rdata_valid, rdata_ldst = rdata && owners.front().ldst, rdata_stream = rdata && !rdata_ldst;
    uint32_t prompt_valid = 0;
    for (uint32_t slot = 0; slot < machine.batch; ++slot) prompt_valid |= uint32_t(prompt_queues[slot].offered) << slot;
    prompt_taken = prompt_offered && prompt_queues[offered_slot].ready();
    ldst.signals(registers, pc.fault, memory_drives.wresp_valid);
    rmsnorm.signals(registers, acts, stream.gain_valid());
    matmul.signals(registers, acts, stream.header_valid(), stream.weight_valid());
    rowwise.signals(registers);
    const bool ready[UNITS] = {ldst.ready(), pc.command && rmsnorm.ready(*pc.command), matmul.ready, rowwise.ready};
    pc.signals(registers, acts, ready, stream.push_ready(), prompt_valid, true);
    const Instruction& next = *pc.now;
    const uint16_t next_pc = pc.at.pc, command_pc = pc.command_pc;
    const Instruction& command = pc.command ? *pc.command : next;
    const bool room = owners.ready(), rd_ready = memory_drives.rd_ready && room, stream_ready = rd_ready && !ldst.rd_valid;
    MemoryAsk ask;
    ask.rd_valid = (ldst.rd_valid || stream.regions.req_valid) && room;
    ask.rd_addr = ldst.rd_valid ? ldst.addr : stream.regions.req_addr;
    ask.rd_beats = ldst.rd_valid ? ldst.chunk : stream.regions.req_len;
    ask.wr_valid = ldst.wr_valid;
    ask.wr_addr = ldst.addr;
    ask.wr_beats = ldst.chunk;
    ask.wdata_valid = ldst.wdata_valid;

    // ---- what is counted and recorded ------------------------------------------------------------------------------------------------
    ++counters[CYCLES];
    counters[ISSUED] += pc.issue;
    if (pc.stall != NONE) ++counters[STALL + pc.stall];
    counters[BUSY + LDST] += ldst.active();
    counters[BUSY + RMSNORM] += rmsnorm.active();
    counters[BUSY + TMATMUL] += matmul.active();
    counters[BUSY + ROWWISE] += rowwise.active();
    counters[BEATS] += matmul.beat;
    counters[WAIT_WEIGHTS] += matmul.wait_weights;
    counters[WAIT_ACTIVATIONS] += matmul.wait_activations;
    counters[WAIT_OUTPUT] += matmul.wait_output;
    counters[STREAM_BEATS] += rdata_stream;
    counters[LDST_BEATS] += rdata_ldst;
    counters[WRITE_BEATS] += ldst.wdata_valid && memory_drives.wdata_ready;
    count_waits(memory_drives);
    const bool issues_control = pc.issue && next.unit == CONTROL;
    const bool retired[UNITS + 1] = {ldst.retires, rmsnorm.retires, matmul.retires, rowwise.retires, issues_control};
    const uint32_t retired_units = ldst.retires + rmsnorm.retires + matmul.retires + rowwise.retires;
    const bool any = retired_units || issues_control;
    if (any) {
        const uint16_t pcs[UNITS + 1] = {ldst.pc, rmsnorm.retired_pc(), matmul.oldest.front().pc, rowwise.retired_pc(), next_pc};
        for (unsigned unit = 0; unit <= UNITS; ++unit) {
            if (!retired[unit]) continue;
            ++retired_by_pc[pcs[unit]];
            if (record) retires.push_back({now, pcs[unit], uint16_t(unit), 0});
            if (tracer.on) tracer.retire(now, pcs[unit], unit);
        }
    }
    if (tracer.on) {
        if (pc.issue) tracer.issue(now, next_pc);
        const uint8_t wait = matmul.wait_weights ? 0 : matmul.wait_activations ? 1 : matmul.wait_output ? 2 : Tracer::NONE;
        tracer.cycle(now, pc.stall == NONE ? Tracer::NONE : uint8_t(pc.stall), next_pc, wait, stream.weights.level(), rdata_stream);
    }
    if (pc.emit) {
        tokens.push_back(pc.token[pc.turn]);
        token_slots.push_back(pc.turn);
    }

    // ---- the edge --------------------------------------------------------------------------------------------------------------------
    const auto accepts = [&](Unit unit) { return pc.accepted && command.unit == unit; };
    const bool product_waits = matmul.header_ready && !stream.header_valid(), norm_waits = rmsnorm.segment_ready && !stream.segment_valid();
    const bool norm_lacks = rmsnorm.gain_ready && !stream.gain_valid();
    const bool bad_norm = rmsnorm.faulty() || (stream.faulty() && norm_waits);
    const bool bad_product = matmul.faulty() || (stream.faulty() && product_waits);
    const uint8_t unit_fault = bad_norm || bad_product ? FAULT_SEGMENT : ldst.faulty() ? FAULT_ADDRESS : 0;
    const uint16_t unit_fault_pc = pc.unit_pc[bad_norm ? RMSNORM : bad_product ? TMATMUL : LDST];
    const bool commits = rowwise.commits();
    uint32_t committed[MOST_SLOTS] = {}, waiting_prompts[MOST_SLOTS] = {};
    for (uint32_t slot = 0; slot < machine.batch; ++slot) {
        if (prompt_valid >> slot & 1) waiting_prompts[slot] = prompt_tokens[slot].front();
        if (!commits || generated.empty()) continue;
        committed[slot] = generated.front();
        generated.pop_front();
    }
    const Header header = stream.headers.front();
    const bool header_valid = stream.header_valid(), segment_valid = stream.segment_valid();
    const uint32_t segment_length = stream.lengths.front();
    const uint64_t push_addr = next.addr;
    const uint32_t push_beats = next.beats;
    const bool push = pc.push;
    const uint32_t pops_prompt = pc.prompt_ready & prompt_valid;

    memory->take(ask);
    owners.clock(ask.rd_valid && memory_drives.rd_ready, {ask.rd_beats, ldst.rd_valid}, false);
    if (rdata && ++beats_come == owners.front().beats) {
        beats_come = 0;
        owners.clock(false, {}, true);
    }
    stream.clock(push, push_addr, push_beats, stream_ready, rdata_stream, matmul.weight_ready, matmul.header_ready, rmsnorm.segment_ready,
                 rmsnorm.gain_ready);
    if (ldst.active() || accepts(LDST))
        ldst.clock(registers, accepts(LDST), command, command_pc, pc.token, rd_ready, rdata_ldst, memory_drives.wr_ready,
                   memory_drives.wdata_ready, memory_drives.wresp_valid);
    if (rmsnorm.active() || accepts(RMSNORM))
        rmsnorm.clock(registers, acts, accepts(RMSNORM), command, command_pc, segment_valid, segment_length);
    if (matmul.active() || accepts(TMATMUL))
        matmul.clock(registers, acts, accepts(TMATMUL), command, command_pc, header_valid, header);
    if (rowwise.active() || accepts(ROWWISE)) rowwise.clock(registers, accepts(ROWWISE), command, command_pc);
    if (pc.issue) {
        registers.claim(next.reads, next.writes, ceil_div(next.length, machine.lanes));
        if (next.kind == NORMQ) acts.claim_write(next.act);
        if (next.kind == PRODUCT) acts.claim_read(next.act);
    }
    const bool alive = retired_units || rdata || memory_drives.wresp_valid || matmul.beat;
    const bool starved = product_waits || norm_waits || matmul.wait_weights || norm_lacks;
    pc.clock(retired_units, prompt_valid, waiting_prompts, commits, committed, unit_fault, unit_fault_pc, alive, starved,
             pc.unit_pc[norm_waits || norm_lacks ? RMSNORM : TMATMUL]);
    for (uint32_t slot = 0; slot < machine.batch; ++slot) {
        const bool pops = pops_prompt >> slot & 1, put = prompt_taken && slot == offered_slot;
        if (pops) prompt_tokens[slot].pop_front();
        if (put) push_prompt(slot);
        prompt_queues[slot].clock(put, pops);
    }
    drive = &memory->drive();
    ++now;
    return any;
}

void CycleModel::count_waits(const MemoryDrive& drives) {
    const bool stores = ldst.state == LoadStore::WRITE_DATA;
    waits[LDST_REGISTER] += (ldst.state == LoadStore::LOAD_FREE && !ldst.free) || (stores && !ldst.wdata_valid);
    waits[LDST_MEMORY] += (ldst.state == LoadStore::LOAD_RUN && !ldst.comes) || (ldst.wr_valid && !drives.wr_ready) ||
                          (stores && ldst.wdata_valid && !drives.wdata_ready) ||
                          (ldst.state == LoadStore::WRITE_RESPONSE && !drives.wresp_valid);
    const bool reads = rmsnorm.state == RmsNorm::READ && !rmsnorm.read, gains = reads && rmsnorm.gain_ready;
    waits[NORM_GAINS] += gains || (rmsnorm.segment_ready && !stream.segment_valid());
    waits[NORM_REGISTERS] += (reads && !gains) || (rmsnorm.state == RmsNorm::FEED && !rmsnorm.feeds);
    waits[NORM_SCALARS] += rmsnorm.state == RmsNorm::WAIT && !rmsnorm.engine.feed;
    waits[NORM_ACTIVATIONS] += rmsnorm.state == RmsNorm::WAIT && rmsnorm.engine.feed && !rmsnorm.may_feed;
    waits[ROWWISE_REGISTERS] += rowwise.occupied && !rowwise.enter;
    waits[STREAM_FULL] += stream.landing.offered && stream.payload && !(stream.is_gains ? stream.gains : stream.weights).ready();
}

// As harness.cpp's sim_run, but for what follows the last instruction.
Reason CycleModel::run(uint64_t max_cycles, bool until_retire, bool until_token) {
    if (!started) {
        started = true;
        for (uint32_t slot = 0; slot < machine.batch; ++slot) {
            while (!prompts[slot].empty() && prompt_queues[slot].ready()) {
                push_prompt(slot);
                for (const bool put : {true, false, false}) prompt_queues[slot].clock(put, false);
            }
        }
    }
    for (uint64_t n = 0; n < max_cycles; ++n) {
        const bool token = emits >> (timing.host_offer - 1) & 1;  // one is at the host in this cycle
        const bool retired = cycle();
        emits = emits << 1 | pc.emit;
        since_push = prompt_taken ? 0 : since_push + 1;
        prompt_offered = has_prompts();
        const bool waits = pc.waiting && since_push > timing.host_settle + (prompt_offered ? machine.batch : 0);
        if (prompt_offered) {
            do offered_slot = (offered_slot + 1) % machine.batch;
            while (prompts[offered_slot].empty());
        }
        if (!pc.running) return pc.fault ? REASON_FAULT : REASON_HALTED;
        if (until_token && pc.emit) return REASON_TOKEN;
        if (until_retire && retired) return REASON_RETIRE;
        if (waits && !token) return REASON_WAITING;
    }
    return REASON_LIMIT;
}

extern "C" {

uint32_t cycles_sizes(uint32_t what) {
    const uint32_t sizes[] = {sizeof(Instruction),      sizeof(Segment),     sizeof(Machine), sizeof(Timing),
                              sizeof(MemoryParameters), sizeof(TraceRecord), COUNTERS,        WAITS};
    return what < sizeof sizes / sizeof *sizes ? sizes[what] : 0;
}

// Null if the kind of memory is unknown.
CycleModel* cycles_new(const Machine* machine, const Timing* timing, const Instruction* code, uint32_t words, const Segment* segments,
                       uint32_t count, const MemoryParameters* memory) {
    auto model = std::make_unique<CycleModel>(*machine, *timing, std::vector<Instruction>(code, code + words),
                                              std::vector<Segment>(segments, segments + count), *memory);
    return model->memory ? model.release() : nullptr;
}

void cycles_delete(CycleModel* model) { delete model; }

void cycles_push(CycleModel* model, const uint32_t* tokens, uint32_t count, uint32_t slot) {
    model->prompts[slot].insert(model->prompts[slot].end(), tokens, tokens + count);
    model->since_push = 0;
}

// What argmax finds, in order; 0 behind the last.
void cycles_generated(CycleModel* model, const uint32_t* tokens, uint32_t count) {
    model->generated.insert(model->generated.end(), tokens, tokens + count);
}

// until: 1, the next retirement; 2, the next emitted token.
int32_t cycles_run(CycleModel* model, uint64_t max_cycles, int32_t until) { return model->run(max_cycles, until == 1, until == 2); }
uint64_t cycles_now(CycleModel* model) { return model->now; }
uint32_t cycles_fault(CycleModel* model) { return model->pc.fault; }
uint32_t cycles_fault_pc(CycleModel* model) { return model->pc.fault_pc; }
const uint64_t* cycles_counters(CycleModel* model) { return model->counters; }
const uint64_t* cycles_waits(CycleModel* model) { return model->waits; }

uint64_t cycles_tokens(CycleModel* model, const uint32_t** tokens) {
    *tokens = model->tokens.data();
    return model->tokens.size();
}

const uint32_t* cycles_token_slots(CycleModel* model) { return model->token_slots.data(); }

void cycles_trace(CycleModel* model, int32_t on) {
    model->tracer.on = on;
    if (!on) model->tracer.end(model->now);
}

uint64_t cycles_trace_records(CycleModel* model, const TraceRecord** records) {
    const auto& all = model->tracer.records(model->now);
    *records = all.data();
    return all.size();
}

void cycles_record(CycleModel* model, int32_t on) { model->record = on; }

uint64_t cycles_retires(CycleModel* model, const RetireRecord** records) {
    *records = model->retires.data();
    return model->retires.size();
}

const uint64_t* cycles_retired_by_pc(CycleModel* model) { return model->retired_by_pc.data(); }
}
