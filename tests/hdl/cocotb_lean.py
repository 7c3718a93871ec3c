"""The lean core as any simulator sees it: random programs against the functional simulator and the cycle model, and its read-out."""

import json
import os
from dataclasses import replace

import cocotb
import numpy as np
from memory_model import Memory
from random_program import random_program
from support import cycle, random_numbers, start, step

from trilobit.hdl.counters import COUNTERS, READ_CLOCKS
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program, Region
from trilobit.isa.spec import ISA, VECTOR_REGISTERS
from trilobit.sim.cycles import CycleModel
from trilobit.sim.functional import FunctionalSimulator

CONFIG = CoreConfig(**json.loads(os.environ["CORE"]))
UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise", "control")
LIMIT = 100_000


def loaded(program: Program, registers: np.ndarray) -> Program:
    """The program behind loads of its registers, out of regions of their own behind its window."""
    size = -(-CONFIG.max_length * 4 // 256) * 256
    begin = -(-program.window_size // 256) * 256
    regions, loads = dict(program.regions), []
    for r in range(VECTOR_REGISTERS):
        addr = begin + r * size
        data = registers[r].astype("<i4").tobytes()
        regions[f"initial{r}"] = Region(name=f"initial{r}", addr=addr, size=size, data=data.ljust(size, b"\0"))
        loads.append(ISA.encode("ldv", vd=r, addr=addr, len=CONFIG.max_length, wide=1))
    return replace(program, code=[*loads, *program.code], window_size=begin + VECTOR_REGISTERS * size, regions=regions)


async def run(dut, program: Program) -> list[tuple[int, str, int]]:
    """From the start pulse until the core stops: pc, unit and cycle of each retirement."""
    dut.start.value = 1
    await step(dut)
    dut.start.value = 0
    retired = []
    for now in range(LIMIT):
        await cycle(dut)
        valid = dut.retire_valid.value.to_unsigned()
        for k, unit in enumerate(UNITS):
            if valid >> k & 1:
                retired.append((dut.retire_pc.value.to_unsigned() >> 16 * k & 0xFFFF, unit, now))
        stopped = dut.halted.value == 1 or dut.fault.value.to_unsigned() != 0
        await step(dut)
        if stopped:
            return retired
    raise AssertionError(f"the core did not stop within {LIMIT} cycles; retired {retired[-5:]} of {len(program.code)}")


async def register(dut, index: int) -> np.ndarray:
    """A register, an element a cycle through the debug port."""
    dut.dbg_reg.value = index
    values = []
    for k in range(CONFIG.max_length):
        dut.dbg_addr.value = k
        await step(dut)
        await cycle(dut)
        values.append(dut.dbg_data.value.to_signed())
        await step(dut)
    return np.array(values)


async def counter(dut, name: str) -> int:
    dut.counter_select.value = COUNTERS.index(name)
    for _ in range(READ_CLOCKS):
        await step(dut)
    await cycle(dut)
    value = dut.counter_value.value.to_unsigned()
    await step(dut)
    return value


@cocotb.test()
async def random_programs(dut):
    """Registers, memory and saturated elements at the end are the functional simulator's; retirements the cycle model's."""
    rng = random_numbers()
    for number in range(int(os.environ.get("PROGRAMS", "3"))):
        program = loaded(*random_program(rng, CONFIG, instructions=int(rng.integers(10, 30))))
        latency, busy = [(1, 0.0), (5, 0.0), (12, 0.3)][number % 3]
        simulator = FunctionalSimulator(CONFIG, program)
        expected = simulator.run()
        await start(dut, window_size=program.window_size, write_start=program.write_start, eos=0xFFFFFF, limit=0xFFFFFFFF,
                    program_length=len(program.code), out_ready=1)  # fmt: skip
        memory = Memory(dut, program.memory(), CONFIG.beat_bytes, latency=latency, busy=busy, rng=rng)
        for address, word in enumerate(program.code):
            dut.prog_en.value, dut.prog_addr.value, dut.prog_data.value = 1, address, word
            await step(dut)
        dut.prog_en.value = 0
        retired = await run(dut, program)
        assert dut.fault.value.to_unsigned() == expected.fault == 0 and len(retired) == len(program.code)
        assert (memory.data == simulator.memory).all(), f"memory differs at {np.flatnonzero(memory.data != simulator.memory)[0]:#x}"
        for r in range(VECTOR_REGISTERS):
            np.testing.assert_array_equal(await register(dut, r), simulator.register(r), err_msg=f"program {number}, v{r}")
        assert await counter(dut, "saturated") == sum(expected.saturated.values())
        if (latency, busy) == (1, 0.0):
            with CycleModel(program, CONFIG) as model:
                model.record_retires = True
                result = model.run()
                assert retired == [(retire.pc, retire.unit, retire.cycle) for retire in model.retires]
                assert await counter(dut, "cycles") == result.cycles
        memory.close()
        dut._log.info(f"program {number}: {len(retired)} instructions, latency {latency}")
