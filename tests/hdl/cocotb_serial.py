"""Serial root and division against Python's integers, with the documented number of cycles."""

import os
from math import isqrt

import cocotb
from support import cycle, random_numbers, start, step

WIDTH, STEPS = int(os.environ["WIDTH"]), int(os.environ.get("STEPS", "0"))


async def compute(dut, clocks: int, result: str, **operands: int) -> int:
    """Start, check busy and last in every cycle, return the result in the first cycle in which it is there."""
    for name, value in operands.items():
        getattr(dut, name).value = value
    dut.start.value = 1
    await step(dut)
    dut.start.value = 0
    for name in operands:
        getattr(dut, name).value = 0
    for k in range(clocks):
        await cycle(dut)
        assert dut.busy.value == 1 and dut.last.value == (k == clocks - 1)
        await step(dut)
    await cycle(dut)
    assert dut.busy.value == 0
    value = int(getattr(dut, result).value)
    await step(dut)
    return value


@cocotb.test()
async def root_is_exact(dut):
    await start(dut)
    rng = random_numbers()
    top = (1 << WIDTH) - 1
    squares = [int(n) ** 2 for n in rng.integers(0, 1 << (WIDTH // 2), 10)] + [0, 1, isqrt(top) ** 2]
    cases = [min(max(s + d, 0), top) for s in squares for d in (-1, 0, 1)] + [top] + [int(x) for x in rng.integers(0, top + 1, 30)]
    for radicand in cases:
        got = await compute(dut, WIDTH // 2, "root", radicand=radicand)
        assert got == isqrt(radicand), f"isqrt({radicand}): got {got}, expected {isqrt(radicand)}"


@cocotb.test()
async def quotient_is_exact(dut):
    await start(dut)
    rng = random_numbers()
    top = (1 << WIDTH) - 1
    cases = [(0, 1), (0, top), (top - 1, top), (1, 2), (1, top)]
    cases += [(127 << 12, 1 << 19), (127 << 12, 1 << 20), (1 << 16, 1 << 17), (1 << 16, (1 << 18) - 1)] if WIDTH >= 21 else []
    for divisor in rng.integers(1, top + 1, 40).tolist():
        cases.append((int(rng.integers(0, divisor)), divisor))
    for dividend, divisor in cases:
        got = await compute(dut, STEPS, "quotient", dividend=dividend, divisor=divisor)
        want = (dividend << STEPS) // divisor
        assert got == want, f"({dividend} << {STEPS}) // {divisor}: got {got}, expected {want}"
