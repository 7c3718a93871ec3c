"""The norm unit's rounding shift against its integer functions, at every amount and around every limit."""

import pytest
from amaranth.sim import Simulator

from trilobit.hdl.rmsnorm_shift import RoundShift
from trilobit.isa.fixed import rs, sat

LATENCY = 3


def near_limits(shift: int, bits: int, in_width: int) -> list[int]:
    """Operands whose results lie around the limits of ``bits`` bits, and around those with another bit, before and after rounding."""
    half = 1 << shift - 1 if shift > 0 else 1
    low, high = -(1 << in_width - 1), (1 << in_width - 1) - 1
    edges = [sign * ((1 << bits - 1 + extra) << shift if shift >= 0 else 1 << bits - 1 >> -shift) for sign in (-1, 1) for extra in (0, 1)]
    offsets = (-half - 1, -half, -half + 1, -1, 0, 1, half - 1, half, half + 1)
    return sorted({min(max(edge + offset, low), high) for edge in edges for offset in offsets} | {low, low + 1, -1, 0, 1, high})


@pytest.mark.parametrize(("in_width", "left", "out_width"), [(32, 16, 18), (34, 19, 21)])
def test_values_and_saturations_are_exact(in_width, left, out_width, rng):
    shifter = RoundShift(in_width=in_width, left=left, longest=left + 31, out_width=out_width, limit_width=18)

    async def process(ctx):
        ctx.set(shifter.limit, 1)
        for amount in range(left + 32):
            shift = amount - left
            operands = near_limits(shift, 18, in_width)
            operands += (rng.integers(-(1 << in_width - 1), 1 << in_width - 1, 8) >> rng.integers(0, in_width, 8)).tolist()
            ctx.set(shifter.amount, amount)
            for cycle in range(len(operands) + LATENCY - 1):
                if cycle < len(operands):
                    ctx.set(shifter.i, operands[cycle])
                await ctx.tick()
                if cycle >= LATENCY - 1:
                    x = operands[cycle - LATENCY + 1]
                    exact = int(rs(x, shift))
                    expected = int(sat(exact, 18))
                    got = ctx.get(shifter.o) & (1 << 18) - 1, ctx.get(shifter.saturated)
                    assert got == (expected & (1 << 18) - 1, expected != exact), f"{x} shifted by {shift}: {exact}"

    simulator = Simulator(shifter)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.run()
