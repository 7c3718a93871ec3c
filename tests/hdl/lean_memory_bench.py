"""A lean core's memory side, a memory with random waits behind it, and the strobes of a sequencer."""

from collections import deque

import numpy as np
from amaranth.sim import Simulator

from trilobit.hdl.lean.memory import LeanMemory
from trilobit.isa.core import CoreConfig, load_core

__all__ = ["MEMORY_BEATS", "Bench", "small"]

MEMORY_BEATS = 4096


def small(n: int, **changes) -> CoreConfig:
    values = {"beat_bytes": n, "lanes": 1, "max_length": 64, "weight_fifo_beats": 32, "gain_buffer_elements": 128, "burst_beats": 8,
              "load_fifo_beats": 512}  # fmt: skip
    return load_core("tiny").replace(**(values | changes))


class Bench:
    """A LeanMemory, the memory behind it, and the strobes of a sequencer. ``clock`` counts cycles."""

    def __init__(self, config: CoreConfig, seed: int, *, busy: float = 0.0, latency: int = 1):
        print(f"seed {seed}")
        self.config, self.n, self.busy, self.latency = config, config.beat_bytes, busy, latency
        self.rng = np.random.default_rng(seed)
        self.data = self.rng.integers(0, 256, MEMORY_BEATS * self.n, dtype=np.uint8)
        self.dut = LeanMemory(config)
        self.clock = 0
        self.reads: list[tuple[int, int, int]] = []  # beat, beats, clock of the first offer
        self.writes: list[tuple[int, int]] = []
        self.errors: set[int] = set()  # beats that fail
        self.write_error = False
        self.events = dict.fromkeys(("stream_read_beat", "load_read_beat", "write_beat"), 0)
        self.arrivals: list[int] = []  # clocks

    def run(self, bench) -> None:
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def main(ctx):
            self.ctx = ctx
            await bench(self)

        sim.add_testbench(self._memory, background=True)  # first: the cycle's number and answers are there when main looks
        sim.add_testbench(main)
        sim.run()

    def _waits(self) -> bool:
        return bool(self.rng.random() < self.busy)

    async def _memory(self, ctx):
        mem, n = self.dut.mem, self.n
        block = self.config.burst_block
        queue: deque[tuple[int, int]] = deque()
        offered = None
        write: list[int] | None = None  # next beat, beats left; then an answer
        answer = False
        while True:
            waits = [self._waits() for _ in range(4)]
            ctx.set(mem.rd_ready, not waits[0])
            arrives = bool(queue) and queue[0][1] <= self.clock and not waits[1]
            beat = queue.popleft()[0] if arrives else 0
            ctx.set(mem.rdata_valid, arrives)
            word = self.data[beat * n : beat * n + n].tobytes() if arrives else self.rng.bytes(n)
            ctx.set(mem.rdata, int.from_bytes(word, "little"))
            ctx.set(mem.rdata_error, arrives and beat in self.errors)
            if arrives:
                self.arrivals.append(self.clock)
            ctx.set(mem.wr_ready, write is None and not answer and not waits[2])
            ctx.set(mem.wdata_ready, write is not None and not waits[3])
            ctx.set(mem.wresp_valid, answer and not waits[2])
            ctx.set(mem.wresp_error, answer and self.write_error)
            if answer and not waits[2]:
                answer = False
            events = [getattr(self.dut, name) for name in self.events]
            (_, _, rd_valid, rd_ready, rd_addr, rd_len, wr_valid, wr_ready, wr_addr, wr_len, wdata_valid, wdata_ready, wdata, strobe,
             *happened) = await ctx.tick().sample(
                mem.rd_valid, mem.rd_ready, mem.rd_addr, mem.rd_len, mem.wr_valid, mem.wr_ready, mem.wr_addr, mem.wr_len,
                mem.wdata_valid, mem.wdata_ready, mem.wdata, mem.wdata_strobe, *events)  # fmt: skip
            for name, event in zip(self.events, happened, strict=True):
                self.events[name] += event
            if offered is not None:
                assert rd_valid and (rd_addr, rd_len) == offered, "an offered request stays"
            if rd_valid and offered is None:
                self.reads.append((rd_addr // n, rd_len + 1, self.clock))
            offered = (rd_addr, rd_len) if rd_valid and not rd_ready else None
            if rd_valid and rd_ready:
                assert rd_addr % n == 0
                first, last = rd_addr // n, rd_addr // n + rd_len
                assert first // block == last // block, "a request stays in its block"
                queue += [(k, self.clock + self.latency) for k in range(first, last + 1)]
            if write is None:
                assert not wdata_valid
            elif wdata_valid and wdata_ready:
                for k in range(n):
                    if strobe >> k & 1:
                        self.data[write[0] * n + k] = wdata >> 8 * k & 0xFF
                write = [write[0] + 1, write[1] - 1]
                if not write[1]:
                    write, answer = None, True
            if wr_valid and wr_ready:
                assert wr_addr % n == 0
                write = [wr_addr // n, wr_len + 1]
                self.writes.append((wr_addr // n, wr_len + 1))
                assert write[0] // block == (write[0] + write[1] - 1) // block
            self.clock += 1

    # ---- the sequencer's side ---------------------------------------------------------------------------------------------------

    def get(self, name: str) -> int:
        return self.ctx.get(getattr(self.dut, name))

    async def tick(self, count: int = 1) -> None:
        for _ in range(count):
            await self.ctx.tick()

    async def strobe(self, name: str) -> None:
        self.ctx.set(getattr(self.dut, name), 1)
        await self.tick()
        self.ctx.set(getattr(self.dut, name), 0)

    async def until(self, name: str) -> None:
        for _ in range(3000):
            if self.get(name):
                return
            await self.tick()
        raise AssertionError(f"{name} never comes")

    async def load_register(self, name: str, value: int) -> None:
        self.ctx.set(self.dut.hw_data, value)
        await self.strobe(f"set_{name}")
        self.ctx.set(self.dut.hw_data, int(self.rng.integers(0, 1 << 36)))

    async def push(self, start: int, end: int) -> None:
        await self.load_register("region", start)
        await self.load_register("region_end", end)
        await self.strobe("push")

    def bursts(self, start: int, beats: int):
        block = self.config.burst_block
        while beats:
            count = min(beats, block - start % block)
            yield start, count
            start, beats = start + count, beats - count

    async def read(self, start: int, beats: int) -> None:
        """Own requests into the load buffer, from hold to release."""
        await self.strobe("hold")
        await self.until("quiet")
        await self.strobe("reread")
        for first, count in self.bursts(start, beats):
            await self.load_register("address", first)
            await self.load_register("beats", count - 1)
            await self.strobe("read")
            await self.until("taken")
        await self.until("read_done")
        await self.strobe("release")

    async def write(self, start: int, beats: int, strobe: str = "write") -> None:
        for first, count in self.bursts(start, beats):
            await self.load_register("address", first)
            await self.load_register("beats", count - 1)
            await self.strobe(strobe)
            await self.until("write_done")

    async def store(self, elements: list[int], wide: bool) -> None:
        ctx, dut = self.ctx, self.dut
        await self.strobe("store_start")
        ctx.set(dut.store_wide, wide)
        for element in elements:
            while self._waits():
                await self.tick()
            ctx.set(dut.store_data, element & 0xFFFFFFFF)
            await self.strobe("store_en")

    async def elements(self, count: int, *, load: bool = False, wide: bool = False, is_signed: bool = False) -> list[int]:
        """A move: the elements' 36 bits."""
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.element_load, load)
        ctx.set(dut.element_wide, wide)
        ctx.set(dut.element_signed, is_signed)
        await self.strobe("element_start")
        found: list[int] = []
        for _ in range(3000):
            ready = not self._waits()
            ctx.set(dut.element_ready, ready)
            valid, value = self.get("element_valid"), self.get("element_data")
            ctx.set(dut.element_end, ready and bool(valid) and len(found) == count - 1)
            assert valid or not value, "zero while not valid"
            assert not self.get("weight_valid"), "none for the product while elements are taken"
            if ready and valid:
                found.append(value)
            await self.tick()
            if len(found) == count:
                ctx.set(dut.element_ready, 0)
                ctx.set(dut.element_end, 0)
                return found
        raise AssertionError("elements never come")

    async def weights(self, count: int) -> bytes:
        ctx, dut = self.ctx, self.dut
        found = b""
        for _ in range(5000):
            ready = not self._waits()
            ctx.set(dut.weight_ready, ready)
            if ready and self.get("weight_valid"):
                found += int(self.get("weight_data")).to_bytes(self.n, "little")
            await self.tick()
            if len(found) == count * self.n:
                ctx.set(dut.weight_ready, 0)
                return found
        raise AssertionError("weights never come")

    def at(self, start: int, beats: int) -> bytes:
        return self.data[start * self.n : (start + beats) * self.n].tobytes()
