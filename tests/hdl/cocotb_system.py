"""UART, host link, core and SDRAM controller together: a host loads programs over the line's bits, runs them and reads tokens back."""

import os

import cocotb
import numpy as np
from link_driver import UartDriver
from random_program import random_program
from sdram_model import from_environment
from support import random_numbers, start, step

from trilobit.hdl.counters import COUNTERS
from trilobit.hdl.interfaces import Fault
from trilobit.hdl.link import REGISTERS, Cause, Operation
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core
from trilobit.isa.program import Program, Region
from trilobit.isa.segments import matrix_segment, scalar_of
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

CONFIG = load_core(os.environ["PRESET"])
DIVISOR = int(os.environ["DIVISOR"])
CHIP = load_sdram_chip("ulx3s")
LENGTH = 24  # columns and rows of the tiny model: bytes over the line are what the test's time goes into


async def boot(dut):
    await start(dut, rx=1)
    model = from_environment(dut, CHIP, prefix="sdram__")
    return UartDriver(dut, DIVISOR), model


async def load(link: UartDriver, program: Program) -> None:
    """Memory, program and settings, as a driver would."""
    for region in program.regions.values():
        await link.write_memory(region.addr, region.data + bytes(-len(region.data) % CONFIG.beat_bytes))
    await link.write_program(program.code)
    for name, value in [("window_size", program.window_size), ("write_start", program.write_start), ("eos", 0xFFFFFF),
                        ("limit", 0xFFFFFFFF), ("program_length", len(program.code))]:  # fmt: skip
        await link.write(name, value)


async def run(link: UartDriver) -> tuple[list[int], int]:
    """Start, then poll until the core stops; the tokens and the last status."""
    await link.write("control", 1)
    tokens = []
    for _ in range(1000):
        status = await link.read("status")
        tokens += await link.pop()
        if not status & 1:
            return tokens + await link.pop(), status
    raise AssertionError("the core did not stop")


def language_model(rng) -> Program:
    """A token in, a token out, until a stop: embedding row, quantisation, one ternary product, argmax, emit; prompt tokens first."""
    n, vocabulary = LENGTH, LENGTH
    align = max(CONFIG.beat_bytes, 16)
    trits = rng.integers(-1, 2, (vocabulary, n)).astype(np.int8)
    stream = matrix_segment(pack(trits), vocabulary, scalar_of(0.01), CONFIG.beat_bytes)
    beats = len(stream) // CONFIG.beat_bytes
    stream += bytes(-len(stream) % align)
    table = rng.integers(-3000, 3000, (vocabulary, n)).astype("<i2").tobytes()
    code = [ISA.encode(name, **fields) for name, fields in [
        ("wait", {}),
        ("stream", {"addr": 0, "beats": beats}),  # 1
        ("emb", {"vd": 0, "addr": len(stream), "len": n, "pitch": 2 * n, "rows": vocabulary}),
        ("normq", {"act": 0, "va": 0, "sc": 0, "len": n}),
        ("tmatmul", {"vd": 1, "act": 0, "addr": 0, "len": vocabulary, "bp": 0}),
        ("argmax", {"va": 1, "len": vocabulary, "base": 0, "first": 1, "last": 1}),
        ("poll", {}),
        ("bprompt", {"target": 1}),
        ("emit", {}),
        ("bdone", {"target": 11}),
        ("jump", {"target": 1}),
        ("sv", {"va": 1, "addr": len(stream) + len(table), "len": vocabulary}),  # 11
        ("halt", {}),
    ]]  # fmt: skip
    start_of_results = len(stream) + len(table)
    size = start_of_results + 2 * vocabulary
    regions = {
        "stream": Region(name="stream", addr=0, size=len(stream), data=stream),
        "table": Region(name="table", addr=len(stream), size=len(table), data=table),
    }
    return Program("tokens", code, size, start_of_results, regions)


@cocotb.test()
async def tokens_over_the_line(dut):
    """A tiny language model: prompt in, tokens out, logits read back, all equal to the functional simulator's."""
    rng = random_numbers()
    link, model = await boot(dut)
    assert (await link.do(Operation.IDENTIFY))[:4] == b"TRLB"
    for _ in range(1000):
        if await link.read("status") & 0x20:
            break
    program = language_model(rng)
    simulator = FunctionalSimulator(CONFIG, program, settings=HostSettings(limit=6))
    prompt = rng.integers(0, LENGTH, 3).tolist()
    simulator.push(prompt)
    expected = simulator.run()
    assert expected.halted and len(expected.tokens) == 6
    await load(link, program)
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
    assert model.longest_pause < 2 * model.t.refi


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
        await load(link, program)
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
    good = language_model(rng)
    faulty = Program("faulty", [ISA.encode("ldv", vd=0, addr=1 << 20, len=8)], good.window_size, good.write_start, good.regions)
    await load(link, faulty)
    _, status = await run(link)
    assert status >> 8 & 0xF == Fault.ADDRESS and status >> 16 == 0
    endless = [ISA.encode("stream", addr=0, beats=good.window_size // CONFIG.beat_bytes), *(ISA.encode("jump", target=1) for _ in range(2))]
    await load(link, Program("endless", endless, good.window_size, good.write_start, good.regions))
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
