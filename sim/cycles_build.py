"""The compiled cycle model: cycles.cpp as a shared library, built on first use (a few seconds of g++) and kept."""

import ctypes
from importlib import resources
from pathlib import Path

from trilobit.errors import ToolError
from trilobit.isa.counters import COUNTERS, STALLS
from trilobit.sim.build_cache import build_once, cache_folder, content_hash
from trilobit.sim.cycles_decode import Instruction, Machine, StreamSegment
from trilobit.sim.cycles_timing import Timing
from trilobit.sim.memory import MEMORY_HEADERS, MemoryParameters
from trilobit.sim.toolchain import GXX
from trilobit.sim.trace_records import TraceRecord

__all__ = ["COUNTERS", "STALLS", "WAITS", "cycles_library", "load_cycles"]

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


def cycles_library() -> Path:
    """The shared library of the cycle model, for every core.

    Raises:
        ToolError: there is no C++ compiler, or it fails; its log is kept.
    """
    sources = {name: resources.files("trilobit.sim").joinpath(name).read_text() for name in SOURCES}
    library = cache_folder() / f"cycles-{content_hash(*sources.values(), *FLAGS, GXX.version)}.so"

    def build(work: Path, log: Path) -> Path:
        for name, text in sources.items():
            (work / name).write_text(text)
        GXX.run([*FLAGS, "cycles.cpp", "-o", "cycles.so"], cwd=work, log=log)
        return work / "cycles.so"

    return build_once(library, "Building the cycle model (once; a few seconds)", build)


def load_cycles() -> ctypes.CDLL:
    """The library with its functions declared.

    Raises:
        ToolError: as :func:`cycles_library`, or the library's structures differ from these.
    """
    path = cycles_library()
    lib = ctypes.CDLL(str(path))
    handle, u32, i32, u64, void = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64, None
    counts = ctypes.POINTER(u64)
    signatures = {
        "cycles_sizes": (u32, [u32]), "cycles_new": (handle, [handle, handle, handle, u32, handle, u32, handle]),
        "cycles_delete": (void, [handle]),
        "cycles_push": (void, [handle, handle, u32, u32]), "cycles_generated": (void, [handle, handle, u32]),
        "cycles_run": (i32, [handle, u64, i32]), "cycles_now": (u64, [handle]),
        "cycles_fault": (u32, [handle]), "cycles_fault_pc": (u32, [handle]),
        "cycles_counters": (counts, [handle]), "cycles_waits": (counts, [handle]), "cycles_retired_by_pc": (counts, [handle]),
        "cycles_tokens": (u64, [handle, handle]), "cycles_token_slots": (handle, [handle]),
        "cycles_record": (void, [handle, i32]), "cycles_retires": (u64, [handle, handle]),
        "cycles_trace": (void, [handle, i32]), "cycles_trace_records": (u64, [handle, handle]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    structures = (Instruction, StreamSegment, Machine, Timing, MemoryParameters, TraceRecord)
    sizes = [*map(ctypes.sizeof, structures), len(COUNTERS), len(WAITS)]
    if [lib.cycles_sizes(what) for what in range(len(sizes))] != sizes:
        raise ToolError(f"{path} was built from other sources; delete it and try again")
    return lib
