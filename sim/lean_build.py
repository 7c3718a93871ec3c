"""The lean core's compiled cycle model: lean.cpp as a shared library; what it must know of microinstructions is their definition's.

Enumerations and fields of :mod:`trilobit.hdl.lean.micro` and fields of instruction words become a header, ``lean_micro.h``, so none
of their numbers is written twice.
"""

import ctypes
from enum import IntEnum
from functools import cache
from pathlib import Path

from trilobit.hdl.lean.micro import (
    FIELDS,
    LATENCY,
    PAGE_IOTA,
    SCALARS,
    Cond,
    Dest,
    Kind,
    Length,
    Max,
    Offset,
    Sat,
    Shift,
    Slice,
    Source,
    Strobe,
    Target,
    YMode,
)
from trilobit.isa.spec import ISA
from trilobit.sim.cycles_build import build_library, declare
from trilobit.sim.cycles_decode import Machine
from trilobit.sim.cycles_timing import Timing
from trilobit.sim.memory import MEMORY_HEADERS, MemoryParameters
from trilobit.sim.trace_records import TraceRecord

__all__ = ["LeanHeader", "LeanSettings", "load_lean", "micro_header"]

SOURCES = (
    "lean.cpp", "lean_core.h", "lean_memory.h", "lean_pass.h", "lean_scalars.h",
    "cycles.h", "cycles_matmul.h", "cycles_parts.h", "cycles_registers.h", "trace.h", *MEMORY_HEADERS,
)  # fmt: skip
ENUMS: tuple[type[IntEnum], ...] = (Kind, Source, Dest, Target, Sat, YMode, Shift, Max, Offset, Length, Slice, Cond, Strobe)


class LeanHeader(ctypes.Structure):
    """``struct LeanHeader`` of ``lean_core.h``: the 16 bytes of a segment's header, at a byte address of the window."""

    _fields_ = [("addr", ctypes.c_uint64), ("words", ctypes.c_uint16 * 8)]


class LeanSettings(ctypes.Structure):
    """``struct LeanSettings`` of ``lean_core.h``: what the host asks for."""

    _fields_ = [("seed", ctypes.c_uint32), ("temperature_m", ctypes.c_uint32), ("temperature_e", ctypes.c_int32), ("zero", ctypes.c_uint32)]


def micro_header() -> str:
    """The text of ``lean_micro.h``."""
    lines = ["// Made by trilobit/sim/lean_build.py from hdl/lean/micro.py and the instruction set.", "#pragma once", "#include <cstdint>"]
    lines += ["namespace micro {", f"constexpr int LATENCY = {LATENCY}, SCALARS = {SCALARS}, PAGE_IOTA = {PAGE_IOTA};"]
    for enum in ENUMS:
        members = ", ".join(f"{member.name} = {member.value}" for member in enum)
        lines.append(f"namespace {enum.__name__} {{ enum Name : int32_t {{ {members} }}; }}")
    lines.append("struct Micro {  // operands: index, stride << 9, source << 10")
    lines += [f"    int32_t {name if name != 'signed' else 'is_signed'};" for name in FIELDS]
    lines.append("};")
    lines.append("struct WordField { uint32_t lo, width; bool is_signed; };")
    lines.append("namespace Field {")
    lines += [
        f"constexpr WordField {name}{{{field.lo}, {field.width}, {str(field.signed).lower()}}};" for name, field in ISA.fields.items()
    ]
    return "\n".join([*lines, "}", "}", ""])


@cache
def load_lean() -> ctypes.CDLL:
    """The library with its functions declared.

    Raises:
        ToolError: there is no C++ compiler, or it fails; its log is kept.
    """
    path: Path = build_library("lean", "lean.cpp", SOURCES, {"lean_micro.h": micro_header()})
    handle, u32 = ctypes.c_void_p, ctypes.c_uint32
    new = (handle, [*[handle] * 3, u32, handle, u32, handle, handle, handle, handle, u32, u32, handle])
    structures = (Machine, Timing, LeanSettings, LeanHeader, MemoryParameters, TraceRecord)
    lib = declare(path, "lean", new, structures)
    lib.lean_hazards.restype, lib.lean_hazards.argtypes = ctypes.c_uint64, [handle, handle]
    return lib
