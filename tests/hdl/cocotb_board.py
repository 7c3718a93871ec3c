"""A board's top at its pins: clocks, lamps, set-up and hold at the SDRAM, and a program over the serial line's bits."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotb.utils import get_sim_time
from link_driver import UartDriver
from sdram_device import Inputs, SdramDevice
from support import random_numbers
from tiny_model import language_model, load, run

from trilobit.hdl.boards import find_board
from trilobit.hdl.link import Operation
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

SETUP_NS, HOLD_NS = 1.5, 1.0  # tDS, tDH and kin: AS4C32M16SB and W9825G6JH
BOARD = find_board(os.environ["BOARD"])
CHIP = load_sdram_chip(BOARD.chip)
DIVISOR = int(os.environ["DIVISOR"])
PAD_NS = float(os.environ["PAD_NS"])  # on the way to the chip
BACK_NS = float(os.environ["BACK_NS"])  # on the way back, with the set-up time of the pin's register


class PinModel(SdramDevice):
    """The chip on the board's pins, on the clock that it gets there: set-up, hold, access and hold times."""

    def __init__(self, dut):
        super().__init__(CHIP, 2 * BOARD.clock_mhz, cas_latency=BOARD.cas_latency, init_ns=4000)
        self.dut = dut
        cocotb.start_soon(self._run())

    def pins(self) -> dict[str, int]:
        dut = self.dut
        values = {name: getattr(dut, f"sdram__{name}").value for name in ("cs", "ras", "cas", "we", "ba", "a", "dqm", "clk_en")}
        values = {name: value.to_unsigned() if hasattr(value, "to_unsigned") else int(value) for name, value in values.items()}
        values["driven"] = int(dut.sdram__dq_oe.value)
        values["dq"] = dut.sdram__dq_o.value.to_unsigned() if values["driven"] else 0
        return values

    async def _run(self):
        dut = self.dut
        dut.sdram__drive.value = 0
        before: dict[str, int] = {}
        while True:
            await RisingEdge(dut.sdram__clk)
            await Timer(1, "ps")
            pins = self.pins()
            if self.now > 20:
                assert before == pins, f"edge {self.now}: no set-up time: {before} then {pins}"
            self.edge(Inputs(**{**pins, "driven": bool(pins["driven"])}))
            cocotb.start_soon(self._hold_then_drive(self.output(self.now)))
            await Timer(HOLD_NS, "ns")
            if self.now > 20:
                assert pins == self.pins(), f"edge {self.now}: no hold time"
            await Timer(round(self.period - SETUP_NS - HOLD_NS - 0.01, 3), "ns")
            before = self.pins()

    async def _hold_then_drive(self, value):
        """Behind this edge: what was on the bus goes after the hold time, the next word comes after the access time."""
        dut, access = self.dut, CHIP.t_ac[BOARD.cas_latency]
        await Timer(round(CHIP.t_oh + BACK_NS, 3), "ns")
        dut.sdram__drive.value = 0
        if value is not None:
            await Timer(round(access - CHIP.t_oh, 3), "ns")
            dut.sdram__dq_i.value = value
            dut.sdram__drive.value = 1


async def period_of(clock) -> float:
    await RisingEdge(clock)
    begin = get_sim_time("ps")
    for _ in range(10):
        await RisingEdge(clock)
    return (get_sim_time("ps") - begin) / 10


async def boot(dut) -> tuple[UartDriver, PinModel]:
    dut.rx.value, dut.button.value = 1, 1  # not pressed
    dut.sdram__dq_i.value = 0
    cocotb.start_soon(Clock(dut.osc, round(1e6 / BOARD.oscillator_mhz), "ps").start())
    model = PinModel(dut)
    await Timer(2, "us")
    assert abs(await period_of(dut.sdram__clk) - 0.5e6 / BOARD.clock_mhz) < 20, "the SDRAM's clock is not twice the core's"
    await Timer(10, "us")
    assert model.initialised and dut.led.value.to_unsigned() & 0b11111 == 0b10000, "the lamp of the memory"
    link = UartDriver(dut, DIVISOR)
    link.bit_ns = round(DIVISOR * 1e3 / BOARD.clock_mhz, 3)
    return link, model


@cocotb.test()
async def memory_over_the_serial_line(dut):
    rng = random_numbers()
    link, model = await boot(dut)
    assert (await link.do(Operation.IDENTIFY))[:4] == b"TRLB"
    assert await link.read("memory_size") == CHIP.size == 32 << 20
    for addr in (0, CHIP.row_bytes - 8, CHIP.size - 16):
        data = rng.bytes(16)
        await link.write_memory(addr, data)
        assert await link.read_memory(addr, 16) == data
    assert model.counts["write"] == 3 * 4
    assert dut.led.value.to_unsigned() & 0b1000, "the lamp of the line"
    dut.button.value = 0
    await Timer(1, "us")
    assert dut.led.value.to_unsigned() & 0b10000 == 0, "the button resets"


@cocotb.test()
async def tokens_over_the_serial_line(dut):
    """A tiny image of less than 8 KiB over the line's bits into the SDRAM, run; its tokens are the functional simulator's."""
    rng = random_numbers()
    link, model = await boot(dut)
    config = load_core(os.environ["PRESET"])
    program = language_model(rng, config, length=16)
    assert program.window_size <= 8192
    simulator = FunctionalSimulator(config, program, settings=HostSettings(limit=4))
    prompt = rng.integers(0, 16, 2).tolist()
    simulator.push(prompt)
    expected = simulator.run()
    await load(link, config, program)
    await link.write("limit", 4)
    for token in prompt:
        await link.do(Operation.PUSH_TOKEN, token)
    tokens, status = await run(link)
    assert tokens == expected.tokens and len(tokens) == 4
    assert status & 0b111 == 0b010 and status >> 8 & 0xF == 0
    read = await link.read_memory(program.write_start, program.window_size - program.write_start)
    assert read == simulator.memory[program.write_start : program.window_size].tobytes()
    if BOARD.lamps > 5:
        assert dut.led.value.to_unsigned() & 0b100111 == 0b100000, "the lamps of a core that has halted"
    dut._log.info(f"{model.counts}")
