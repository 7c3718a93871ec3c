"""The performance counters: both forms count what happened."""

import random

from amaranth.sim import Simulator

from trilobit.hdl.counters import COUNTERS, LOW_BITS, READ_CLOCKS, Counters, SweptCounters

SATURATED_BITS = 3


def run(counters, clocks, events, reads):
    """Events a clock (bits, saturated, enable, clear), then what is read: one list of values a set of settled reads."""
    values = []

    async def bench(ctx):
        for bits, saturated, enable, clear in events:
            ctx.set(counters.events, bits), ctx.set(counters.saturated, saturated)
            ctx.set(counters.enable, enable), ctx.set(counters.clear, clear)
            await ctx.tick()
        ctx.set(counters.enable, 0)
        for select in reads:
            ctx.set(counters.select, select)
            await ctx.tick().repeat(READ_CLOCKS)
            values.append(ctx.get(counters.value))

    simulator = Simulator(counters)
    for domain in clocks:
        simulator.add_clock(1e-6, domain=domain)
    simulator.add_testbench(bench)
    simulator.run()
    return values


def expected(events):
    counts = [0] * len(COUNTERS)
    for bits, saturated, enable, clear in events:
        for k in range(len(COUNTERS) - 1):
            counts[k] += enable and bits >> k & 1
        counts[-1] += saturated if enable else 0
        if clear:
            counts = [0] * len(COUNTERS)
    return counts


def both(events):
    """What each form reads, beyond the last counter as well."""
    reads = [*range(len(COUNTERS)), len(COUNTERS), 63]
    swept = run(SweptCounters(saturated_bits=SATURATED_BITS), ("sync",), events, reads)
    plain = run(Counters(saturated_bits=SATURATED_BITS), ("sync", "counts"), events, reads)
    return swept, plain


def test_both_forms_count_random_events_exactly(seed):
    rng = random.Random(seed)
    always = (1 << len(COUNTERS)) - 1
    events = []
    while len(events) < 1500:  # stretches of one kind: everything, nothing, and anything at random, each for longer than a sweep
        bits, saturated = rng.choice([(always, 7), (0, 0), (None, None)])
        for _ in range(rng.randrange(1, 150)):
            events.append((rng.getrandbits(len(COUNTERS)) if bits is None else bits, rng.randrange(8) if saturated is None else saturated,
                           rng.random() < 0.9, rng.random() < 0.002))  # fmt: skip
    events += [(always, 7, 1, 0)] * (2 << LOW_BITS)  # wherever the last clear fell, the low bits wrap after it
    counts = [*expected(events), 0, 0]
    swept, plain = both(events)
    assert min(counts[: len(COUNTERS)]) > 1 << LOW_BITS, "the low bits of every counter have wrapped"
    assert swept == counts
    assert plain == counts


def test_a_clear_in_the_middle_of_a_sweep_leaves_nothing_behind(seed):
    rng = random.Random(seed)
    always = (1 << len(COUNTERS)) - 1
    for after in (0, 1, 2, rng.randrange(3, 40)):
        events = [(always, 7, 1, 0)] * (200 + rng.randrange(40)) + [(always, 7, 1, 1)] + [(always, 7, 1, 0)] * after
        assert both(events) == ([*expected(events), 0, 0],) * 2
