"""Programs as the cycle model takes them: what each instruction word and each stream segment means to time."""

import ctypes
from collections.abc import Iterable, Sequence

import numpy as np

from trilobit.errors import ProgramError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.segments import KINDS, Segment, parse_segment
from trilobit.isa.slots import stored_elements
from trilobit.isa.spec import ISA, Opcode
from trilobit.sim.backend import HostSettings

__all__ = ["Instruction", "Machine", "StreamSegment", "decode_program", "known_segments", "machine_of", "stream_segments"]

_UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise", "control")
# enum Kind of cycles.h; every other row-wise instruction is elementwise.
_KINDS = {name: number for number, name in enumerate((
    "elementwise", "argmax", "rms", "norm", "normq", "tmatmul", "ldv", "sv", "emb", "clr",
    "nop", "stream", "poll", "bprompt", "jump", "seti", "loop", "wait", "emit", "bdone", "halt",
))}  # fmt: skip
_WIDE, _GAIN, _SCALED, _LAST, _TOKEN = (1 << bit for bit in range(5))
BAD_OPCODE, LENGTH, ADDRESS, READ_ONLY = 1, 2, 3, 4  # cause codes of docs/decisions/0001-machine.md


class Instruction(ctypes.Structure):
    """``struct Instruction`` of ``cycles.h``."""

    _fields_ = [("addr", ctypes.c_uint64), ("beats", ctypes.c_uint32), ("rows", ctypes.c_uint32),
                *((name, ctypes.c_uint16) for name in ("length", "pitch", "target", "imm")),
                *((name, ctypes.c_uint8) for name in ("kind", "unit", "problem", "flags", "reads", "writes", "uses", "registers3",
                                                      "va", "vb", "vc", "vd", "act", "counter")),
                ("zero", ctypes.c_uint16)]  # fmt: skip


class StreamSegment(ctypes.Structure):
    """``struct Segment`` of ``cycles.h``: a header in the stream. ``kind`` as in :data:`trilobit.isa.segments.KINDS`, 0 if it is bad."""

    _fields_ = [("addr", ctypes.c_uint64), ("rows", ctypes.c_uint16), ("columns", ctypes.c_uint16), ("kind", ctypes.c_uint32)]


class Machine(ctypes.Structure):
    """``struct Machine`` of ``cycles.h``."""

    _fields_ = [*((name, ctypes.c_uint32) for name in ("beat_bytes", "lanes", "max_length", "weight_fifo_beats", "gain_buffer_elements",
                                                       "burst_beats", "load_fifo_beats", "program_words")),
                ("window_size", ctypes.c_uint64), ("write_start", ctypes.c_uint64), ("eos", ctypes.c_uint32),
                ("limit", ctypes.c_uint32), ("batch", ctypes.c_uint32), ("zero", ctypes.c_uint32)]  # fmt: skip


def machine_of(program: Program, config: CoreConfig, settings: HostSettings) -> Machine:
    """A core's parameters, the program's window, and what the host asks for."""
    return Machine(
        **{field[0]: getattr(config, field[0]) for field in Machine._fields_ if hasattr(config, field[0])},
        window_size=program.window_size, write_start=program.write_start, eos=settings.eos, limit=settings.limit,
    )  # fmt: skip


def _problem(op: Opcode, get, config: CoreConfig, program: Program) -> int:
    """The fault that the core finds when it checks an instruction word (hdl/pc.py), 0 for none."""
    fields = {field.name for field in op.fields}
    if "len" in fields and not 0 < get("len") <= config.max_length:
        return LENGTH
    if op.unit == "ldst" or op.name == "stream":
        elements = stored_elements(config, get("len")) if op.name in ("ldv", "sv") else get("len")
        size = get("beats") * config.beat_bytes if "beats" in fields else elements << (2 if get("wide") else 1)
        if get("addr") + size > program.window_size:
            return ADDRESS
    if op.name in ("sv", "clr") and get("addr") < program.write_start:
        return READ_ONLY
    return 0


def _decode(word: int, config: CoreConfig, program: Program) -> Instruction:
    op = ISA.by_opcode.get(word & 0xFF)
    if op is None:
        return Instruction(kind=_KINDS["nop"], unit=_UNITS.index("control"), problem=BAD_OPCODE)

    def get(name: str) -> int:
        return ISA.fields[name].get(word)

    def registers(names: Sequence[str]) -> int:
        mask = 0
        for name in names:
            if ISA.fields[name].kind == "vreg":
                mask |= 1 << get(name)
        return mask

    flags = _WIDE * get("wide") | _GAIN * get("gain") | _SCALED * get("scaled") | _LAST * get("last") | _TOKEN * op.reads_token
    return Instruction(
        addr=get("addr"), beats=get("beats"), rows=get("rows"), length=get("len"), pitch=get("pitch"), target=get("target"),
        imm=get("imm") & 0xFFFF, kind=_KINDS.get(op.name, _KINDS["elementwise"]), unit=_UNITS.index(op.unit),
        problem=_problem(op, get, config, program), flags=flags, reads=registers(op.reads), writes=registers(op.writes),
        uses=sum(1 << bit for bit, name in enumerate(("va", "vb", "vc")) if name in op.reads),
        va=get("va"), vb=get("vb"), vc=get("vc"), vd=get("vd"), act=get("act"), counter=get("cnt"),
    )  # fmt: skip


def decode_program(program: Program, config: CoreConfig) -> ctypes.Array:
    """A program's words for the compiled model."""
    return (Instruction * len(program.code))(*(_decode(word, config, program) for word in program.code))


def stream_segments(program: Program, config: CoreConfig, image: np.ndarray) -> list[StreamSegment]:
    """The segments of a program's stream, by address, read from the headers in its memory image.

    A region is read up to its end or up to a header that is bad, behind which the hardware steers nothing either.

    Args:
        image: [window_size] of uint8.
    """
    regions: dict[int, int] = {}
    opcode = ISA.by_name["stream"].opcode
    for word in program.code:
        if word & 0xFF == opcode:
            addr, beats = ISA.fields["addr"].get(word), ISA.fields["beats"].get(word)
            regions[addr] = max(beats, regions.get(addr, 0))
    found: dict[int, StreamSegment] = {}
    for start, beats in regions.items():
        addr, end = start, min(start + beats * config.beat_bytes, len(image))
        while addr < end and addr not in found:
            try:
                segment = parse_segment(image, addr, config.beat_bytes)
            except ProgramError:
                found[addr] = StreamSegment(addr, 0, 0, 0)
                break
            kind = KINDS[segment.kind] if segment.columns <= config.max_length else 0
            found[addr] = StreamSegment(addr, segment.rows, segment.columns, kind)
            if not kind:
                break
            addr = segment.payload + segment.beats * config.beat_bytes
    return [found[addr] for addr in sorted(found)]


def known_segments(segments: Iterable[Segment]) -> list[StreamSegment]:
    """Segments that are known without an image, as a compiler lays them out, by address."""
    ordered = sorted(segments, key=lambda segment: segment.addr)
    return [StreamSegment(segment.addr, segment.rows, segment.columns, KINDS[segment.kind]) for segment in ordered]
