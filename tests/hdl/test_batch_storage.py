"""Registers and activation buffers keep every slot's data apart, in the time of one slot."""

import pytest
from amaranth.sim import Simulator

from trilobit.hdl.actbuf import ActivationBuffers
from trilobit.hdl.interfaces import ELEMENT_BITS
from trilobit.hdl.regfile import RegisterFile
from trilobit.isa.core import load_core

CONFIG = load_core("tiny")
SCALAR_BITS = 28
pytestmark = pytest.mark.parametrize("batch", [1, 2, 4])


def simulate(component, process) -> None:
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.run()


def test_a_masked_write_changes_the_same_lanes_of_every_slot(batch, rng):
    config = CONFIG.replace(batch=batch)
    lanes = config.lanes
    registers = RegisterFile(config, reads=1, writes=1)
    model = rng.integers(0, 1 << ELEMENT_BITS, (8, config.words, batch, lanes)).tolist()

    def word(elements):
        flat = [x for slot in elements for x in slot]
        return sum(x << ELEMENT_BITS * i for i, x in enumerate(flat))

    async def process(ctx):
        async def claim(*, reads=0, writes=0):
            ctx.set(registers.claim_last, config.words - 1)
            ctx.set(registers.claim_reads, reads)
            ctx.set(registers.claim_writes, writes)
            ctx.set(registers.claim_writer, 1)
            ctx.set(registers.claim, 1)
            await ctx.tick()
            ctx.set(registers.claim, 0)

        async def write(r, masks, values):
            await claim(writes=1 << r)
            port = registers.write[0]
            ctx.set(port.en, 1)
            ctx.set(port.reg, r)
            for mask, value in zip(masks, values, strict=True):
                ctx.set(port.mask, mask)
                ctx.set(port.data, word(value))
                await ctx.tick()
            ctx.set(port.en, 0)
            assert not ctx.get(registers.write_busy)

        for r in range(8):
            await write(r, [(1 << lanes) - 1] * config.words, model[r])
        for r in rng.permutation(8).tolist():
            masks = rng.integers(0, 1 << lanes, config.words).tolist()
            values = rng.integers(0, 1 << ELEMENT_BITS, (config.words, batch, lanes)).tolist()
            await write(r, masks, values)
            for k, mask in enumerate(masks):
                for slot in range(batch):
                    for lane in range(lanes):
                        if mask >> lane & 1:
                            model[r][k][slot][lane] = values[k][slot][lane]
        port = registers.read[0]
        for r in range(8):
            await claim(reads=1 << r)
            ctx.set(port.reg, r)
            ctx.set(port.en, 1)
            for k in range(config.words):
                assert ctx.get(port.ok)
                await ctx.tick()
                assert ctx.get(port.data) == word(model[r][k]), f"v{r}, word {k}"
            ctx.set(port.en, 0)
            assert not ctx.get(registers.read_busy)
        ctx.set(registers.debug, 1)
        for r, k in zip(rng.integers(0, 8, 20).tolist(), rng.integers(0, config.words, 20).tolist(), strict=True):
            ctx.set(registers.debug_reg, r)
            ctx.set(registers.debug_addr, k)
            await ctx.tick()
            assert ctx.get(registers.debug_data) == word(model[r][k])

    simulate(registers, process)


def test_every_slot_reads_its_own_activations_and_scale(batch, rng):
    config = CONFIG.replace(batch=batch)
    lanes, n = config.lanes, config.beat_bytes
    buffers = ActivationBuffers(config)

    def packed(values, bits):
        return sum((int(x) & ((1 << bits) - 1)) << bits * i for i, x in enumerate(values))

    async def process(ctx):
        for turn, length in enumerate([1, n, n + 1, config.max_length - 3, config.max_length]):
            buf = turn % 2
            words = -(-length // lanes)
            values = rng.integers(-127, 128, (batch, words * lanes))
            values[:, length:] = 0
            scales = [int(rng.integers(1 << SCALAR_BITS)) for _ in range(batch)]
            write, read = buffers.write, buffers.read
            ctx.set(buffers.claim_buf, buf)
            for claim in (buffers.claim_write, buffers.claim_read):
                ctx.set(claim, 1)
                await ctx.tick()
                ctx.set(claim, 0)
            ctx.set(write.buf, buf)
            ctx.set(read.buf, buf)
            assert ctx.get(write.ok) and not ctx.get(read.scale_ok)
            ctx.set(write.scale.as_value(), packed(scales, SCALAR_BITS))
            ctx.set(write.length, length)
            ctx.set(write.start, 1)
            await ctx.tick()
            ctx.set(write.start, 0)
            assert ctx.get(read.scale_ok) and ctx.get(read.length) == length
            assert ctx.get(read.scale.as_value()) == packed(scales, SCALAR_BITS)
            ctx.set(write.en, 1)
            for k in range(words):
                ctx.set(write.addr, k)
                ctx.set(write.data, packed(values[:, k * lanes : (k + 1) * lanes].reshape(-1), 8))
                await ctx.tick()
            ctx.set(write.en, 0)
            for beat in range(-(-length // n)):
                ctx.set(read.beat, beat)
                ctx.set(read.en, 1)
                assert ctx.get(read.ok)
                await ctx.tick()
                data = ctx.get(read.data)
                for slot in range(batch):
                    part = values[slot, beat * n : min((beat + 1) * n, length)]
                    assert data >> 8 * n * slot & ((1 << 8 * len(part)) - 1) == packed(part, 8), f"slot {slot}, beat {beat}"
            ctx.set(read.en, 0)
            ctx.set(read.release, 1)
            await ctx.tick()
            ctx.set(read.release, 0)
            assert not ctx.get(buffers.read_busy) and not ctx.get(buffers.write_busy)

    simulate(buffers, process)
