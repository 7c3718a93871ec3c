"""The stream fetch against trilobit.isa.segments: requests, steering, order, back-pressure, faults, flush."""

import os
import struct
from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import Timer
from support import random_numbers, start, step

from trilobit.hdl.stream import HEADER_CLOCKS, WEIGHT_LATENCY, landing_beats
from trilobit.isa.core import load_core
from trilobit.isa.fixed import ACT_ZERO, Scalar
from trilobit.isa.segments import gains_segment, matrix_segment, parse_segment
from trilobit.isa.trits import pack

CONFIG = load_core(os.environ.get("PRESET", "tiny"))
LANES, N, LONGEST = CONFIG.lanes, CONFIG.beat_bytes, min(CONFIG.max_length, 64)
ALIGN = max(N, 16)
WINDOW = 1 << 17


class World:
    """Memory with latency, and three consumers that keep what they get.

    Args:
        latency: cycles from a request to its first beat.
        busy: chance that memory pauses or refuses, each cycle.
        slow: chance that a consumer isn't ready, by name: weights, headers, gains.
    """

    def __init__(self, dut, rng, latency: int = 1, busy: float = 0.0, **slow: float):
        self.dut, self.rng, self.latency, self.busy = dut, rng, latency, busy
        self.slow = {"weights": 0.0, "headers": 0.0, "gains": 0.0} | slow
        self.memory = rng.integers(0, 256, WINDOW).astype(np.uint8)
        self.regions: deque[tuple[int, int]] = deque()
        self.requests: list[tuple[int, int]] = []
        self.answers: deque[tuple[int, int]] = deque()
        self.now = 0
        self.weights: list[bytes] = []
        self.weight_cycles: list[int] = []
        self.arrivals: list[int] = []
        self.headers: list[int] = []
        self.gains: list[np.ndarray] = []
        self.gain_words: list[int] = []
        self.wanted = 0

    def place(self, addr: int, segments: list[bytes]) -> None:
        """Put a run of segments into memory and push it as a region."""
        data = b"".join(segments)
        self.memory[addr : addr + len(data)] = np.frombuffer(data, dtype=np.uint8)
        self.regions.append((addr, len(data) // N))

    def chance(self, who: str) -> bool:
        return self.rng.random() >= self.slow[who]

    async def clock(self) -> None:
        dut = self.dut
        push = bool(self.regions)
        dut.push_valid.value = int(push)
        if push:
            dut.push_addr.value, dut.push_beats.value = self.regions[0]
        accept = self.rng.random() >= self.busy
        dut.req_ready.value = int(accept)
        answer = bool(self.answers) and self.answers[0][1] <= self.now and self.rng.random() >= self.busy
        dut.rdata_valid.value = int(answer)
        if answer:
            addr, _ = self.answers.popleft()
            dut.rdata.value = int.from_bytes(self.memory[addr : addr + N].tobytes(), "little")
            self.arrivals.append(self.now)
        take_weight, take_header, take_gain = (self.chance(who) for who in ("weights", "headers", "gains"))
        dut.weight_ready.value, dut.header_ready.value = int(take_weight), int(take_header)
        dut.gain__segment_ready.value = int(take_gain and not self.wanted)
        dut.gain__ready.value = int(take_gain)
        await Timer(9, "ns")
        if push and dut.push_ready.value == 1:
            self.regions.popleft()
        if accept and dut.req_valid.value == 1:
            addr, beats = int(dut.req_addr.value), int(dut.req_len.value) + 1
            self.requests.append((addr, beats))
            self.answers.extend((addr + k * N, self.now + self.latency) for k in range(beats))
            assert len(self.answers) <= landing_beats(CONFIG)
        if take_weight and dut.weight_valid.value == 1:
            self.weights.append(int(dut.weight_data.value).to_bytes(N, "little"))
            self.weight_cycles.append(self.now)
        if take_header and dut.header_valid.value == 1:
            self.headers.append(int(dut.header.value))
        if dut.flush.value == 1:
            self.wanted = 0  # what is offered in the first cycle of a flush is lost
        elif dut.gain__segment_ready.value == 1 and dut.gain__segment_valid.value == 1:
            self.wanted = int(dut.gain__length.value)
            self.gain_words = []
        elif take_gain and dut.gain__valid.value == 1:
            assert self.wanted, "gains were offered beyond their segment"
            self.gain_words.append(int(dut.gain__data.value))
            if len(self.gain_words) == -(-self.wanted // LANES):
                raw = b"".join(word.to_bytes(2 * LANES, "little") for word in self.gain_words)
                self.gains.append(np.frombuffer(raw, dtype="<i2")[: self.wanted])
                self.wanted = 0
        await step(dut)
        self.now += 1

    async def run(self, cycles: int) -> None:
        for _ in range(cycles):
            await self.clock()

    async def until_idle(self, limit: int = 50_000) -> None:
        await self.run(4)
        for _ in range(limit):
            if not self.regions and not self.wanted and self.dut.idle.value == 1:
                return
            assert self.dut.fault.value == 0, "a good header faulted"
            await self.clock()
        raise AssertionError(f"not idle after {limit} cycles")


def random_matrix(rng, rows=None, columns=None) -> bytes:
    rows, columns = int(rows or rng.integers(1, 41)), int(columns or rng.integers(1, LONGEST + 1))
    scale = Scalar(int(rng.integers(1 << 17, 1 << 18)), int(rng.integers(-128, 128))) if rng.random() < 0.9 else ACT_ZERO
    return matrix_segment(pack(rng.integers(-1, 2, (rows, columns))), rows, scale, N)


def random_gains(rng, length=None) -> bytes:
    return gains_segment(rng.integers(-(1 << 15), 1 << 15, int(length or rng.integers(1, LONGEST + 1))), N)


def expected(memory: np.ndarray, regions: list[tuple[int, int]]):
    """Weight beats, headers as the hardware packs them and gains of runs of segments."""
    weights, headers, gains = [], [], []
    for addr, beats in regions:
        end = addr + beats * N
        while addr < end:
            segment = parse_segment(memory, addr, N)
            payload = memory[segment.payload : segment.payload + segment.beats * N]
            if segment.kind == "ternary":
                weights += [row.tobytes() for row in payload.reshape(-1, N)]
                scalar = segment.scale.mantissa | (segment.scale.exponent & 0x3FF) << 18
                headers.append(addr | segment.rows << 40 | segment.columns << 56 | scalar << 72)
            else:
                gains.append(payload.tobytes()[: 2 * segment.columns])
            addr = segment.payload + segment.beats * N
    return weights, headers, gains


def check(world: World, regions: list[tuple[int, int]]) -> None:
    weights, headers, gains = expected(world.memory, regions)
    assert world.weights == weights
    assert world.headers == headers
    assert [g.tobytes() for g in world.gains] == gains
    block = CONFIG.burst_block * N
    asked = []
    for addr, beats in world.requests:
        assert addr // block == (addr + beats * N - 1) // block, f"the request {addr:#x} of {beats} beats crosses {block} bytes"
        assert addr // 4096 == (addr + beats * N - 1) // 4096
        asked += range(addr, addr + beats * N, N)
    assert asked == [addr + k * N for addr, beats in regions for k in range(beats)]


async def set_up(dut, **world):
    rng = random_numbers()
    await start(dut)
    return rng, World(dut, rng, **world)


def fill(rng, world: World, regions: int, segments: int, first: int = 0) -> list[tuple[int, int]]:
    addr = first
    for _ in range(regions):
        addr += int(rng.integers(0, 40)) * ALIGN
        kinds = rng.integers(0, 2, int(rng.integers(1, segments + 1)))
        world.place(addr, [random_matrix(rng) if kind else random_gains(rng) for kind in kinds])
        addr += world.regions[-1][1] * N
        addr += -addr % ALIGN
    return list(world.regions)


@cocotb.test()
async def random_streams(dut):
    """Random regions, memory timing and consumers: everything arrives, in order, at its place."""
    for latency, busy, slow in [(1, 0.0, 0.0), (7, 0.3, 0.2), (25, 0.1, 0.6), (3, 0.6, 0.0)]:
        rng, world = await set_up(dut, latency=latency, busy=busy, weights=slow, headers=slow, gains=slow)
        regions = fill(rng, world, regions=6, segments=5)
        await world.until_idle()
        check(world, regions)


@cocotb.test()
async def full_speed(dut):
    """A beat a clock with any latency that the landing queue covers, and the documented clocks."""
    for latency in (1, landing_beats(CONFIG) - 2 * CONFIG.burst_block):
        rng, world = await set_up(dut, latency=latency)
        world.place(0, [random_matrix(rng, rows=40, columns=LONGEST) for _ in range(3)])
        regions = list(world.regions)
        await world.until_idle()
        check(world, regions)
        beats = len(world.weights) // 3
        assert len(world.weights) == 3 * beats
        first_payload = world.arrivals[CONFIG.header_beats]
        # The first payload beat waits HEADER_CLOCKS for its header's check, and so does all behind it.
        assert world.weight_cycles[0] == first_payload + WEIGHT_LATENCY + HEADER_CLOCKS
        pauses = np.diff(world.weight_cycles)
        overhead = CONFIG.header_beats + HEADER_CLOCKS
        assert sorted(set(pauses.tolist())) == [1, 1 + overhead], "a beat was lost"
        assert np.flatnonzero(pauses != 1).tolist() == [beats - 1, 2 * beats - 1]


@cocotb.test()
async def gains_pass_a_product_that_waits(dut):
    """Gains that are ahead of a matrix come without any weight being consumed; those behind it once there is room."""
    rng, world = await set_up(dut, latency=4, weights=1.0, headers=1.0)
    big = [random_matrix(rng, rows=5 * (2 * (CONFIG.weight_fifo_beats + landing_beats(CONFIG)) * N // LONGEST), columns=LONGEST)]
    world.place(0, [random_gains(rng), random_gains(rng), *big, random_gains(rng), random_matrix(rng)])
    regions = list(world.regions)
    await world.run(CONFIG.weight_fifo_beats + 2 * landing_beats(CONFIG) + 200 + LONGEST)
    assert len(world.gains) == 2
    assert not world.weights
    assert dut.level.value.to_unsigned() >= CONFIG.weight_fifo_beats
    world.slow |= {"weights": 0.0, "headers": 0.0}
    await world.until_idle()
    check(world, regions)


@cocotb.test()
async def weights_pass_gains_that_wait(dut):
    """As many gains as the buffer holds may lie ahead of a matrix."""
    rng, world = await set_up(dut, latency=2, gains=1.0)
    count = min(CONFIG.gain_buffer_elements // LONGEST, 16)
    world.place(0, [*(random_gains(rng, LONGEST) for _ in range(count)), random_matrix(rng), random_matrix(rng)])
    regions = list(world.regions)
    weights, _, _ = expected(world.memory, regions)
    await world.run(2 * sum(beats for _, beats in regions) + 300)
    assert world.weights == weights
    assert not world.gains
    world.slow["gains"] = 0.0
    await world.until_idle()
    check(world, regions)


def bad_headers(rng):
    """A name and 16 wrong bytes each."""
    trits = pack(rng.integers(-1, 2, (7, 9)))
    good = bytearray(matrix_segment(trits, 7, Scalar((1 << 18) - 1, -20), N)[:16])
    gains = bytearray(random_gains(rng, 8)[:16])

    def checked(header: bytearray, **changes) -> bytes:
        for at, value in changes.items():
            header[int(at[1:])] = value
        words = struct.unpack("<7H", header[:14])
        return bytes(header[:14]) + struct.pack("<H", ~sum(words) & 0xFFFF)

    yield "magic", checked(good[:], b0=0xB2)
    yield "kind", checked(good[:], b1=3)
    yield "kind 0", checked(good[:], b1=0)
    for bit in (16, 37, 60, 75, 85, 111, 112, 127):
        yield f"bit {bit}", (int.from_bytes(good, "little") ^ 1 << bit).to_bytes(16, "little")
    yield "no rows", checked(good[:], b2=0, b3=0)
    yield "no columns", checked(good[:], b4=0, b5=0)
    too_long = struct.pack("<H", CONFIG.max_length + 1)
    yield "too many columns", checked(good[:], b4=too_long[0], b5=too_long[1])
    yield "too many gains", checked(gains[:], b4=too_long[0], b5=too_long[1])
    yield "mantissa without its top bit", checked(good[:], b8=good[8] & 1)
    yield "mantissa beyond 18 bits", checked(good[:], b8=good[8] | 4)
    yield "gains with two rows", checked(gains[:], b2=2)


@cocotb.test()
async def bad_headers_fault(dut):
    """Each fault stays until a flush; what came before is intact, nothing after is steered; then the fetch works again."""
    rng = random_numbers()
    for name, header in bad_headers(rng):
        await start(dut)
        world = World(dut, rng, latency=3, busy=0.1)
        before = random_matrix(rng, rows=6)
        junk = header + bytes(-len(header) % N)
        world.place(64, [before, junk, random_matrix(rng)])
        for _ in range(2000):  # memory pauses at random, and narrow beats take long
            await world.clock()
            if dut.fault.value == 1:
                break
        await world.run(50)
        assert dut.fault.value == 1, name
        weights, headers, _ = expected(world.memory, [(64, len(before) // N)])
        assert (world.weights, world.headers, len(world.gains)) == (weights, headers, 0), name
        await flush(dut, world)
        assert dut.fault.value == 0, name
        await works(rng, world)


async def flush(dut, world: World) -> None:
    dut.flush.value = 1
    world.regions.clear()
    for waited in range(1000):
        await world.clock()
        if waited and dut.idle.value == 1:
            break
    assert dut.idle.value == 1
    assert not world.answers
    dut.flush.value = 0


async def works(rng, world: World) -> None:
    """A fresh stream comes through whole."""
    world.weights, world.headers, world.gains, world.requests = [], [], [], []
    regions = fill(rng, world, regions=1, segments=3, first=WINDOW // 2)
    await world.until_idle()
    check(world, regions)


@cocotb.test()
async def flush_at_any_time(dut):
    """Regions, outstanding reads, queues and half a header are dropped."""
    rng, world = await set_up(dut, latency=11, busy=0.2, weights=0.7, headers=0.7, gains=0.7)
    for _ in range(12):
        fill(rng, world, regions=5, segments=3)
        await world.run(int(rng.integers(1, 150)))
        await flush(dut, world)
        slow, world.slow = world.slow, {"weights": 0.0, "headers": 0.0, "gains": 0.0}
        await works(rng, world)
        world.slow = slow
