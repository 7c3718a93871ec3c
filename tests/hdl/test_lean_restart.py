"""Programs one after the other on a lean core: nothing is left of the one before, not after a fault either, and no cycle moves."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from trilobit.hdl.lean.core import LeanCore
from trilobit.isa.core import load_core
from trilobit.isa.segments import gains_segment
from trilobit.isa.spec import ISA

CONFIG = load_core("tiny").replace(name="lean", machine="lean", lanes=1)
LATENCY = 9  # of the memory
GAINS, OTHERS = (gains_segment(np.arange(count, dtype=np.int16), CONFIG.beat_bytes) for count in (40, 60))
STREAM = GAINS + OTHERS
BEATS, OTHER_BEATS = len(GAINS) // CONFIG.beat_bytes, len(OTHERS) // CONFIG.beat_bytes
OTHER = ISA.encode("stream", addr=len(GAINS), beats=OTHER_BEATS)
GOOD = [ISA.encode("stream", addr=0, beats=BEATS), ISA.encode("norm", vd=0, va=0, len=40, sho=0, gain=1), ISA.encode("halt")]
# A fault while beats of the stream are under way, and one with gains and regions that nobody took.
BAD = {
    "early": [OTHER, 0xFF],
    "late": [OTHER, *[ISA.encode("nop")] * 20, OTHER, ISA.encode("norm", vd=0, va=0, len=39, sho=0, gain=1), ISA.encode("halt")],
}  # fmt: skip


def runs(programs: list[list[int]], pauses: list[int]) -> list[tuple[int, list[int]]]:
    """The fault of each program and the cycles, since its start, in which its instructions retire."""
    core = LeanCore(CONFIG, debug=False)
    results = []
    reads: list[tuple[int, int]] = []  # beats under way: when they come, where from

    async def bench(ctx):
        now = 0

        async def tick() -> None:
            nonlocal now
            if ctx.get(core.mem.rd_valid):
                first, count = ctx.get(core.mem.rd_addr), ctx.get(core.mem.rd_len) + 1
                reads.extend((now + LATENCY, first + k * CONFIG.beat_bytes) for k in range(count))
            comes = bool(reads) and reads[0][0] <= now
            ctx.set(core.mem.rdata_valid, comes)
            if comes:
                at = reads.pop(0)[1]
                ctx.set(core.mem.rdata, int.from_bytes(STREAM[at : at + CONFIG.beat_bytes], "little"))
            await ctx.tick()
            now += 1

        for signal, value in ((core.mem.rd_ready, 1), (core.out_ready, 1), (core.window_size, 4096)):
            ctx.set(signal, value)
        for words, pause in zip(programs, pauses, strict=True):
            ctx.set(core.prog_en, 1)
            for address, word in enumerate(words):
                ctx.set(core.prog_addr, address)
                ctx.set(core.prog_data, word)
                await tick()
            ctx.set(core.prog_en, 0)
            ctx.set(core.program_length, len(words))
            for _ in range(pause):
                await tick()
            ctx.set(core.start, 1)
            await tick()
            ctx.set(core.start, 0)
            begin, retires = now, []
            while ctx.get(core.running):
                assert now - begin < 5000, "the program doesn't end"
                if ctx.get(core.retire_valid):
                    retires.append(now - begin)
                await tick()
            assert ctx.get(core.halted) == (ctx.get(core.fault) == 0)
            results.append((ctx.get(core.fault), retires))

    sim = Simulator(core)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return results


@pytest.mark.parametrize("name", BAD)
def test_a_program_after_a_fault_takes_the_cycles_that_it_takes_alone(name):
    alone, *_ = runs([GOOD], [7])
    bad, good, again = runs([BAD[name], GOOD, GOOD], [0, 60, 1])
    assert alone[0] == 0 and len(alone[1]) == len(GOOD)
    assert bad[0] in (1, 5) and good == again == alone


@pytest.mark.parametrize("pause", [0, 3])
def test_a_program_ends_well_however_soon_it_follows_a_fault(pause):
    bad, good = runs([BAD["early"], GOOD], [0, pause])
    assert bad[0] == 1 and good[0] == 0 and len(good[1]) == len(GOOD)
