"""A board without hardware for tests of the driver: the link's protocol in Python, the functional simulator behind it.

The hardware's own link is tested in tests/hdl; here lines lose, flip and add bytes, or go away, thousands of times a second.
"""

import zlib

import numpy as np

from trilobit.hdl.link import (
    HEADER_BYTES,
    LOWEST_DIVISOR,
    MAX_DATA,
    MAX_PAYLOAD,
    MAX_TOKENS,
    PROTOCOL_VERSION,
    REGISTERS,
    REQUEST_MARK,
    Cause,
    Operation,
    crc16,
    reply_frame,
)
from trilobit.host.transport import LineLostError, Transport
from trilobit.isa.core import CoreConfig
from trilobit.isa.counters import COUNTERS
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

NAMES = list(REGISTERS)
PROMPTS = 64


class EmulatedLine(Transport):
    """The line to an emulated board, with its own clock.

    Args:
        config: the board's core. memory_size: bytes.
        rng, flips, drops: probability that a byte has a wrong bit, or is lost, in each direction.
        clock_error: the board's clock over the one that it says it has.
        highest: the fastest rate at which bytes come through whole.
    """

    rates = (3_000_000, 2_000_000, 1_000_000)
    description = "the emulated line"

    def __init__(self, config: CoreConfig, memory_size: int, *, rng=None, flips: float = 0, drops: float = 0, clock_error: float = 1.0,
                 highest: int = 3_000_000, clock_hz: int = 60_000_000):  # fmt: skip
        # Two words of seed: no test's own random numbers are these.
        power_on = np.random.default_rng([5, memory_size]).bytes(memory_size)
        self.config, self.memory = config, np.frombuffer(power_on, np.uint8).copy()
        self.rng, self.flips, self.drops, self.highest = rng, flips, drops, highest
        self.clock_hz, self.clock = clock_hz, clock_hz * clock_error
        self.baud = self.first_baud = 1_000_000
        self.time = 0.0
        self.unplugged_at: float | None = None  # the line is lost then, for `away` seconds
        self.away = 1.0
        self.broken_cells: set[int] = set()  # addresses that don't keep their lowest bit
        self.written = 0
        self.registers = dict.fromkeys(NAMES, 0)
        self.registers |= {"memory_size": memory_size, "program_words": config.program_words, "max_length": config.max_length,
                           "clock_hz": clock_hz, "baud_divisor": round(clock_hz / self.baud)}  # fmt: skip
        self.first_divisor = self.registers["baud_divisor"]
        self.code = [0] * config.program_words
        self.machine: FunctionalSimulator | None = None
        self.started_at = 0.0
        self.prompts: list[int] = []
        self.outputs: list[int] = []
        self.result = None
        self._in, self._out = b"", b""
        self._last: tuple[int, bytes] | None = None

    # ---- the line ----------------------------------------------------------------------------------------------------------

    def _lost(self) -> None:
        if self.unplugged_at is not None and self.time >= self.unplugged_at:
            raise LineLostError("the emulated line is unplugged")

    def _noisy(self, data: bytes) -> bytes:
        if self.baud > self.highest:
            return bytes(b ^ 0x55 for b in data)
        if self.rng is None or not (self.flips or self.drops):
            return data
        kept = []
        for byte in data:
            if self.rng.random() < self.drops:
                continue
            kept.append(byte ^ (1 << int(self.rng.integers(8))) if self.rng.random() < self.flips else byte)
        return bytes(kept)

    def write(self, data):
        self._lost()
        self.time += 10 * len(data) / self.baud
        self._lost()
        if round(self.clock_hz / self.registers["baud_divisor"] / self.baud, 1) == 1.0:
            self._in += self._noisy(data)
            self._work()

    def read(self, timeout):
        self._lost()
        if not self._out:
            self._in = b""  # a pause: a frame that stopped in the middle is given up
            self.time += timeout
            return b""
        data, self._out = self._out, b""
        self.time += 10 * len(data) / self.baud + 1e-4
        return self._noisy(data)

    def send_break(self):
        self._lost()
        self.registers["baud_divisor"] = self.first_divisor
        self._in = b""

    def set_baud(self, baud):
        self.baud, self._out = baud, b""

    def now(self):
        return self.time

    def reopen(self, seconds):
        if self.away > seconds:
            raise LineLostError("the emulated line did not come back")
        self.time += self.away
        self.unplugged_at, self._in, self._out = None, b"", b""

    def close(self):
        pass

    # ---- the board ---------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            start = self._in.find(bytes([REQUEST_MARK]))
            self._in = self._in[start:] if start >= 0 else b""
            if len(self._in) < HEADER_BYTES:
                return
            length = int.from_bytes(self._in[3:5], "little")
            sequence = self._in[1]
            if length > MAX_PAYLOAD:
                self._in = self._in[HEADER_BYTES:]
                self._out += reply_frame(sequence, Cause.LENGTH)
                continue
            end = HEADER_BYTES + length
            if len(self._in) < end + 2:
                return
            frame, self._in = self._in[: end + 2], self._in[end + 2 :]
            if crc16(frame[1:end]) != int.from_bytes(frame[end:], "little"):
                self._out += reply_frame(sequence, Cause.CRC)
            elif self._last is not None and self._last[0] == sequence and frame[2] != Operation.IDENTIFY:
                self._out += self._last[1]
            else:
                reply = reply_frame(sequence, *self._do(frame[2], frame[5:end]))
                self._last = (sequence, reply)
                self._out += reply

    def _running(self) -> bool:
        return self.machine is not None and not (self.result.halted or self.result.fault)

    def _do(self, operation: int, payload: bytes) -> tuple[Cause, bytes]:
        argument, data = int.from_bytes(payload[:8], "little"), payload[8:]
        n = self.config.beat_bytes
        if operation == Operation.IDENTIFY:
            return Cause.DONE, b"TRLB" + bytes([PROTOCOL_VERSION, ISA.version, n - 1, self.config.lanes - 1])
        if operation == Operation.WRITE_MEMORY:
            if argument % n or len(data) % n or argument + len(data) > len(self.memory):
                return Cause.ADDRESS, b""
            self.memory[argument : argument + len(data)] = np.frombuffer(data, np.uint8)
            for cell in self.broken_cells:
                self.memory[cell] |= 1
            self.written += len(data)
            return Cause.DONE, b""
        if operation == Operation.READ_MEMORY:
            size = int.from_bytes(data, "little")
            assert 0 < size <= MAX_DATA
            return Cause.DONE, self.memory[argument : argument + size].tobytes()
        if operation == Operation.CHECKSUM:
            size = int.from_bytes(data, "little")
            return Cause.DONE, zlib.crc32(self.memory[argument : argument + size].tobytes()).to_bytes(4, "little")
        if operation == Operation.WRITE_PROGRAM:
            for k in range(0, len(data), 16):
                self.code[argument + k // 16] = int.from_bytes(data[k : k + 16], "little")
            return Cause.DONE, b""
        if operation == Operation.WRITE_REGISTER:
            return self._write(NAMES[argument], int.from_bytes(data, "little")), b""
        if operation == Operation.READ_REGISTER:
            return Cause.DONE, self._read(NAMES[argument]).to_bytes(8, "little")
        if operation == Operation.PUSH_TOKEN:
            if len(self.prompts) >= PROMPTS:
                return Cause.FULL, b""
            self.prompts.append(argument)
            self._go_on()
            return Cause.DONE, b""
        assert operation == Operation.POP_TOKENS
        tokens, self.outputs = self.outputs[:MAX_TOKENS], self.outputs[MAX_TOKENS:]
        return Cause.DONE, b"".join(token.to_bytes(4, "little") for token in tokens)

    def _write(self, name: str, value: int) -> Cause:
        if name == "baud_divisor" and value < LOWEST_DIVISOR:
            return Cause.VALUE
        if name == "control":
            if value & 2:
                self.machine, self.prompts = None, []
            elif value & 1:
                self._start()
            return Cause.DONE
        self.registers[name] = value
        return Cause.DONE

    def _read(self, name: str) -> int:
        if name == "status":
            r = self.result if self.machine is not None else None
            flags = int(self._running()) | bool(r and r.halted) << 1 | bool(r and r.waiting) << 2 | bool(self.outputs) << 3 | 0x30
            return flags | ((r.fault << 8 | r.fault_pc << 16) if r else 0)
        if name == "counter":
            select = COUNTERS[self.registers["counter_select"]]
            return int((self.time - self.started_at) * self.clock) if select == "cycles" else 0
        return self.registers[name]

    def _start(self) -> None:
        r = self.registers
        settings = _Settings(seed=r["seed"], eos=r["eos"], limit=r["limit"])
        settings.scalar = (r["temperature_m"], (r["temperature_e"] ^ 512) - 512)
        size = r["window_size"]
        program = Program("emulated", self.code[: r["program_length"]], size, r["write_start"], {})
        self.machine = FunctionalSimulator(self.config, program, self.memory[:size], settings)
        self.started_at = self.time
        self._go_on()

    def _go_on(self) -> None:
        if self.machine is None:
            return
        before = len(self.result.tokens) if self.result is not None and self._running() else 0
        self.machine.push(self.prompts)
        self.prompts = []
        self.result = self.machine.run(max_instructions=20_000)
        self.outputs += self.result.tokens[before:]


class _Settings(HostSettings):
    """Settings whose temperature is already the registers' numbers."""

    def temperature_scalar(self):
        from trilobit.isa.fixed import Scalar

        return Scalar(*self.scalar)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
