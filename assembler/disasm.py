"""The disassembler: a program as text that assembles back to the same bits, code and memory."""

import json
import keyword
import re
from bisect import bisect_right

import numpy as np

from trilobit.assembler.checks import breaches
from trilobit.assembler.symbols import REGISTERS
from trilobit.errors import ConfigError, ProgramError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import ELEMENTS, Program, Region
from trilobit.isa.segments import Segment, gains_segment, matrix_segment, parse_segment, segment_gains, segment_trits
from trilobit.isa.spec import ISA, Field, Instruction
from trilobit.isa.trits import pack

__all__ = ["disassemble", "instruction_text"]

VALUES_A_LINE = 16
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RESERVED = {name for names in REGISTERS.values() for name in names} | {"core"}
_ELEMENT_NAMES = {dtype: name for name, dtype in ELEMENTS.items()}


def _config(program: Program) -> CoreConfig | None:
    try:
        return load_core(program.core) if program.core else None
    except ConfigError:
        return None  # a core of the user's own


class _Addresses:
    """Names for addresses: the region that holds one, and what lies behind its start."""

    def __init__(self, program: Program, taken: set[str]):
        named = [r for r in program.regions.values() if r.size and is_symbol(r.name) and r.name not in taken]
        self.regions = sorted(named, key=lambda r: r.addr)
        self.starts = [r.addr for r in self.regions]

    def text(self, addr: int) -> str:
        index = bisect_right(self.starts, addr) - 1
        if index >= 0 and addr < self.regions[index].end:
            region = self.regions[index]
            return f"[{region.name}]" if addr == region.addr else f"[{region.name} + {addr - region.addr}]"
        return f"[{addr:#x}]"


def is_symbol(name: str) -> bool:
    """Whether a region's name can stand in expressions; any other is written in quotes."""
    return bool(_PLAIN_NAME.fullmatch(name)) and name not in _RESERVED and not keyword.iskeyword(name)


def _operand(field: Field, value: int, labels: dict[int, str], addresses: _Addresses | None) -> str:
    prefix = {"vreg": "v", "act": "a", "scalar": "s", "counter": "x"}.get(field.kind)
    if prefix:
        return f"{prefix}{value}"
    if field.kind == "target":
        return labels.get(value, str(value))
    if field.kind == "addr":
        return addresses.text(value) if addresses else f"[{value:#x}]"
    return str(value)


def instruction_text(instruction: Instruction, labels: dict[int, str] | None = None, addresses: _Addresses | None = None) -> str:
    """One instruction in assembly: its operands, then the options that differ from their defaults.

    Args:
        instruction: as :meth:`InstructionSet.decode` gives it.
        labels: names of branch targets by index; others are numbers.
        addresses: names of addresses; without it they are numbers.
    """
    op = instruction.opcode
    parts = [_operand(field, instruction[field.name], labels or {}, addresses) for field in op.operands]
    positional = {field.name for field in op.operands}
    for name, option in op.options.items():
        value = instruction[name]
        if name in positional or value == option.default:
            continue
        parts.append(name if option.field.kind == "flag" else f"{name}={value}")
    return f"{op.name} {', '.join(parts)}".rstrip()


def _rows(trits: np.ndarray) -> list[str]:
    letters = np.array(list("-0+"))
    return ["".join(row) for row in letters[trits.astype(np.int64) + 1]]


def _segment_text(memory: np.ndarray, segment: Segment, raw: bytes, beat_bytes: int) -> list[str] | None:
    """A segment as a directive, or None if that would not give the same bytes (padding that no assembler writes)."""
    if segment.kind == "gains":
        gains = segment_gains(memory, segment)
        if gains_segment(gains, beat_bytes) != raw:
            return None
        return ["  .gains " + ", ".join(map(str, gains))]
    # A scale that isn't normalised can't be said as a number; exponents are exact in a float's range.
    mantissa, exponent = segment.scale
    if mantissa and not mantissa >> 17:
        return None
    trits = segment_trits(memory, segment, beat_bytes)
    if matrix_segment(pack(trits), segment.rows, segment.scale, beat_bytes) != raw:
        return None
    if not mantissa and exponent:
        return None
    scale = float(mantissa) * 2.0**exponent
    return [f"  .ternary {segment.rows}, {segment.columns}, scale={scale!r}", *("    " + row for row in _rows(trits))]


def _bytes_text(data: bytes) -> list[str]:
    lines = []
    for start in range(0, len(data), VALUES_A_LINE):
        lines.append("  .u8 " + ", ".join(f"{b:#04x}" for b in data[start : start + VALUES_A_LINE]))
    return lines


def _stream_text(data: bytes, config: CoreConfig) -> list[str]:
    """A region as segments as far as they go; bytes from there on."""
    memory = np.frombuffer(data, dtype=np.uint8)
    lines: list[str] = []
    position = 0
    while position < len(data):
        try:
            segment = parse_segment(memory, position, config.beat_bytes)
        except ProgramError:
            break
        end = segment.payload + segment.beats * config.beat_bytes
        text = _segment_text(memory, segment, data[position:end], config.beat_bytes)
        if text is None:
            break
        lines += text
        position = end
    return lines + _bytes_text(data[position:])


def _region_text(region: Region, name: str, config: CoreConfig | None) -> list[str]:
    element = _ELEMENT_NAMES[region.element] if region.element else "stream"
    access = "writable" if region.writable else "readonly"
    lines = [f".region {name}, {access}, {element}, at={region.addr:#x}, size={region.size}"]
    if not region.data:
        return lines
    if region.element is None:
        return lines + (_stream_text(region.data, config) if config else _bytes_text(region.data))
    kind = np.dtype(region.element)
    whole = len(region.data) // kind.itemsize * kind.itemsize
    values = np.frombuffer(region.data[:whole], dtype=kind)
    if len(values) > VALUES_A_LINE and (values == values[0]).all():
        lines.append(f"  .fill {len(values)}, {values[0]}")
    else:
        for start in range(0, len(values), VALUES_A_LINE):
            lines.append(f"  .{element} " + ", ".join(map(str, values[start : start + VALUES_A_LINE])))
    return lines + _bytes_text(region.data[whole:])


def disassemble(program: Program) -> str:
    """A program as assembly text.

    The text assembles back to the same code, memory, regions, core and name (source lines are not kept). Instructions that
    break a rule of the core or the window stand between ``.unchecked`` and ``.checked``. A program for a core that is
    no preset must be assembled with that core given.

    Raises:
        ProgramError: a word that is no instruction, or another inconsistency of the program.
    """
    program.check()
    config = _config(program)
    instructions = [ISA.decode(word) for word in program.code]
    labels = {i["target"]: "" for i in instructions if "target" in i.values and i["target"] < len(instructions)}
    labels = {target: f"L{target}" for target in sorted(labels)}
    addresses = _Addresses(program, set(labels.values()))
    out = [f".name {json.dumps(program.name)}"]
    if program.core:
        out.append(f".core {program.core}" if config else f"; for core {program.core!r}: give it with --core")
    out.append(f".window {program.window_size}, write_start={program.write_start}")
    for region in program.regions.values():
        plain = is_symbol(region.name) and region.name not in labels.values()
        out += ["", *_region_text(region, region.name if plain else json.dumps(region.name), config)]
    out.append("")
    checked = True
    for index, instruction in enumerate(instructions):
        broken = breaches(
            instruction.opcode, instruction.values, config=config, window=program.window_size,
            write_start=program.write_start, words=len(instructions),
        )  # fmt: skip
        legal = next(broken, None) is None and (config is None or index < config.program_words)
        if legal != checked:
            out.append(".checked" if legal else ".unchecked")
            checked = legal
        if index in labels:
            out.append(f"{labels[index]}:")
        out.append("    " + instruction_text(instruction, labels, addresses))
    return "\n".join(out) + "\n"
