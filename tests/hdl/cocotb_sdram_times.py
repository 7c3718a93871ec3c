"""Traffic in which every time of the chip decides, on a chip model with one of them stretched."""

import os
from dataclasses import replace

import cocotb
from cocotb_sdram import CHIP, MHZ, ROW_BYTES, N, read, until_ready, write
from sdram_model import SdramModel
from support import start, step

ONES = (1 << N) - 1


@cocotb.test()
async def every_time_is_kept(dut):
    """Fails, by the rule's name, as soon as a command comes too early or a refresh too late for the chip."""
    field, value = os.environ["FIELD"], float(os.environ["VALUE"])
    chip = replace(CHIP, **{field: value})
    await start(dut)
    init_ns = value - 8000 / MHZ if field == "t_init" else 4000
    model = SdramModel(dut, chip, core_mhz=MHZ, cas_latency=int(os.environ["CAS"]), io_latency=int(os.environ["IO"]), init_ns=init_ns)
    dut.mem__rd_valid.value = 1  # right behind the mode register
    await until_ready(dut)
    await step(dut, 2)
    dut.mem__rd_valid.value = 0
    await step(dut, 40)
    for bank in (0, 1):
        for row in (1, 2, 3):  # open, read, close at once; then the same with a write
            assert await write(dut, (4 * row + bank) * ROW_BYTES, [row], [ONES]) == 0
        for row in (1, 2, 3):
            assert (await read(dut, (4 * row + bank) * ROW_BYTES, 1))[0] == [row]
    interval = round(chip.t_refi * MHZ / 1000)
    intervals = 20 if field == "t_refi" else 2
    for _ in range(intervals):
        await step(dut, interval - 40)
        for row in (1, 2, 3):  # some right behind a refresh
            await read(dut, (4 * row) * ROW_BYTES, 1)
    assert model.counts["refresh"] >= intervals - 1
