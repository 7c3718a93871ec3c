"""Machine instructions before registers and addresses are known."""

from dataclasses import dataclass, field

import numpy as np

from trilobit.assembler.compiler.ir import Value
from trilobit.isa.fixed import Scalar
from trilobit.isa.spec import ISA

__all__ = ["Instr", "Matrix", "Place"]


@dataclass(frozen=True)
class Matrix:
    """Rows ``start..stop`` of the ternary tensor ``weight`` and the scale of its segment."""

    weight: str
    start: int
    stop: int
    columns: int
    scale: Scalar


@dataclass(frozen=True)
class Place:
    """Where a load or store goes: a region of the image and a name (and byte offset) in it."""

    region: str
    name: str
    offset: int = 0


@dataclass(eq=False)
class Instr:
    """An instruction on values instead of registers.

    Attributes:
        op: mnemonic.
        value: what it computes (or stores), for names and comments.
        fields: options of the instruction that are known.
        reads: vectors by operand field (va, vb, vc).
        writes: the vector, scalar or activations that it makes, if any.
        act: activations that a tmatmul reads.
        scalar: scalar that a normq reads.
        after: instructions that must come before, besides the makers of what it reads.
        gains: gains that it takes from the stream, whole numbers of 16 bits.
        matrix: what a tmatmul takes from the stream.
        place: symbolic address.
        head: belongs to the part that prompt tokens skip.
        registers: operand field -> register number, set by register allocation.
    """

    op: str
    value: Value
    fields: dict[str, int] = field(default_factory=dict)
    reads: dict[str, Value] = field(default_factory=dict)
    writes: Value | None = None
    act: Value | None = None
    scalar: Value | None = None
    after: list["Instr"] = field(default_factory=list)
    gains: np.ndarray | None = None
    matrix: Matrix | None = None
    place: Place | None = None
    head: bool = False
    registers: dict[str, int] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """The functional unit that runs it."""
        return ISA.by_name[self.op].unit

    @property
    def length(self) -> int:
        """Vector length in elements."""
        return self.fields["len"]

    def __repr__(self):
        return f"{self.op} {self.value.name}"
