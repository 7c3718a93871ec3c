"""A board whose core is IP on an AXI bus: registers and memory that are mapped, driven as the register map says.

What the core refuses it answers with SLVERR, and Linux answers a bus error by ending the process, or worse. So nothing is asked for that
would be refused: the rules of docs/reference/host-link.md are checked here first.
"""

import time
import zlib
from collections.abc import Sequence
from typing import Protocol

from trilobit.errors import ConfigError, HostError
from trilobit.hdl.axi_map import AXI_MAP, COUNTER_CLOCKS
from trilobit.hdl.link import MAX_TOKENS, Cause
from trilobit.host.access import BoardAccess
from trilobit.host.link import RefusedError

__all__ = ["AxiAccess", "Memory", "Registers"]

IDENTITY = int.from_bytes(b"TRLB", "little")
PAGE = 4096
READ_TAKES = 3  # clocks that a read of a register takes at least
RUNNING, STOPPED_BY_RESET, CAN_PUSH = 1, 0x40, 0x10  # bits of the status register
WORD = 0xFFFFFFFF


class Registers(Protocol):
    """32-bit words behind AXI4-Lite, by byte offset; every access is one of 32 bits."""

    description: str

    def read(self, offset: int) -> int: ...

    def write(self, offset: int, value: int) -> None: ...

    def close(self) -> None: ...


class Memory(Protocol):
    """The part of the AXI4 port's address space that is the core's: ``base`` is its address there, ``size`` its bytes."""

    base: int
    size: int

    def read(self, offset: int, size: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def close(self) -> None: ...


class AxiAccess(BoardAccess):
    """The register block of :mod:`trilobit.hdl.axi_registers` and the memory beside it.

    Args:
        registers, memory: closed with the access.

    Raises:
        ConfigError: the memory doesn't begin at a multiple of 4096.
    """

    def __init__(self, registers: Registers, memory: Memory):
        self.registers, self.memory = registers, memory
        self.description = registers.description
        if memory.base % PAGE:
            raise ConfigError(f"expected memory that begins at a multiple of {PAGE}, got {memory.base:#x}")

    def identify(self) -> bytes:
        found = self._read("id")
        if found != IDENTITY:
            raise HostError(
                f"expected {IDENTITY:#010x} (TRLB) in the first register of {self.description}, got {found:#010x}: is this the core's "
                "address, and is the design with the core loaded?"
            )
        return found.to_bytes(4, "little") + self._read("version").to_bytes(4, "little")

    # ---- registers ---------------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> int:
        register = AXI_MAP[name]
        low = self.registers.read(register.offset)
        if register.width <= 32:
            return low
        # A counter may pass from one word into the other in between.
        high = self.registers.read(register.offset + 4)
        while True:
            low, again = self.registers.read(register.offset), self.registers.read(register.offset + 4)
            if again == high:
                return high << 32 | low
            high = again

    def _write(self, name: str, value: int) -> None:
        register = AXI_MAP[name]
        self.registers.write(register.offset, value & WORD)
        if register.width > 32:
            self.registers.write(register.offset + 4, value >> 32)

    def _refuse(self, cause: Cause, what: str) -> RefusedError:
        return RefusedError(f"the board refuses {what}: {cause.name.lower()}", cause)

    def _busy(self) -> bool:
        return bool(self._read("status") & (RUNNING | STOPPED_BY_RESET))

    def read_register(self, name: str) -> int:
        if name == "memory_size":  # what the core's port reaches it doesn't know
            return self.memory.size
        if name not in AXI_MAP:
            raise self._refuse(Cause.ADDRESS, f"read_register {name}")
        return self._read(name)

    def write_register(self, name: str, value: int) -> None:
        what = f"write_register {name}"
        if name not in AXI_MAP or AXI_MAP[name].access == "ro":
            raise self._refuse(Cause.ADDRESS, what)
        register = AXI_MAP[name]
        if value >> register.width or (name == "control" and value == 3):
            raise self._refuse(Cause.VALUE, what)
        if (register.access == "rw" or (name == "control" and value & 1)) and self._busy():
            raise self._refuse(Cause.BUSY, what)
        self._write(name, value)

    def settle_counter(self) -> None:
        """The counters are swept one after the other; a read of a register is the clock to count by."""
        for _ in range(-(-COUNTER_CLOCKS // READ_TAKES)):
            self._read("id")

    # ---- program and tokens ------------------------------------------------------------------------------------------------

    def write_program(self, code: Sequence[int]) -> None:
        """The words, and where the memory is."""
        if self._busy():
            raise self._refuse(Cause.BUSY, "write_program")
        if len(code) > self._read("program_words"):
            raise self._refuse(Cause.ADDRESS, f"write_program of {len(code)} words")
        self._write("window_base", self.memory.base)
        self._write("program_address", 0)
        for word in code:
            for k in range(4):
                self._write(f"program_data_{k}", word >> 32 * k & WORD)

    def push_token(self, token: int) -> bool:
        if token >> AXI_MAP["push_token"].width:
            raise self._refuse(Cause.VALUE, f"push_token {token:#x}")
        status = self._read("status")
        if status & STOPPED_BY_RESET:
            raise self._refuse(Cause.BUSY, "push_token")
        if not status & CAN_PUSH:
            return False
        self._write("push_token", token)
        return True

    def pop_tokens(self) -> list[int]:
        tokens: list[int] = []
        while len(tokens) < MAX_TOKENS and (found := self._read("pop_token")) >> 31:
            tokens.append(found & 0xFFFFFF)
        return tokens

    # ---- memory ------------------------------------------------------------------------------------------------------------

    def _check(self, what: str, addr: int, size: int) -> None:
        if addr % 4 or size % 4 or addr + size > self.memory.size:
            raise self._refuse(Cause.ADDRESS, f"{what} {addr:#x}")

    def read_memory(self, addr: int, size: int) -> bytes:
        self._check("read_memory", addr, size)
        return self.memory.read(addr, size)

    def write_memory(self, addr: int, data: bytes) -> None:
        self._check("write_memory", addr, len(data))
        self.memory.write(addr, data)

    def checksums(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """As this process reads the memory."""
        return [zlib.crc32(self.read_memory(addr, size)) for addr, size in spans]

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self.registers.close()
        self.memory.close()
