// The program counter (hdl/pc.py): fetch, issue in order, control instructions, faults.
#pragma once
#include "cycles.h"

// Causes of a stall, in the order of hdl/counters.py.
enum Stall : uint8_t { FETCH, UNIT_LDST, UNIT_RMSNORM, UNIT_TMATMUL, UNIT_ROWWISE, READ_PORT, WRITE_PORT, ACTIVATIONS, TOKEN_PENDING,
                       STREAM_QUEUE, HOST, OUTPUT, DRAIN, STALLS, NONE = STALLS };

enum FaultCode : uint8_t { FAULT_SEGMENT = 5, FAULT_ADDRESS = 3, FAULT_TOKEN = 7, FAULT_PROGRAM_COUNTER = 8 };

struct ProgramCounter {
    struct Stage {
        bool valid = false;
        uint16_t pc = 0;
    };
    const Timing& timing;
    const std::vector<Instruction>& code;
    const uint32_t eos, limit, batch, every;  // every: a bit a slot
    const Instruction outside;  // what stands behind the program
    Stage fetched, word, check, at;  // at: the instruction that may issue
    uint16_t fetch_pc = 0;
    const Instruction* now;
    const Instruction* command = nullptr;  // issued, not yet taken by its unit
    uint16_t command_pc = 0;
    bool running = true, prompt = false, token_pending = false, compared = false;
    uint32_t token[MOST_SLOTS] = {}, emitted[MOST_SLOTS] = {}, inflight = 0, watchdog = 0;
    uint32_t prompted = 0, done = 0, turn = 0;  // a bit a slot; turn: the slot whose token emit sends
    uint32_t counters[4] = {};
    uint16_t unit_pc[UNITS] = {};
    uint8_t fault = 0;
    uint16_t fault_pc = 0;
    // Signals of this cycle.
    bool issue = false, accepted = false, free = false, faulty = false, waiting = false, push = false, redirect = false, emit = false;
    bool sending = false;
    uint32_t prompt_ready = 0;
    Stall stall = NONE;

    ProgramCounter(const Machine& m, const Timing& t, const std::vector<Instruction>& code)
        : timing(t), code(code), eos(m.eos), limit(m.limit), batch(m.batch), every((1u << m.batch) - 1), outside(behind()), now(&outside) {}

    void signals(const Registers& registers, const Activations& acts, const bool (&unit_ready)[UNITS], bool push_ready, uint32_t prompt_valid,
                 bool out_ready) {
        const Instruction& i = *now;
        issue = waiting = push = redirect = emit = sending = false;
        prompt_ready = 0;
        stall = NONE;
        accepted = command && unit_ready[command->unit];
        faulty = at.valid && (i.problem || (i.kind == EMBED && compared && beyond(i.rows)));
        const bool go = running && at.valid && !faulty, control = i.unit == CONTROL;
        const Stall port = (i.reads & registers.read_busy)                                                  ? READ_PORT
                           : (i.writes & registers.write_busy)                                              ? WRITE_PORT
                           : (i.kind == NORMQ && acts.buffers[i.act].writing) || (i.kind == PRODUCT && acts.buffers[i.act].reading)
                               ? ACTIVATIONS
                           : ((i.flags & TOKEN) && token_pending) || (i.kind == EMBED && !compared) ? TOKEN_PENDING
                                                                                                    : NONE;
        free = go && !command && port == NONE;
        if (!at.valid) stall = FETCH;
        else if (faulty) stall = DRAIN;
        else if (command) stall = Stall(UNIT_LDST + command->unit);
        else stall = port;
        if (free && control) control_signals(i, push_ready, prompt_valid, out_ready);
        issue = running && stall == NONE;
        if (issue) redirect = branches(i);
    }

    // token_committed: an argmax commits `committed` in this cycle. prompt_valid: a bit a slot; prompt_token, committed: of each slot.
    void clock(uint32_t retired, uint32_t prompt_valid, const uint32_t* prompt_token, bool token_committed, const uint32_t* committed,
               uint8_t unit_fault, uint16_t unit_fault_pc, bool alive, bool starved, uint16_t starved_pc) {
        const Instruction& i = *now;
        const bool idle = inflight == 0;
        const bool quiet = !issue && !alive && !waiting;
        const bool bites = watchdog == timing.watchdog && starved;
        watchdog = quiet ? (watchdog + 1) & timing.watchdog : 0;
        if (unit_fault) take(unit_fault, unit_fault_pc);
        else if (bites) take(FAULT_SEGMENT, starved_pc);
        else if (faulty && idle) take(i.problem ? i.problem : uint8_t(FAULT_TOKEN), at.pc);
        compared = at.valid && !issue && !token_pending;
        if (accepted) {
            unit_pc[command->unit] = command_pc;
            command = nullptr;
        }
        if (sending) {
            emitted[turn] += emit;
            turn = turn + 1 == batch ? 0 : turn + 1;
        }
        if (issue) {
            if (i.unit == CONTROL) {
                control_clock(i, prompt_valid, prompt_token);
            } else {
                command = &i;
                command_pc = at.pc;
            }
            if (i.kind == ARGMAX && (i.flags & LAST)) token_pending = true;
        }
        if (token_committed) {
            token_pending = false;
            for (uint32_t slot = 0; slot < batch; ++slot)
                if (!(suppressed() >> slot & 1)) token[slot] = committed[slot];
        }
        inflight += (issue && i.unit != CONTROL) - retired;
        if (issue || !at.valid) {
            const uint16_t target = i.target;
            at = check;
            check = word;
            word = fetched;
            fetched = {true, fetch_pc++};
            if (redirect) {
                fetch_pc = target;
                fetched.valid = word.valid = check.valid = at.valid = false;
            }
            now = at.pc < code.size() ? &code[at.pc] : &outside;
        }
    }

   private:
    static Instruction behind() {
        Instruction i{};
        i.kind = NOP;
        i.unit = CONTROL;
        i.problem = FAULT_PROGRAM_COUNTER;
        return i;
    }
    void take(uint8_t code, uint16_t pc) {
        fault = code;
        fault_pc = pc;
        running = false;
    }
    uint32_t suppressed() const { return prompt ? 0 : prompted; }
    bool beyond(uint32_t rows) const {
        for (uint32_t slot = 0; slot < batch; ++slot)
            if (token[slot] >= rows) return true;
        return false;
    }
    // The slots that are done behind a bdone.
    uint32_t ended() const {
        uint32_t ends = 0;
        for (uint32_t slot = 0; slot < batch; ++slot) ends |= uint32_t(token[slot] == eos || emitted[slot] == limit) << slot;
        return done | (ends & ~suppressed());
    }
    void control_signals(const Instruction& i, bool push_ready, uint32_t prompt_valid, bool out_ready) {
        switch (i.kind) {
            case STREAM:
                push = push_ready;
                if (!push) stall = STREAM_QUEUE;
                break;
            case POLL: prompt_ready = every; break;
            case WAIT:
                waiting = prompt_valid != every;
                if (waiting) stall = HOST;
                else prompt_ready = every;
                break;
            case EMIT: {
                const bool sends = !((suppressed() | done) >> turn & 1);
                emit = sends && out_ready;
                sending = emit || !sends;
                if (!sending || turn + 1 != batch) stall = OUTPUT;
                break;
            }
            case HALT:
                if (inflight) stall = DRAIN;
                break;
            default: break;
        }
    }
    bool branches(const Instruction& i) const {
        switch (i.kind) {
            case BPROMPT: return prompt;
            case JUMP: return true;
            case LOOP: return counters[i.counter] > 1;
            case BDONE: return ended() == every;
            default: return false;
        }
    }
    void control_clock(const Instruction& i, uint32_t prompt_valid, const uint32_t* prompt_token) {
        switch (i.kind) {
            case POLL:
            case WAIT:
                if (i.kind == POLL) {
                    prompt = prompt_valid && (prompt_valid | done) == every;
                    prompted = prompt_valid;
                }
                for (uint32_t slot = 0; slot < batch; ++slot)
                    if (prompt_valid >> slot & 1) token[slot] = prompt_token[slot];
                break;
            case SETI: counters[i.counter] = i.imm; break;
            case LOOP:
                if (counters[i.counter]) --counters[i.counter];
                break;
            case BDONE: done = redirect ? 0 : ended(); break;
            case HALT: running = false; break;
            default: break;
        }
    }
};
