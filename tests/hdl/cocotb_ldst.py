"""ldv, sv, emb and clr against plain NumPy, with random memory timing."""

import os

import cocotb
import numpy as np
from memory_model import Memory
from support import cycle, put, random_numbers, start, step

from trilobit.hdl.ldst import LoadStore
from trilobit.isa.core import load_core
from trilobit.isa.slots import element_places, interleave, stored_elements
from trilobit.isa.spec import ISA

CONFIG = load_core(os.environ.get("PRESET", "tiny"), int(os.environ.get("BATCH", "1")))
LANES, N, BATCH = CONFIG.lanes, CONFIG.beat_bytes, CONFIG.batch
LONGEST = stored_elements(CONFIG, CONFIG.max_length)  # in memory
WINDOW = max(1 << 15, 8 * LONGEST)  # bytes: the longest vector of wide elements in either half


class Registers:
    """Answers the unit's register ports from a NumPy array [8, batch, max_length]."""

    def __init__(self, dut, rng):
        self.dut, self.rng = dut, rng
        self.values = rng.integers(-(1 << 31), 1 << 31, (8, BATCH, CONFIG.max_length))
        self.stall = 0.0
        cocotb.start_soon(self._serve())

    async def _serve(self):
        dut = self.dut
        while True:
            read_ok = self.rng.random() >= self.stall
            dut.read__ok.value = int(read_ok)
            dut.write__ok.value = int(self.rng.random() >= self.stall)
            await cycle(dut)
            data = None
            if dut.read__en.value == 1:
                assert read_ok, "read a word that was not ready"
                first = dut.read__addr.value.to_unsigned() * LANES
                word = self.values[dut.read__reg.value.to_unsigned(), :, first : first + LANES]
                data = int.from_bytes(word.astype("<i4").tobytes(), "little")
            if dut.write__en.value == 1:
                first = dut.write__addr.value.to_unsigned() * LANES
                bits = dut.write__data.value.to_unsigned().to_bytes(4 * LANES * BATCH, "little")
                word = np.frombuffer(bits, dtype="<i4").reshape(BATCH, LANES)
                for j in range(LANES):
                    if int(dut.write__mask.value) >> j & 1:
                        self.values[dut.write__reg.value.to_unsigned(), :, first + j] = word[:, j]
            await step(dut)
            if data is not None:
                dut.read__data.value = data


async def run(dut, mnemonic, *, count_saturated=False, **fields) -> int:
    """Run one instruction; clocks from the cycle of its command to that of its retirement, or the elements that saturated."""
    await put(dut, "cmd", word=ISA.encode(mnemonic, **fields), pc=7)
    saturated = 0
    for clocks in range(1, 100_000):
        await cycle(dut)
        saturated += int(dut.saturated.value)
        if dut.retire__valid.value == 1:
            assert dut.retire__pc.value == 7
            await step(dut)
            return saturated if count_saturated else clocks
        await step(dut)
    raise AssertionError(f"{mnemonic} did not retire")


async def set_up(dut, *, latency=1, busy=0.0):
    rng = random_numbers()
    await start(dut, window_size=WINDOW)
    memory = Memory(dut, rng.integers(0, 256, WINDOW).astype(np.uint8), N, latency=latency, busy=busy, rng=rng, prefix="")
    return rng, memory, Registers(dut, rng)


def lengths(rng):
    return [1, CONFIG.max_length, *rng.integers(1, CONFIG.max_length + 1, 6).tolist()]


@cocotb.test()
async def loads_and_stores(dut):
    """Random vectors both ways, narrow and wide, at every kind of memory timing."""
    rng, memory, registers = await set_up(dut, latency=3, busy=0.3)
    registers.stall = 0.3
    for length in lengths(rng):
        for wide in (0, 1):
            size = 4 if wide else 2
            addr = int(rng.integers(0, (WINDOW - size * LONGEST) // 64)) * 64
            before = registers.values[3].copy()
            await run(dut, "ldv", vd=3, addr=addr, len=length, wide=wide)
            expected = memory.data[addr:][: size * stored_elements(CONFIG, length)].view("<i4" if wide else "<i2")
            expected = expected[element_places(CONFIG, length)]
            assert (registers.values[3, :, :length] == expected).all(), f"ldv len={length} wide={wide}"
            assert (registers.values[3, :, length:] == before[:, length:]).all(), "elements beyond the length changed"
            addr = int(rng.integers(0, (WINDOW - size * LONGEST) // 64)) * 64
            image = memory.data.copy()
            words = length if BATCH == 1 else -(-length // LANES) * LANES
            values = registers.values[5, :, :words]
            kept = values if wide else np.clip(values, -(1 << 15), (1 << 15) - 1)
            stored = interleave(CONFIG, kept).astype("<i4" if wide else "<i2")
            image[addr : addr + stored.nbytes] = np.frombuffer(stored.tobytes(), dtype=np.uint8)
            saturated = await run(dut, "sv", count_saturated=True, va=5, addr=addr, len=length, wide=wide)
            assert (memory.data == image).all(), f"sv len={length} wide={wide}"
            assert saturated == np.count_nonzero(kept[:, :length] != values[:, :length])


@cocotb.test()
async def embedding_rows(dut):
    """The row of each slot's token; pitch and base as given; a row outside the window faults without a request."""
    rng, memory, registers = await set_up(dut, latency=2, busy=0.2)
    for length in lengths(rng)[:4]:
        tokens, pitch = rng.integers(0, 20, BATCH).tolist(), 16 * int(rng.integers(1, 12))
        dut.token.value = sum(token << 24 * slot for slot, token in enumerate(tokens))
        before = registers.values[1].copy()
        await run(dut, "emb", vd=1, addr=1024, len=length, pitch=pitch, rows=20)
        rows = [memory.data[1024 + token * pitch :][: 2 * length].view("<i2") for token in tokens]
        assert (registers.values[1, :, :length] == rows).all()
        assert (registers.values[1, :, length:] == before[:, length:]).all()
    token = WINDOW // 64  # the first that is outside, but one of the rows
    dut.token.value = token
    asked = len(memory.reads)
    await put(dut, "cmd", word=ISA.encode("emb", vd=1, addr=1024, len=4, pitch=64, rows=token + 1), pc=1)
    await step(dut, 10)
    assert dut.fault.value == 1
    assert len(memory.reads) == asked


@cocotb.test()
async def clears(dut):
    """Exactly the beats asked for become zero."""
    rng, memory, _ = await set_up(dut, busy=0.2)
    for beats in (1, 3, CONFIG.burst_beats, 3 * CONFIG.burst_beats + 1):
        memory.data[:] = rng.integers(1, 256, WINDOW)
        image = memory.data.copy()
        image[320 : 320 + beats * N] = 0
        await run(dut, "clr", addr=320, beats=beats)
        assert (memory.data == image).all()


@cocotb.test()
async def bursts_stay_inside_their_blocks(dut):
    """No request crosses a block of burst_beats beats (so none crosses 4 KiB)."""
    _, memory, _ = await set_up(dut)
    await run(dut, "ldv", vd=1, addr=48, len=CONFIG.max_length, wide=1)
    await run(dut, "sv", va=1, addr=48, len=CONFIG.max_length, wide=1)
    block = CONFIG.burst_beats * N
    for addr, beats in memory.reads + memory.writes:
        assert addr // block == (addr + beats * N - 1) // block


@cocotb.test()
async def load_latency(dut):
    """The documented clocks with ideal memory, whatever the data."""
    await set_up(dut)
    for length in (1, 7, CONFIG.max_length):
        for wide in (0, 1):
            clocks = await run(dut, "ldv", vd=1, addr=0, len=length, wide=wide)
            assert clocks == LoadStore.load_clocks(CONFIG, length, wide), f"len={length} wide={wide}: {clocks}"
        clocks = await run(dut, "emb", vd=1, addr=0, len=length, pitch=16, rows=20)
        assert clocks == BATCH * LoadStore.row_clocks(CONFIG, length), f"len={length}: {clocks}"
