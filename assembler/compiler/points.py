"""Binary points: where each vector's fixed-point form has its point, and whether it has 16 or 32 bits.

A vector's real values are ``integer * 2^-point``. What :func:`choose` sets is a wish; instruction selection lowers a
point where an operation can't reach it (:mod:`.select`). The machine's multipliers and norm unit take 25 and 18 bits;
:func:`fit` finds the points for those as well.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trilobit.assembler.compiler.ir import Value

__all__ = ["Policy", "choose", "fit", "magnitude_bits"]

_HIGHEST = 24  # a point beyond this would resolve nothing that the tables and 18-bit scalars compute
_GATE_POINT = 24  # of lerp's gate: its operand has 25 bits, the gate is at most one
_STATE_HIGHEST = 28
_LOGITS_HIGHEST = 18
_HEAVY_TAIL = 32  # range over rms above which 16 bits leave too little for the usual values
_CONSTANT_PRECISION = 2.0**-11  # relative; a constant whose 16-bit form is worse than this gets 32 bits


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How ranges become binary points.

    Attributes:
        headroom: bits that a 16-bit vector, and an 18-bit operand of the norm unit, keeps above its expected range.
        wide_headroom: the same of a 32-bit vector.
        wide: 32 bits for every vector; False keeps intermediate vectors at 16 bits (the residual stream, the state,
            gates, logits and vectors with a range far above their rms have 32 bits in any case).
    """

    headroom: int = 1
    wide_headroom: int = 3
    wide: bool = False


def fit(top: float, bits: int, headroom: int = 0) -> int:
    """The highest binary point at which ``top`` with ``headroom`` bits above it fits a signed number of ``bits``."""
    if top <= 0:
        return _HIGHEST
    limit = (1 << (bits - 1)) - 1
    point = bits - headroom - math.frexp(top)[1]  # one too high, or right for a top just above a power of two
    while math.floor(math.ldexp(top, point + headroom) + 0.5) > limit:
        point -= 1
    return point


def magnitude_bits(value: Value, headroom: int = 1) -> int:
    """Bits of the largest integer that a vector with its point is expected to hold, sign excluded."""
    top = math.ldexp(value.range, value.point + (0 if value.bounded else headroom))
    return min(max(math.ceil(top).bit_length(), 1), 31 if value.wide else 15)


def choose(values: Iterable[Value], policy: Policy) -> None:
    """Set ``wide`` and the wished ``point`` of every vector."""
    values = [v for v in values]
    consumers: dict[int, list[Value]] = {id(v): [] for v in values}
    for value in values:
        for source in value.inputs:
            consumers[id(source)].append(value)
    gates = _gates(values)
    for value in values:
        if value.kind == "vector":
            _choose(value, consumers[id(value)], id(value) in gates, policy)
    for value in values:
        users = consumers[id(value)]
        if value.op == "product" and users and all(u.op in ("add", "sub") for u in users):
            # Straight into a sum: computed at the sum's point, no rounding on the way.
            value.wide, value.point = True, min(max(u.point for u in users), fit(value.range, 32, 1))


def _gates(values: list[Value]) -> set[int]:
    """The vectors that end as a lerp's gate, through products and sums with constants."""
    gates: set[int] = set()
    for value in reversed(values):
        if value.op == "lerp":
            gates.add(id(value.inputs[2]))
        elif id(value) in gates and value.op in ("mul", "add"):
            gates.update(id(v) for v in value.inputs if v.op != "const")
    return gates


def _choose(value: Value, users: list[Value], is_gate: bool, policy: Policy) -> None:
    headroom = 0 if value.bounded else policy.headroom
    wide_headroom = 0 if value.bounded else policy.wide_headroom
    match value.op:
        case "emb":
            value.wide, value.point = False, min(fit(value.range, 16), _HIGHEST)
        case "const":
            value.wide, value.point = _constant_format(value.attrs["array"])
        case "state" | "lerp":
            value.wide, value.point = True, min(fit(value.range, 32, 2), _STATE_HIGHEST)
        case _ if is_gate:
            value.wide, value.point = True, min(fit(value.range, 25), _GATE_POINT)
        case "sig" | "onem":
            value.wide, value.point = True, _GATE_POINT
        case _ if any(u.op == "argmax" for u in users):
            value.wide, value.point = True, min(fit(value.range, 32, wide_headroom), _LOGITS_HIGHEST)
        case "add" | "sub" | "exp" | "div":
            value.wide, value.point = True, min(fit(value.range, 32, wide_headroom), _HIGHEST)
        case _ if policy.wide or value.range > _HEAVY_TAIL * value.rms > 0 or value.name.endswith(".unnormed"):
            value.wide, value.point = True, min(fit(value.range, 32, wide_headroom), _HIGHEST)
        case _:
            value.wide, value.point = False, min(fit(value.range, 16, headroom), _HIGHEST)


def _constant_format(array: np.ndarray) -> tuple[bool, int]:
    """16 bits if every element keeps its relative precision there, else 32."""
    top = float(np.abs(array).max())
    point = min(fit(top, 16), _HIGHEST)
    rounded = np.round(array * 2.0**point) * 2.0**-point
    if np.all(np.abs(rounded - array) <= np.abs(array) * _CONSTANT_PRECISION):
        return False, point
    return True, min(fit(top, 32), 30)
