"""The compiled cycle models (cycles.cpp; lean_build.py's) as shared libraries, built on first use (a few seconds of g++) and kept."""

import ctypes
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from trilobit.errors import ToolError
from trilobit.isa.counters import COUNTERS, STALLS
from trilobit.sim.build_cache import build_once, cache_folder, content_hash
from trilobit.sim.cycles_decode import Instruction, Machine, StreamSegment
from trilobit.sim.cycles_timing import Timing
from trilobit.sim.memory import MEMORY_HEADERS, MemoryParameters
from trilobit.sim.toolchain import GXX
from trilobit.sim.trace_records import TraceRecord

__all__ = ["COUNTERS", "STALLS", "WAITS", "build_library", "cycles_library", "declare", "load_cycles"]

SOURCES = (
    "cycles.cpp",
    *(f"cycles{part}.h" for part in ("", "_ldst", "_matmul", "_parts", "_pc", "_registers", "_rmsnorm", "_rowwise", "_stream")),
    "trace.h",
    *MEMORY_HEADERS,
)
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared")

# hdl/counters.py's, which needs the hardware's packages; tests/sim/test_cycles_timing.py compares them.
# Why units wait, beside what the hardware counts: enum Wait of cycles.cpp.
WAITS = (("ldst", "register"), ("ldst", "memory"), ("rmsnorm", "gains"), ("rmsnorm", "registers"), ("rmsnorm", "scalars"),
         ("rmsnorm", "activations"), ("rowwise", "registers"), ("stream", "queue_full"))  # fmt: skip


def build_library(stem: str, main: str, sources: Sequence[str], made: Mapping[str, str] | None = None) -> Path:
    """A shared library of a cycle model, for every core.

    Args:
        stem: its name. main: the source that is compiled; sources: all that it takes, of this package. made: further ones, name -> text.

    Raises:
        ToolError: there is no C++ compiler, or it fails; its log is kept.
    """
    texts = {name: resources.files("trilobit.sim").joinpath(name).read_text() for name in sources} | dict(made or {})
    library = cache_folder() / f"{stem}-{content_hash(*texts.values(), *FLAGS, GXX.version)}.so"

    def build(work: Path, log: Path) -> Path:
        for name, text in texts.items():
            (work / name).write_text(text)
        GXX.run([*FLAGS, main, "-o", f"{stem}.so"], cwd=work, log=log)
        return work / f"{stem}.so"

    return build_once(library, "Building the cycle model (once; a few seconds)", build)


def cycles_library() -> Path:
    """The shared library of the pipelined core's cycle model; ToolError as :func:`build_library`."""
    return build_library("cycles", "cycles.cpp", SOURCES)


def declare(path: Path, prefix: str, new: tuple[Any, list[Any]], structures: Sequence[type[ctypes.Structure]]) -> ctypes.CDLL:
    """A cycle model's library with its functions declared; they are the same for every machine but ``new``.

    Raises:
        ToolError: the library's structures differ from these.
    """
    lib = ctypes.CDLL(str(path))
    handle, u32, i32, u64, void = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64, None
    counts = ctypes.POINTER(u64)
    signatures = {
        "sizes": (u32, [u32]), "new": new, "delete": (void, [handle]),
        "push": (void, [handle, handle, u32, u32]), "generated": (void, [handle, handle, u32]),
        "run": (i32, [handle, u64, i32]), "now": (u64, [handle]), "fault": (u32, [handle]), "fault_pc": (u32, [handle]),
        "counters": (counts, [handle]), "waits": (counts, [handle]), "retired_by_pc": (counts, [handle]),
        "tokens": (u64, [handle, handle]), "token_slots": (handle, [handle]),
        "record": (void, [handle, i32]), "retires": (u64, [handle, handle]),
        "trace": (void, [handle, i32]), "trace_records": (u64, [handle, handle]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, f"{prefix}_{name}")
        function.restype, function.argtypes = result, arguments
        setattr(lib, name, function)
    sizes = [*map(ctypes.sizeof, structures), len(COUNTERS), len(WAITS)]
    if [lib.sizes(what) for what in range(len(sizes))] != sizes:
        raise ToolError(f"{path} was built from other sources; delete it and try again")
    return lib


def load_cycles() -> ctypes.CDLL:
    """The pipelined core's library; ToolError as :func:`build_library`."""
    handle, u32 = ctypes.c_void_p, ctypes.c_uint32
    structures = (Instruction, StreamSegment, Machine, Timing, MemoryParameters, TraceRecord)
    return declare(cycles_library(), "cycles", (handle, [handle, handle, handle, u32, handle, u32, handle]), structures)
