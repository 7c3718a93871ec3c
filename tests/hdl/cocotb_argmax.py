"""argmax against its integer function: ties, tiles, noise, and time that depends on neither."""

import os

import cocotb
import numpy as np
from rowwise_bench import Bench, Command, operands
from support import random_numbers

from trilobit.hdl.rowwise import RETIRE_LATENCY
from trilobit.isa.core import load_core
from trilobit.isa.fixed import Scalar

CONFIG = load_core(os.environ["PRESET"]).replace(batch=int(os.environ.get("BATCH", "1")))
BATCH = CONFIG.batch
LENGTH = min(CONFIG.max_length, 64)
COUNT = int(os.environ["COUNT"])


def argmax(**values) -> Command:
    return Command("argmax", {"va": 0, "len": LENGTH, "first": 1, "last": 1} | values)


async def make(dut, rng, **options) -> Bench:
    bench = Bench(dut, CONFIG, rng, **options)
    await bench.reset()
    bench.registers[:, :, :LENGTH] = operands(rng, BATCH * 8 * LENGTH).reshape(BATCH, 8, LENGTH)
    return bench


@cocotb.test()
async def ties_go_to_the_lowest_index(dut):
    rng = random_numbers()
    bench = await make(dut, rng)
    bench.registers[:, 0, :LENGTH] = -(1 << 31)  # all equal, and the smallest there is
    bench.registers[:, 1, :LENGTH] = rng.integers(-3, 0, (BATCH, LENGTH))
    bench.registers[:, 2, :LENGTH] = 0
    bench.registers[:, 2, [3, 5, LENGTH - 1]] = 9
    bench.registers[:, 3, :LENGTH] = (1 << 31) - 1
    commands = [argmax(va=va, len=n) for va in range(4) for n in (1, 2, 3, LENGTH - 1, LENGTH)]
    await bench.run(commands)
    assert [token for _, token in bench.tokens[:5]] == [0] * 5
    assert bench.tokens[13][1] == bench.tokens[14][1] == 3


@cocotb.test()
async def several_tiles_are_one_search(dut):
    rng = random_numbers()
    bench = await make(dut, rng, stall=0.3, gated=True)
    commands = []
    for _ in range(COUNT):
        tiles = int(rng.integers(1, 5))
        base = int(rng.integers(0, 1 << 24))
        for i in range(tiles):
            length = int(rng.integers(1, LENGTH + 1))
            commands.append(argmax(va=int(rng.integers(8)), len=length, base=base, first=int(i == 0), last=int(i == tiles - 1)))
            base += length
            if rng.random() < 0.3:
                commands.append(Command("mov", {"vd": int(rng.integers(8)), "vb": 2, "len": LENGTH, "shb": 1}))
    await bench.run(commands)


@cocotb.test()
async def a_tie_between_tiles_goes_to_the_first(dut):
    rng = random_numbers()
    bench = await make(dut, rng)
    bench.registers[:, :, :LENGTH] = rng.integers(-5, 5, (BATCH, 8, LENGTH))
    bench.registers[:, :, LENGTH // 2] = 77
    await bench.run([argmax(va=i, base=1000 + i * LENGTH, first=int(i == 0), last=int(i == 3)) for i in range(4)])
    assert bench.tokens[-1][1] == 1000 + LENGTH // 2


@cocotb.test()
async def slots_find_their_own(dut):
    """Ties and tiles at other places in each slot; equal slots agree without noise; with it their seeds differ, past 2^32 too."""
    rng = random_numbers()
    bench = await make(dut, rng, stall=0.2, gated=True)
    bench.registers[:, :, :LENGTH] = rng.integers(-9, 0, (BATCH, 8, LENGTH))
    places = rng.integers(0, LENGTH, (BATCH, 2))
    for slot, (first, second) in enumerate(places.tolist()):
        bench.registers[slot, slot % 4, [first, second]] = 5  # in a tile of its own, twice
    await bench.run([argmax(va=i, base=i * LENGTH, first=int(i == 0), last=int(i == 3)) for i in range(4)])
    assert bench.slot_tokens[-1] == [slot % 4 * LENGTH + min(pair) for slot, pair in enumerate(places.tolist())]

    same = await make(dut, rng, temperature=Scalar(0xB8AA, -10), seed=0xFFFFFFFF)
    same.registers[:] = same.registers[:1]
    same.positions = same.positions[:1] * BATCH
    await same.reset()
    same.registers[:, 0, :LENGTH] = 100  # the noise decides, if there is some
    await same.run([argmax(noise=noise, base=1000 * noise) for noise in (0, 1) for _ in range(COUNT)])
    assert same.slot_tokens[0] == [0] * BATCH


@cocotb.test()
async def noise_follows_seed_position_and_temperature(dut):
    """Every element is looked at by itself too: one-element tiles against a moving rival."""
    rng = random_numbers()
    temperatures = [(0, 0), (0xB8AA, -15), (0x8000, 63), (0xFFFF, -40), (1, 0), (0x9000, -511), (0xB8AA, 511)]
    for temperature in map(Scalar._make, temperatures):
        for seed, position in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), tuple(rng.integers(0, 1 << 32, 2).tolist())):
            bench = await make(dut, rng, temperature=temperature, seed=seed, position=position)
            commands = []
            for _ in range(COUNT):
                row = int(rng.integers(8))
                bench.registers[:, row, :LENGTH] = rng.integers(-20000, 20000, (BATCH, LENGTH)) >> rng.integers(0, 12)
                options = {"va": row, "noise": int(rng.random() < 0.9), "sha": int(rng.integers(0, 20)),
                           "base": int(rng.integers(0, 1 << 32) >> rng.integers(0, 32))}  # fmt: skip
                commands.append(argmax(**options, len=int(rng.integers(1, LENGTH + 1))))
                commands.append(argmax(**options))
            await bench.run(commands)


@cocotb.test()
async def time_depends_on_neither_noise_nor_values(dut):
    rng = random_numbers()
    for temperature in (Scalar(0, 0), Scalar(0xB8AA, -15)):
        bench = await make(dut, rng, temperature=temperature)
        commands = [argmax(len=n, noise=noise, va=noise) for noise in (0, 1) for n in (1, 2, 5, LENGTH)]
        commands.append(Command("add", {"vd": 2, "va": 2, "vb": 3, "len": 1}))
        await bench.run(commands)
        for command in commands:
            assert command.retired == command.accepted + command.values["len"] + RETIRE_LATENCY, str(command)
        assert [cycle for cycle, _ in bench.tokens] == [c.retired for c in commands if c.name == "argmax"]
        entered = np.array([cycle for c in commands for cycle in c.entered])
        assert (np.diff(entered) == 1).all(), "an element a clock, and no gap between instructions"
