"""The driver of a board: its memory, program, settings and tokens, over a line or over mapped registers."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trilobit.errors import ConfigError, HostError
from trilobit.hdl.link import PROTOCOL_VERSION, REGISTERS
from trilobit.host.access import BoardAccess
from trilobit.host.line import LineAccess
from trilobit.host.transport import LineLostError, Transport
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings

__all__ = ["BLOCK_BYTES", "Board", "Identity", "Status", "check_core"]

BLOCK_BYTES = 1 << 14
"""Memory is compared, and loaded where it differs, in blocks of this size."""
REOPEN_SECONDS = 30.0
MEMORY_READY_SECONDS = 2.0


@dataclass(frozen=True)
class Identity:
    """What a board says that it is. Sizes in bytes, words and elements; clock_hz is what it was built for (0: unknown)."""

    beat_bytes: int
    lanes: int
    memory_size: int
    program_words: int
    max_length: int
    clock_hz: int


def check_core(config: CoreConfig, identity: Identity) -> None:
    """Whether what was compiled for a core runs on a board that is such.

    Raises:
        ConfigError: another beat, fewer elements or words, or a batch above 1.
    """
    config.require_one_slot("a board")
    i = identity
    if (i.beat_bytes, i.lanes) != (config.beat_bytes, config.lanes):
        raise ConfigError(f"expected a bundle for {i.beat_bytes} bytes a beat and {i.lanes} lanes, as the board has, got core "
                          f"{config.name!r} with {config.beat_bytes} and {config.lanes}: compile for the board's core")  # fmt: skip
    if config.max_length > i.max_length or config.program_words > i.program_words:
        raise ConfigError(f"expected a core with registers of at most {i.max_length} elements and {i.program_words} instructions, got "
                          f"{config.name!r} with {config.max_length} and {config.program_words}")  # fmt: skip


@dataclass(frozen=True)
class Status:
    """The status register."""

    running: bool
    halted: bool
    waiting: bool
    memory_ready: bool
    fault: int
    fault_pc: int

    @property
    def done(self) -> bool:
        """The program has halted or faulted. Between running and halted what the stream had asked for ahead still comes in."""
        return self.halted or self.fault != 0


class Board:
    """A board, whatever way leads to it.

    Args:
        way: the line, or another access; closed with the board.
        reconnect: seconds to wait for a lost line to come back while memory is loaded.

    Raises:
        HostError: nothing there that answers, or it speaks another version of the protocol or of the instruction set.

    Attributes:
        access: the way to it. identity: what it says that it is.
    """

    def __init__(self, way: Transport | BoardAccess, *, reconnect: float = REOPEN_SECONDS):
        self.access = LineAccess(way, reconnect=reconnect) if isinstance(way, Transport) else way
        self.identity = self._connect()

    # ---- the session -------------------------------------------------------------------------------------------------------

    def _connect(self) -> Identity:
        answer, where = self.access.identify(), self.access.description
        if answer[:4] != b"TRLB" or len(answer) != 8:
            raise HostError(f"expected a Trilobit board on {where}, got the answer {answer.hex()}")
        protocol, isa = answer[4], answer[5]
        if (protocol, isa) != (PROTOCOL_VERSION, ISA.version):
            raise HostError(
                f"expected protocol {PROTOCOL_VERSION} and instruction set {ISA.version}, the board has {protocol} and {isa}: "
                "load a bitstream of this version of Trilobit"
            )
        names = ("memory_size", "program_words", "max_length", "clock_hz")
        identity = Identity(answer[6] + 1, answer[7] + 1, *(self.read_register(name) for name in names))
        self.access.clock_hz = identity.clock_hz
        return identity

    def negotiate(self) -> str:
        """Go as fast as both sides understand each other; how fast that is, for people (empty: there is no rate)."""
        self.access.negotiate()
        return self.access.rate

    def recover(self) -> None:
        """Take a lost line up again, at the rate that it had.

        Raises:
            LineLostError: it did not come back.
            HostError: another board than before answers.
        """
        self.access.recover()
        identity = self._connect()
        if identity != self.identity:
            raise HostError(f"expected the same board to come back on {self.access.description}, got {identity}")
        self.negotiate()

    def close(self) -> None:
        """Give the way to it back."""
        self.access.close()

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_):
        self.close()

    # ---- registers ---------------------------------------------------------------------------------------------------------

    def read_register(self, name: str) -> int:
        """A register of the block; see docs/reference/host-link.md."""
        return self.access.read_register(name)

    def write_register(self, name: str, value: int) -> None:
        """Write a register; RefusedError if the board doesn't take the value, or is busy."""
        self.access.write_register(name, value & (1 << REGISTERS[name].width) - 1)

    def status(self) -> Status:
        """What the core does."""
        s = self.read_register("status")
        return Status(bool(s & 1), bool(s & 2), bool(s & 4), bool(s & 0x20), s >> 8 & 0xF, s >> 16)

    def counters(self) -> dict[str, int]:
        """All performance counters by name."""
        from trilobit.isa.counters import COUNTERS

        result = {}
        for index, name in enumerate(COUNTERS):
            self.select_counter(index)
            result[name] = self.read_register("counter")
        return result

    def select_counter(self, index: int) -> None:
        """Choose the counter that the register ``counter`` shows from now on."""
        self.write_register("counter_select", index)
        self.access.settle_counter()

    # ---- memory ------------------------------------------------------------------------------------------------------------

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write memory; ``addr`` and size in whole beats."""
        self.access.write_memory(addr, data)

    def read_memory(self, addr: int, size: int) -> bytes:
        """Read memory; ``addr`` and size in whole beats."""
        return self.access.read_memory(addr, size)

    def checksums(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """CRC-32 of spans (address, size) of the memory."""
        return self.access.checksums(spans)

    def load_seconds(self, size: int) -> float:
        """About how long ``size`` bytes take at most, if all of them must be sent; 0 where that is no time."""
        return self.access.load_seconds(size)

    def load(self, memory: np.ndarray, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Make the board's memory equal to ``memory`` ([size] of uint8, from address 0) and verify it.

        Blocks that are equal already are not sent, so an interrupted load goes on where it was. A line that is lost meanwhile is
        waited for, and all is compared again then: the cable may have been the board's power as well.

        Args:
            on_progress: called with the bytes that are right and the size.

        Returns:
            bytes that were sent.

        Raises:
            ConfigError: more than the board's memory.
            HostError: the memory does not keep what is written; or the link fails.
        """
        size = len(memory)
        if size > self.identity.memory_size:
            raise ConfigError(f"expected at most the board's {self.identity.memory_size} bytes of memory, the image has {size}")
        n = self.identity.beat_bytes
        blocks = [(at, min(BLOCK_BYTES, -(-(size - at) // n) * n)) for at in range(0, size, BLOCK_BYTES)]
        content = {at: memory[at : at + length].tobytes().ljust(length, b"\0") for at, length in blocks}
        right: set[int] = set()
        sent = 0
        failures: dict[int, int] = {}
        while len(right) < len(blocks):
            try:
                for at, length, data in self._wrong(blocks, content, right, on_progress, size):
                    failures[at] = failures.get(at, 0) + 1
                    if failures[at] > 3:
                        raise HostError(f"memory from {at:#x} to {at + length:#x} doesn't keep what is written: "
                                        "check the board's memory and its clock")  # fmt: skip
                    self.write_memory(at, data)
                    sent += length
            except LineLostError:
                failures.clear()
                right.clear()  # a board without power forgets
                self.recover()
                self.wait_for_memory()
        return sent

    def _wrong(self, blocks, content, right, on_progress, size) -> Iterator[tuple[int, int, bytes]]:
        """Blocks that differ, those that were written since again until they are right."""
        todo = [block for block in blocks if block[0] not in right]
        while todo:
            wrong = []
            for k in range(0, len(todo), 16):
                group = todo[k : k + 16]
                for (at, length), found in zip(group, self.checksums(group), strict=True):
                    if found == zlib.crc32(content[at]):
                        right.add(at)
                    else:
                        wrong.append((at, length))
                if on_progress is not None:
                    on_progress(min(size, sum(length for at, length in blocks if at in right)), size)
            todo = []
            for at, length in wrong:
                yield at, length, content[at]
                if self.checksums([(at, length)]) == [zlib.crc32(content[at])]:
                    right.add(at)
                else:
                    todo.append((at, length))
                if on_progress is not None:
                    on_progress(min(size, sum(length for at, length in blocks if at in right)), size)

    # ---- programs ----------------------------------------------------------------------------------------------------------

    def check_core(self, config: CoreConfig) -> None:
        """Whether what was compiled for a core runs on this board, as :func:`check_core` has it."""
        check_core(config, self.identity)

    def reset(self) -> None:
        """Reset the core; its memory traffic ends first."""
        self.write_register("control", 2)
        deadline = self.now() + 1
        while self.read_register("status") & 0x40:
            if self.now() > deadline:
                raise HostError("expected the core to come out of its reset within a second, it did not: load the bitstream again")

    def prepare(self, code: Sequence[int], *, window_size: int, write_start: int, settings: HostSettings) -> None:
        """Reset the core and give it a program and settings; tokens that nobody took are dropped.

        Raises:
            ConfigError: the program is too long.
            HostError: the memory is not ready.
        """
        if len(code) > self.identity.program_words:
            raise ConfigError(f"expected at most {self.identity.program_words} instructions, got {len(code)}")
        self.wait_for_memory()
        self.reset()
        while self.pop():
            pass
        self.access.write_program(code)
        temperature = settings.temperature_scalar()
        values = {
            "window_size": window_size, "write_start": write_start, "seed": settings.seed, "temperature_m": temperature.mantissa,
            "temperature_e": temperature.exponent, "eos": settings.eos, "limit": settings.limit, "program_length": len(code),
        }  # fmt: skip
        for name, value in values.items():
            self.write_register(name, value)

    def wait_for_memory(self) -> None:
        """The memory is initialised after the bitstream is loaded; HostError if that takes too long."""
        deadline = self.now() + MEMORY_READY_SECONDS
        while not self.status().memory_ready:
            if self.now() > deadline:
                raise HostError(f"expected the board's memory to be ready within {MEMORY_READY_SECONDS:g} s, it is not")

    def start(self) -> None:
        """Start the program at its first instruction."""
        self.write_register("control", 1)

    def push(self, token: int) -> bool:
        """Queue a prompt token; False if there is no room."""
        return self.access.push_token(token)

    def pop(self) -> list[int]:
        """The tokens that were emitted since, at most 64."""
        return self.access.pop_tokens()

    def now(self) -> float:
        """Seconds, as the way to the board counts them."""
        return self.access.now()
