"""The ULX3S top at its pins: clocks, lamps, and memory over the serial line with the SDRAM's access times."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotb.utils import get_sim_time
from link_driver import UartDriver
from sdram_model import SdramModel
from support import random_numbers

from trilobit.hdl.boards.ulx3s import CAS_LATENCY, CLOCK_MHZ
from trilobit.hdl.link import Operation
from trilobit.hdl.sdram_chip import load_sdram_chip

ACCESS_NS, HOLD_NS = 6.0, 2.5  # tAC at CAS latency 2, and tOH: AS4C32M16SB, table 16
DIVISOR = int(os.environ["DIVISOR"])


class PinModel(SdramModel):
    """The chip model on the board's pins, on the clock that it gets there, with the access time."""

    async def _run(self):
        dut = self.dut
        dut.sdram__drive.value = 0
        while True:
            await RisingEdge(dut.sdram__clk)
            await Timer(1, "ps")
            if dut.sdram__cs.value == 1:
                self._command()
            self.unmasked.discard(self.now)
            cocotb.start_soon(self._hold_then_drive(self.answers.pop(self.now + 1, None)))
            self.now += 1

    async def _hold_then_drive(self, value):
        """Behind this edge: what was on the bus goes after the hold time, the next word comes after the access time."""
        dut = self.dut
        await Timer(HOLD_NS, "ns")
        dut.sdram__drive.value = 0
        if value is not None:
            await Timer(ACCESS_NS - HOLD_NS, "ns")
            dut.sdram__dq_i.value = value
            dut.sdram__drive.value = 1


async def period_of(clock) -> float:
    await RisingEdge(clock)
    begin = get_sim_time("ps")
    for _ in range(10):
        await RisingEdge(clock)
    return (get_sim_time("ps") - begin) / 10


@cocotb.test()
async def memory_over_the_serial_line(dut):
    rng = random_numbers()
    dut.rx.value, dut.button.value = 1, 1  # not pressed
    dut.sdram__dq_i.value = 0
    cocotb.start_soon(Clock(dut.clk25, 40, "ns").start())
    chip = load_sdram_chip("ulx3s")
    model = PinModel(dut, chip, chip.clocks(CLOCK_MHZ, CAS_LATENCY), cas_latency=CAS_LATENCY, prefix="sdram__")
    await Timer(2, "us")
    assert abs(await period_of(dut.sdram__clk) - 1e6 / CLOCK_MHZ) < 20, "the SDRAM's clock is not 60 MHz"
    await Timer(10, "us")
    assert model.initialised and dut.led.value.to_unsigned() & 0b11111 == 0b10000, "the lamp of the memory"
    link = UartDriver(dut, DIVISOR)
    link.bit_ns = round(DIVISOR * 1e3 / CLOCK_MHZ, 3)
    assert (await link.do(Operation.IDENTIFY))[:4] == b"TRLB"
    assert await link.read("memory_size") == chip.size == 32 << 20
    for addr in (0, (2 << chip.column_bits) - 8, chip.size - 16):
        data = rng.bytes(16)
        await link.write_memory(addr, data)
        assert await link.read_memory(addr, 16) == data
    assert model.counts["write"] == 3 * 8
    dut.button.value = 0
    await Timer(1, "us")
    assert dut.led.value.to_unsigned() & 0b10000 == 0, "the button resets"
