"""The UART's two halves: bits against a hand-made line, and each other's bytes."""

import os

import cocotb
from support import cycle, get, put, random_numbers, start, step

from trilobit.hdl.link import BREAK_BITS

DIVISOR = int(os.environ["DIVISOR"])


async def send_bits(dut, bits, divisor=DIVISOR):
    for bit in bits:
        dut.rx.value = bit
        await step(dut, divisor)
    dut.rx.value = 1


def frame(byte: int, stop: int = 1) -> list[int]:
    return [0, *(byte >> k & 1 for k in range(8)), stop]


async def until(dut, signal, limit=100 * DIVISOR):
    for _ in range(limit):
        await cycle(dut)
        if signal.value == 1:
            return
        await step(dut)
    raise AssertionError("never seen")


@cocotb.test(skip=os.environ["SIDE"] != "receiver")
async def receives_bytes(dut):
    """Back to back and with pauses, also from a sender that is 3 % fast or slow (where a bit has clocks enough to say so)."""
    rng = random_numbers()
    await start(dut, rx=1, divisor=DIVISOR)
    for divisor in {DIVISOR, DIVISOR - DIVISOR // 33, DIVISOR + DIVISOR // 33}:
        for byte in [0x00, 0xFF, 0x55, *rng.integers(0, 256, 20).tolist()]:
            sender = cocotb.start_soon(send_bits(dut, frame(byte), divisor))
            assert await get(dut, "o", "payload", limit=20 * DIVISOR) == (byte,)
            await sender
            await step(dut, int(rng.choice([0, 1, 3 * DIVISOR])) or 1)


@cocotb.test(skip=os.environ["SIDE"] != "receiver")
async def documented_latency(dut):
    """The byte is offered 9.5 bits and three clocks after its start bit began."""
    await start(dut, rx=1, divisor=DIVISOR)
    await step(dut, 20)
    cocotb.start_soon(send_bits(dut, frame(0xA5)))
    now = 0
    while True:
        await cycle(dut)
        if dut.o__valid.value == 1:
            break
        await step(dut)
        now += 1
        assert now < 12 * DIVISOR, "no byte"
    assert now == 9 * DIVISOR + DIVISOR // 2 + 3


@cocotb.test(skip=os.environ["SIDE"] != "receiver")
async def drops_what_is_broken(dut):
    """A glitch is no byte; a byte without a stop bit is an error; a second byte that nobody made room for is an overrun."""
    await start(dut, rx=1, divisor=DIVISOR)
    await send_bits(dut, [0], max(1, DIVISOR // 2 - 2))
    await step(dut, 12 * DIVISOR)
    assert dut.o__valid.value == 0
    cocotb.start_soon(send_bits(dut, frame(0x42, stop=0)))
    await until(dut, dut.error)
    await step(dut, 4 * DIVISOR)
    assert dut.o__valid.value == 0
    await send_bits(dut, frame(0x17))
    await step(dut, 2 * DIVISOR)
    cocotb.start_soon(send_bits(dut, frame(0x99)))
    await until(dut, dut.overrun)
    await step(dut, DIVISOR)
    assert await get(dut, "o", "payload") == (0x17,), "the first one stays"
    await send_bits(dut, frame(0x31))
    assert await get(dut, "o", "payload", limit=3 * DIVISOR) == (0x31,), "and it goes on"


@cocotb.test(skip=os.environ["SIDE"] != "receiver")
async def follows_another_divisor_and_sees_a_break(dut):
    """At another rate bytes are received the same; a break is told when the line was low for its bits of the first rate, not before."""
    other = DIVISOR + 5
    await start(dut, rx=1, divisor=other)
    for byte in (0x3C, 0x81):
        sender = cocotb.start_soon(send_bits(dut, frame(byte), other))
        assert await get(dut, "o", "payload", limit=20 * other) == (byte,)
        await sender
    dut.rx.value = 0
    for _ in range(BREAK_BITS * DIVISOR):
        await step(dut)
        assert dut.line_break.value == 0
    await step(dut, 4)
    await cycle(dut)
    assert dut.line_break.value == 1 and dut.o__valid.value == 0
    await step(dut)
    await send_bits(dut, [1], 5)
    await send_bits(dut, frame(0x42), other)
    assert dut.line_break.value == 0
    assert await get(dut, "o", "payload", limit=3 * other) == (0x42,)


@cocotb.test(skip=os.environ["SIDE"] != "transmitter")
async def sends_bytes(dut):
    """Every bit is there for exactly its clocks; bytes follow each other without a gap."""
    rng = random_numbers()
    await start(dut, divisor=DIVISOR)
    data = [0x00, 0xFF, 0xA5, *rng.integers(0, 256, 10).tolist()]
    line: list[int] = []

    async def watch():
        while True:
            await cycle(dut)
            line.append(int(dut.tx.value))
            await step(dut)

    watcher = cocotb.start_soon(watch())
    for byte in data:
        await put(dut, "i", payload=byte, limit=20 * DIVISOR)
    await step(dut, 11 * DIVISOR)
    watcher.cancel()
    begin = line.index(0)
    expected = [bit for byte in data for bit in frame(byte) for _ in range(DIVISOR)]
    assert line[begin : begin + len(expected)] == expected
    assert all(line[begin + len(expected) :]), "idle is high"
