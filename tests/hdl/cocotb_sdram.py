"""The SDRAM controller on the chip model: what is written is read, every command keeps the chip's times."""

import os

import cocotb
from sdram_model import from_environment
from support import cycle, put, random_numbers, start, step

from trilobit.hdl.sdram import SdramController
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core

CONFIG = load_core(os.environ["PRESET"])
N = CONFIG.beat_bytes
CHIP = load_sdram_chip("ulx3s")
MHZ = float(os.environ["MHZ"])
SLOTS = CHIP.slots(MHZ, int(os.environ["CAS"]))
INIT = int(os.environ["INIT"])
ROW_BYTES = CHIP.row_bytes


async def boot(dut, **arguments):
    await start(dut)
    return from_environment(dut, CHIP, init_ns=(INIT - 8) * 1000 / MHZ, **arguments)  # cycles before the model began to count


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
    assert model.initialised and model.now >= 2 * (INIT - 8)
    await step(dut, 10 * SLOTS.refresh_interval)
    assert 9 <= model.counts["refresh"] <= 11, model.counts
    assert model.longest_pause <= 2 * SLOTS.refresh_interval + 2
    for _ in range(20):  # rows that are open when a refresh is due
        await read(dut, 0, 16)
        await step(dut, 61)
    expected = (model.now - model.last["ready"]) // (2 * SLOTS.refresh_interval)
    assert abs(model.counts["refresh"] - expected) <= 1
    burst = 16 * max(N // 4, 1) + SLOTS.activate_precharge + SLOTS.precharge + SLOTS.activate_column + 4
    assert model.longest_pause <= 2 * (SLOTS.refresh_interval + burst)


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
    for _ in range(60):
        base = int(rng.choice(bases)) + N * int(rng.integers(0, 30))
        beats = int(rng.integers(1, 11))
        if rng.random() < 0.1:
            beats = min(int(rng.integers(30, 41)), (max(bases) + 40 * N - base) // N, 40 - (base - max(b for b in bases if b <= base)) // N)
        if rng.random() < 0.5:
            data = [int.from_bytes(rng.bytes(N), "little") for _ in range(beats)]
            strobes = [int.from_bytes(rng.bytes(-(-N // 8)), "little") % (1 << N) for _ in range(beats)]
            assert await write(dut, base, data, strobes, rng) == 0
            for k in range(beats):
                shadow |= {base + k * N + j: data[k] >> (8 * j) & 0xFF for j in range(N) if strobes[k] >> j & 1}
        else:
            data, errors, _ = await read(dut, base, beats)
            assert data == beats_of(shadow, base, beats) and not any(errors)
    assert model.counts["activate"] > 5 and model.counts["precharge"] > 2


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


async def undisturbed(model, action):
    """What the action returns, tried again if a refresh fell into it."""
    for _ in range(5):
        before = model.counts["refresh"]
        result = await action()
        if model.counts["refresh"] == before:
            return result
    raise AssertionError("never without a refresh")


@cocotb.test()
async def latency_of_open_closed_and_other_rows(dut):
    """The documented clocks to the first beat, and a beat each ``beat_bytes / 4`` clocks after it."""
    model = await boot(dut)
    await until_ready(dut)
    latency = SdramController.read_latency(CONFIG, int(os.environ["CAS"]), int(os.environ["IO"]))
    beats = 64 // N + 1
    await write(dut, 0, list(range(beats)), [(1 << N) - 1] * beats)

    async def burst():
        await read(dut, 0, 1)  # opens the row
        begin = model.now
        data, _, first = await read(dut, 0, beats)
        assert data == list(range(beats))
        return first, (model.now - begin) // 2

    first, whole = await undisturbed(model, burst)
    assert first == latency
    assert whole <= latency + beats * N // 4 + 2, "the burst paused"

    async def to_row(addr):
        await step(dut, 10)
        return (await read(dut, addr, 1))[2]

    async def closed_then_other():
        """Bank 1 is closed by a refresh; then one of its rows, then another."""
        refreshes = model.counts["refresh"]
        while model.counts["refresh"] == refreshes:
            await step(dut)
        await step(dut, SLOTS.refresh + 2)
        return [await to_row(ROW_BYTES), await to_row(ROW_BYTES), await to_row(5 * ROW_BYTES)]

    closed, opened, other = await closed_then_other()
    assert opened == latency
    assert closed == latency + SLOTS.activate_column - 1
    assert other == latency + SLOTS.precharge + SLOTS.activate_column - 1

    async def gathered_write():
        await read(dut, 0, 1)
        begin = model.now
        await write(dut, 0, [5] * 3, [(1 << N) - 1] * 3)
        return (model.now - begin) // 2

    # Request, three beats in, prepared, three beats out, answered; and the clock in which the answer stands.
    assert await undisturbed(model, gathered_write) == 1 + 3 + 2 + 3 * N // 4 + 1


async def sequential(dut, intervals: int) -> tuple[int, int]:
    """Read on and on in requests of ``burst_beats``; cycles and beats over a whole number of refresh intervals."""
    dut.mem__rd_valid.value, dut.mem__rd_addr.value, dut.mem__rd_len.value = 1, 0, CONFIG.burst_beats - 1
    addr, beats = 0, 0
    for now in range(64 + intervals * SLOTS.refresh_interval):
        await cycle(dut)
        taken = dut.mem__rd_ready.value == 1
        beats += now >= 64 and dut.mem__rdata_valid.value == 1
        await step(dut)
        if taken:
            addr = (addr + CONFIG.burst_beats * N) % CHIP.size
            dut.mem__rd_addr.value = addr
    return intervals * SLOTS.refresh_interval, beats


@cocotb.test()
async def sequential_reads_at_95_percent_of_the_pins(dut):
    """Refreshes included, rows and banks changed on the way: the rate that the slots say, and at least 95% of 4 bytes a clock."""
    model = await boot(dut)
    await until_ready(dut)
    cycles, beats = await sequential(dut, 10)
    share = beats * N / (4 * cycles)
    dut._log.info(f"SHARE {share:.4f} of 4 bytes a clock in {cycles} clocks, {model.counts}")
    assert share >= 0.95
    # A request that is under way when a refresh is due ends first.
    assert abs(share - SLOTS.sequential_rate) <= CONFIG.burst_beats * N / 4 / cycles + 1e-9
    rows = beats * N // ROW_BYTES
    assert model.counts["activate"] <= rows + 2 * model.counts["refresh"] + 4, "no row is opened twice without a refresh"


@cocotb.test()
async def requests_in_any_order_return_what_was_written(dut):
    """Reads and writes at once on a few rows of all banks, up to 256 beats long, against a dictionary of bytes."""
    rng = random_numbers()
    model = await boot(dut, rng=rng)
    await until_ready(dut)
    span = 8 * N
    bases = [int(b) for b in rng.choice(64, 12, replace=False) * ROW_BYTES]
    shadow = {}
    for base in bases:
        data = [int.from_bytes(rng.bytes(N), "little") for _ in range(span // N)]
        shadow |= {base + k * N + j: data[k] >> 8 * j & 0xFF for k in range(span // N) for j in range(N)}
        assert await write(dut, base, data, [(1 << N) - 1] * len(data), rng) == 0
    long = 8 * ROW_BYTES * 9
    words = [int.from_bytes(rng.bytes(N), "little") for _ in range(256)]
    assert await write(dut, long, words, [(1 << N) - 1] * 256, rng) == 0
    assert (await read(dut, long, 256))[0] == words
    requests = [(int(rng.choice(bases)), int(rng.integers(1, span // N + 1))) for _ in range(60)]
    expected = [beat for base, beats in requests for beat in beats_of(shadow, base, beats)]
    got: list[int] = []

    async def collect():
        while len(got) < len(expected):
            await cycle(dut)
            if dut.mem__rdata_valid.value == 1:
                got.append(dut.mem__rdata.value.to_unsigned())
            await step(dut)

    async def writer():
        for k in range(20):
            assert await write(dut, 100 * ROW_BYTES + 4 * N * k, [k] * 3, [(1 << N) - 1] * 3, rng) == 0

    collector, other = cocotb.start_soon(collect()), cocotb.start_soon(writer())
    for base, beats in requests:
        await put(dut, "mem", valid="rd_valid", ready="rd_ready", rd_addr=base, rd_len=beats - 1)
        await step(dut, int(rng.integers(0, 6)))
    await collector
    await other
    assert got == expected
    for k in range(20):
        assert (await read(dut, 100 * ROW_BYTES + 4 * N * k, 3))[0] == [k] * 3
    assert model.counts["activate"] > 30


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
