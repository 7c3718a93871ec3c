"""The lean core's memory side against a memory with random waits: what arrives, what is written, and when."""

from collections import deque

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from lean_memory_bench import MEMORY_BEATS, Bench, small

from trilobit.hdl.lean.buffers import GAIN_LENGTHS, follow
from trilobit.hdl.lean.fetch import REGIONS, REQUEST_CLOCKS
from trilobit.hdl.lean.memory import LOAD_CLOCKS, RESUME_CLOCKS, STREAM_CLOCKS, WEIGHT_CLOCKS


def as_elements(data: bytes, count: int, wide: bool, is_signed: bool) -> list[int]:
    size = 4 if wide else 2
    return [int.from_bytes(data[k * size : (k + 1) * size], "little", signed=is_signed) & 0xFFFFFFFFF for k in range(count)]


async def chores(b: Bench, regions: int) -> None:
    """A program of everything in random order; the stream's beats must come in order whatever happens in between."""
    rng, n = b.rng, b.n
    stream: deque[int] = deque()  # beats
    most = b.config.max_length
    expected_write = 0
    reads = {"stream": 0, "load": 0}
    for _ in range(regions):
        start, beats = int(rng.integers(0, MEMORY_BEATS // 2)), int(rng.choice([1, 2, 7, 8, 9, 16, 40]))
        await b.push(start, start + beats)
        stream += range(start, start + beats)
        reads["stream"] += beats
        while len(stream) > 40:
            match rng.integers(0, 4):
                case 0:
                    count = int(rng.integers(1, 20))
                    expected = b"".join(b.at(stream.popleft(), 1) for _ in range(count))
                    assert await b.weights(count) == expected
                case 1:
                    count, is_signed = int(rng.integers(1, 3 * n)), bool(rng.integers(0, 2))
                    data = b"".join(b.at(stream.popleft(), 1) for _ in range(-(-2 * count // n)))
                    found = await b.elements(count, is_signed=is_signed, wide=bool(rng.integers(0, 2)))
                    assert found == as_elements(data, count, False, is_signed)
                case 2:
                    wide, is_signed, count = bool(rng.integers(0, 2)), bool(rng.integers(0, 2)), int(rng.integers(1, most + 1))
                    beats, start = -(-count * (4 if wide else 2) // n), int(rng.integers(0, MEMORY_BEATS - 300))
                    await b.read(start, beats)
                    reads["load"] += beats
                    for _ in range(int(rng.integers(1, 3))):  # taking elements does not use them up
                        found = await b.elements(count, load=True, wide=wide, is_signed=is_signed)
                        assert found == as_elements(b.at(start, beats), count, wide, is_signed)
                case _:
                    wide, count = bool(rng.integers(0, 2)), int(rng.integers(1, most + 1))
                    size = 4 if wide else 2
                    beats, start = -(-count * size // n), int(rng.integers(MEMORY_BEATS * 3 // 4, MEMORY_BEATS - 300))
                    values = rng.integers(0, 1 << 8 * size, count).tolist()
                    expected = b.data.copy()
                    expected[start * n : start * n + count * size] = np.frombuffer(
                        b"".join(v.to_bytes(size, "little") for v in values), dtype=np.uint8
                    )
                    await b.store(values, wide)
                    await b.write(start, beats)
                    expected_write += beats
                    assert np.array_equal(b.data, expected)
    while stream:
        assert await b.weights(1) == b.at(stream.popleft(), 1)
    await b.tick(10)
    assert not b.get("weight_valid") and b.get("level") == 0 and not b.get("error")
    assert b.events == {"stream_read_beat": reads["stream"], "load_read_beat": reads["load"], "write_beat": expected_write}


@pytest.mark.parametrize("n, busy, latency", [(4, 0.3, 5), (8, 0.5, 1), (16, 0.0, 1), (16, 0.3, 20), (32, 0.4, 3), (64, 0.2, 9)])
def test_stream_loads_and_stores_in_any_order_find_their_data(n, busy, latency):
    b = Bench(small(n), n + latency, busy=busy, latency=latency)
    b.run(lambda b: chores(b, 9))


@pytest.mark.parametrize("changes", [{"burst_beats": 1, "weight_fifo_beats": 2}, {"burst_beats": 2, "weight_fifo_beats": 4},
                                     {"weight_fifo_beats": 1024, "burst_beats": 256}, {"max_length": 8}])  # fmt: skip
def test_extreme_sizes_work(changes):
    b = Bench(small(16, **changes), 3, busy=0.2, latency=4)
    b.run(lambda b: chores(b, 5))


@pytest.mark.parametrize("n", [4, 16, 32])
@pytest.mark.parametrize("wide", [False, True])
def test_a_store_of_any_length_writes_its_bytes_and_no_others(n, wide):
    async def bench(b):
        size = 4 if wide else 2
        for count in [64, *range(n // size + 1, 0, -1), 64]:  # stale bytes of longer ones lie behind each
            values = b.rng.integers(0, 1 << 8 * size, count).tolist()
            expected = b.data.copy()
            expected[: count * size] = np.frombuffer(b"".join(v.to_bytes(size, "little") for v in values), dtype=np.uint8)
            await b.store(values, wide)
            await b.write(0, -(-count * size // n))
            assert np.array_equal(b.data, expected), count

    Bench(small(n), n).run(bench)


def test_zeros_clear_every_byte_between_stores():
    async def bench(b):
        await b.store([1] * 50, True)
        await b.write(100, 13)
        for start, beats in ((7, 30), (103, 1), (256, 8)):
            expected = b.data.copy()
            expected[start * 16 : (start + beats) * 16] = 0
            await b.write(start, beats, "zeros")
            assert np.array_equal(b.data, expected)
        await b.store([0x1234], False)
        await b.write(500, 1)
        assert b.at(500, 1)[:2] == b"\x34\x12"

    Bench(small(16), 1, busy=0.3).run(bench)


def test_gains_come_in_order_a_word_a_clock_until_begin_or_flush():
    async def bench(b):
        ctx, dut = b.ctx, b.dut
        room = b.config.gain_buffer_elements + GAIN_LENGTHS
        for end in ("", "begin", "flush", ""):
            words = b.rng.integers(-(1 << 15), 1 << 15, room).tolist()
            assert not b.get("gain_some")
            for word in words:
                ctx.set(dut.gain_data, word & 0xFFFF)
                await b.strobe("gain_push")
            await b.tick()
            assert b.get("gain_some")
            taken = room // 2 if end else room
            ctx.set(dut.gain_pop, 1)
            for word in words[:taken]:
                await b.tick()
                assert b.get("gain_out") == word
            ctx.set(dut.gain_pop, 0)
            await b.tick()
            assert b.get("gain_some") == bool(end)
            if end:
                await b.strobe(end)
                await b.until("flushed")
                await b.tick(2)

    Bench(small(16), 2).run(bench)


@pytest.mark.parametrize("cycles", range(0, 40, 5))
def test_a_flush_drops_what_is_outstanding_and_the_next_run_is_whole(cycles):
    async def bench(b):
        await b.push(3, 500)
        await b.push(800, 900)
        await b.tick(cycles)
        own = cycles % 2
        if own:  # an own read is under way, too
            await b.strobe("hold")
            await b.until("quiet")
            await b.load_register("address", 40)
            await b.load_register("beats", 7)
            await b.strobe("read")
            await b.tick(cycles // 3)
        await b.strobe("flush")
        assert not b.get("flushed")
        await b.until("flushed")
        assert b.get("level") == 0
        asked = len(b.reads)
        await b.tick(60)
        assert len(b.reads) == asked and len(b.arrivals) == sum(beats for _, beats, _ in b.reads), "nothing comes afterwards"
        assert not b.get("weight_valid")
        b.events = dict.fromkeys(b.events, 0)
        await chores(b, 3)

    Bench(small(16), cycles, busy=0.3, latency=12).run(bench)


def test_a_flush_right_after_a_push_leaves_no_request_behind():
    async def bench(b):
        for cycles in range(14):
            await b.push(8 * cycles, 8 * cycles + 1)
            await b.tick(cycles)
            await b.strobe("flush")
            await b.until("flushed")
            asked = len(b.reads)
            await b.tick(12)
            assert len(b.reads) == asked == len(b.arrivals), cycles
            assert b.get("level") == 0

    Bench(small(16), 8, latency=2).run(bench)


def test_an_error_stays_until_begin():
    async def bench(b):
        b.errors = {20}
        await b.push(10, 20)
        await b.weights(10)
        assert not b.get("error")
        await b.push(20, 22)
        await b.weights(2)
        assert b.get("error")
        await b.tick(5)
        assert b.get("error")
        await b.strobe("begin")
        assert not b.get("error")
        b.write_error = True
        await b.write(700, 1, "zeros")
        await b.tick()
        assert b.get("error")

    Bench(small(16), 4).run(bench)


def test_every_region_that_fits_the_queue_is_fetched():
    async def bench(b):
        await b.strobe("hold")
        await b.until("quiet")
        for k in range(REGIONS):
            await b.push(100 * k, 100 * k + 2 + k)
        assert not b.reads
        await b.strobe("release")
        for k in range(REGIONS):
            assert await b.weights(2 + k) == b.at(100 * k, 2 + k)

    Bench(small(16), 5).run(bench)


def test_the_fetch_keeps_room_for_what_it_asks_and_fills_the_queue():
    async def bench(b):
        await b.push(0, 1000)
        await b.tick(300)
        assert b.get("level") == b.config.weight_fifo_beats
        assert await b.weights(1000) == b.at(0, 1000)

    Bench(small(16), 6, latency=7).run(bench)


@pytest.mark.parametrize("n", [4, 16, 32])
def test_a_beat_a_clock_and_an_element_a_clock_without_a_gap(n):
    async def bench(b):
        ctx, dut = b.ctx, b.dut
        await b.push(4, 1000)
        await b.until("weight_valid")
        await b.tick(20)  # the request after the first, short one is on its way
        ctx.set(dut.weight_ready, 1)
        for k in range(400):
            assert b.get("weight_valid"), k
            assert int(b.get("weight_data")).to_bytes(n, "little") == b.at(4 + k, 1)
            await b.tick()
        ctx.set(dut.weight_ready, 0)
        for load, wide, count in ((False, False, 60), (True, False, 64), (True, True, 64)):
            if load:
                await b.read(2000, -(-count * (4 if wide else 2) // n))
            ctx.set(dut.element_load, load)
            ctx.set(dut.element_wide, wide)
            await b.until("weight_valid")
            await b.strobe("element_start")
            ctx.set(dut.element_ready, 1)
            await b.tick((LOAD_CLOCKS if load else STREAM_CLOCKS) - 2)
            assert not b.get("element_valid")
            for k in range(count):
                await b.tick()
                ctx.set(dut.element_end, k == count - 1)
                assert b.get("element_valid"), k
            for clocks in range(1, RESUME_CLOCKS + 1):
                await b.tick()
                ctx.set(dut.element_ready, 0)
                ctx.set(dut.element_end, 0)
                # A beat that was dropped or used up has a successor at once.
                assert b.get("weight_valid") == (clocks >= (RESUME_CLOCKS if load else 1))
        assert await b.weights(1) == b.at(404 + -(-120 // n), 1)

    Bench(small(n, weight_fifo_beats=64, burst_beats=16), n, latency=9).run(bench)


def test_requests_and_beats_come_when_the_documentation_says():
    async def bench(b):
        await b.load_register("region", 8)
        await b.load_register("region_end", 9)
        pushed = b.clock
        await b.strobe("push")
        await b.until("weight_valid")
        assert b.reads == [(8, 1, pushed + REQUEST_CLOCKS + 1)]
        assert b.clock == b.arrivals[0] + WEIGHT_CLOCKS
        await b.strobe("hold")
        await b.until("quiet")
        for beat in (70, 80):
            await b.load_register("address", beat)
            await b.load_register("beats", 0)
            asked = b.clock
            await b.strobe("read")
            assert not b.get("taken") and not b.get("read_done")
            await b.until("taken")
            assert b.reads[-1] == (beat, 1, asked + REQUEST_CLOCKS)
            assert b.clock == asked + REQUEST_CLOCKS + 1
        await b.until("read_done")
        assert b.clock == b.arrivals[-1] + 2
        await b.strobe("release")
        await b.push(0, 200)
        await b.tick(60)
        offers = [clock for _, _, clock in b.reads[-3:]]
        assert np.diff(offers).tolist() == [REQUEST_CLOCKS + 1] * 2, "the stream's requests follow each other while there is room"
        written = b.clock
        await b.store([1], False)
        await b.load_register("address", 5)
        await b.load_register("beats", 0)
        assert b.get("write_done")
        written = b.clock
        await b.strobe("write")
        assert not b.get("write_done") and not b.get("taken")
        await b.tick()
        assert b.get("taken")
        await b.until("write_done")
        assert b.clock == written + 4  # offered at 1, its beat at 2, answered at 3

    Bench(small(16), 7).run(bench)


@pytest.mark.parametrize("bits", range(1, 17))
def test_a_pointer_goes_through_every_place(bits):
    # The same function on whole numbers by simulation would take 2^16 cycles; small ones are simulated, all are checked as polynomials.
    if bits > 9:
        from trilobit.hdl.lean.buffers import _TAPS

        value, seen = 0, np.zeros(1 << bits, dtype=bool)
        low = (1 << (bits - 1)) - 1
        mask = sum(1 << (tap - 1) for tap in _TAPS[bits])
        for _ in range(1 << bits):
            seen[value] = True
            value = (value << 1 | ((value & mask).bit_count() & 1) ^ (not value & low)) & ((1 << bits) - 1)
        assert value == 0 and seen.all()
        return
    pointer = Signal(bits)
    m = Module()
    m.d.sync += pointer.eq(follow(pointer))
    seen_places = set()

    async def bench(ctx):
        for _ in range(1 << bits):
            seen_places.add(ctx.get(pointer))
            await ctx.tick()
        assert ctx.get(pointer) == 0

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert seen_places == set(range(1 << bits))
