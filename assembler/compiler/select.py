"""Instruction selection: each value becomes instructions with their shifts; points come down where they must.

Notation: a vector at point p holds ``round(real * 2^p)``. Each method notes what its instruction computes in those
terms; the instructions themselves are defined in :mod:`trilobit.isa.semantics`.
"""

import math
from collections.abc import Iterable

import numpy as np

from trilobit.assembler.bundle import tile_pitch
from trilobit.assembler.compiler.instr import Instr, Matrix, Place
from trilobit.assembler.compiler.ir import Value
from trilobit.assembler.compiler.norms import NormUnit
from trilobit.assembler.compiler.points import Policy, fit, magnitude_bits
from trilobit.errors import CompileError
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import MANTISSA_BITS
from trilobit.isa.segments import scalar_of

__all__ = ["select"]

_TABLE_POINT = 17  # fraction bits of the operand of exp, sig and silu
_MULTIPLIER_BITS = 24  # magnitude bits of a multiplier's second operand


def select(values: Iterable[Value], core: CoreConfig, policy: Policy, store_logits: bool = False) -> list[Instr]:
    """Instructions for all values, in their order."""
    return _Selection(core, policy, store_logits).run(values)


class _Selection:
    def __init__(self, core: CoreConfig, policy: Policy, store_logits: bool):
        self.core, self.policy, self.store_logits = core, policy, store_logits
        self.norms = NormUnit(policy)
        self.instrs: list[Instr] = []
        self.maker: dict[int, Instr] = {}
        self.alias: dict[int, Value] = {}  # a slice from element 0 is its vector, shorter

    def run(self, values: Iterable[Value]) -> list[Instr]:
        for value in values:
            getattr(self, f"_{value.op}")(value, *(self.alias.get(id(v), v) for v in value.inputs))
        return self.instrs

    def _emit(self, op: str, value: Value, *, writes: Value | None = None, **options) -> Instr:
        fields = {"len": value.length, **options.pop("fields", {})}
        if writes is not None and writes.kind == "vector" and op not in ("emb", "lerp"):
            fields["wide"] = int(writes.wide)
        instr = Instr(op, value, fields, writes=writes, **options)
        self.instrs.append(instr)
        if writes is not None:
            self.maker[id(writes)] = instr
        return instr

    def _rowwise(self, op: str, value: Value, reads: dict[str, Value], **fields: int) -> None:
        self._emit(op, value, writes=value, reads=reads, fields=fields)

    # ---- memory ----------------------------------------------------------------------------------------------------

    def _emb(self, value: Value) -> None:
        self._emit("emb", value, writes=value, place=Place("embedding", value.attrs["table"]))

    def _const(self, value: Value) -> None:
        self._emit("ldv", value, writes=value, place=Place("constants", value.name))

    def _state(self, value: Value) -> None:
        self._emit("ldv", value, writes=value, place=Place("state", value.attrs["state"]))

    def _store(self, value: Value, vector: Value, state: Value | None = None) -> None:
        """A recurrence stores at its state's point as it is; another vector is moved there, after the state was read."""
        after = []
        if state is not None:
            after = [self.maker[id(state)]]
            if not vector.wide or vector.point != state.point:
                vector = self._moved(vector, state.point)
        place = Place("state", value.attrs["state"])
        self._emit("sv", value, reads={"va": vector}, place=place, fields={"wide": 1}, after=after)

    def _slice(self, value: Value, vector: Value) -> None:
        value.wide, value.point = vector.wide, vector.point
        start = value.attrs["start"]
        if start == 0:
            self.alias[id(value)] = vector
            return
        # Registers have no offset: through memory, where only whole beats can be addressed.
        batch, lanes = self.core.batch, self.core.lanes
        align = max(self.core.beat_bytes, 16)
        value.wide = vector.wide or bool(2 * start * batch % align)
        size = (4 if value.wide else 2) * batch  # of one element of every slot
        step = max(align // (4 * batch), 1 if batch == 1 else lanes)  # the slots' words alternate: only those can be addressed
        if start % step:
            raise CompileError(
                f"{value.name} in {value.module or 'the model'}: a slice from element {start} does not start at a whole "
                f"memory beat; expected a multiple of {step} on core {self.core.name!r}, or a slice of a bitlinear"
            )
        place = Place("scratch", vector.name)
        fields = {"len": vector.length, "wide": int(value.wide)}
        saved = self._emit("sv", vector, reads={"va": vector}, place=place, fields=fields)
        loaded = Place("scratch", vector.name, size * start)
        self._emit("ldv", value, writes=value, place=loaded, after=[saved])

    # ---- norms and products ----------------------------------------------------------------------------------------

    def _rms(self, value: Value, x: Value, y: Value) -> None:
        fields, gains = self.norms.rms(value, x, y)
        self._emit("rms", value, writes=value, reads={"va": x, "vb": y}, fields=fields, gains=gains)

    def _norm(self, value: Value, x: Value) -> None:
        fields, gains = self.norms.norm(value, x)
        self._emit("norm", value, writes=value, reads={"va": x}, fields=fields, gains=gains)

    def _normq(self, value: Value, x: Value, square: Value) -> None:
        fields, gains = self.norms.normq(value, x, square)
        self._emit("normq", value, writes=value, reads={"va": x}, scalar=square, fields=fields, gains=gains)

    def _product(self, value: Value, act: Value) -> None:
        scale = value.attrs["scale"] * self.norms.unscale[id(act)]
        try:
            scalar = scalar_of(scale)
        except ValueError as error:
            raise CompileError(f"{value.name} in {value.module}: the matrix's scale is out of reach: {error}") from error
        # The 18-bit product of the scales is never shifted left, so its lowest bit bounds the point; |y| <= sqrt(N)*max|g|
        # after a norm bounds the scales themselves.
        largest = value.attrs["scale"] * math.sqrt(act.length) * act.attrs["top"] / 127
        if largest:
            value.point = min(value.point, MANTISSA_BITS - math.frexp(largest)[1])
        matrix = Matrix(value.attrs["weight"], value.attrs["start"], value.attrs["stop"], act.length, scalar)
        self._emit("tmatmul", value, writes=value, act=act, matrix=matrix, fields={"bp": value.point})

    def _argmax(self, value: Value, logits: Value) -> None:
        fields = {"base": value.attrs["base"], "first": value.attrs["first"], "last": value.attrs["last"], "noise": 1}
        if not 0 <= logits.point <= 63:
            raise CompileError(f"{logits.name}: logits at binary point {logits.point}; expected a range below 2^28")
        before = [i for i in self.instrs if i.op == "argmax"][-1:]
        self._emit("argmax", value, reads={"va": logits}, fields={**fields, "sha": logits.point}, after=before)
        if self.store_logits:
            place = Place("logits", "logits", value.attrs["base"] // value.attrs["tile"] * tile_pitch(value.attrs["tile"], self.core))
            self._emit("sv", logits, reads={"va": logits}, place=place, fields={"wide": 1})

    # ---- sums ------------------------------------------------------------------------------------------------------

    def _add(self, value: Value, a: Value, b: Value) -> None:
        self._sum("add", value, a, b, commutes=True)

    def _max(self, value: Value, a: Value, b: Value) -> None:
        self._sum("max", value, a, b, commutes=True)

    def _sub(self, value: Value, a: Value, b: Value) -> None:
        self._sum("sub", value, a, b, commutes=False)

    def _sum(self, op: str, value: Value, a: Value, b: Value, commutes: bool) -> None:
        """At va's point: vb is shifted to it (to 32 bits), the result is shifted right to its own."""
        orders = [(a, b), (b, a)] if commutes else [(a, b)]
        fitting = [(va, vb) for va, vb in orders if magnitude_bits(vb) + va.point - vb.point <= 31]
        wanted = min(value.point, max(a.point, b.point))
        best = max((va.point for va, _ in fitting), default=None)
        if best is None or best < wanted:
            point = min(wanted, fit(a.range, 32, 1), fit(b.range, 32, 1))
            if best is None or best < point:
                a = self._moved(a, point)
                fitting = [(a, b)]
        va, vb = max(fitting, key=lambda order: order[0].point)
        value.point = min(value.point, va.point)
        self._rowwise(op, value, {"va": va, "vb": vb}, shb=vb.point - va.point, sho=va.point - value.point)

    def _moved(self, v: Value, point: int) -> Value:
        """A 32-bit copy at another point."""
        name = f"{v.name}.at{point}"
        copy = Value("mov", (v,), {}, v.length, v.module, name, v.range, v.rms, v.bounded, point, True)
        self._rowwise("mov", copy, {"vb": v}, shb=v.point - point)
        return copy

    def _addi(self, value: Value, b: Value) -> None:
        """At a point p between: (imm << sha) is the number, vb shifted by point_b - p."""
        scalar = value.attrs["scalar"]
        p = min(max(b.point, value.point), fit(b.range, 32, 1), fit(abs(scalar), 32), b.point + 31)
        sha = max(0, math.frexp(scalar * 2.0**p)[1] - 15)
        imm = round(scalar * 2.0 ** (p - sha))
        if imm == 1 << 15:
            sha, imm = sha + 1, 1 << 14
        value.point = min(value.point, p)
        self._rowwise("addi", value, {"vb": b}, imm=imm, sha=sha, shb=b.point - p, sho=p - value.point)

    def _onem(self, value: Value, b: Value) -> None:
        point = min(fit(max(b.range, 1.0), 32, 1), 30, max(value.point, 0))
        value.point = min(value.point, point)
        self._rowwise("onem", value, {"vb": b}, sha=point, shb=b.point - point, sho=point - value.point)

    # ---- products of elements --------------------------------------------------------------------------------------

    @staticmethod
    def _narrowing(v: Value) -> int:
        """The right shift that brings a vector to the multiplier's second operand."""
        return max(0, magnitude_bits(v) - _MULTIPLIER_BITS)

    def _mul(self, value: Value, a: Value, b: Value) -> None:
        """Integers multiply, so points add: point_a + point_b - shb, then shifted right to the result's."""
        va, vb = (a, b) if self._narrowing(b) <= self._narrowing(a) else (b, a)
        shb = self._narrowing(vb)
        shb = max(shb, va.point + vb.point - value.point - 63)
        value.point = min(value.point, va.point + vb.point - shb)
        self._rowwise("mul", value, {"va": va, "vb": vb}, shb=shb, sho=va.point + vb.point - shb - value.point)

    def _muli(self, value: Value, b: Value) -> None:
        """The number as a 16-bit integer at its own point k."""
        scalar = value.attrs["scalar"]
        k = min(15 - math.frexp(scalar)[1], 63) if scalar else 0
        imm = round(scalar * 2.0**k)
        if imm == 1 << 15:
            k, imm = k - 1, 1 << 14
        shb = max(self._narrowing(b), b.point + k - value.point - 63)
        value.point = min(value.point, b.point - shb + k)
        self._rowwise("muli", value, {"vb": b}, imm=imm, shb=shb, sho=b.point - shb + k - value.point)

    def _div(self, value: Value, a: Value, b: Value) -> None:
        """a/b * 2^(24-sho): its point is point_a - point_b + 24 - sho."""
        value.point = min(value.point, a.point - b.point + 24 + 63)
        sho = a.point - b.point + 24 - value.point
        shb = max(0, sho - 63)
        self._rowwise("div", value, {"va": a, "vb": b}, shb=shb, sho=max(sho + shb if sho < 0 else sho, -63))

    def _lerp(self, value: Value, state: Value, x: Value, c: Value) -> None:
        """At the state's point; x is shifted to it, the gate's own point is shifted away."""
        value.point = state.point
        self._rowwise("lerp", value, {"va": state, "vb": x, "vc": c}, shb=x.point - state.point, sho=c.point)

    # ---- functions -------------------------------------------------------------------------------------------------

    def _exp(self, value: Value, b: Value) -> None:
        self._rowwise("exp", value, {"vb": b}, shb=b.point - _TABLE_POINT, sho=40 - value.point)

    def _sig(self, value: Value, b: Value) -> None:
        self._rowwise("sig", value, {"vb": b}, shb=b.point - _TABLE_POINT, sho=40 - value.point, neg=int(value.attrs["neg"]))

    def _silu(self, value: Value, b: Value) -> None:
        """b * sigmoid * 2^(24-sho): its point is point_b + 24 - sho."""
        value.point = min(value.point, b.point + 24)
        self._rowwise("silu", value, {"vb": b}, shb=b.point - _TABLE_POINT, sho=b.point + 24 - value.point)


def integers(array: np.ndarray, value: Value) -> np.ndarray:
    """A constant vector in the fixed-point form of its value, as int64."""
    bits = 32 if value.wide else 16
    limit = (1 << (bits - 1)) - 1
    return np.clip(np.round(np.asarray(array, dtype=np.float64) * 2.0**value.point), -limit - 1, limit).astype(np.int64)
