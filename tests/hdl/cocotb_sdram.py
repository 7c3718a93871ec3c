"""The SDRAM controller on the chip model: what is written is read, every command keeps the chip's times."""

import os

import cocotb
from sdram_model import from_environment
from support import cycle, random_numbers, start, step

from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core

CONFIG = load_core(os.environ["PRESET"])
N = CONFIG.beat_bytes
CHIP = load_sdram_chip("ulx3s")
INIT = int(os.environ["INIT"])
ROW_BYTES = 2 << CHIP.column_bits


async def boot(dut, **arguments):
    await start(dut)
    model = from_environment(dut, CHIP, init_clocks=INIT - 8, **arguments)  # cycles before the model began to count
    return model


async def until_ready(dut, limit=INIT + 400):
    for _ in range(limit):
        if dut.ready.value == 1:
            return
        await step(dut)
    raise AssertionError("the controller never became ready")


async def read(dut, addr: int, beats: int) -> tuple[list[int], list[int], int]:
    """Beats, error marks, and the cycles from the request's transfer to the first beat."""
    dut.mem__rd_valid.value, dut.mem__rd_addr.value, dut.mem__rd_len.value = 1, addr, beats - 1
    taken, data, errors, now, first = None, [], [], 0, 0
    while len(data) < beats:
        await cycle(dut)
        if taken is None and dut.mem__rd_ready.value == 1:
            taken = now
        if dut.mem__rdata_valid.value == 1:
            first = first or now - taken
            data.append(dut.mem__rdata.value.to_unsigned())
            errors.append(int(dut.mem__rdata_error.value))
        await step(dut)
        if taken is not None:
            dut.mem__rd_valid.value = 0
        now += 1
        assert now < 5000, "no answer"
    return data, errors, first


async def write(dut, addr: int, data: list[int], strobes: list[int], rng=None) -> int:
    """Write beats, with pauses if there are random numbers; the error mark."""
    dut.mem__wr_valid.value, dut.mem__wr_addr.value, dut.mem__wr_len.value = 1, addr, len(data) - 1
    for _ in range(5000):
        await cycle(dut)
        taken = dut.mem__wr_ready.value == 1
        await step(dut)
        if taken:
            break
    dut.mem__wr_valid.value = 0
    k = 0
    for _ in range(20000):
        offer = k < len(data) and (rng is None or rng.random() < 0.7)
        dut.mem__wdata_valid.value = int(offer)
        if offer:
            dut.mem__wdata.value, dut.mem__wdata_strobe.value = data[k], strobes[k]
        await cycle(dut)
        k += offer and dut.mem__wdata_ready.value == 1
        done, error = dut.mem__wresp_valid.value == 1, int(dut.mem__wresp_error.value)
        await step(dut)
        if done:
            assert k == len(data), "answered before all of it was taken"
            dut.mem__wdata_valid.value = 0
            return error
    raise AssertionError("a write was never answered")


def beats_of(shadow: dict, addr: int, beats: int) -> list[int]:
    return [sum(shadow[addr + k * N + j] << (8 * j) for j in range(N)) for k in range(beats)]


@cocotb.test()
async def initialises_and_refreshes(dut):
    """The chip's order at power-on (checked by the model), then refreshes on the average of the interval, with traffic as well."""
    model = await boot(dut)
    await until_ready(dut)
    assert model.initialised and model.now >= INIT - 8
    await step(dut, 20 * model.t.refi)
    assert 19 <= model.counts["refresh"] <= 21, model.counts
    assert model.longest_pause <= model.t.refi + 2 + model.t.rp
    for _ in range(60):  # rows that are open when a refresh is due
        await read(dut, 0, 16)
        await step(dut, 61)
    expected = (model.now - model.last["ready"]) // model.t.refi
    assert abs(model.counts["refresh"] - expected) <= 1
    assert model.longest_pause <= model.t.refi + 16 * N // 2 + model.t.ras + model.t.rp + 16


@cocotb.test()
async def keeps_what_is_written(dut):
    """Random bursts and strobes across rows and banks, up to the last byte, against a dictionary of bytes."""
    rng = random_numbers()
    model = await boot(dut, rng=rng)
    await until_ready(dut)
    shadow: dict[int, int] = {}
    bases = [0, ROW_BYTES - 5 * N, 4 * ROW_BYTES - 3 * N, CHIP.size // 2 - 4 * N, CHIP.size - 40 * N]
    for base in bases:  # all bytes known first
        data = rng.integers(0, 256, 40 * N).tolist()
        shadow |= {base + k: value for k, value in enumerate(data)}
        words = [int.from_bytes(bytes(data[k : k + N]), "little") for k in range(0, 40 * N, N)]
        assert await write(dut, base, words, [(1 << N) - 1] * 40) == 0
    for _ in range(150):
        base = int(rng.choice(bases)) + N * int(rng.integers(0, 30))
        beats = int(rng.integers(1, 11))
        if rng.random() < 0.5:
            data = [int.from_bytes(rng.bytes(N), "little") for _ in range(beats)]
            strobes = [int.from_bytes(rng.bytes(-(-N // 8)), "little") % (1 << N) for _ in range(beats)]
            assert await write(dut, base, data, strobes, rng) == 0
            for k in range(beats):
                shadow |= {base + k * N + j: data[k] >> (8 * j) & 0xFF for j in range(N) if strobes[k] >> j & 1}
        else:
            data, errors, _ = await read(dut, base, beats)
            assert data == beats_of(shadow, base, beats) and not any(errors)
    assert model.counts["activate"] > 20 and model.counts["precharge"] > 20


@cocotb.test()
async def reads_while_a_write_waits_for_its_data(dut):
    """A write whose data have not come holds up no read (a store may wait for a product that waits for its weights)."""
    await boot(dut)
    await until_ready(dut)
    await write(dut, 64, [0x1234], [3])
    dut.mem__wr_valid.value, dut.mem__wr_addr.value, dut.mem__wr_len.value = 1, 128, 3
    await step(dut)
    dut.mem__wr_valid.value = 0
    data, _, _ = await read(dut, 64, 1)
    assert data[0] & 0xFFFF == 0x1234


@cocotb.test()
async def latency_in_an_open_row(dut):
    """The documented latency to the first beat, and a beat each ``beat_bytes / 2`` clocks after it."""
    model = await boot(dut)
    await until_ready(dut)
    beats = 64 // N + 1  # a burst well below the refresh interval
    await write(dut, 0, list(range(beats)), [(1 << N) - 1] * beats)
    for _ in range(5):
        refreshes = model.counts["refresh"]
        before = model.counts["activate"]
        begin = model.now
        data, _, first = await read(dut, 0, beats)
        if model.counts["activate"] == before and model.counts["refresh"] == refreshes:
            break
    else:
        raise AssertionError("no burst without a refresh")
    assert data == list(range(beats))
    assert first == int(os.environ["CAS"]) + int(os.environ["IO"]) + N // 2 + 3
    assert model.now - begin <= first + beats * N // 2 + 1, "the burst paused"


@cocotb.test()
async def behind_the_end_is_an_error(dut):
    """Reads are marked from the first beat behind the end on; writes there change nothing."""
    model = await boot(dut)
    await until_ready(dut)
    assert await write(dut, 0, [7], [3]) == 0
    before = dict(model.words)
    assert await write(dut, CHIP.size, [9], [3]) == 1
    assert await write(dut, 1 << 39, [9], [3]) == 1
    assert model.words == before
    _, errors, _ = await read(dut, CHIP.size - 2 * N, 4)
    assert errors == [0, 0, 1, 1]
    data, errors, _ = await read(dut, 0, 1)
    assert data[0] & 0xFFFF == 7 and errors == [0]
