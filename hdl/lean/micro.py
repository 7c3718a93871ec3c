"""Microinstructions of the lean core: what one says, how it is encoded, and the constants that they name.

A microinstruction is a *pass* over the elements of vectors, a *move* of words from outside into the engine's memory, or control alone;
each ends with a strobe and a branch. A pass computes, for each element i,

    p = X * Y'                                34 x 34 bits signed, exact
    t = p >> n (floor), + bit n-1 of p if round, + Z
    r = t limited as ``sat`` says

and writes r to ``dest``. The engine's memory has words of 36 bits: pages of a vector each (v0-v7, temporaries), tables, and 512 scalars.

Its normative form is this file: :data:`FIELDS` is the layout of the word, :func:`trilobit.hdl.lean.reference.run_pass` the arithmetic.
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from trilobit.isa.spec import ISA, UNITS

__all__ = ["BLOCKS", "FIELDS", "LATENCY", "PAGE_TABLES", "PLACES", "SCALARS", "WORD_BITS", "Cond", "Dest", "Kind", "Length", "Max",
           "Micro", "MicroProgram", "Offset", "Operand", "Sat", "Shift", "Slice", "Source", "Strobe", "Target", "YMode"]  # fmt: skip

LATENCY = 10
"""Clocks from an element's issue until a pass that reads its result may issue the same element."""
SCALARS = 512
TARGET_BITS = 10
PAGE_TEMPORARY, PAGE_IOTA, PAGE_NOISE, PAGE_TABLES = 8, 12, 13, 14


class Kind(enum.IntEnum):
    CONTROL, PASS, MOVE = range(3)


class Source(enum.IntEnum):
    """What an operand's index means. TABLE is for x and z: the entry that the low bits of Y choose (then Y is what Y' leaves of it);
    as y it stands for the next gain of the gain queue."""

    SCALAR, PAGE, FIELD, TABLE = range(4)


class Dest(enum.IntEnum):
    """Where results go. ACT: int8 into the activation buffer of field ``act``. STORE: the store buffer, 16 bits or 32 if field ``wide``.
    GAIN: the end of the gain queue (16 bits). HARDWARE: a register of :class:`Target`, the last element's result."""

    NONE, SCALAR, PAGE, VD, ACT, STORE, GAIN, HARDWARE = range(8)


class Target(enum.IntEnum):
    """Registers outside the engine that a result can be written to. Addresses and lengths are in beats.

    LIMIT: elements less one of passes and moves of Length.LIMIT. ADDRESS, BEATS (less one): of the next request of its own.
    REGION, REGION_END: of the region that Strobe.PUSH appends. COLUMNS, SEGMENT_M, SEGMENT_E: of the segment of the next product.
    ACT_M, ACT_E: the scale of its activations. Exponents are in bits 24..17 (E registers take those), as N has them. OUT: an emitted token.
    """

    LIMIT, ADDRESS, BEATS, REGION, REGION_END, COLUMNS, SEGMENT_M, SEGMENT_E, ACT_M, ACT_E, OUT = range(11)


class Sat(enum.IntEnum):
    """Limits of a result. NONE: modulo 2^36. WIDE: 32 bits if field ``wide``, else 16. RELU: negative becomes zero (never counted)."""

    NONE, S8, S16, S18, S19, S24, S25, S32, WIDE, RELU = range(10)


class YMode(enum.IntEnum):
    """What the multiplier sees of y, with c the element's condition bit.

    PLAIN: y. REST: its low 9 bits. ABS: y, with all bits but the lowest set if c (so 1 becomes -1). SELECT: y if c, else 2^18. AND: y if
    c, else 0.
    """

    PLAIN, REST, ABS, SELECT, AND = range(5)


class Shift(enum.IntEnum):
    """The first part F of n = F - N: a constant of the microinstruction or a field; with ``fneg`` every bit of it inverted (-F - 1)."""

    CONST, SHA, SHB, SHO, K_E, EPS_E = range(6)


class Max(enum.IntEnum):
    """The running maximum: none; update it with each r that is greater (START: from scratch); write it, or the index where it was met, as
    r."""

    NONE, UPDATE, START, READ, INDEX = range(5)


class Offset(enum.IntEnum):
    """What is added to the low 4 bits of the index of scalar operands with ``stride`` (modulo 16): the element's index, or a small number:
    fields sc, cnt, act, or the write and read ends of the queue of regions."""

    ELEMENT, SC, CNT, ACT, QUEUE_WRITE, QUEUE_READ = range(6)


class Length(enum.IntEnum):
    """Elements of a pass or move: a constant, field len, or Target.LIMIT + 1."""

    ONE, TWO, FOUR, EIGHT, SIXTEEN, LEN, LIMIT = range(7)


class Slice(enum.IntEnum):
    """16 bits from outside (with ``signed`` sign-extended). WORDk: bits 16k.. of the instruction word. ADDRESS0, 1: its addr in beats.
    STREAM and LOAD are elements of beats: of the stream (always 16 bits), or of what a request of its own has read (LOAD: 16 bits,
    or 32 if field ``wide``); a move takes whole beats, the rest of its last one is dropped."""

    (WORD2, WORD3, WORD4, WORD5, WORD6, WORD7, ADDRESS0, ADDRESS1, WINDOW0, WINDOW1, WRITE0, WRITE1, EOS0, EOS1, LIMIT0, LIMIT1,
     SEED0, SEED1, TEMPERATURE_M, TEMPERATURE_E, PROMPT0, PROMPT1, STREAM, LOAD) = range(24)  # fmt: skip


class Cond(enum.IntEnum):
    """What a branch looks at, at the end of its microinstruction.

    NEGATIVE, ZERO: the last element's r (t for ZERO) of the latest pass; drain first. ERROR: the memory has failed. PC_BAD: pc beyond the
    program. LENGTH_BAD: field len zero or beyond max_length. ADDRESS_HIGH: addr beyond 2^32 beats.
    WIDE..ACT: fields. QUEUE_EMPTY, QUEUE_FULL: of regions that the program hasn't met. GAINS: the gain queue has some. QUIET: the stream
    asks for nothing and all it asked for has come. READ_DONE: all own reads have come. WRITE_DONE: the store was answered. TAKEN: the
    memory has taken the latest own request. PRODUCT_DONE, PROMPT (a token waits), OUT_READY, FLUSHED.
    """

    (ALWAYS, NEGATIVE, ZERO, ERROR, PC_BAD, LENGTH_BAD, ADDRESS_HIGH, WIDE, GAIN, SCALED, NEG, FIRST, LAST, NOISE, ACT,
     QUEUE_EMPTY, QUEUE_FULL, GAINS, QUIET, READ_DONE, WRITE_DONE, TAKEN, PRODUCT_DONE, PROMPT, OUT_READY, FLUSHED) = range(26)  # fmt: skip


class Strobe(enum.IntEnum):
    """What happens at the end of a microinstruction.

    BEGIN: a program starts: pc 0, queues of regions and gains empty. FETCH: pc's instruction word is there (hardware reads it by itself).
    DISPATCH: the next microinstruction is that of the opcode's entry. RETIRE: the instruction is over (and pc + 1). RETIRE_BRANCH: over,
    pc = target. HOLD, RELEASE: the stream stops asking, and may again. READ, WRITE: a request of BEATS + 1 beats at ADDRESS (WRITE sends
    the store buffer from its first beat on). ZEROS: as WRITE, of zero bytes. REREAD: the next own read lands at the start of the load
    buffer. PUSH: REGION to REGION_END to the end of the queue. MEET: the next region of the queue is met. PRODUCT: start it. POP: take the
    prompt's token. COMMIT: for the cycle model: scalar ``token`` is argmax's. FLUSH: drop all of the stream. HALT, FAULT (of code
    ``fault``): the program is over, and the sequencer goes back to microinstruction 0. STORE_START: the store buffer is filled from its
    start again. WAITING: the program waits for the host's token as long as this goes on. CALL: the branch, if taken, notes where it came
    from; RETURN: the microinstruction behind the latest call comes next.
    """

    (NONE, BEGIN, FETCH, DISPATCH, RETIRE, RETIRE_BRANCH, HOLD, RELEASE, READ, WRITE, ZEROS, REREAD, PUSH, MEET, PRODUCT, POP,
     COMMIT, FLUSH, HALT, FAULT, STORE_START, WAITING, CALL, RETURN) = range(24)  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """12 bits: index (9), stride (1), source (2)."""

    source: Source = Source.SCALAR
    index: int = 0
    stride: bool = False

    def encode(self) -> int:
        return self.index | self.stride << 9 | self.source << 10

    @property
    def strided(self) -> "Operand":
        """The same scalar and those behind it, an element (or the offset) each."""
        return Operand(self.source, self.index, True)

    def __add__(self, places: int) -> "Operand":
        return Operand(self.source, self.index + places, self.stride)


ZERO = Operand(Source.SCALAR, 0)

# name -> (bits, signed), from bit 0 on. Operands have 12 bits.
FIELDS: dict[str, tuple[int, bool]] = {
    "kind": (2, False), "x": (12, False), "y": (12, False), "z": (12, False), "n": (12, False),
    "fsel": (3, False), "fneg": (1, False), "fconst": (7, True), "round": (1, False), "ymode": (3, False), "ngate": (1, False),
    "hash": (1, False), "setc": (1, False), "sat": (4, False), "count": (3, False), "clz": (1, False), "max": (3, False),
    "dest": (3, False), "dest_stride": (1, False), "dest_index": (9, False), "offset": (3, False), "length": (3, False),
    "slice": (5, False), "signed": (1, False), "drain": (1, False), "cond": (5, False), "invert": (1, False),
    "target": (TARGET_BITS, False), "strobe": (5, False), "fault": (4, False),
}  # fmt: skip
WORD_BITS = sum(bits for bits, _ in FIELDS.values())


class Place(NamedTuple):
    """Where a field stands in the word."""

    low: int
    bits: int
    signed: bool


def _places() -> dict[str, Place]:
    places, low = {}, 0
    for name, (bits, is_signed) in FIELDS.items():
        places[name] = Place(low, bits, is_signed)
        low += bits
    return places


PLACES = _places()
"""Field name -> its place."""

# Bits of ``count``: which elements have saturated on the way through an instruction is kept, a bit an element.
COUNT_FIRST, COUNT_MORE, COUNT_LAST = 1, 2, 4


@dataclass
class Micro:
    """One microinstruction; names as in :data:`FIELDS`. ``target`` may be a label until the program is laid out."""

    kind: int = Kind.CONTROL
    x: Operand = ZERO
    y: Operand = ZERO
    z: Operand = ZERO
    n: Operand = ZERO
    fsel: int = 0
    fneg: int = 0
    fconst: int = 0
    round: int = 0
    ymode: int = 0
    ngate: int = 0
    hash: int = 0
    setc: int = 0
    sat: int = 0
    count: int = 0
    clz: int = 0
    max: int = 0
    dest: int = 0
    dest_stride: int = 0
    dest_index: int = 0
    offset: int = 0
    length: int = 0
    slice: int = 0
    signed: int = 0
    drain: int = 0
    cond: int = 0
    invert: int = 0
    target: "int | str" = ""
    strobe: int = 0
    fault: int = 0

    @property
    def branches(self) -> bool:
        """Whether it can go elsewhere than to the next one."""
        return bool(self.cond) or self.target not in ("", 0)

    def encode(self) -> int:
        """The word; ValueError if a field doesn't fit."""
        word = 0
        for name, place in PLACES.items():
            value = getattr(self, name)
            value = value.encode() if isinstance(value, Operand) else int(value)
            low, high = (-(1 << (place.bits - 1)), 1 << (place.bits - 1)) if place.signed else (0, 1 << place.bits)
            if not low <= value < high:
                raise ValueError(f"microinstruction field {name}: expected {low} to {high - 1}, got {value}")
            word |= (value & ((1 << place.bits) - 1)) << place.low
        return word


assert [f.name for f in fields(Micro)] == [*FIELDS]

BLOCKS = {"x": 4, "queue": 8, "queue_end": 8, "header": 8, "sums": 4, "square_m": 4, "square_e": 4, "act_m": 2, "act_e": 2, "act_len": 2}
"""Sizes of the blocks that several files name; see :meth:`MicroProgram.block`."""


class MicroProgram:
    """Collects microinstructions, labels, and scalars: constants (by value) and variables (by name)."""

    def __init__(self) -> None:
        self.code: list[Micro] = []
        self.labels: dict[str, int] = {}
        self.entries: dict[str, int] = {}  # mnemonic -> index
        self.names: dict[str, int] = {}  # scalar variables
        self.values: dict[int, int] = {0: 0}  # scalar index -> first value
        self._constants: dict[int, int] = {0: 0}
        self._next = 1
        self._blocks = SCALARS
        self._groups: dict[int, int] = {}  # first scalar of sixteen -> how many are in blocks
        self._fresh = 0

    # ---- scalars ------------------------------------------------------------------------------------------------------------

    def const(self, value: int) -> Operand:
        """A scalar that holds a constant of 36 bits (as y and x: 34)."""
        if not -(1 << 35) <= value < 1 << 35:
            raise ValueError(f"expected a constant of 36 bits, got {value}")
        if value not in self._constants:
            self._constants[value] = self._next
            self.values[self._next] = value
            self._next += 1
        return Operand(Source.SCALAR, self._constants[value])

    def exponent(self, value: int) -> Operand:
        """A constant for N: ``value`` in bits 24..17."""
        return self.const(value << 17)

    def var(self, name: str) -> Operand:
        """A scalar variable, zero at power-on."""
        if name not in self.names:
            self.names[name] = self._next
            self._next += 1
        return Operand(Source.SCALAR, self.names[name])

    def block(self, name: str, size: int = 0) -> Operand:
        """The first of ``size`` scalars that ``stride`` can go through, zero at power-on: within sixteen from a multiple of 16 on.

        The size counts when the block is named first; without one it is that of :data:`BLOCKS`, or 16.
        """
        if name not in self.names:
            size = size or BLOCKS.get(name, 16)
            group = next((start for start, used in self._groups.items() if used + size <= 16), None)
            if group is None:
                group = self._blocks = self._blocks - 16
                self._groups[group] = 0
            self.names[name] = group + self._groups[group]
            self._groups[group] += size
        return Operand(Source.SCALAR, self.names[name])

    # ---- code ---------------------------------------------------------------------------------------------------------------

    def label(self, name: str) -> None:
        if name in self.labels:
            raise ValueError(f"label {name!r}: expected one, got two")
        self.labels[name] = len(self.code)

    def fresh(self, stem: str) -> str:
        """A label's name that nobody else has."""
        self._fresh += 1
        return f"{stem}.{self._fresh}"

    def entry(self, *mnemonics: str) -> None:
        """The instructions that begin here."""
        for name in mnemonics:
            if name in self.entries:
                raise ValueError(f"instruction {name!r}: expected one entry, got two")
            self.entries[name] = len(self.code)

    def emit(self, **values) -> Micro:
        """Append a microinstruction. ``dest`` may be an :class:`Operand` (scalar or page), a :class:`Dest` or a :class:`Target`."""
        dest = values.pop("to", None)
        if isinstance(dest, Operand):
            kinds = {Source.SCALAR: Dest.SCALAR, Source.PAGE: Dest.PAGE}
            values |= {"dest": kinds[dest.source], "dest_index": dest.index, "dest_stride": int(dest.stride)}
        elif isinstance(dest, Target):
            values |= {"dest": Dest.HARDWARE, "dest_index": int(dest)}
        elif dest is not None:
            values |= {"dest": int(dest)}
        values.setdefault("target", len(self.code) + 1 if values.get("cond") else 0)
        micro = Micro(**values)
        self.code.append(micro)
        return micro

    def vec(self, x: Operand, y: "Operand | None" = None, z: Operand = ZERO, **values) -> Micro:
        """A pass over field len. Default y: one. ``n`` may be an int: a constant shift; ``shift`` names a field of :class:`Shift`."""
        return self._pass(x, y, z, values, Length.LEN)

    def sca(self, x: Operand, y: "Operand | None" = None, z: Operand = ZERO, **values) -> Micro:
        """A pass over one element (or ``length``)."""
        return self._pass(x, y, z, values, Length.ONE)

    def _pass(self, x, y, z, values, length) -> Micro:
        n = values.get("n")
        if isinstance(n, int):
            values |= {"n": ZERO, "fconst": n}
        values.setdefault("length", length)
        return self.emit(kind=Kind.PASS, x=x, y=self.const(1) if y is None else y, z=z, **values)

    def move(self, slice: Slice, to, **values) -> Micro:
        """A move of one word (or ``length``) from outside."""
        return self.emit(kind=Kind.MOVE, slice=int(slice), to=to, **values)

    def do(self, strobe: Strobe, **values) -> Micro:
        """A strobe alone."""
        return self.emit(strobe=int(strobe), **values)

    def jump(self, target: str, cond: Cond = Cond.ALWAYS, *, unless: bool = False, **values) -> Micro:
        """Go to a label if a condition holds (``unless``: if not). A jump on ALWAYS with invert is no jump."""
        return self.emit(cond=int(cond), invert=int(unless), target=target, **values)

    def call(self, target: str) -> Micro:
        """Go to a routine that ends with Strobe.RETURN; a routine calls none."""
        return self.jump(target, strobe=int(Strobe.CALL))

    def wait(self, cond: Cond, *, unless: bool = False, **values) -> Micro:
        """Stay here until a condition holds (``unless``: until it doesn't)."""
        return self.emit(cond=int(cond), invert=int(not unless), target=len(self.code), **values)

    def join(self, low: Slice, to: Operand, **values) -> Micro:
        """A number of 32 bits from a slice and the next one."""
        half = self.var("half")
        self.move(low, to)
        self.move(Slice(low + 1), half)
        return self.sca(half, self.const(1 << 16), to, to=to, **values)

    @contextmanager
    def unless(self, cond: Cond, *, inverted: bool = False) -> Iterator[None]:
        """Code that is left out if a condition holds (``inverted``: if it doesn't)."""
        end = self.fresh("end")
        self.jump(end, cond, unless=inverted)
        yield
        self.label(end)

    # ---- the result ---------------------------------------------------------------------------------------------------------

    def dispatch(self) -> list[tuple[int, int]]:
        """For each of 256 opcodes where its microcode begins, and its unit's place in UNITS."""
        table = [(self.labels["bad_opcode"], 0)] * 256
        for name, at in self.entries.items():
            op = ISA.by_name[name]
            table[op.opcode] = at, UNITS.index(op.unit)
        return table

    def words(self) -> list[int]:
        """The code with labels resolved. A microinstruction without a branch goes on to the next one."""
        result = []
        for index, micro in enumerate(self.code):
            target = micro.target
            if isinstance(target, str) and target:
                target = self.labels[target]
            # No branch: never taken is ALWAYS inverted.
            result.append(replace(micro, target=target or 0, invert=micro.invert if micro.branches else 1).encode())
            assert index < 1 << TARGET_BITS, "the microprogram is longer than its memory"
        if self._next > self._blocks:
            raise ValueError(f"expected at most {SCALARS} scalars, got {self._next} and blocks from {self._blocks} on")
        return result
