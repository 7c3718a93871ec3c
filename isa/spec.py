"""The instruction set, loaded from ``isa.yaml`` and checked: encoder and decoder of 128-bit words.

Every bit of every instruction is either a field or must be zero; fields of one instruction never overlap; options fit
their fields. The assembler, the simulators and the hardware's decoder read :data:`ISA` and nothing else.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import yaml

from trilobit.errors import ProgramError

__all__ = ["ISA", "VECTOR_REGISTERS", "WORD_BYTES", "Field", "Instruction", "InstructionSet", "Opcode", "Option"]

UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise", "control")
_REGISTER_KINDS = ("vreg", "act", "scalar", "counter")
VECTOR_REGISTERS = 8
WORD_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Field:
    """A bit field of the instruction word: ``width`` bits from bit ``lo`` up."""

    name: str
    lo: int
    width: int
    kind: str
    signed: bool = False
    text: str = ""

    @property
    def mask(self) -> int:
        """The field's bits in place."""
        return ((1 << self.width) - 1) << self.lo

    @property
    def lowest(self) -> int:
        """The smallest value the bits can hold."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest value the bits can hold."""
        return (1 << (self.width - self.signed)) - 1

    def get(self, word: int) -> int:
        """The field's value in an instruction word."""
        value = (word >> self.lo) & ((1 << self.width) - 1)
        return value - (1 << self.width) if self.signed and value >> (self.width - 1) else value


@dataclass(frozen=True, kw_only=True)
class Option:
    """A field given by name in assembly, with its allowed range; ``default`` None means that it must be given."""

    field: Field
    low: int
    high: int
    default: int | None


@dataclass(frozen=True, kw_only=True)
class Opcode:
    """One instruction of the set."""

    name: str
    opcode: int
    unit: str
    text: str
    operands: tuple[Field, ...]
    options: dict[str, Option]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    reads_token: bool
    formula: str
    rounding: str

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All fields besides the opcode: operands, then options that are not operands."""
        names = {f.name for f in self.operands}
        return self.operands + tuple(o.field for o in self.options.values() if o.field.name not in names)

    @cached_property
    def defined_bits(self) -> int:
        """The bits that mean something; the others must be zero."""
        bits = 0xFF
        for field in self.fields:
            bits |= field.mask
        return bits


@dataclass(frozen=True)
class Instruction:
    """A decoded instruction: its opcode and the values of its fields by name."""

    opcode: Opcode
    values: dict[str, int]

    @property
    def name(self) -> str:
        """The mnemonic."""
        return self.opcode.name

    def __getitem__(self, field: str) -> int:
        return self.values[field]

    def get(self, field: str, default: int = 0) -> int:
        """The value of a field, or ``default`` if this instruction has no such field."""
        return self.values.get(field, default)


class InstructionSet:
    """The checked instruction set.

    Raises:
        ValueError: the data contradicts itself; the message names the instruction and the field.
    """

    def __init__(self, data: dict[str, Any]):
        self.version: int = data["version"]
        self.word_bits: int = data["word_bits"]
        self.fields = {name: Field(name=name, **spec) for name, spec in data["fields"].items()}
        for field in self.fields.values():
            if field.lo < 0 or field.lo + field.width > self.word_bits:
                raise ValueError(f"field {field.name!r}: bits {field.lo}..{field.lo + field.width - 1} leave the word")
        self.by_name: dict[str, Opcode] = {}
        self.by_opcode: dict[int, Opcode] = {}
        for name, spec in data["instructions"].items():
            self._add(self._load(name, spec))

    def _load(self, name: str, spec: dict[str, Any]) -> Opcode:
        options = {}
        for key, limits in (spec.get("options") or {}).items():
            field = self._field(name, key)
            low, high = limits.get("range", (field.lowest, field.highest))
            default = limits.get("default", 0 if field.kind == "flag" else None)
            if low < field.lowest or high > field.highest:
                raise ValueError(f"{name}: range {low}..{high} does not fit field {key!r} of {field.width} bits")
            if default is not None and not low <= default <= high:
                raise ValueError(f"{name}: default {default} of {key!r} is outside {low}..{high}")
            options[key] = Option(field=field, low=low, high=high, default=default)
        return Opcode(
            name=name, opcode=spec["opcode"], unit=spec["unit"], text=spec["text"],
            operands=tuple(self._field(name, key) for key in spec["operands"]), options=options,
            reads=tuple(spec.get("reads", ())), writes=tuple(spec.get("writes", ())),
            reads_token=spec.get("reads_token", False), formula=spec["formula"], rounding=spec["rounding"],
        )  # fmt: skip

    def _field(self, instruction: str, name: str) -> Field:
        if name not in self.fields:
            raise ValueError(f"{instruction}: no field {name!r} in the word")
        return self.fields[name]

    def _add(self, op: Opcode) -> None:
        if op.unit not in UNITS:
            raise ValueError(f"{op.name}: unit {op.unit!r} is none of {UNITS}")
        if not 0 <= op.opcode <= 0xFF or op.opcode in self.by_opcode:
            raise ValueError(f"{op.name}: opcode {op.opcode:#x} is taken or out of range")
        used = 0xFF
        for field in op.fields:
            if used & field.mask:
                raise ValueError(f"{op.name}: field {field.name!r} overlaps another")
            used |= field.mask
        for register in (*op.reads, *op.writes):
            if register not in {f.name for f in op.operands}:
                raise ValueError(f"{op.name}: {register!r} is read or written but is no operand")
        self.by_name[op.name] = op
        self.by_opcode[op.opcode] = op

    def encode(self, name: str, **values: int) -> int:
        """The 128-bit word of an instruction; options left out take their defaults.

        Raises:
            ProgramError: unknown mnemonic or field, a field missing, or a value out of range.
        """
        op = self.by_name.get(name)
        if op is None:
            raise ProgramError(f"expected a mnemonic of the instruction set, got {name!r}")
        known = {f.name for f in op.fields}
        if unknown := set(values) - known:
            raise ProgramError(f"{name}: no field {sorted(unknown)[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
        word = op.opcode
        for field in op.fields:
            option = op.options.get(field.name)
            value = values.get(field.name, option.default if option else None)
            if value is None:
                raise ProgramError(f"{name}: expected a value for {field.name!r}, got none")
            low, high = (option.low, option.high) if option else (field.lowest, field.highest)
            if not low <= value <= high:
                raise ProgramError(f"{name}: expected {field.name!r} from {low} to {high}, got {value}")
            word |= (value << field.lo) & field.mask
        return word

    def decode(self, word: int) -> Instruction:
        """The inverse of :meth:`encode`.

        Raises:
            ProgramError: undefined opcode, a bit set that must be zero, or a value out of range.
        """
        op = self.by_opcode.get(word & 0xFF)
        if op is None:
            raise ProgramError(f"undefined opcode {word & 0xFF:#04x} in word {word:#034x}")
        if stray := word & ~op.defined_bits:
            raise ProgramError(f"{op.name}: bits {stray:#x} must be zero in word {word:#034x}")
        values = {field.name: field.get(word) for field in op.fields}
        for key, option in op.options.items():
            if not option.low <= values[key] <= option.high:
                raise ProgramError(f"{op.name}: expected {key!r} from {option.low} to {option.high}, got {values[key]}")
        return Instruction(op, values)


ISA = InstructionSet(yaml.safe_load(resources.files("trilobit.isa").joinpath("isa.yaml").read_text()))
