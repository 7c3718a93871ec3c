"""Unpacker and Packer against NumPy: random lengths, widths, pauses, and full speed."""

import os

import cocotb
import numpy as np
from cocotb.triggers import Timer
from support import random_numbers, start, step

N, LANES, ELEMENT = (int(os.environ[name]) for name in ("BEAT_BYTES", "LANES", "ELEMENT"))
LONGEST = 64


async def transfer(dut, rng, inputs: list[int], outputs: int, pause: float, strobes: bool):
    """Feed all inputs and take a number of outputs; what was taken (data, strobes) and the cycles it took."""
    taken, fed, cycles = [], 0, 0
    while len(taken) < outputs:
        offer = fed < len(inputs) and rng.random() >= pause
        accept = rng.random() >= pause
        dut.i_valid.value, dut.o_ready.value = int(offer), int(accept)
        dut.i_data.value = inputs[fed] if offer else 0
        await Timer(9, "ns")
        assert dut.busy.value == 1
        if offer and dut.i_ready.value == 1:
            fed += 1
        if accept and dut.o_valid.value == 1:
            taken.append((int(dut.o_data.value), int(dut.o_strobe.value) if strobes else None))
            assert dut.o_last.value == int(len(taken) == outputs)
        await step(dut)
        cycles += 1
        assert cycles < 5000
    dut.i_valid.value = dut.o_ready.value = 0
    await Timer(9, "ns")
    assert dut.busy.value == 0
    assert dut.o_valid.value == 0
    assert fed == len(inputs), "took another number of items than the vector has"
    await step(dut)
    return taken, cycles


async def begin(dut, length: int, wide: int) -> None:
    dut.start.value, dut.length.value, dut.wide.value = 1, length, wide
    await step(dut)
    dut.start.value, dut.wide.value = 0, 1 - wide


def cases(rng):
    for pause in (0.0, 0.4, 0.8):
        for length in [1, LONGEST, *rng.integers(1, LONGEST + 1, 6).tolist()]:
            for wide in (0, 1) if ELEMENT == 32 else (0,):
                kind = "<i4" if wide else "<i2"
                info = np.iinfo(kind)
                yield pause, length, wide, rng.integers(info.min, info.max + 1, length).astype(kind)


def full_speed(inputs: int, outputs: int) -> int:
    """One item a cycle on the busier side, and the cycle from input to output."""
    return max(inputs, outputs) + 1


@cocotb.test(skip=os.environ["KIND"] != "unpacker")
async def beats_to_words(dut):
    rng = random_numbers()
    await start(dut)
    for pause, length, wide, vector in cases(rng):
        raw = vector.tobytes()
        raw += rng.bytes(-len(raw) % N)
        beats = [int.from_bytes(raw[k : k + N], "little") for k in range(0, len(raw), N)]
        words = -(-length // LANES)
        await begin(dut, length, wide)
        taken, cycles = await transfer(dut, rng, beats, words, pause, strobes=False)
        data = b"".join(word.to_bytes(ELEMENT // 8 * LANES, "little") for word, _ in taken)
        assert np.frombuffer(data, dtype=f"<i{ELEMENT // 8}")[:length].tolist() == vector.tolist()
        if not pause:
            assert cycles <= full_speed(len(beats), words)


@cocotb.test(skip=os.environ["KIND"] != "packer")
async def words_to_beats(dut):
    rng = random_numbers()
    await start(dut)
    for pause, length, wide, vector in cases(rng):
        padded = rng.integers(-(1 << 31), 1 << 31, -(-length // LANES) * LANES).astype("<i4")
        padded[:length] = vector
        words = [int.from_bytes(word.tobytes(), "little") for word in padded.reshape(-1, LANES)]
        beats = -(-len(vector.tobytes()) // N)
        await begin(dut, length, wide)
        taken, cycles = await transfer(dut, rng, words, beats, pause, strobes=True)
        data = b"".join(bytes(byte for j, byte in enumerate(beat.to_bytes(N, "little")) if strobe >> j & 1) for beat, strobe in taken)
        assert data == vector.tobytes(), "strobed bytes are the vector"
        if not pause:
            assert cycles <= full_speed(len(words), beats)


@cocotb.test()
async def flush_drops_everything(dut):
    rng = random_numbers()
    await start(dut)
    for _ in range(10):
        await begin(dut, int(rng.integers(1, LONGEST + 1)), 0)
        dut.i_valid.value = 1
        dut.i_data.value = (1 << len(dut.i_data)) - 1
        await step(dut, int(rng.integers(1, 12)))
        dut.flush.value = 1
        await step(dut)
        dut.flush.value = dut.i_valid.value = 0
        await Timer(9, "ns")
        assert dut.busy.value == 0
        assert dut.o_valid.value == 0
        assert dut.i_ready.value == 0
        await step(dut)
    # A vector of zeros afterwards has none of the ones that were dropped, wherever it is valid.
    await begin(dut, LANES, 0)
    unpacks = os.environ["KIND"] == "unpacker"
    inputs, outputs = (-(-2 * LANES // N), 1) if unpacks else (1, -(-2 * LANES // N))
    taken, _ = await transfer(dut, rng, [0] * inputs, outputs, 0.0, strobes=not unpacks)
    for data, strobe in taken:
        assert not any(data >> 8 * j & 0xFF for j in range(N) if unpacks or strobe >> j & 1)
