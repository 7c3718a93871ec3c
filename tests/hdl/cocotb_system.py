"""UART, host link, core and SDRAM controller together: a host loads programs over the line's bits, runs them and reads tokens back."""

import os

import cocotb
import numpy as np
from link_driver import UartDriver
from random_program import random_program
from sdram_model import from_environment
from support import random_numbers, start, step
from tiny_model import language_model, load, run

from trilobit.hdl.counters import COUNTERS
from trilobit.hdl.interfaces import Fault
from trilobit.hdl.link import REGISTERS, Cause, Operation
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

CONFIG = load_core(os.environ["PRESET"])
DIVISOR = int(os.environ["DIVISOR"])
CHIP = load_sdram_chip("ulx3s")
LENGTH = 24  # columns and rows of the tiny model: bytes over the line are what the test's time goes into


async def boot(dut):
    await start(dut, rx=1)
    model = from_environment(dut, CHIP, prefix="sdram__", init_ns=4000)
    return UartDriver(dut, DIVISOR), model


@cocotb.test()
async def tokens_over_the_line(dut):
    """A tiny language model: prompt in, tokens out, logits read back, all equal to the functional simulator's."""
    rng = random_numbers()
    link, model = await boot(dut)
    assert (await link.do(Operation.IDENTIFY))[:4] == b"TRLB"
    for _ in range(1000):
        if await link.read("status") & 0x20:
            break
    program = language_model(rng, CONFIG, LENGTH)
    simulator = FunctionalSimulator(CONFIG, program, settings=HostSettings(limit=6))
    prompt = rng.integers(0, LENGTH, 3).tolist()
    simulator.push(prompt)
    expected = simulator.run()
    assert expected.halted and len(expected.tokens) == 6
    await load(link, CONFIG, program)
    await link.write("limit", 6)
    for token in prompt:
        await link.do(Operation.PUSH_TOKEN, token)
    tokens, status = await run(link)
    assert tokens == expected.tokens
    assert status & 0b111 == 0b010 and status >> 8 & 0xF == 0
    read = await link.read_memory(program.write_start, program.window_size - program.write_start)
    assert read == simulator.memory[program.write_start : program.window_size].tobytes()
    await link.write("counter_select", COUNTERS.index("matmul_beats"))
    columns, groups = -(-LENGTH // CONFIG.beat_bytes), -(-LENGTH // 5)
    assert await link.read("counter") == (len(prompt) + 5) * groups * columns
    dut._log.info(f"{model.counts} at clock {model.now}")
    assert model.longest_pause * model.period < 2 * CHIP.t_refi


@cocotb.test()
async def random_programs_on_sdram(dut):
    """Loads, stores and streams that overlap on the SDRAM leave the memory that the functional simulator leaves."""
    rng = random_numbers()
    link, _ = await boot(dut)
    for _ in range(2):
        program, _ = random_program(rng, CONFIG, instructions=20, vectors=3)
        # Registers start with what the run before left; begin with known ones.
        program.code[:0] = [ISA.encode("muli", vd=r, vb=r, len=CONFIG.max_length, imm=0) for r in range(8)]
        simulator = FunctionalSimulator(CONFIG, program)
        expected = simulator.run()
        await load(link, CONFIG, program)
        _, status = await run(link)
        assert status >> 8 & 0xF == expected.fault == 0
        got = np.frombuffer(await link.read_memory(program.write_start, program.window_size - program.write_start), np.uint8)
        wrong = np.flatnonzero(got != simulator.memory[program.write_start : program.window_size])
        assert not len(wrong), f"{len(wrong)} bytes differ, the first at {program.write_start + wrong[0]:#x}"


@cocotb.test()
async def a_reset_takes_a_stuck_core_back(dut):
    """A core that waits for ever, streams ahead, or has faulted runs again after a reset; nothing of its is left in the memory."""
    rng = random_numbers()
    link, _ = await boot(dut)
    good = language_model(rng, CONFIG, LENGTH)
    faulty = Program("faulty", [ISA.encode("ldv", vd=0, addr=1 << 20, len=8)], good.window_size, good.write_start, good.regions)
    await load(link, CONFIG, faulty)
    _, status = await run(link)
    assert status >> 8 & 0xF == Fault.ADDRESS and status >> 16 == 0
    endless = [ISA.encode("stream", addr=0, beats=good.window_size // CONFIG.beat_bytes), *(ISA.encode("jump", target=1) for _ in range(2))]
    await load(link, CONFIG, Program("endless", endless, good.window_size, good.write_start, good.regions))
    for _ in range(3):
        await link.write("control", 2)
        await link.write("control", 1)
        assert await link.read("status") & 1
        assert (await link.request(Operation.WRITE_REGISTER, REGISTERS["seed"].number, bytes(8)))[0] == Cause.BUSY
    await link.write("control", 2)
    assert not await link.read("status") & 0x41
    await link.write_program(good.code)
    await link.write("program_length", len(good.code))
    await link.write("limit", 2)
    simulator = FunctionalSimulator(CONFIG, good, settings=HostSettings(limit=2))
    simulator.push([5])
    await link.do(Operation.PUSH_TOKEN, 5)
    tokens, _ = await run(link)
    assert tokens == simulator.run().tokens and len(tokens) == 2
    await step(dut, 10)
