"""Drives a memory model without a core."""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from trilobit.sim import memory as memory_module
from trilobit.sim.build_cache import cache_folder
from trilobit.sim.memory import Memory, MemoryParameters
from trilobit.sim.toolchain import GXX

SOURCE = Path(__file__).with_name("memory_alone.cpp")


@dataclass(frozen=True)
class Request:
    """A read or a write; ``alone``: asked for when all before are done; ``at``: not before this cycle."""

    addr: int
    beats: int = 1
    write: bool = False
    alone: bool = False
    at: int = 0


class _Request(ctypes.Structure):
    _fields_ = [("addr", ctypes.c_uint64)] + [(name, ctypes.c_uint32) for name in ("beats", "write", "alone", "at")]


@dataclass(frozen=True)
class Driven:
    """Cycles: ``done`` of each read beat and each write's response in request order, ``taken`` of each request, ``cycles`` of all."""

    done: np.ndarray
    addresses: np.ndarray
    taken: np.ndarray
    cycles: int


@cache
def library() -> ctypes.CDLL:
    headers = Path(memory_module.__file__).parent
    key = hash(tuple(p.read_bytes() for p in (SOURCE, *(headers / name for name in memory_module.MEMORY_HEADERS)))) & (1 << 64) - 1
    out = cache_folder() / f"memory-alone-{key:016x}.so"
    GXX.run(["-std=gnu++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", headers, SOURCE, "-o", out])
    library = ctypes.CDLL(str(out))
    out.unlink()
    library.drive_memory.restype = ctypes.c_uint64
    return library


def drive(memory: Memory, requests: list[Request], *, beat_bytes: int, clock_mhz: float, max_cycles: int = 1 << 40) -> Driven:
    """Run requests to their end."""
    parameters: MemoryParameters = memory.parameters(clock_mhz)
    array = (_Request * len(requests))(*[_Request(r.addr, r.beats, r.write, r.alone, r.at) for r in requests])
    entries = sum(1 if r.write else r.beats for r in requests)
    done = np.full(entries, -1, dtype=np.int64)
    taken, addresses = np.zeros(len(requests), dtype=np.uint64), np.zeros(entries, dtype=np.uint64)
    arrays = [ctypes.c_void_p(x.ctypes.data) for x in (done, taken, addresses)]
    cycles = library().drive_memory(ctypes.byref(parameters), ctypes.c_uint32(beat_bytes), array, ctypes.c_uint32(len(requests)),
                                     ctypes.c_uint64(max_cycles), *arrays)  # fmt: skip
    assert cycles, "the memory answered what was not asked, or not at all"
    return Driven(done, addresses, taken.astype(np.int64), cycles)


def sequential(total_bytes: int, *, beat_bytes: int, burst: int = 16, start: int = 0) -> list[Request]:
    """Reads of a region as the stream fetch asks for it."""
    return [Request(start + addr, burst) for addr in range(0, total_bytes, burst * beat_bytes)]
