// The row-wise unit (hdl/rowwise.py): words enter a pipeline of fixed depth that never stalls.
#pragma once
#include "cycles_registers.h"

struct RowWise {
    const Timing& timing;
    const uint32_t lanes, in_flight;  // in_flight: the cycles in which a word is in the pipeline, as bits
    // The instruction whose words enter.
    Instruction now{};
    uint16_t pc = 0;
    bool occupied = false;
    uint32_t word = 0, element = 0, last_word = 0, tail = 0;
    // Bit k: k + 1 cycles after a word entered.
    uint32_t flight = 0, lasts = 0;
    Queue<Instruction> queue{32};
    Queue<uint16_t> pcs{32};
    // Signals of this cycle.
    bool enter = false, last = false, ready = false, writes = false, retires = false;

    RowWise(const Machine& m, const Timing& t) : timing(t), lanes(m.lanes), in_flight(uint32_t((uint64_t(1) << t.rowwise_retire) - 1)) {}
    bool active() const { return occupied || flight; }

    void signals(const Registers& registers) {
        enter = false;
        if (occupied) {
            const bool search = now.kind == ARGMAX;
            const uint8_t u = now.uses;
            const bool b_is_a = (u & 1) && now.va == now.vb, c_is_ab = ((u & 1) && now.va == now.vc) || ((u & 2) && now.vb == now.vc);
            enter = element != 0 ||
                    ((!(u & 1) || registers.may_read(now.va, word)) && (!(u & 2) || b_is_a || registers.may_read(now.vb, word)) &&
                     (!(u & 4) || c_is_ab || registers.may_read(now.vc, word)) && (search || registers.may_write(now.vd)));
            last = word == last_word && (!search || element == tail);
        }
        ready = !occupied || (enter && last);
        writes = (flight >> (timing.rowwise_result - 1) & 1) && queue.front().kind != ARGMAX;
        retires = lasts >> (timing.rowwise_retire - 1) & 1;
    }
    uint16_t retired_pc() const { return pcs.front(); }
    // The token of an argmax is there when it retires.
    bool commits() const { return retires && committing; }
    bool committing = false;  // of the instruction that retires in this cycle

    void clock(Registers& registers, bool accept, const Instruction& next, uint16_t next_pc) {
        const bool result = flight >> (timing.rowwise_result - 1) & 1;
        const bool result_last = lasts >> (timing.rowwise_result - 1) & 1;
        if (writes) registers.write(queue.front().vd);
        committing = result_last && queue.front().kind == ARGMAX && (queue.front().flags & LAST);
        queue.clock(accept, next, result && result_last);
        pcs.clock(accept, next_pc, retires);
        flight = (flight << 1 | enter) & in_flight;
        lasts = (lasts << 1 | (enter && last)) & in_flight;
        if (enter) {
            const bool search = now.kind == ARGMAX;
            if (element == 0) {
                const uint8_t u = now.uses;
                if (u & 1) registers.read(now.va);
                if ((u & 2) && !((u & 1) && now.va == now.vb)) registers.read(now.vb);
                if ((u & 4) && !((u & 1) && now.va == now.vc) && !((u & 2) && now.vb == now.vc)) registers.read(now.vc);
            }
            const bool word_done = !search || element == lanes - 1;
            word = last ? 0 : word + word_done;
            element = last || word_done ? 0 : element + 1;
        }
        if (ready) occupied = accept;
        if (accept) {
            now = next;
            pc = next_pc;
            last_word = (next.length - 1u) / lanes;
            tail = (next.length - 1u) % lanes;
        }
    }
};
