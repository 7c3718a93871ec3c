"""Programs: instruction words, the memory window they run in, and the ``.bin`` container that holds both.

The container is that of docs/decisions/0001-machine.md: ``TRLB``, a little-endian u32 length, that many bytes of JSON,
the code (16 bytes a word, little-endian), the initial data of the regions in order, and a CRC-32 of all before it.
"""

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from trilobit.atomic import replacing
from trilobit.errors import ProgramError
from trilobit.isa.spec import ISA, WORD_BYTES

__all__ = ["ELEMENTS", "FORMAT_VERSION", "MAX_WORDS", "Program", "Region"]

MAGIC = b"TRLB"
FORMAT_VERSION = 1
MAX_WORDS = 1 << 16  # the program counter's width
MAX_ADDRESS = 1 << 40
ELEMENTS = {"i8": "i1", "u8": "u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "u32": "<u4"}
"""Element types of regions: their name in assembly, and as NumPy writes them."""
_BYTES_BEHIND_HEADER = 4  # the CRC


@dataclass(frozen=True, kw_only=True)
class Region:
    """A named part of the memory window.

    Attributes:
        name: unique in the program.
        addr: byte offset in the window.
        size: bytes.
        data: initial content (``size`` bytes), or None: zero, or filled by someone else (a bundle's image).
        element: NumPy type string of its elements (a value of :data:`ELEMENTS`), or None for a stream or bare bytes.
        writable: whether it lies in the part that stores may change.
    """

    name: str
    addr: int
    size: int
    data: bytes | None = None
    element: str | None = None
    writable: bool = False

    @property
    def end(self) -> int:
        """The first byte behind the region."""
        return self.addr + self.size


class _RegionHeader(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    addr: int
    size: int
    bytes: int | None  # of initial data; None: none
    element: str | None
    writable: bool


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    isa: int
    name: str
    words: int
    window_size: int
    write_start: int
    entry: int
    core: str | None
    regions: list[_RegionHeader]
    lines: list[tuple[str, int]] | None


class _Version(msgspec.Struct):
    """Only the versions, read first: another version may have other keys."""

    version: int
    isa: int


@dataclass
class Program:
    """Instructions and the memory they expect.

    Attributes:
        name: for people.
        code: 128-bit instruction words; execution starts at word 0.
        window_size: bytes of the memory window.
        write_start: first byte that stores may change.
        regions: by name, in the order of the container.
        core: the preset it was made for (sizes in beats fit that core's beat_bytes), None if it fits any.
        lines: source file and line of each word, or None.
    """

    name: str
    code: list[int]
    window_size: int = 0
    write_start: int = 0
    regions: dict[str, Region] = field(default_factory=dict)
    core: str | None = None
    lines: list[tuple[str, int]] | None = None

    def check(self) -> None:
        """Check everything that does not need a core.

        Raises:
            ProgramError: a word that is no instruction (named by its index), too many words, regions that overlap,
                leave the window or lie on the wrong side of write_start, or data whose size differs from its region's.
        """
        where = f"program {self.name!r}"
        if len(self.code) > MAX_WORDS:
            raise ProgramError(f"{where}: expected at most {MAX_WORDS} instructions, got {len(self.code)}")
        for index, word in enumerate(self.code):
            if not 0 <= word < 1 << ISA.word_bits:
                raise ProgramError(f"{where}, word {index}: expected {ISA.word_bits} bits, got {word:#x}")
            try:
                ISA.decode(word)
            except ProgramError as error:
                raise ProgramError(f"{where}, word {index}: {error}") from error
        if not 0 <= self.write_start <= self.window_size <= MAX_ADDRESS:
            raise ProgramError(
                f"{where}: expected 0 <= write_start <= window_size <= 2^40, got write_start {self.write_start} and "
                f"window_size {self.window_size}"
            )
        if self.lines is not None and len(self.lines) != len(self.code):
            raise ProgramError(f"{where}: expected a source line a word, {len(self.code)}, got {len(self.lines)}")
        for name, region in self.regions.items():
            self._check_region(f"{where}, region {name!r}", name, region)
        behind: Region | None = None
        for region in sorted(self.regions.values(), key=lambda r: (r.addr, r.end)):
            if behind is not None and region.addr < behind.end:
                raise ProgramError(f"{where}: regions {behind.name!r} and {region.name!r} overlap at {region.addr:#x}")
            behind = region

    def _check_region(self, where: str, name: str, region: Region) -> None:
        if region.name != name:
            raise ProgramError(f"{where}: expected its own name to be the same, got {region.name!r}")
        if region.addr < 0 or region.size < 0 or region.end > self.window_size:
            raise ProgramError(
                f"{where}: expected it inside the window of {self.window_size} bytes, got {region.size} bytes at {region.addr:#x}"
            )
        if region.writable and region.addr < self.write_start:
            raise ProgramError(f"{where}: writable, but at {region.addr:#x}, below write_start {self.write_start:#x}")
        if not region.writable and region.end > self.write_start:
            raise ProgramError(f"{where}: read-only, but ends at {region.end:#x}, above write_start {self.write_start:#x}")
        if region.data is not None and len(region.data) != region.size:
            raise ProgramError(f"{where}: expected {region.size} bytes of data, got {len(region.data)}")
        if region.element is not None and region.element not in ELEMENTS.values():
            raise ProgramError(f"{where}: expected an element of {', '.join(ELEMENTS.values())}, got {region.element!r}")

    def memory(self) -> np.ndarray:
        """The window as the program starts with it: [window_size] of uint8, writable, zero where no region has data."""
        memory = np.zeros(self.window_size, dtype=np.uint8)
        for region in self.regions.values():
            if region.data is not None:
                memory[region.addr : region.end] = np.frombuffer(region.data, dtype=np.uint8)
        return memory

    def to_bytes(self) -> bytes:
        """The ``.bin`` container.

        Raises:
            ProgramError: as :meth:`check`.
        """
        self.check()
        header = msgspec.json.encode(
            _Header(
                version=FORMAT_VERSION, isa=ISA.version, name=self.name, words=len(self.code),
                window_size=self.window_size, write_start=self.write_start, entry=0, core=self.core,
                regions=[
                    _RegionHeader(r.name, r.addr, r.size, _length(r.data), r.element, r.writable)
                    for r in self.regions.values()
                ],
                lines=self.lines,
            )
        )  # fmt: skip
        parts = [MAGIC, len(header).to_bytes(4, "little"), header]
        parts += [word.to_bytes(WORD_BYTES, "little") for word in self.code]
        parts += [region.data for region in self.regions.values() if region.data is not None]
        body = b"".join(parts)
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "program") -> "Program":
        """Read a container.

        Args:
            data: its bytes.
            source: what messages call it.

        Raises:
            ProgramError: truncated, damaged, of another version, or a word that is no instruction.
        """
        header, rest = _read_header(bytes(data), source)
        code_bytes = WORD_BYTES * header.words
        code = [int.from_bytes(rest[i : i + WORD_BYTES], "little") for i in range(0, code_bytes, WORD_BYTES)]
        regions: dict[str, Region] = {}
        offset = code_bytes
        for r in header.regions:
            content = None if r.bytes is None else rest[offset : offset + r.bytes]
            offset += r.bytes or 0
            if r.name in regions:
                raise ProgramError(f"{source}: region {r.name!r} appears twice")
            regions[r.name] = Region(name=r.name, addr=r.addr, size=r.size, data=content, element=r.element, writable=r.writable)
        program = cls(header.name, code, header.window_size, header.write_start, regions, header.core, header.lines)
        try:
            program.check()
        except ProgramError as error:
            raise ProgramError(f"{source}: {error}") from error
        return program

    def save(self, path: str | os.PathLike) -> None:
        """Write the container to a temporary name beside ``path``, then rename it; nothing half-written stays."""
        data = self.to_bytes()
        try:
            with replacing(path) as file:
                file.write(data)
        except OSError as error:
            raise ProgramError(f"{path}: can't be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Program":
        """Read a container from a file.

        Raises:
            ProgramError: not readable, or as :meth:`from_bytes`; messages start with the path.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ProgramError(f"{path}: can't be read: {error.strerror}") from error
        return cls.from_bytes(data, source=str(path))


def _read_header(data: bytes, source: str) -> tuple[_Header, bytes]:
    """The checked header of a container, and the bytes between it and the CRC."""
    if data[:4] != MAGIC:
        raise ProgramError(f"{source}: expected a program binary that starts with {MAGIC!r}, got {data[:4]!r}")
    length = int.from_bytes(data[4:8], "little")
    if len(data) < 8 + length + _BYTES_BEHIND_HEADER:
        raise ProgramError(f"{source}: truncated: expected at least {8 + length + 4} bytes, got {len(data)}")
    checksum, expected = zlib.crc32(data[:-4]), int.from_bytes(data[-4:], "little")
    if checksum != expected:
        raise ProgramError(f"{source}: damaged or truncated: CRC-32 is {checksum:#010x}, expected {expected:#010x}")
    try:
        versions = msgspec.json.decode(data[8 : 8 + length], type=_Version)
        if versions.version != FORMAT_VERSION:
            raise ProgramError(f"{source}: expected container version {FORMAT_VERSION}, got {versions.version}")
        if versions.isa != ISA.version:
            raise ProgramError(f"{source}: expected instruction set version {ISA.version}, got {versions.isa}; assemble it again")
        header = msgspec.json.decode(data[8 : 8 + length], type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProgramError(f"{source}: its header can't be read: {error}") from error
    rest = data[8 + length : -_BYTES_BEHIND_HEADER]
    sizes = [header.words] + [r.bytes or 0 for r in header.regions]
    wanted = WORD_BYTES * header.words + sum(sizes[1:])
    if min(sizes) < 0 or len(rest) != wanted:
        raise ProgramError(f"{source}: expected {wanted} bytes of code and data as its header says, got {len(rest)}")
    if header.entry != 0:
        raise ProgramError(f"{source}: expected entry 0, got {header.entry}")
    return header, rest


def _length(data: bytes | None) -> int | None:
    return len(data) if data else None  # no bytes and no data are the same
