"""The row-wise unit's elementwise instructions against their integer functions, with a register file around it."""

import os

import cocotb
import numpy as np
from rowwise_bench import Bench, Command, operands, random_command
from support import random_numbers

from trilobit.hdl.rowwise import RETIRE_LATENCY
from trilobit.isa.core import load_core
from trilobit.isa.semantics import ROWWISE

CONFIG = load_core(os.environ["PRESET"]).replace(batch=int(os.environ.get("BATCH", "1")))
BATCH = CONFIG.batch
LENGTH = min(CONFIG.max_length, 64)
COUNT = int(os.environ["COUNT"])


async def bench_with_operands(dut, rng, **options) -> Bench:
    bench = Bench(dut, CONFIG, rng, **options)
    await bench.reset()
    bench.registers[:, :, :LENGTH] = operands(rng, BATCH * 8 * LENGTH).reshape(BATCH, 8, LENGTH)
    return bench


async def try_each(dut, count, **options):
    rng = random_numbers()
    for name in ROWWISE:
        bench = await bench_with_operands(dut, rng, **options)
        commands = []
        for _ in range(count):
            command = random_command(rng, name, LENGTH)
            command.values["vd"] &= 3  # v4 to v7 keep fresh operands
            commands.append(command)
        await bench.run(commands)


@cocotb.test()
async def every_mnemonic(dut):
    await try_each(dut, COUNT)


@cocotb.test()
async def every_mnemonic_with_stalls_and_a_gated_clock(dut):
    await try_each(dut, max(COUNT // 4, 1), stall=0.4, gated=True)


@cocotb.test()
async def mixed_instructions_that_depend_on_each_other(dut):
    rng = random_numbers()
    for stall in (0.0, 0.3):
        bench = await bench_with_operands(dut, rng, stall=stall, gated=True)
        names = [*ROWWISE, "argmax"]
        commands = []
        for i in range(2 * COUNT):
            command = random_command(rng, names[int(rng.integers(len(names)))], 9 if i % 2 else LENGTH)
            commands.append(command)
        await bench.run(commands)


@cocotb.test()
async def same_register_as_sources_and_destination(dut):
    rng = random_numbers()
    bench = await bench_with_operands(dut, rng)
    await bench.run([
        Command("add", {"vd": 0, "va": 0, "vb": 0, "len": LENGTH, "wide": 1}),
        Command("mul", {"vd": 1, "va": 1, "vb": 1, "len": 7, "sho": 16}),
        Command("sub", {"vd": 2, "va": 2, "vb": 3, "len": LENGTH, "shb": 3}),
        Command("lerp", {"vd": 3, "va": 3, "vb": 3, "vc": 3, "len": LENGTH}),
        Command("lerp", {"vd": 4, "va": 4, "vb": 5, "vc": 4, "len": 5}),
        Command("lerp", {"vd": 5, "va": 6, "vb": 5, "vc": 5, "len": 6}),
        Command("lerp", {"vd": 6, "va": 6, "vb": 6, "vc": 7, "len": 6}),
        Command("silu", {"vd": 7, "vb": 7, "len": LENGTH, "sho": 24}),
    ])  # fmt: skip


@cocotb.test()
async def functions_near_their_turning_points(dut):
    """Every binary order of the argument on both sides of zero, and results from saturated to vanished."""
    rng = random_numbers()
    bench = await bench_with_operands(dut, rng)
    orders = np.array([s * (1 << k) + o for k in range(32) for s in (1, -1) for o in (-1, 0, 1)])
    orders = np.clip(orders, -(1 << 31), (1 << 31) - 1)
    picks = np.array_split(orders, -(-len(orders) // LENGTH))
    for pick in picks:
        for slot in range(BATCH):
            bench.registers[slot, 4, : len(pick)] = np.roll(pick, slot)
            bench.registers[slot, 5, : len(pick)] = rng.permutation(pick)
        commands = []
        for sho in (0, 22, 40, 63):
            for name in ("exp", "sig", "silu"):
                commands.append(Command(name, {"vd": 0, "vb": 4, "len": len(pick), "sho": sho, "wide": 1}))
            commands.append(Command("sig", {"vd": 1, "vb": 4, "len": len(pick), "sho": sho, "neg": 1}))
            commands.append(Command("div", {"vd": 2, "va": 5, "vb": 4, "len": len(pick), "sho": sho // 2, "wide": 1}))
            commands.append(Command("lerp", {"vd": 3, "va": 5, "vb": 4, "vc": 5, "len": len(pick), "sho": sho}))
        for shb in (-31, -30, -1, 0, 1, 30, 31):
            commands.append(Command("mov", {"vd": 0, "vb": 4, "len": len(pick), "shb": shb, "wide": 1}))
        commands.append(Command("exp", {"vd": 0, "vb": 4, "len": len(pick), "sho": -63}))
        commands.append(Command("div", {"vd": 0, "va": 4, "vb": 5, "len": len(pick), "sho": -63}))
        await bench.run(commands)


@cocotb.test()
async def instructions_follow_each_other_without_a_gap(dut):
    rng = random_numbers()
    bench = await bench_with_operands(dut, rng)
    lengths = [LENGTH, 1, 1, CONFIG.lanes, 3, 1, LENGTH]
    commands = [
        Command("add", {"vd": i % 3, "va": 4, "vb": 5, "len": n}) for i, n in enumerate(lengths)
    ]  # fmt: skip
    for i, command in enumerate(commands):
        if i % 2:
            command.name = "sig"
            command.values = {"vd": 3, "vb": 6, "len": command.values["len"], "sho": 26}
    await bench.run(commands)
    entered = [cycle for command in commands for cycle in command.entered]
    assert entered == list(range(entered[0], entered[0] + len(entered)))
    for command in commands:
        words = -(-command.values["len"] // CONFIG.lanes)
        assert command.retired == command.accepted + words + RETIRE_LATENCY, str(command)
