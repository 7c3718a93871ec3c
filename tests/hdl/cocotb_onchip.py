"""A core with everything on the chip: prompts over the line's bits, answers back, equal to the functional simulator's."""

import json
import os
from pathlib import Path

import cocotb
from cocotb.simtime import get_sim_time
from cocotb.triggers import FallingEdge, RisingEdge, Timer
from support import PERIOD_NS, start

from trilobit.hdl.onchip_text import END, FAULT, GO, STOP

DIVISOR = int(os.environ["DIVISOR"])
CASES = json.loads(Path(os.environ["CASES"]).read_text())


async def clocks(count: float) -> None:
    """As long as so many clocks, without a call for each: nothing here needs to be synchronous."""
    await Timer(round(count * PERIOD_NS), "ns")


class Line:
    """The other end of the serial line, and a watch on how long the core runs."""

    def __init__(self, dut):
        self.dut, self.received, self.runs = dut, bytearray(), []
        cocotb.start_soon(self._receive())
        cocotb.start_soon(self._measure())

    async def send(self, text: bytes, gap: int = 0) -> None:
        for byte in text:
            for bit in (0, *(byte >> k & 1 for k in range(8)), 1):
                self.dut.rx.value = bit
                await clocks(DIVISOR)
            await clocks(gap + 1)

    async def _receive(self):
        while True:
            await FallingEdge(self.dut.tx)
            await clocks(DIVISOR / 2)
            byte = 0
            for k in range(8):
                await clocks(DIVISOR)
                byte |= int(self.dut.tx.value) << k
            await clocks(DIVISOR)
            assert self.dut.tx.value == 1, "a stop bit"
            self.received.append(byte)

    async def _measure(self):
        while True:
            await RisingEdge(self.dut.running)
            began = get_sim_time("ns")
            await FallingEdge(self.dut.running)
            self.runs.append(round(get_sim_time("ns") - began) // PERIOD_NS)

    async def answer(self, limit: int = 4_000_000) -> bytes:
        """What came up to the mark at the end."""
        for _ in range(limit // 64):
            if self.received and self.received[-1] in (END, FAULT):
                answer, self.received[:] = bytes(self.received), b""
                return answer
            await clocks(64)
        raise AssertionError(f"no end within {limit} cycles, got {bytes(self.received)!r}")


@cocotb.test()
async def answers_prompts(dut):
    """One after the other: each is as the functional simulator has it, and takes the cycles that the cycle model says."""
    await start(dut, rx=1)
    line = Line(dut)
    for case in CASES["answers"]:
        await line.send(case["prompt"].encode("latin1"), gap=int(case["gap"]))
        await line.send(bytes([GO]))
        assert await line.answer() == case["answer"].encode("latin1") + bytes([END])
        assert line.runs.pop() == case["cycles"], "cycles from start to halt"
    assert not line.runs


@cocotb.test(skip="stopped" not in CASES)
async def stops_and_begins_anew(dut):
    """Control-C in the middle of an answer; characters sent while the core runs are not part of the next prompt."""
    case = CASES["stopped"]
    await start(dut, rx=1)
    line = Line(dut)
    await line.send(case["prompt"].encode("latin1") + bytes([GO]))
    while len(line.received) < 2:
        await clocks(16)
    await line.send(b"zz" + bytes([STOP]))
    await clocks(30 * DIVISOR)
    assert bytes(line.received) == case["answer"].encode("latin1")[: len(line.received)]
    assert dut.running.value == 0 and dut.halted.value == 0 and END not in line.received
    line.received.clear()
    line.runs.clear()
    await line.send(b"y" + bytes([STOP]) + case["prompt"].encode("latin1") + bytes([GO]))
    assert await line.answer() == case["answer"].encode("latin1") + bytes([END])


@cocotb.test(skip="faulty" not in CASES)
async def says_that_it_faulted(dut):
    """A fault is said on the line and the machine is ready for another prompt."""
    await start(dut, rx=1)
    line = Line(dut)
    for _ in range(2):
        await line.send(CASES["faulty"].encode("latin1") + bytes([GO]))
        assert (await line.answer())[-1] == FAULT
