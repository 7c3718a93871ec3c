"""The logarithm behind the noise, on the numbers that random ones never hit: every power of two and its neighbours."""

import os

import cocotb
import numpy as np
from support import cycle, random_numbers, start, step

from trilobit.hdl.rowwise_noise import LOG2_LATENCY
from trilobit.isa.semantics import _log2_fraction

WIDTH = int(os.environ["WIDTH"])


@cocotb.test()
async def every_order_of_magnitude(dut):
    rng = random_numbers()
    await start(dut)
    orders = {(1 << k) + o for k in range(WIDTH) for o in (-1, 0, 1)}
    others = (rng.integers(1, 1 << WIDTH, 500) >> rng.integers(0, WIDTH, 500)).tolist()
    values = sorted(v for v in orders | set(others) if 0 < v < 1 << WIDTH)
    exponent, fraction = _log2_fraction(np.array(values), WIDTH)
    for i in range(len(values) + LOG2_LATENCY):
        dut.i.value = values[min(i, len(values) - 1)]
        await cycle(dut)
        if (k := i - LOG2_LATENCY) >= 0:
            got = WIDTH - 1 - dut.zeros.value.to_unsigned(), dut.fraction.value.to_unsigned()
            assert got == (exponent[k], fraction[k]), values[k]
        await step(dut)
