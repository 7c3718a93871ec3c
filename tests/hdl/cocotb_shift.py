"""The rounding shifter and the multiplier against integers, an operation a clock, at their documented latency."""

import os

import cocotb
from support import cycle, random_numbers, signed, start, step

from trilobit.hdl.multiply import MULTIPLY_LATENCY
from trilobit.hdl.shift import ROUND_SATURATE_LATENCY

COUNT = 600


def number(rng, bits: int) -> int:
    """A signed number of up to ``bits`` bits, of every size."""
    value = int.from_bytes(rng.bytes(8), "little") % (1 << bits)
    value = {0: 1 << (bits - 1), 1: (1 << (bits - 1)) - 1, 2: 0}.get(int(rng.integers(12)), value)
    return signed(value, bits) >> int(rng.integers(0, bits)) * int(rng.integers(0, 2))


@cocotb.test(skip="WIDTH" not in os.environ)
async def rounds_adds_and_saturates(dut):
    width = int(os.environ["WIDTH"])
    rng = random_numbers()
    await start(dut)
    cases = []
    for _ in range(COUNT):
        shift, short, wide = int(rng.integers(0, 64)), int(rng.random() < 0.1), int(rng.integers(0, 2))
        cases.append((number(rng, width), shift, short, number(rng, 32) * int(rng.integers(0, 2)), wide))
    for t in range(COUNT + ROUND_SATURATE_LATENCY):
        value, shift, short, _, _ = cases[min(t, COUNT - 1)]
        dut.value.value, dut.shift.value, dut.short.value = value & (1 << width) - 1, shift, short
        dut.addend.value = cases[min(max(t - 2, 0), COUNT - 1)][3] & 0xFFFFFFFF
        dut.wide.value = cases[min(max(t - 3, 0), COUNT - 1)][4]
        await cycle(dut)
        if (k := t - ROUND_SATURATE_LATENCY) >= 0:
            value, shift, short, addend, wide = cases[k]
            exact = ((value << 1 >> shift) + 1 >> 1) + addend
            if short and value:
                exact = value << 64
            high = (1 << (31 if wide else 15)) - 1
            expected = max(min(exact, high), -high - 1)
            got = signed(dut.result.value.to_unsigned(), 32), int(dut.saturated.value)
            assert got == (expected, int(expected != exact)), cases[k]
        await step(dut)


@cocotb.test(skip="FACTORS" not in os.environ)
async def multiplies(dut):
    a_bits, b_bits = map(int, os.environ["FACTORS"].split())
    rng = random_numbers()
    await start(dut)
    cases = [(number(rng, a_bits), number(rng, b_bits)) for _ in range(COUNT)]
    for t in range(COUNT + MULTIPLY_LATENCY):
        a, b = cases[min(t, COUNT - 1)]
        dut.a.value, dut.b.value = a & (1 << a_bits) - 1, b & (1 << b_bits) - 1
        await cycle(dut)
        if (k := t - MULTIPLY_LATENCY) >= 0:
            assert signed(dut.product.value.to_unsigned(), a_bits + b_bits) == cases[k][0] * cases[k][1], cases[k]
        await step(dut)
