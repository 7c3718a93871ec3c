"""Device registers and memory mapped into this process: UIO devices, ``/dev/mem``, DMA buffers (u-dma-buf), or any file.

Only loads and stores of whole, aligned words go to a mapping: device memory takes no others on many processors, and the core's registers
take none but 32 bits wide ones.
"""

import errno
import mmap
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trilobit.errors import ConfigError, HostError

__all__ = ["Area", "MappedMemory", "MappedRegisters", "parse_area"]

SYSFS = Path("/sys/class")
WORD_BYTES = 4
CHUNK = 64  # bytes: copies of whole, aligned chunks are made of aligned stores whatever the C library does
_AREA = re.compile(r"(?P<path>[^@:+]+)(?::(?P<map>\d+))?(?:@(?P<base>\w+))?(?:\+(?P<size>\w+))?")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
RULES = {
    "uio": 'a udev rule such as KERNEL=="uio*", MODE="0660", GROUP="dialout"',
    "udmabuf": 'a udev rule such as SUBSYSTEM=="u-dma-buf", MODE="0660", GROUP="dialout"',
    "mem": "root, which /dev/mem always asks for (sudo)",
}


@dataclass(frozen=True)
class Area:
    """Something to map.

    Attributes:
        path: the device or file.
        offset: where it begins there, as mmap counts.
        base: its address on the bus.
        size: its bytes; None: as many as are needed.
    """

    path: str
    offset: int
    base: int
    size: int | None

    def __str__(self) -> str:
        return f"{self.path} at {self.base:#x}"


def _number(text: str, what: str, whole: str) -> int:
    unit = _UNITS.get(text[-1:].upper(), 1)
    try:
        return int(text[:-1] if unit > 1 else text, 0) * unit
    except ValueError as error:
        raise ConfigError(f"expected {what} as a number such as 0xA0000000 or 256M in {whole!r}, got {text!r}") from error


def _sysfs(path: Path, device: str) -> int:
    try:
        return int(path.read_text().strip(), 0)
    except OSError as error:
        raise ConfigError(f"expected {device} with {path}, can't read that: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"expected a number in {path}, got {path.read_text()!r}") from error


def parse_area(text: str, *, map_index: int = 0) -> Area:
    """``PATH[:MAP]`` of a UIO device or DMA buffer, or ``PATH@ADDRESS[+SIZE]``.

    Address and size of a UIO device's map and of a u-dma-buf come from sysfs.

    Args:
        text: as the user has it.
        map_index: map of a UIO device that names none.

    Raises:
        ConfigError: no such device or map, or a text of another form.
    """
    match = _AREA.fullmatch(text)
    if match is None:
        raise ConfigError(f"expected a device as /dev/uio0, /dev/uio0:1, /dev/udmabuf0 or /dev/mem@0xA0000000+1M, got {text!r}")
    path, name = match["path"], Path(match["path"]).name
    if not Path(path).exists():
        raise ConfigError(f"expected a device at {path}, found none: is the design loaded, with its device tree overlay?")
    if match["base"] is not None:
        size = None if match["size"] is None else _number(match["size"], "a size", text)
        base = _number(match["base"], "an address", text)
        return Area(path, base, base, size)
    if match["size"] is not None:
        raise ConfigError(f"expected an address in front of the size, PATH@ADDRESS+SIZE, got {text!r}")
    if re.fullmatch(r"uio\d+", name):
        index = int(match["map"] or map_index)
        folder = SYSFS / "uio" / name / "maps" / f"map{index}"
        if not folder.is_dir():
            there = sorted(p.name for p in folder.parent.glob("map*"))
            raise ConfigError(f"expected {path} with a map {index}, it has {', '.join(there) or 'none'}; name the memory behind a comma")
        base = _sysfs(folder / "addr", path)
        # By UIO's convention a map's number of pages is its offset.
        return Area(path, index * mmap.PAGESIZE, base, _sysfs(folder / "size", path))
    for kind in ("u-dma-buf", "udmabuf"):
        folder = SYSFS / kind / name
        if folder.is_dir():
            return Area(path, 0, _sysfs(folder / "phys_addr", path), _sysfs(folder / "size", path))
    raise ConfigError(f"expected an address for {path}, as in {path}@0xA0000000: it is no UIO device and no u-dma-buf")


def _open(area: Area, size: int) -> mmap.mmap:
    """Map ``size`` bytes of an area, uncached where the device can."""
    path = Path(area.path)
    if area.offset % mmap.PAGESIZE:
        raise ConfigError(f"expected an address that is a multiple of the page size {mmap.PAGESIZE}, got {area.base:#x} for {path}")
    try:
        # Of /dev/mem and u-dma-buf this asks for a mapping that no cache lies in front of.
        handle = os.open(path, os.O_RDWR | os.O_SYNC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            kind = next((kind for kind in RULES if path.name.startswith(kind)), "uio")
            raise ConfigError(f"expected to be allowed to use {path}, got {error.strerror!r}: it needs {RULES[kind]}") from error
        raise ConfigError(f"expected a device at {path}, can't open it: {error.strerror}") from error
    try:
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode) and status.st_size < area.offset + size:
            raise ConfigError(f"expected a map of {size} bytes from {area.offset:#x} of {path}, the file has {status.st_size} bytes")
        return mmap.mmap(handle, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=area.offset)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = ": the kernel gives /dev/mem no memory of its own; reserve the region in the device tree" if path.name == "mem" else ""
        raise ConfigError(f"expected to map {size} bytes at {area.base:#x} of {path}, can't: {reason}{hint}") from error
    finally:
        os.close(handle)


class _Mapped:
    """Words of a mapping; HostError after it is closed."""

    def __init__(self, area: Area, size: int):
        self._map = _open(area, size)
        self._words: np.ndarray | None = np.frombuffer(self._map, dtype="<u4")
        self.description = str(area)

    @property
    def words(self) -> np.ndarray:
        if self._words is None:
            raise HostError(f"{self.description} is closed")
        return self._words

    def close(self) -> None:
        """Unmap. Idempotent."""
        self._words = None
        self._map.close()


class MappedRegisters(_Mapped):
    """Device registers.

    Args:
        area: where.
        size: bytes that are needed.

    Raises:
        ConfigError: the area is smaller, not there, or not allowed.
    """

    def __init__(self, area: Area, size: int):
        if area.size is not None and area.size < size:
            raise ConfigError(f"expected a map of at least {size} bytes of registers, {area} has {area.size}")
        super().__init__(area, size)

    def read(self, offset: int) -> int:
        return int(self.words[offset // WORD_BYTES])

    def write(self, offset: int, value: int) -> None:
        self.words[offset // WORD_BYTES] = value


class MappedMemory(_Mapped):
    """Memory that the core reaches too.

    Args:
        area: where, with its size.

    Raises:
        ConfigError: no size, or it is not there or not allowed.
    """

    def __init__(self, area: Area):
        if area.size is None:
            raise ConfigError(f"expected the size of the memory, as in {area.path}@{area.base:#x}+256M")
        if area.size <= 0 or area.size % WORD_BYTES:
            raise ConfigError(f"expected a size of whole words of {WORD_BYTES} bytes, got {area.size}")
        super().__init__(area, area.size)
        self.base, self.size = area.base, area.size

    def _spans(self, first: int, last: int) -> tuple[int, int]:
        """The words [start, end) among [first, last) that are whole, aligned chunks."""
        chunk = CHUNK // WORD_BYTES
        start = min(-(-first // chunk) * chunk, last)
        return start, max(start, last // chunk * chunk)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes; offset and size in whole words."""
        first, last = offset // WORD_BYTES, (offset + size) // WORD_BYTES
        start, end = self._spans(first, last)
        data = np.empty(last - first, dtype="<u4")
        data[start - first : end - first] = self.words[start:end]
        for k in (*range(first, start), *range(end, last)):
            data[k - first] = self.words[k]
        return data.tobytes()

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes; offset and size in whole words."""
        source = np.frombuffer(data, dtype="<u4")
        first, last = offset // WORD_BYTES, offset // WORD_BYTES + len(source)
        start, end = self._spans(first, last)
        self.words[start:end] = source[start - first : end - first]
        for k in (*range(first, start), *range(end, last)):
            self.words[k] = source[k - first]
