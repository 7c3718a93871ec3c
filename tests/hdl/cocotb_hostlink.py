"""The host link on a memory model, with the core's signals played by the test."""

import os
import zlib

import cocotb
import numpy as np
from link_driver import LinkDriver
from memory_model import Memory
from support import cycle, random_numbers, start, step

from trilobit.hdl.link import (
    LOWEST_DIVISOR,
    MAX_DATA,
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    REGISTERS,
    REQUEST_MARK,
    Cause,
    Operation,
    crc16,
    request_frame,
)
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA

CONFIG = load_core(os.environ["PRESET"])
N = CONFIG.beat_bytes
SIZE = int(os.environ["SIZE"])
TIMEOUT = int(os.environ["TIMEOUT"])
DIVISOR = int(os.environ["DIVISOR"])
memory: Memory | None = None


async def boot(dut, **model):
    global memory
    if memory is not None:
        memory.close()
    await start(dut, memory_ready=1, prompt_ready=1, line_idle=1)
    rng = random_numbers()
    memory = Memory(dut, rng.integers(0, 256, SIZE).astype(np.uint8), N, latency=3, busy=0.3, rng=rng, **model)
    return LinkDriver(dut), memory, rng


class Watch:
    """Everything that the link does to the core and the memory."""

    def __init__(self, dut):
        self.dut, self.program, self.tokens, self.starts, self.resets = dut, {}, [], 0, 0
        cocotb.start_soon(self._run())

    async def _run(self):
        dut = self.dut
        while True:
            await cycle(dut)
            if dut.prog_en.value == 1:
                self.program[dut.prog_addr.value.to_unsigned()] = dut.prog_data.value.to_unsigned()
            if dut.prompt_valid.value == 1 and dut.prompt_ready.value == 1:
                self.tokens.append(dut.prompt_token.value.to_unsigned())
            self.starts += int(dut.start.value)
            self.resets += int(dut.core_reset.value)
            await step(dut)


@cocotb.test()
async def identifies(dut):
    link, _, _ = await boot(dut)
    expected = b"TRLB" + bytes([PROTOCOL_VERSION, ISA.version, N - 1, CONFIG.lanes - 1])
    assert await link.do(Operation.IDENTIFY) == expected
    assert await link.read("memory_size") == SIZE
    assert await link.read("program_words") == CONFIG.program_words
    assert await link.read("max_length") == CONFIG.max_length
    assert await link.read("clock_hz") == 60_000_000


@cocotb.test()
async def reads_and_writes_memory(dut):
    """Random places and sizes, the largest frame, the last byte."""
    link, memory, rng = await boot(dut)
    shadow = memory.data.copy()
    sizes = [N, MAX_DATA // N * N, *(N * rng.integers(1, MAX_DATA // N + 1, 6)).tolist()]
    for k, size in enumerate(sizes):
        addr = SIZE - size if k < 2 else N * int(rng.integers(0, (SIZE - size) // N + 1))
        data = rng.bytes(size)
        await link.write_memory(addr, data)
        shadow[addr : addr + size] = np.frombuffer(data, np.uint8)
        assert (memory.data == shadow).all()
        addr = N * int(rng.integers(0, (SIZE - size) // N + 1))
        assert await link.read_memory(addr, size) == shadow[addr : addr + size].tobytes()


@cocotb.test()
async def sums_up_memory(dut):
    """CRC-32 of random spans, a beat, all of it; spans that are none are refused; what a read error leaves is no sum."""
    link, memory, rng = await boot(dut)
    spans = [(0, SIZE), (SIZE - N, N)]
    for _ in range(4):
        size = N * int(rng.integers(1, SIZE // N + 1))
        spans.append((N * int(rng.integers(0, (SIZE - size) // N + 1)), size))
    for addr, size in spans:
        sum_ = await link.do(Operation.CHECKSUM, addr, size.to_bytes(4, "little"))
        assert int.from_bytes(sum_, "little") == zlib.crc32(memory.data[addr : addr + size].tobytes())
    for addr, size, cause in [(0, 0, Cause.LENGTH), (0, SIZE + N, Cause.ADDRESS), (SIZE, N, Cause.ADDRESS), (1, N, Cause.ADDRESS)]:
        if N > 1 or addr != 1:
            assert (await link.request(Operation.CHECKSUM, addr, size.to_bytes(4, "little")))[0] == cause
    dut.memory_ready.value = 0
    assert (await link.request(Operation.CHECKSUM, 0, N.to_bytes(4, "little")))[0] == Cause.BUSY


@cocotb.test()
async def changes_the_divisor_between_bytes(dut):
    """A new divisor waits for the reply's last byte on the line; a break brings the first one back."""
    link, _, _ = await boot(dut)
    assert dut.divisor.value.to_unsigned() == DIVISOR
    dut.line_idle.value = 0
    await link.write("baud_divisor", 20)
    for _ in range(20):
        await step(dut)
        assert dut.divisor.value.to_unsigned() == DIVISOR
    dut.line_idle.value = 1
    await step(dut, 2)
    assert dut.divisor.value.to_unsigned() == 20
    assert await link.read("baud_divisor") == 20
    dut.line_break.value = 1
    await step(dut)
    dut.line_break.value = 0
    await step(dut, 2)
    assert dut.divisor.value.to_unsigned() == DIVISOR
    assert await link.read("baud_divisor") == DIVISOR


@cocotb.test()
async def writes_the_program(dut):
    link, _, rng = await boot(dut)
    watch = Watch(dut)
    code = [int.from_bytes(rng.bytes(16), "little") for _ in range(20)]
    await link.write_program(code)
    assert watch.program == dict(enumerate(code))
    watch.program.clear()
    await link.do(Operation.WRITE_PROGRAM, CONFIG.program_words - 1, code[0].to_bytes(16, "little"))
    assert watch.program == {CONFIG.program_words - 1: code[0]}


@cocotb.test()
async def every_register(dut):
    """Written, seen at the core's port, read back; one bit too many is refused and changes nothing."""
    link, _, rng = await boot(dut)
    for name, register in REGISTERS.items():
        argument = register.number
        if register.access == "ro":
            assert (await link.request(Operation.WRITE_REGISTER, argument, bytes(8)))[0] == Cause.ADDRESS
            continue
        too_big = (1 << register.width).to_bytes(8, "little")
        assert (await link.request(Operation.WRITE_REGISTER, argument, too_big))[0] == Cause.VALUE
        if name == "control":
            assert await link.read(name) == 0
            continue
        first, lowest = (DIVISOR, LOWEST_DIVISOR) if name == "baud_divisor" else (0, 0)
        assert await link.read(name) == first
        if lowest:
            too_small = (lowest - 1).to_bytes(8, "little")
            assert (await link.request(Operation.WRITE_REGISTER, argument, too_small))[0] == Cause.VALUE
        for value in ((1 << register.width) - 1, int(rng.integers(lowest, 1 << register.width))):
            await link.write(name, value)
            assert await link.read(name) == value
            assert getattr(dut, name).value.to_unsigned() == value
    dut.counter_value.value = 0x123456789ABC
    assert await link.read("counter") == 0x123456789ABC


@cocotb.test()
async def status_start_and_reset(dut):
    link, _, _ = await boot(dut)
    watch = Watch(dut)
    dut.fault.value, dut.fault_pc.value, dut.halted.value = 5, 0x1234, 1
    assert await link.read("status") == 0x1234_0500 | 0b110010
    dut.halted.value, dut.fault.value, dut.fault_pc.value = 0, 0, 0
    dut.waiting.value, dut.out_valid.value, dut.prompt_ready.value, dut.memory_ready.value = 1, 1, 0, 0
    assert await link.read("status") == 0b001100
    assert (await link.request(Operation.WRITE_REGISTER, 1, (1).to_bytes(8, "little")))[0] == Cause.BUSY, "the memory isn't ready"
    dut.memory_ready.value = 1
    await link.write("control", 1)
    assert (watch.starts, watch.resets) == (1, 0)
    dut.running.value = 1
    assert (await link.request(Operation.WRITE_REGISTER, 1, (1).to_bytes(8, "little")))[0] == Cause.BUSY
    assert (await link.request(Operation.WRITE_REGISTER, 1, (3).to_bytes(8, "little")))[0] == Cause.BUSY
    await link.write("control", 2)
    assert (watch.starts, watch.resets) == (1, 1)
    dut.running.value, dut.in_reset.value = 0, 1
    assert await link.read("status") & 0x40
    assert (await link.request(Operation.WRITE_REGISTER, 1, (1).to_bytes(8, "little")))[0] == Cause.BUSY


@cocotb.test()
async def nothing_disturbs_a_running_program(dut):
    link, memory, _ = await boot(dut)
    watch = Watch(dut)
    before = memory.data.copy()
    dut.running.value = 1
    for operation, argument, data in [
        (Operation.WRITE_MEMORY, 0, bytes(N)), (Operation.WRITE_PROGRAM, 0, bytes(16)),
        (Operation.WRITE_REGISTER, REGISTERS["seed"].number, bytes(8)),
    ]:  # fmt: skip
        assert (await link.request(operation, argument, data))[0] == Cause.BUSY
    await link.write("counter_select", 3)
    assert await link.read_memory(0, N) == before[:N].tobytes()
    assert (memory.data == before).all() and not watch.program


@cocotb.test()
async def tokens_both_ways(dut):
    link, _, rng = await boot(dut)
    watch = Watch(dut)
    pushed = rng.integers(0, 1 << 24, 5).tolist()
    for token in pushed:
        await link.do(Operation.PUSH_TOKEN, token)
    dut.prompt_ready.value = 0
    assert (await link.request(Operation.PUSH_TOKEN, 1))[0] == Cause.FULL
    dut.prompt_ready.value = 1
    assert (await link.request(Operation.PUSH_TOKEN, 1 << 24))[0] == Cause.VALUE
    assert watch.tokens == pushed
    emitted = rng.integers(0, 1 << 24, 70).tolist()
    waiting = list(emitted)

    async def core():
        while True:
            dut.out_valid.value, dut.out_token.value = int(bool(waiting)), waiting[0] if waiting else 0
            await cycle(dut)
            if dut.out_ready.value == 1 and waiting:
                waiting.pop(0)
            await step(dut)

    cocotb.start_soon(core())
    await step(dut)
    assert await link.pop() == emitted[:64]
    assert await link.pop() == emitted[64:]
    assert await link.pop() == []


REFUSED = [
    (Operation.IDENTIFY, None, b"x", Cause.LENGTH), (Operation.POP_TOKENS, 0, b"", Cause.LENGTH),
    (Operation.WRITE_MEMORY, 0, b"", Cause.LENGTH), (Operation.WRITE_MEMORY, None, b"abc", Cause.LENGTH),
    (Operation.WRITE_MEMORY, 0, bytes(N + 1), Cause.LENGTH), (Operation.WRITE_MEMORY, 1, bytes(N), Cause.ADDRESS),
    (Operation.WRITE_MEMORY, SIZE, bytes(N), Cause.ADDRESS), (Operation.WRITE_MEMORY, SIZE - N, bytes(2 * N), Cause.ADDRESS),
    (Operation.WRITE_MEMORY, (1 << 64) - N, bytes(2 * N), Cause.ADDRESS), (Operation.WRITE_MEMORY, 1 << 40, bytes(N), Cause.ADDRESS),
    (Operation.READ_MEMORY, 0, b"\0\0", Cause.LENGTH), (Operation.READ_MEMORY, 0, (N + 1).to_bytes(2, "little"), Cause.LENGTH),
    (Operation.READ_MEMORY, 0, (MAX_DATA + N).to_bytes(2, "little"), Cause.LENGTH),
    (Operation.READ_MEMORY, SIZE, N.to_bytes(2, "little"), Cause.ADDRESS), (Operation.READ_MEMORY, 0, b"", Cause.LENGTH),
    (Operation.WRITE_PROGRAM, 0, bytes(15), Cause.LENGTH), (Operation.WRITE_PROGRAM, CONFIG.program_words, bytes(16), Cause.ADDRESS),
    (Operation.WRITE_PROGRAM, CONFIG.program_words - 1, bytes(32), Cause.ADDRESS),
    (Operation.WRITE_REGISTER, len(REGISTERS), bytes(8), Cause.ADDRESS), (Operation.WRITE_REGISTER, 4, bytes(7), Cause.LENGTH),
    (Operation.READ_REGISTER, len(REGISTERS), b"", Cause.ADDRESS), (Operation.READ_REGISTER, 1 << 32, b"", Cause.ADDRESS),
    (9, 0, b"", Cause.OPERATION), (Operation.CHECKSUM, 0, b"", Cause.LENGTH), (255, 0, b"", Cause.OPERATION),
]  # fmt: skip


@cocotb.test()
async def refuses_with_a_cause_and_does_nothing(dut):
    link, memory, _ = await boot(dut)
    watch = Watch(dut)
    before = memory.data.copy()
    for operation, argument, data, cause in REFUSED:
        assert await link.request(operation, argument, data) == (cause, b""), (operation, argument, data)
    assert not memory.writes and not memory.reads and not watch.program and not watch.tokens
    assert (memory.data == before).all()


@cocotb.test()
async def broken_frames(dut):
    """Any single wrong bit of a write is refused (or asks for more bytes, and times out), nothing is done, and the link goes on."""
    link, memory, rng = await boot(dut)
    before = memory.data.copy()
    frame = request_frame(77, Operation.WRITE_MEMORY, 0, rng.bytes(N))
    causes = set()
    for bit in rng.permutation(8 * (len(frame) - 1))[:30]:
        broken = bytearray(frame)
        broken[1 + bit // 8] ^= 1 << bit % 8
        # The rest of a frame that ends early may be taken for another one: the reply is taken meanwhile, as a UART would.
        reply = cocotb.start_soon(link.reply())
        await link.send(bytes(broken))
        _, cause, payload = await reply
        assert cause in (Cause.CRC, Cause.LENGTH, Cause.TIMEOUT) and payload == b""
        causes.add(cause)
        # What follows a refused length is skipped, or taken for a frame and refused in its turn.
        while True:
            await step(dut, 2 * TIMEOUT)
            if dut.o__valid.value == 0:
                break
            assert (await link.reply())[1] != Cause.DONE
    assert Cause.CRC in causes and not memory.writes and (memory.data == before).all()
    await link.send(frame)
    assert await link.reply() == (77, Cause.DONE, b"") and len(memory.writes) == 1


@cocotb.test()
async def noise_and_pauses(dut):
    """Bytes outside of a frame are skipped; a frame that stops in the middle is given up after the timeout, not before."""
    link, _, _ = await boot(dut)
    await link.send(bytes(b for b in range(256) if b != REQUEST_MARK))
    frame = request_frame(5, Operation.READ_REGISTER, 0)
    for k, byte in enumerate(frame):
        await link.send(bytes([byte]))
        if k < len(frame) - 1:
            await step(dut, TIMEOUT - 10)
    assert (await link.reply())[:2] == (5, Cause.DONE)
    await link.send(frame[:-3])
    await step(dut, TIMEOUT + 10)
    assert await link.reply() == (5, Cause.TIMEOUT, b"")
    too_long = bytes([9, Operation.WRITE_MEMORY]) + (MAX_PAYLOAD + 1).to_bytes(2, "little")
    await link.send(bytes([REQUEST_MARK]) + too_long + crc16(too_long).to_bytes(2, "little"))
    assert await link.reply() == (9, Cause.LENGTH, b"")
    assert (await link.request(Operation.IDENTIFY))[0] == Cause.DONE


@cocotb.test()
async def a_repeated_request_is_done_once(dut):
    """The reply was lost: the same request again gives the same reply, and nothing is done twice."""
    link, memory, _ = await boot(dut)
    watch = Watch(dut)
    await link.do(Operation.IDENTIFY)
    push = request_frame(40, Operation.PUSH_TOKEN, 9)
    read = request_frame(41, Operation.READ_MEMORY, 0, N.to_bytes(2, "little"))
    for frame in (push, push, read, read):
        await link.send(frame)
        _, cause, payload = await link.reply()
        assert cause == Cause.DONE
    assert payload == memory.data[:N].tobytes()
    assert watch.tokens == [9] and len(memory.reads) == 1
    await link.send(bytes([*read[:-1], read[-1] ^ 1]))
    assert (await link.reply())[1] == Cause.CRC
    await link.send(read)
    assert (await link.reply())[1:] == (Cause.DONE, payload) and len(memory.reads) == 1, "a broken repetition doesn't make it a new request"


@cocotb.test()
async def memory_errors_are_told(dut):
    link, _, _ = await boot(dut, error_at=frozenset({2 * N}))
    assert (await link.request(Operation.READ_MEMORY, 0, (2 * N).to_bytes(2, "little")))[0] == Cause.DONE
    assert await link.request(Operation.READ_MEMORY, 0, (3 * N).to_bytes(2, "little")) == (Cause.MEMORY, b"")
