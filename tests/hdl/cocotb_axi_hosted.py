"""The core with its host link on a serial line and AXI4 for its memory: a host loads, runs and reads back over the line's bits."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotb_axi import Ram, pauses
from link_driver import UartDriver
from support import PERIOD_NS, random_numbers
from tiny_model import language_model, load, run

from trilobit.hdl.link import Operation
from trilobit.isa.core import load_core
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

CONFIG = load_core(os.environ["PRESET"])
LENGTH = 16


@cocotb.test()
async def tokens_over_the_line_from_axi_memory(dut):
    """With back-pressure on the memory's channels. Before the memory is ready the link says so and refuses."""
    rng = random_numbers()
    cocotb.start_soon(Clock(dut.aclk, PERIOD_NS, "ns").start())
    dut.aresetn.value, dut.rx.value, dut.memory_ready.value = 0, 1, 0
    ram = Ram(dut)
    for channel in (ram.read_if.ar_channel, ram.read_if.r_channel, ram.write_if.w_channel, ram.write_if.b_channel):
        channel.set_pause_generator(pauses(rng, 0.3))
    await ClockCycles(dut.aclk, 4)
    dut.aresetn.value = 1
    await ClockCycles(dut.aclk, 4)
    link = UartDriver(dut, int(os.environ["DIVISOR"]))
    assert (await link.do(Operation.IDENTIFY))[:4] == b"TRLB"
    assert not await link.read("status") & 0x20
    dut.memory_ready.value = 1
    assert await link.read("status") & 0x20 and await link.read("memory_size") == int(os.environ["MEMORY"])
    program = language_model(rng, CONFIG, LENGTH)
    simulator = FunctionalSimulator(CONFIG, program, settings=HostSettings(limit=4))
    prompt = rng.integers(0, LENGTH, 2).tolist()
    simulator.push(prompt)
    expected = simulator.run()
    await load(link, CONFIG, program)
    await link.write("limit", 4)
    for token in prompt:
        await link.do(Operation.PUSH_TOKEN, token)
    tokens, status = await run(link)
    assert tokens == expected.tokens and len(tokens) == 4 and status & 7 == 2
    assert ram.read(0, program.window_size) == simulator.memory[: program.window_size].tobytes(), "the window begins at address 0"
    assert dut.halted.value == 1 and dut.running.value == 0 and dut.fault.value == 0
