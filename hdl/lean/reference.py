"""What the lean core's microcode does, in Python: the arithmetic of a pass, and a machine that runs a whole microprogram.

It has no clock: it says what is computed, not when. Tests run the microprogram on it against the functional simulator, and the hardware's
engine against :func:`run_pass`.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from trilobit.hdl.lean.micro import (
    COUNT_FIRST,
    COUNT_LAST,
    COUNT_MORE,
    PAGE_IOTA,
    PAGE_NOISE,
    PAGE_TABLES,
    PAGE_TEMPORARY,
    SCALARS,
    Cond,
    Dest,
    Kind,
    Length,
    Max,
    Micro,
    MicroProgram,
    Offset,
    Operand,
    Sat,
    Shift,
    Slice,
    Source,
    Strobe,
    Target,
    YMode,
)
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import Scalar
from trilobit.isa.noise import NOISE_TABLE
from trilobit.isa.program import Program
from trilobit.isa.semantics import matmul_scale, scale_products
from trilobit.isa.spec import ISA
from trilobit.isa.tables import EXP2, RECIP
from trilobit.isa.trits import ROWS_PER_BYTE, unpack
from trilobit.sim.backend import HostSettings

__all__ = ["ReferenceMachine", "run_pass", "signed", "table_entry"]

BITS = 36
_LEVELS = {Sat.S8: 8, Sat.S16: 16, Sat.S18: 18, Sat.S19: 19, Sat.S24: 24, Sat.S25: 25, Sat.S32: 32}
_FIXED = {Length.ONE: 1, Length.TWO: 2, Length.FOUR: 4, Length.EIGHT: 8, Length.SIXTEEN: 16}
LOWEST = -(1 << (BITS - 1))


def signed(value: int, bits: int = BITS) -> int:
    """The low bits as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def table_entry(table: int, y: int) -> tuple[int, int]:
    """The slope (x) and base (z) that the low bits of y choose in a table: 0 exp2, 1 reciprocal (bits 16..9), 2 noise (bits 18..9)."""
    if table == 2:
        base, slope = NOISE_TABLE
        index = (y >> 9) & 0x3FF
        return int(slope[index]), int(base[index])
    found = (EXP2, RECIP)[table]
    index = (y >> 9) & 0xFF
    return int(found.slope[index]), int(found.base[index])


def run_pass(micro: Micro, x: int, y: int, z: int, n: int, f: int, *, c: int = 0, h: int = 0, wide: int = 0) -> tuple[int, int, int, int]:
    """The arithmetic of one element.

    Args:
        x, y, z: operands, signed of 36 bits (x and y count with 34).
        n: N's exponent, bits 24..17 of its word, signed.
        f: F, signed of 8 bits, before ``fneg``.
        c: the element's condition bit; h: its hash half (18 bits); wide: field ``wide``.

    Returns:
        r (36 bits, signed), whether it was limited, whether t is zero, the new hash half.
    """
    x, y = signed(x, 34), signed(y, 34)
    if micro.ymode == YMode.REST:
        y &= 0x1FF
    elif micro.ymode == YMode.ABS:
        y = signed(y | (-2 if c else 0), 34)
    elif micro.ymode == YMode.SELECT:
        y = y if c else 1 << 18
    elif micro.ymode == YMode.AND:
        y = y if c else 0
    shift = (~f if micro.fneg else f) - (n if not micro.ngate or c else 0)
    short = shift < 0
    shift = 0 if short else min(shift, 63)
    p = x * y
    if micro.clz:
        low = x & 0xFFFFFFFF
        return (32 - low.bit_length() if low else 127) << 17, 0, 0, h
    if micro.hash:  # the product is of two numbers of 18 bits without a sign
        total = p
        return ((p >> 18) & 0x3FFFF) ^ (z & 0x3FFFF) ^ h, 0, 0, p & 0x3FFFF
    whole = p >> shift
    total = whole + (p >> (shift - 1) & 1 if micro.round and shift else 0) + z
    over = not LOWEST <= whole < -LOWEST
    zero = int(signed(total) == 0)
    if micro.sat == Sat.NONE:
        return signed(total), 0, zero, h
    negative = p < 0 if over else total < 0
    if micro.sat == Sat.RELU:
        return (0 if negative else signed(total)), 0, zero, h
    level = (32 if wide else 16) if micro.sat == Sat.WIDE else _LEVELS[Sat(micro.sat)]
    top = (1 << (level - 1)) - 1
    # A negative shift saturates whatever isn't zero; z is zero where one can occur.
    if over or (short and not zero) or not -top - 1 <= total <= top:
        return (-top - 1 if negative else top), 1, zero, h
    return total, 0, zero, h


class ReferenceMachine:
    """A program on the microprogram.

    Args:
        micro: the microprogram; config: the core's parameters (one lane, a batch of one).
        program, memory, settings: as :class:`trilobit.sim.backend.Backend`.
    """

    def __init__(self, micro: MicroProgram, config: CoreConfig, program: Program, memory: np.ndarray | None = None,
                 settings: HostSettings | None = None):  # fmt: skip
        self.micro, self.config, self.program = micro, config, program
        self.memory = program.memory() if memory is None else memory
        self.settings = settings or HostSettings()
        self.code = [*micro.code]
        self.labels = micro.labels
        self.entries = {ISA.by_name[name].opcode: at for name, at in micro.entries.items()}
        self.page_size = max(1024, 1 << (config.max_length - 1).bit_length())
        self.pages: dict[int, list[int]] = {
            page: [0] * self.page_size for page in [*range(PAGE_TEMPORARY), *range(PAGE_TEMPORARY, PAGE_IOTA), 15]
        }
        self.pages[PAGE_IOTA] = list(range(self.page_size))
        self.scalars = [micro.values.get(index, 0) for index in range(SCALARS)]
        self.flags, self.conditions, self.hashes = ([0] * self.page_size for _ in range(3))
        self.largest, self.largest_index = LOWEST, 0
        self.gains: deque[int] = deque()
        self.act = [np.zeros(config.max_length, dtype=np.int64) for _ in range(2)]
        self.store = bytearray()
        self.loaded = bytearray()
        self.hardware = dict.fromkeys(Target, 0)
        self.queue = [0, 0]
        self.stream: deque[tuple[int, int]] = deque()  # regions that are still to be read, in bytes
        self.negative = self.zero = 0
        self.upc, self.back, self.pc, self.word = 0, 0, 0, 0
        self.running = self.halted = self.waiting = False
        self.fault = self.fault_pc = 0
        self.saturated = self.retired = self.passes = 0
        self.tokens: list[int] = []
        self.prompts: deque[int] = deque()
        self.retires: list[int] = []

    # ---- running ------------------------------------------------------------------------------------------------------------

    def push(self, tokens: Sequence[int]) -> None:
        self.prompts.extend(tokens)
        self.waiting = False

    def run(self, most: int = 10_000_000) -> None:
        """Until halt, fault, or a wait for a prompt token."""
        for _ in range(most):
            self.step()
            if self.halted or self.fault or self.waiting:
                return
        raise RuntimeError(f"the microprogram is still at {self.upc} ({self.where()})")

    def where(self) -> str:
        """The last label before the next microinstruction."""
        return max(((at, name) for name, at in self.labels.items() if at <= self.upc), default=(0, "?"))[1]

    def step(self) -> None:
        """One microinstruction."""
        micro = self.code[self.upc]
        if micro.kind == Kind.PASS:
            self._pass(micro)
        elif micro.kind == Kind.MOVE:
            self._move(micro)
        following = self.upc + 1
        taken = micro.branches and bool(self.condition(Cond(micro.cond))) != bool(micro.invert)
        if taken:
            following = self.labels[micro.target] if isinstance(micro.target, str) else micro.target
        if micro.strobe == Strobe.WAITING and following == self.upc:
            self.waiting = True
        if micro.strobe == Strobe.CALL and taken:
            self.back = self.upc + 1
        dispatched = self._strobe(micro)
        self.upc = following if dispatched is None else dispatched

    # ---- operands -----------------------------------------------------------------------------------------------------------

    def field(self, name: str) -> int:
        return ISA.fields[name].get(self.word)

    def _offset(self, micro: Micro, element: int) -> int:
        offsets = {Offset.ELEMENT: element, Offset.SC: self.field("sc"), Offset.CNT: self.field("cnt"), Offset.ACT: self.field("act"),
                   Offset.QUEUE_WRITE: self.queue[0] & 7, Offset.QUEUE_READ: self.queue[1] & 7}  # fmt: skip
        return offsets[Offset(micro.offset)]

    def _place(self, index: int, stride: int, micro: Micro, element: int) -> int:
        return (index & ~15) | ((index + self._offset(micro, element)) & 15) if stride else index

    def _read(self, operand: Operand, micro: Micro, element: int) -> int:
        if operand.source == Source.SCALAR:
            return self.scalars[self._place(operand.index, operand.stride, micro, element)]
        page = operand.index if operand.source == Source.PAGE else self.field(("va", "vb", "vc")[operand.index])
        if page in (PAGE_NOISE, PAGE_TABLES):
            raise ValueError("tables are read as tables")
        return self.pages[page][element]

    def length(self, micro: Micro) -> int:
        if micro.length == Length.LEN:
            return self.field("len")
        if micro.length == Length.LIMIT:
            return self.hardware[Target.LIMIT] + 1
        return _FIXED[Length(micro.length)]

    def _pass(self, micro: Micro) -> None:
        self.passes += 1
        names = {Shift.SHA: "sha", Shift.SHB: "shb", Shift.SHO: "sho", Shift.K_E: "k_e", Shift.EPS_E: "eps_e"}
        f = micro.fconst if micro.fsel == Shift.CONST else self.field(names[Shift(micro.fsel)])
        if micro.max == Max.START:
            self.largest, self.largest_index = LOWEST, 0
        for i in range(self.length(micro)):
            y = signed(self.gains.popleft(), 16) if micro.y.source == Source.TABLE else self._read(micro.y, micro, i)
            x = table_entry(micro.x.index, y)[0] if micro.x.source == Source.TABLE else self._read(micro.x, micro, i)
            z = table_entry(micro.z.index, y)[1] if micro.z.source == Source.TABLE else self._read(micro.z, micro, i)
            n = signed(self._read(micro.n, micro, i) >> 17, 8)
            result, limited, zero, self.hashes[i] = run_pass(
                micro, x, y, z, n, f, c=self.conditions[i], h=self.hashes[i], wide=self.field("wide")
            )
            if micro.max == Max.READ:
                result = self.largest
            elif micro.max == Max.INDEX:
                result = self.largest_index
            elif micro.max and result > self.largest:
                self.largest, self.largest_index = result, i
            if micro.setc:
                self.conditions[i] = int(result < 0)
            self._count(micro, i, limited)
            self.negative, self.zero = int(result < 0), zero
            self._write(micro, i, result)

    def _count(self, micro: Micro, i: int, limited: int) -> None:
        if micro.count & COUNT_FIRST:
            self.flags[i] = limited
        elif micro.count & COUNT_MORE:
            self.flags[i] |= limited
        if micro.count & COUNT_LAST:
            self.saturated += self.flags[i]

    def _write(self, micro: Micro, i: int, result: int) -> None:
        dest = micro.dest
        if dest == Dest.SCALAR:
            self.scalars[self._place(micro.dest_index, micro.dest_stride, micro, i)] = result
        elif dest == Dest.PAGE:
            self.pages[micro.dest_index][i] = result
        elif dest == Dest.VD:
            self.pages[self.field("vd")][i] = result
        elif dest == Dest.ACT:
            self.act[self.field("act")][i] = signed(result, 8)
        elif dest == Dest.STORE:
            size = 4 if self.field("wide") else 2
            self.store += (result & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        elif dest == Dest.GAIN:
            self.gains.append(result & 0xFFFF)
        elif dest == Dest.HARDWARE:
            target = Target(micro.dest_index)
            self.hardware[target] = signed(result >> 17, 8) if target in (Target.SEGMENT_E, Target.ACT_E) else result
            if target == Target.OUT:
                self.tokens.append(result & 0xFFFFFF)

    # ---- moves --------------------------------------------------------------------------------------------------------------

    def _move(self, micro: Micro) -> None:
        count, n = self.length(micro), self.config.beat_bytes
        what = Slice(micro.slice)
        if what in (Slice.STREAM, Slice.LOAD):
            size = 4 if what == Slice.LOAD and self.field("wide") else 2
            data = self._beats(-(-count * size // n)) if what == Slice.STREAM else bytes(self.loaded)
            for i in range(count):
                value = int.from_bytes(data[i * size : (i + 1) * size], "little")
                self._write(micro, i, signed(value, 8 * size) if micro.signed else value)
            return
        value = self._slice(what)
        self._write(micro, 0, signed(value, 16) if micro.signed else value)

    def _beats(self, count: int) -> bytes:
        data = b""
        for _ in range(count):
            if not self.stream:
                raise RuntimeError(f"the microprogram reads beyond the stream at {self.upc} ({self.where()})")
            start, end = self.stream.popleft()
            n = self.config.beat_bytes
            data += bytes(self.memory[start : start + n])
            if start + n < end:
                self.stream.appendleft((start + n, end))
        return data

    def _slice(self, what: Slice) -> int:
        shift = (self.config.beat_bytes - 1).bit_length()
        settings, program = self.settings, self.program
        if what <= Slice.WORD7:
            return (self.word >> 16 * (2 + what - Slice.WORD2)) & 0xFFFF
        temperature = settings.temperature_scalar()
        pairs = {
            Slice.ADDRESS0: self.field("addr") >> shift, Slice.WINDOW0: program.window_size >> shift,
            Slice.WRITE0: program.write_start >> shift, Slice.EOS0: settings.eos, Slice.LIMIT0: settings.limit, Slice.SEED0: settings.seed,
            Slice.PROMPT0: self.prompts[0] if self.prompts else 0,
        }  # fmt: skip
        if what == Slice.TEMPERATURE_M:
            return temperature.mantissa
        if what == Slice.TEMPERATURE_E:
            return temperature.exponent & 0xFFFF
        return pairs[what] & 0xFFFF if what in pairs else pairs[Slice(what - 1)] >> 16 & 0xFFFF

    # ---- conditions and strobes -----------------------------------------------------------------------------------------------

    def condition(self, cond: Cond) -> int:
        if cond in (Cond.WIDE, Cond.GAIN, Cond.SCALED, Cond.NEG, Cond.FIRST, Cond.LAST, Cond.NOISE, Cond.ACT):
            return self.field(cond.name.lower())
        return int({
            Cond.ALWAYS: 1, Cond.NEGATIVE: self.negative, Cond.ZERO: self.zero, Cond.ERROR: 0,
            Cond.PC_BAD: self.pc >= len(self.program.code), Cond.LENGTH_BAD: not 1 <= self.field("len") <= self.config.max_length,
            Cond.ADDRESS_HIGH: self.field("addr") >> (32 + (self.config.beat_bytes - 1).bit_length()) != 0,
            Cond.QUEUE_EMPTY: self.queue[0] == self.queue[1], Cond.QUEUE_FULL: self.queue[0] - self.queue[1] >= 6,
            Cond.GAINS: bool(self.gains), Cond.QUIET: 1, Cond.READ_DONE: 1, Cond.WRITE_DONE: 1, Cond.TAKEN: 1, Cond.PRODUCT_DONE: 1,
            Cond.PROMPT: bool(self.prompts), Cond.OUT_READY: 1, Cond.FLUSHED: 1,
        }[cond])  # fmt: skip

    def _strobe(self, micro: Micro) -> int | None:
        """What a strobe does; the next microinstruction if it chooses that."""
        hardware, n = self.hardware, self.config.beat_bytes
        match Strobe(micro.strobe):
            case Strobe.BEGIN:
                self.pc, self.running, self.queue = 0, True, [0, 0]
                self.gains.clear()
            case Strobe.FETCH:
                self.word = self.program.code[self.pc] if self.pc < len(self.program.code) else 0
            case Strobe.DISPATCH:
                return self.entries.get(self.word & 0xFF, self.labels["bad_opcode"])
            case Strobe.RETURN:
                return self.back
            case Strobe.RETIRE | Strobe.RETIRE_BRANCH:
                self.retires.append(self.pc)
                self.retired += 1
                self.pc = self.field("target") if micro.strobe == Strobe.RETIRE_BRANCH else self.pc + 1
            case Strobe.READ:
                start = hardware[Target.ADDRESS] * n
                self.loaded += bytes(self.memory[start : start + (hardware[Target.BEATS] + 1) * n])
            case Strobe.REREAD:
                self.loaded = bytearray()
            case Strobe.STORE_START:
                self.store = bytearray()
            case Strobe.WRITE:
                start, count = hardware[Target.ADDRESS] * n, (hardware[Target.BEATS] + 1) * n
                data, self.store = self.store[:count], self.store[count:]
                self.memory[start : start + len(data)] = np.frombuffer(bytes(data), dtype=np.uint8)
            case Strobe.ZEROS:
                start = hardware[Target.ADDRESS] * n
                self.memory[start : start + (hardware[Target.BEATS] + 1) * n] = 0
            case Strobe.PUSH:
                self.queue[0] += 1
                self.stream.append((hardware[Target.REGION] * n, hardware[Target.REGION_END] * n))
            case Strobe.MEET:
                self.queue[1] += 1
            case Strobe.PRODUCT:
                self._product()
            case Strobe.POP:
                self.prompts.popleft()
            case Strobe.FLUSH:
                self.stream.clear()
                self.gains.clear()
                self.queue = [0, 0]
            case Strobe.HALT:
                self.running, self.halted = False, True
            case Strobe.FAULT:
                self.running, self.fault, self.fault_pc = False, micro.fault, self.pc
        return None

    def _product(self) -> None:
        rows, columns = self.field("len"), self.hardware[Target.COLUMNS]
        n = self.config.beat_bytes
        groups, beats = -(-rows // ROWS_PER_BYTE), -(-columns // n)
        packed = np.frombuffer(self._beats(groups * beats), dtype=np.uint8).reshape(groups, beats * n)[:, :columns]
        sums = unpack(np.ascontiguousarray(packed), rows).astype(np.int64) @ self.act[self.field("act")][:columns]
        scale = matmul_scale(Scalar(self.hardware[Target.ACT_M], self.hardware[Target.ACT_E]),
                             Scalar(self.hardware[Target.SEGMENT_M], self.hardware[Target.SEGMENT_E]))  # fmt: skip
        result = scale_products(sums, scale, bp=self.field("bp"), wide=self.field("wide"))
        self.saturated += result.saturated
        self.pages[self.field("vd")][:rows] = result.value.tolist()
