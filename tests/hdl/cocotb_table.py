"""The table functions against the integer ones: around every entry, and at random."""

import os

import cocotb
import numpy as np
from support import cycle, random_numbers, start, step

from trilobit.hdl.table import TABLE_LATENCY
from trilobit.isa import tables


@cocotb.test()
async def equals_the_integer_function_after_its_latency(dut):
    table = getattr(tables, os.environ["TABLE"])
    rng = random_numbers()
    await start(dut)
    ends = np.arange(256)[:, None] * 512 + np.array([0, 1, 256, 511])
    inputs = np.concatenate([ends.ravel(), rng.integers(0, 1 << 17, int(os.environ["COUNT"]))])
    expected = table(inputs).tolist()
    for i in range(len(inputs) + TABLE_LATENCY):
        dut.u.value = int(inputs[min(i, len(inputs) - 1)])
        await cycle(dut)
        if (k := i - TABLE_LATENCY) >= 0:
            assert dut.o.value.to_unsigned() == expected[k], int(inputs[k])
        await step(dut)
