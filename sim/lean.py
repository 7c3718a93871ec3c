"""What the lean core's cycle model is made of, for :mod:`trilobit.sim.cycles`: the microprogram, initial scalars, headers of the stream."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from trilobit.hdl.lean.micro import PLACES, SCALARS, MicroProgram, Operand
from trilobit.hdl.lean.microprogram import microprogram
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.segments import HEADER_BYTES, Segment, segment_header
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles_decode import StreamSegment, machine_of
from trilobit.sim.cycles_timing import timing
from trilobit.sim.lean_build import LeanHeader, LeanSettings, load_lean
from trilobit.sim.memory import Memory

__all__ = ["microcode_hazards", "new_lean"]


@cache
def _program(config: CoreConfig) -> MicroProgram:
    return microprogram(config)


@cache
def _code(config: CoreConfig) -> np.ndarray:
    """The microprogram's fields: [microinstructions, fields] of int32, in the order of FIELDS."""

    def fields(word: int) -> list[int]:
        values = [(word >> place.low & ((1 << place.bits) - 1), place) for place in PLACES.values()]
        return [value - (1 << place.bits) if place.signed and value >> (place.bits - 1) else value for value, place in values]

    return np.array([fields(word) for word in _program(config).words()], dtype=np.int32)


def _headers(
    config: CoreConfig, ordered: Sequence[StreamSegment], segments: Sequence[Segment] | None, image: np.ndarray | None
) -> list[LeanHeader]:
    """The bytes of the stream's headers, by address: of the image, or as a compiler writes them."""
    if segments is not None:
        found = {s.addr: segment_header(s.kind, s.rows, s.columns, s.scale, config.beat_bytes) for s in segments}
    else:
        assert image is not None
        found = {s.addr: bytes(image[s.addr : s.addr + HEADER_BYTES]) for s in ordered}
    result = []
    for addr in sorted(found):
        words = np.frombuffer(found[addr][:HEADER_BYTES].ljust(HEADER_BYTES, b"\0"), dtype="<u2").tolist()
        result.append(LeanHeader(addr, (ctypes.c_uint16 * len(words))(*words)))
    return result


def new_lean(program: Program, config: CoreConfig, memory: Memory, settings: HostSettings, ordered: Sequence[StreamSegment],
             segments: Sequence[Segment] | None, image: np.ndarray | None) -> tuple[ctypes.CDLL, int | None]:  # fmt: skip
    """The compiled model's library and a new model; None if the memory doesn't fit the core. Arguments as for CycleModel."""
    lib, micro = load_lean(), _program(config)
    code, entries = np.ascontiguousarray(_code(config)), np.array(micro.dispatch(), dtype=np.uint16)
    words = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in program.code), dtype=np.uint64)
    headers = _headers(config, ordered, segments, image)
    scalars = np.array([micro.values.get(index, 0) for index in range(SCALARS)], dtype=np.int64)
    temperature = settings.temperature_scalar()
    token: Operand = micro.var("token")

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    model = lib.new(
        ctypes.byref(machine_of(program, config, settings)), ctypes.byref(timing()), pointer(words), len(program.code),
        (LeanHeader * len(headers))(*headers), len(headers),
        ctypes.byref(LeanSettings(settings.seed, temperature.mantissa, temperature.exponent)), pointer(entries), pointer(scalars),
        pointer(code), len(code), token.index, ctypes.byref(memory.parameters(config.clock_mhz)),
    )  # fmt: skip
    return lib, model


def microcode_hazards(model: Any) -> tuple[int, int]:
    """How often the microprogram of a lean core's :class:`trilobit.sim.cycles.CycleModel` has read what was not there yet, and the latest
    microinstruction that did: a mistake of the microprogram, which only hardware shows in its results."""
    at = ctypes.c_uint32()
    return model._lib.lean_hazards(model._handle, ctypes.byref(at)), at.value
