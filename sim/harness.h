// Interface of the compiled simulation (see harness.cpp), called through ctypes by trilobit/sim/rtl.py.
#pragma once
#include <cstdint>

extern "C" {

struct Simulation;
struct MemoryParameters;  // memory_model.h
struct TraceRecord;       // trace.h

// Why sim_run came back.
enum Reason : int32_t {
    REASON_LIMIT = 0,    // max_cycles have passed
    REASON_TOKEN = 1,    // a token was emitted
    REASON_HALTED = 2,   // halt retired
    REASON_FAULT = 3,    // the core stopped on a fault
    REASON_WAITING = 4,  // the program waits for a prompt token and none is queued
    REASON_RETIRE = 5,   // at least one instruction retired (only if asked for)
};

struct RetireRecord {
    uint64_t cycle;  // cycles since the program was started
    uint16_t pc;
    uint16_t unit;  // bit number of retire_valid
    uint32_t zero;
};

// Build-time parameters, for the caller to check: beat_bytes, lanes, batch.
int32_t sim_beat_bytes();
int32_t sim_lanes();
int32_t sim_batch();

Simulation* sim_new(const char* wave_file);  // resets the core; wave_file may be null, and must be if built without waves
void sim_delete(Simulation*);

int32_t sim_memory(Simulation*, uint8_t* window, uint64_t size, uint64_t write_start, const MemoryParameters*);  // 0: unknown kind
void sim_settings(Simulation*, uint32_t seed, uint32_t temperature_m, int32_t temperature_e, uint32_t eos, uint32_t limit);
void sim_program(Simulation*, const uint32_t* words, uint32_t count);  // four 32-bit words an instruction, low first
void sim_push(Simulation*, const uint32_t* tokens, uint32_t count, uint32_t slot);
void sim_start(Simulation*);
Reason sim_run(Simulation*, uint64_t max_cycles, int32_t until_retire);

uint64_t sim_cycles(Simulation*);  // since the start
uint32_t sim_fault(Simulation*);
uint32_t sim_fault_pc(Simulation*);
int32_t sim_running(Simulation*);
uint64_t sim_counter(Simulation*, uint32_t index);  // without gated clocks, while the core runs, saturated elements come some cycles late
void sim_register(Simulation*, uint32_t index, uint32_t words, uint32_t* elements);  // only while the core doesn't run; word by word, slot by slot

uint64_t sim_tokens(Simulation*, const uint32_t** tokens);           // all since the start; the count
const uint32_t* sim_token_slots(Simulation*);                        // of each token
void sim_trace(Simulation*, int32_t on);                              // record a timeline from now on
uint64_t sim_trace_records(Simulation*, const TraceRecord** records);  // trace.h; the count
void sim_record(Simulation*, int32_t on);                            // keep retire records from now on
uint64_t sim_retires(Simulation*, const RetireRecord** records);     // all kept; the count
const uint64_t* sim_retired_by_pc(Simulation*);                      // 65536 counts
}
