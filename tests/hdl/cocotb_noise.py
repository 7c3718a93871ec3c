"""Gumbel noise, a number a clock, against the integer function."""

import os

import cocotb
from support import cycle, random_numbers, signed, start, step

from trilobit.hdl.rowwise_noise import NOISE_LATENCY
from trilobit.isa.noise import gumbel


@cocotb.test()
async def equals_the_integer_function_after_its_latency(dut):
    rng = random_numbers()
    await start(dut)
    count = int(os.environ["COUNT"])
    for key in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), tuple(rng.integers(0, 1 << 32, 2).tolist())):
        dut.seed.value, dut.position.value = key
        base = int(rng.integers(0, 1 << 24))  # runs over 2^24 now and then, as indices do
        expected = gumbel(*key, range(base, base + count)).tolist()
        for i in range(count + NOISE_LATENCY):
            dut.index.value = (base + i) & 0xFFFFFF
            await cycle(dut)
            if i >= NOISE_LATENCY:
                assert signed(dut.o.value.to_unsigned(), 22) == expected[i - NOISE_LATENCY]
            await step(dut)
