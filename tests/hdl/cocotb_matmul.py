"""Ternary products of every slot against trilobit.isa.semantics.tmatmul, with everything around the unit modelled here."""

import os
from collections import deque
from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.triggers import Timer
from support import random_numbers, start, step

from trilobit.hdl.matmul import FIRST_BEAT, GAP, drain_clocks, product_clocks
from trilobit.isa.core import load_core
from trilobit.isa.fixed import ACT_ZERO, Scalar
from trilobit.isa.semantics import Activations, tmatmul
from trilobit.isa.spec import ISA
from trilobit.isa.trits import ZERO_BYTE, pack

CONFIG = load_core(os.environ.get("PRESET", "tiny")).replace(batch=int(os.environ.get("BATCH", "1")))
BATCH, LANES, N, LONGEST = CONFIG.batch, CONFIG.lanes, CONFIG.beat_bytes, min(CONFIG.max_length, 64)
EXPONENT_MASK = 0x3FF


def random_scale(rng) -> Scalar:
    return Scalar(int(rng.integers(1 << 17, 1 << 18)), int(rng.integers(-60, 20)))


def slots(rng, act: Activations) -> list[Activations]:
    """A vector for slot 0, and for the others vectors as long: of about its scale, of any other scale, or zero."""
    acts = [act]
    while len(acts) < BATCH:
        near = Scalar(act.scale.mantissa | 1 << 17, act.scale.exponent + int(rng.integers(-3, 4)))
        scale = [near, random_scale(rng), ACT_ZERO][rng.integers(3)]
        value = rng.integers(-127, 128, len(act.value)) * (scale.mantissa != 0)
        acts.append(Activations(value, scale, 0))
    return acts


def packed_scales(acts: list[Activations]) -> int:
    fields = [act.scale.mantissa | (act.scale.exponent & EXPONENT_MASK) << 18 for act in acts]
    return sum(bits << 28 * slot for slot, bits in enumerate(fields))


@dataclass
class Product:
    """One instruction with its matrix, each slot's activations, and header."""

    trits: np.ndarray
    acts: list[Activations]
    scale: Scalar
    vd: int
    buf: int
    bp: int
    wide: int
    addr: int
    pc: int

    @classmethod
    def random(cls, rng, rows=None, columns=None, **fixed):
        rows = int(rows or rng.integers(1, LONGEST + 1))
        columns = int(columns or rng.integers(1, LONGEST + 1))
        act_scale = random_scale(rng)
        scale = Scalar(int(rng.integers(1 << 17, 1 << 18)), int(rng.integers(-50, -10)))
        values = {
            "trits": rng.integers(-1, 2, (rows, columns)), "scale": scale, "vd": int(rng.integers(8)), "buf": int(rng.integers(2)),
            "acts": slots(rng, Activations(rng.integers(-127, 128, columns), act_scale, 0)), "wide": int(rng.integers(2)),
            "addr": int(rng.integers(1 << 30)) * 16, "pc": int(rng.integers(1 << 16)),
        }  # fmt: skip
        # Results of about the register's size, sometimes far below or above.
        size = int(rng.choice([4, 10, 15, 16, 17, 24, 30, 34])) - 6
        exponent = act_scale.exponent + scale.exponent + 35
        values["bp"] = int(np.clip(size - exponent - int(np.log2(columns) / 2), -128, 127))
        return cls(**(values | fixed))

    @property
    def rows(self) -> int:
        return len(self.trits)

    @property
    def columns(self) -> int:
        return self.trits.shape[1]

    def word(self) -> int:
        return ISA.encode("tmatmul", vd=self.vd, act=self.buf, addr=self.addr, len=self.rows, bp=self.bp, wide=self.wide)

    def header(self) -> int:
        scalar = self.scale.mantissa | (self.scale.exponent & EXPONENT_MASK) << 18
        return self.addr | self.rows << 40 | self.columns << 56 | scalar << 72

    def beats(self) -> list[int]:
        packed = pack(self.trits)
        padded = np.full((len(packed), -(-self.columns // N) * N), ZERO_BYTE, dtype=np.uint8)
        padded[:, : self.columns] = packed
        return [int.from_bytes(beat.tobytes(), "little") for beat in padded.reshape(-1, N)]


class Surroundings:
    """Command issue, stream, activation buffers and registers.

    ``busy`` is the chance that each of weights, headers, activations, write permission and issue is not there in a cycle.
    """

    def __init__(self, dut, rng, busy: float = 0.0):
        self.dut, self.rng, self.busy = dut, rng, busy
        self.registers = rng.integers(-(1 << 31), 1 << 31, (BATCH, 8, CONFIG.max_length))
        self.commands, self.headers, self.weights = deque(), deque(), deque()
        self.acts: deque[Product] = deque()  # products in order: the first one is the one that reads
        self.filled = 0  # activation beats that may be used
        self.reader = 0  # cycles until the older reader of the destination has finished
        self.now, self.retired, self.saturated, self.released = 0, [], 0, 0
        self.issued: list[int] = []
        self.beat_cycles: list[int] = []
        self.waits = {"weights": 0, "act": 0, "output": 0}
        self.faulted = None

    def add(self, product: Product) -> None:
        self.commands.append(product)
        self.headers.append(product.header())
        self.weights.extend(product.beats())

    def there(self) -> bool:
        return self.rng.random() >= self.busy

    def restart(self) -> None:
        """The next product's surroundings."""
        self.filled = 0
        self.reader = int(self.rng.integers(60)) if self.busy and self.rng.random() < 0.5 else 0

    async def run(self, cycles: int = 100_000, until_idle: bool = True) -> None:
        """Until every command has retired, or the number of cycles; nothing is left active then."""
        end = self.now + cycles
        while self.now < end and (not until_idle or self.commands or self.acts or self.dut.active.value == 1):
            await self.clock()
        if until_idle:
            assert self.now < end, "the unit did not finish"

    async def clock(self) -> None:
        dut = self.dut
        offer = bool(self.commands) and self.there()
        if offer:
            dut.cmd__word.value, dut.cmd__pc.value = self.commands[0].word(), self.commands[0].pc
        dut.cmd__valid.value = int(offer)
        header = bool(self.headers) and self.there()
        dut.header_valid.value = int(header)
        dut.header.value = self.headers[0] if header else int(self.rng.integers(1 << 62))
        weight = bool(self.weights) and self.there()
        dut.weight_valid.value = int(weight)
        dut.weight_data.value = self.weights[0] if weight else 0
        await Timer(1, "ns")
        reading = self.acts[0] if self.acts else None
        self.filled += self.there()
        self.reader -= self.reader > 0
        beat = int(dut.act__beat.value) if len(dut.act__beat) else 0
        if reading is not None:
            dut.act__scale_ok.value = int(self.filled > 0 or not self.busy)
            dut.act__scale.value = packed_scales(reading.acts)
            dut.act__length.value = reading.columns
            dut.act__ok.value = int(beat < self.filled or not self.busy)
        else:
            dut.act__scale_ok.value = dut.act__ok.value = 0
        dut.write__ok.value = int(self.reader == 0)
        await cycle_rest(dut)

        data = None
        if offer and dut.cmd__ready.value == 1:
            self.acts.append(self.commands.popleft())
            self.issued.append(self.now)
            if len(self.acts) == 1:
                self.restart()
        if header and dut.header_ready.value == 1:
            self.headers.popleft()
        if dut.fault.value == 1 and self.faulted is None:
            self.faulted = self.now
        self.waits["weights"] += int(dut.wait_weights.value)
        self.waits["act"] += int(dut.wait_act.value)
        self.waits["output"] += int(dut.wait_output.value)
        consumed = weight and dut.weight_ready.value == 1
        assert dut.beat.value == int(consumed) == dut.act__en.value
        assert sum(int(s.value) for s in (dut.beat, dut.wait_weights, dut.wait_act, dut.wait_output)) <= 1
        if consumed:
            assert dut.act__ok.value == 1, "read activations that were not there"
            assert reading.buf == dut.act__buf.value
            self.weights.popleft()
            self.beat_cycles.append(self.now)
            values = np.full((BATCH, N), self.rng.integers(-128, 128), dtype=np.int8)  # don't care beyond the length
            for slot, act in enumerate(reading.acts):
                part = act.value[beat * N : (beat + 1) * N]
                values[slot, : len(part)] = part
            data = int.from_bytes(values.tobytes(), "little")
        self.written()
        if dut.act__release.value == 1:
            self.acts.popleft()
            self.released += 1
            self.restart()
        await step(dut)
        self.now += 1
        if data is not None:
            dut.act__data.value = data

    def written(self) -> None:
        dut = self.dut
        self.saturated += int(dut.saturated.value)
        if dut.write__en.value == 1:
            first = int(dut.write__addr.value) * LANES
            mask, bits = int(dut.write__mask.value), dut.write__data.value
            for slot in range(BATCH):
                for j in range(LANES):
                    if mask >> j & 1:  # lanes without a mask may never have held anything
                        low = 32 * (slot * LANES + j)
                        self.registers[slot, int(dut.write__reg.value), first + j] = bits[low + 31 : low].to_signed()
        if dut.retire__valid.value == 1:
            self.retired.append((int(dut.retire__pc.value), self.now))


async def cycle_rest(dut) -> None:
    """From 1 ns after the edge to the end of the cycle."""
    await Timer(8, "ns")


async def set_up(dut, busy: float = 0.0):
    rng = random_numbers()
    await start(dut)
    return rng, Surroundings(dut, rng, busy)


def check(world: Surroundings, before: np.ndarray, products: list[Product]) -> None:
    """Registers, saturations and order of retirement after a run."""
    expected, saturated = before.copy(), 0
    for product in products:
        for slot, act in enumerate(product.acts):
            result = tmatmul(product.trits, act, product.scale, bp=product.bp, wide=product.wide)
            expected[slot, product.vd, : product.rows] = result.value
            saturated += result.saturated
    wrong = np.argwhere(world.registers != expected)
    assert not len(wrong), (
        f"{len(wrong)} elements differ, the first in slot {wrong[0][0]} at v{wrong[0][1]}[{wrong[0][2]}]: "
        f"expected {expected[tuple(wrong[0])]}, got {world.registers[tuple(wrong[0])]}"
    )
    assert world.saturated == saturated
    assert [pc for pc, _ in world.retired] == [product.pc for product in products]
    assert world.released == len(products)
    assert world.dut.active.value == 0


async def run_products(dut, rng, world: Surroundings, products: list[Product]) -> None:
    world.retired, world.saturated, world.released = [], 0, 0
    before = world.registers.copy()
    for product in products:
        world.add(product)
    await world.run()
    check(world, before, products)


@cocotb.test()
async def random_products(dut):
    """Any shape, back to back, with nothing to wait for."""
    rng, world = await set_up(dut)
    shapes = [(1, 1), (5, 1), (6, 1), (LONGEST, LONGEST), (1, LONGEST), (LONGEST, 1), (LANES, N), (LANES + 1, N + 1)]
    products = [Product.random(rng, *shape) for shape in shapes] + [Product.random(rng) for _ in range(12)]
    await run_products(dut, rng, world, products)


@cocotb.test()
async def everything_waits(dut):
    """Weights, headers, activations that are still being filled, write permission and commands come late, at random."""
    rng, world = await set_up(dut)
    for busy in (0.2, 0.5, 0.8):
        world.busy = busy
        await run_products(dut, rng, world, [Product.random(rng, rows=rng.integers(1, 33)) for _ in range(6)])
    for _ in range(20):  # until each has occurred: some are rare where a group has many beats
        if min(world.waits.values()) > 0:
            break
        await run_products(dut, rng, world, [Product.random(rng, rows=rng.integers(20, 33), columns=5) for _ in range(6)])
    assert min(world.waits.values()) > 0, f"expected every cause of waiting, got {world.waits}"


@cocotb.test()
async def short_products_follow_each_other(dut):
    """Products of one or two groups: several are in flight, each with its own register and scale."""
    rng, world = await set_up(dut)
    products = [Product.random(rng, rows=rng.integers(1, 11), columns=rng.integers(1, 2 * N + 1)) for _ in range(40)]
    await run_products(dut, rng, world, products)


@cocotb.test()
async def extremes(dut):
    """Saturation both ways and widths, zero scales, shifts beyond the shifter and to the left, the largest sums."""
    rng, world = await set_up(dut)
    unit = Scalar(1 << 17, -17)
    products = []
    for wide in (0, 1):
        for bp in (-128, -41, -40, -39, -1, 0, 1, 17, 40, 127):
            products.append(Product.random(rng, rows=10, scale=unit, bp=bp, wide=wide))
            products.append(Product.random(rng, rows=10, bp=bp, wide=wide))
        largest = Activations(np.full(LONGEST, 127), unit, 0)
        for trit in (-1, 1):
            trits = np.full((7, LONGEST), trit)
            for bp in (0, 20, 127):
                products.append(Product.random(rng, trits=trits, acts=slots(rng, largest), scale=unit, bp=bp, wide=wide))
            products.append(Product.random(rng, trits=trits, acts=slots(rng, largest), scale=Scalar((1 << 18) - 1, -18), bp=0, wide=wide))
        zero = Activations(np.zeros(8, dtype=np.int64), ACT_ZERO, 0)
        products.append(Product.random(rng, trits=np.ones((9, 8), dtype=int), acts=slots(rng, zero), wide=wide))
        products.append(Product.random(rng, rows=9, scale=ACT_ZERO, wide=wide))
        products.append(Product.random(rng, rows=9, scale=ACT_ZERO, bp=127, wide=wide))
    await run_products(dut, rng, world, products)


@cocotb.test()
async def documented_clocks(dut):
    """product_clocks, whatever the data; no cycle without a beat if a group has five beats or more."""
    rng, world = await set_up(dut)
    for rows, columns in [(1, 1), (3, 5 * N), (5, 4 * N), (7, 5 * N), (LONGEST, LONGEST), (23, 5 * N + 1), (20, 2 * N)]:
        columns = min(columns, LONGEST)
        for _ in range(2):
            product = Product.random(rng, rows, columns)
            world.issued, world.beat_cycles = [], []
            await run_products(dut, rng, world, [product])
            retired = world.retired[0][1]
            assert world.beat_cycles[0] - world.issued[0] == FIRST_BEAT
            assert retired - world.beat_cycles[-1] == drain_clocks(CONFIG, rows)
            assert retired - world.issued[0] == product_clocks(CONFIG, rows, columns), f"{rows} x {columns}"
            beats = -(-columns // N) * -(-rows // 5)
            assert len(world.beat_cycles) == beats
            if columns > 4 * N:
                assert world.beat_cycles[-1] - world.beat_cycles[0] == beats - 1, "a beat was lost"


@cocotb.test()
async def documented_gap(dut):
    """Back to back, GAP cycles are lost between two products of several groups."""
    rng, world = await set_up(dut)
    columns = min(5 * N, LONGEST)
    products = [Product.random(rng, rows=15, columns=columns) for _ in range(4)]
    await run_products(dut, rng, world, products)
    beats = -(-columns // N) * 3
    if columns == 5 * N:
        assert world.beat_cycles[-1] - world.beat_cycles[0] == 4 * beats - 1 + 3 * GAP
    assert len(world.beat_cycles) == 4 * beats


@cocotb.test()
async def mismatched_headers_fault(dut):
    """Address, rows or columns that differ: the fault stays, no weight is taken, the product before is finished."""
    rng = random_numbers()
    for bit in (3, 30, 40, 45, 56, 60):
        await start(dut)
        world = Surroundings(dut, rng)
        before = world.registers.copy()
        good, bad = Product.random(rng, rows=8), Product.random(rng, rows=8)
        world.add(good)
        world.add(bad)
        world.headers[1] ^= 1 << bit
        await world.run(product_clocks(CONFIG, 8, good.columns) + 50, until_idle=False)
        assert world.faulted is not None
        assert dut.fault.value == 1
        assert dut.weight_ready.value == 0
        assert len(world.beat_cycles) == len(good.beats())
        world.acts.clear()
        expected = before.copy()
        for slot, act in enumerate(good.acts):
            expected[slot, good.vd, :8] = tmatmul(good.trits, act, good.scale, bp=good.bp, wide=good.wide).value
        assert (world.registers == expected).all()
        assert [pc for pc, _ in world.retired] == [good.pc]
