"""Both queues against a deque: random traffic, full, empty, flushed, at full speed."""

import os
from collections import deque

import cocotb
from cocotb.triggers import Timer
from support import random_numbers, start, step

from trilobit.hdl.fifo import BLOCK_FIFO_LATENCY

DEPTH = int(os.environ["DEPTH"])
BLOCK = os.environ["KIND"] == "block"
LATENCY = BLOCK_FIFO_LATENCY if BLOCK else 1
HOLDS = DEPTH + BLOCK  # the block queue's output register holds one more


class Queue:
    """Drives both ends a cycle at a time and keeps what must be inside."""

    def __init__(self, dut, rng):
        self.dut, self.rng, self.inside, self.next = dut, rng, deque(), 1

    async def clock(self, offer: bool, accept: bool, flush: bool = False) -> tuple[bool, bool]:
        """One cycle; whether an item was taken at the input and at the output."""
        dut = self.dut
        dut.i_valid.value, dut.i_data.value = int(offer), self.next if offer else 0
        dut.o_ready.value, dut.flush.value = int(accept), int(flush)
        await Timer(9, "ns")
        assert int(dut.level.value) == len(self.inside)
        put, got = offer and dut.i_ready.value == 1, accept and dut.o_valid.value == 1
        if got:
            assert int(dut.o_data.value) == self.inside.popleft()
        if put:
            self.inside.append(self.next)
            self.next = self.next % 0xFFFF + 1
        if flush:
            self.inside.clear()
        assert len(self.inside) <= HOLDS
        await step(dut)
        return put, got


@cocotb.test()
async def keeps_order(dut):
    """Fast producer, fast consumer, both random, with a flush now and then."""
    rng = random_numbers()
    await start(dut)
    queue = Queue(dut, rng)
    for puts, gets in [(0.9, 0.2), (0.2, 0.9), (0.6, 0.6), (1.0, 0.5)]:
        for _ in range(8 * DEPTH + 40):
            await queue.clock(rng.random() < puts, rng.random() < gets, rng.random() < 0.02)


@cocotb.test()
async def holds_its_depth(dut):
    """Takes as many items as it says without giving one, then gives them all."""
    await start(dut)
    queue = Queue(dut, random_numbers())
    taken = 0
    for _ in range(HOLDS + 6):
        taken += (await queue.clock(True, False))[0]
    assert taken == HOLDS
    given = 0
    for _ in range(HOLDS + 6):
        given += (await queue.clock(False, True))[1]
    assert given == HOLDS


@cocotb.test()
async def an_item_a_clock(dut):
    """The documented latency through an empty queue, and no pause after it."""
    await start(dut)
    queue = Queue(dut, random_numbers())
    for now in range(3 * DEPTH):
        put, got = await queue.clock(True, True)
        assert put
        assert got == (now >= LATENCY)
