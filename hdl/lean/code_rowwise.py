"""Microcode of the row-wise instructions: :data:`trilobit.isa.semantics.ROWWISE`, exactly. For argmax see :mod:`.code_argmax`.

Each begins with the second operand b' = sat32(rs(vb, shb)) and ends with the rounding shift by sho. vd may be any of the sources: it is
written by the last pass alone. An element that saturates in several passes counts once.
"""

from trilobit.hdl.lean.code_argmax import argmax
from trilobit.hdl.lean.idioms import T0, T1, T2, T3, T4, VA, VB, VC, arrived, magnitude, shifted, table
from trilobit.hdl.lean.micro import (
    COUNT_FIRST,
    COUNT_LAST,
    COUNT_MORE,
    ZERO,
    Cond,
    Dest,
    MicroProgram,
    Operand,
    Sat,
    Shift,
    Slice,
    YMode,
)
from trilobit.isa.semantics import LOG2E

__all__ = ["rowwise"]

WHOLE = 17  # fraction bits of a power of two: N has what is above
POWER_FRACTION = 20  # of LOG2E


def rowwise(u: MicroProgram) -> None:
    """Append the instructions of the row-wise unit. They use labels ``bad_length`` and ``retire``.

    Passes over the elements: mov 1, mul, muli 2, add, sub, addi, onem 3, max, exp, lerp 4, div, sig 8 (9 with neg), silu 9.
    """
    _sums(u)
    _products(u)
    _others(u)
    _div(u)
    _exp(u)
    _sigmoids(u)
    argmax(u)


def _begin(u: MicroProgram, name: str) -> None:
    u.entry(name)
    arrived(u)


def _second(u: MicroProgram, sat: Sat, **values) -> None:
    """T0 = sat(rs(vb, shb)); limits of less than 32 bits count what 32 bits and then they would."""
    shifted(u, VB, Shift.SHB, sat, T0, count=COUNT_FIRST, **values)


def _finish(u: MicroProgram, x: Operand, y: "Operand | None" = None, n: Operand = ZERO, **values) -> None:
    """vd = the product, rounded and shifted by sho less n; the instruction is over."""
    u.vec(x, y, n=n, fsel=Shift.SHO, round=1, sat=Sat.WIDE, count=COUNT_MORE | COUNT_LAST, to=Dest.VD, **values)
    u.jump("retire", drain=1)


def _scaled_left(u: MicroProgram, value: Operand, to: Operand) -> None:
    """to = value << sha, for sha from 0 to 31."""
    u.sca(value, u.const(1 << 31), fsel=Shift.SHA, fneg=1, n=u.exponent(-32), to=to)  # a right shift by 31 - sha


def _immediate(u: MicroProgram) -> Operand:
    scaled = u.var("immediate")
    u.move(Slice.WORD7, scaled, signed=1)
    _scaled_left(u, scaled, scaled)
    return scaled


def _sums(u: MicroProgram) -> None:
    minus = u.const(-1)
    _begin(u, "add")
    _second(u, Sat.S32)
    u.vec(T0, z=VA, to=T1)
    _finish(u, T1)
    _begin(u, "sub")
    _second(u, Sat.S32)
    u.vec(T0, minus, VA, to=T1)
    _finish(u, T1)
    _begin(u, "addi")
    addend = _immediate(u)
    _second(u, Sat.S32)
    u.vec(T0, z=addend, to=T1)
    _finish(u, T1)
    _begin(u, "onem")
    one = u.var("immediate")
    _scaled_left(u, u.const(1), one)
    _second(u, Sat.S32)
    u.vec(T0, minus, one, to=T1)
    _finish(u, T1)


def _products(u: MicroProgram) -> None:
    _begin(u, "mul")
    _second(u, Sat.S25)
    _finish(u, VA, T0)
    _begin(u, "muli")
    factor = _immediate(u)
    _second(u, Sat.S25)
    _finish(u, T0, factor)


def _others(u: MicroProgram) -> None:
    minus = u.const(-1)
    _begin(u, "mov")  # 32 bits and then 16 are 16
    shifted(u, VB, Shift.SHB, Sat.WIDE, Dest.VD, count=COUNT_FIRST | COUNT_LAST)
    u.jump("retire", drain=1)
    _begin(u, "max")
    _second(u, Sat.S32)
    u.vec(T0, minus, VA, sat=Sat.RELU, to=T1)
    u.vec(T0, z=T1, to=T1)
    _finish(u, T1)
    _begin(u, "lerp")
    _second(u, Sat.S32)
    u.vec(VA, minus, T0, to=T0)
    u.vec(VC, sat=Sat.S25, count=COUNT_MORE, to=T1)
    u.vec(T0, T1, VA, fsel=Shift.SHO, round=1, sat=Sat.S32, count=COUNT_MORE | COUNT_LAST, to=Dest.VD)
    u.jump("retire", drain=1)


def _div(u: MicroProgram) -> None:
    """The divisor's magnitude m has its leading one at 31 - clz; 127 for clz of zero makes the last shift negative, which saturates."""
    _begin(u, "div")
    _second(u, Sat.S32, setc=1)
    magnitude(u, T0, T0)
    u.vec(T0, clz=1, to=T1)
    u.vec(T0, u.const(1 << 31), n=T1, fconst=45, to=T2)  # (m << clz) >> 14: the table sees what is below the leading one
    u.vec(T1, z=u.exponent(-31), to=T1)
    table(u, 1, T2, T3)
    u.vec(T3, u.const(-(1 << 18)), n=12, ymode=YMode.SELECT, to=T4)  # the reciprocal << 6, with the divisor's sign
    _finish(u, VA, T4, T1)


def _exp(u: MicroProgram) -> None:
    _begin(u, "exp")
    _second(u, Sat.S24)
    u.vec(T0, u.const(LOG2E), n=POWER_FRACTION, round=1, to=T1)
    table(u, 0, T1, T2)
    _finish(u, T2, u.const(1 << 23), T1)


def _sigmoid(u: MicroProgram, x: Operand, mantissa: Operand, one_more: Operand) -> None:
    """The mantissa of sigmoid(x), the condition bits where x is negative, and there ``one_more`` with the (left) shift of the result.

    Uses T1 to T4; six passes.
    """
    magnitude(u, x, T1)
    u.vec(T1, u.const(-LOG2E), u.const(1 << WHOLE), n=POWER_FRACTION, round=1, to=one_more)
    table(u, 0, one_more, T2)
    u.vec(T2, n=one_more, fconst=1, sat=Sat.S18, to=T3)  # exp(-|x|) with 17 fraction bits
    table(u, 1, T3, T4)
    u.vec(T4, T2, n=18, round=1, ymode=YMode.SELECT, to=mantissa)


def _sigmoids(u: MicroProgram) -> None:
    _begin(u, "sig")
    _second(u, Sat.S24, setc=1)
    with u.unless(Cond.NEG, inverted=True):
        u.vec(T0, u.const(-1), setc=1, to=T0)
    _sigmoid(u, T0, T3, T1)
    _finish(u, T3, u.const(1 << 22), T1, ngate=1)
    _begin(u, "silu")
    shifted(u, VB, Shift.SHB, Sat.S24, T0, setc=1)  # this limit is no saturation
    _sigmoid(u, T0, T3, T1)
    u.vec(T3, u.const(64), to=T3)
    u.vec(VB, T3, n=T1, ngate=1, fsel=Shift.SHO, round=1, sat=Sat.WIDE, count=COUNT_FIRST | COUNT_LAST, to=Dest.VD)
    u.jump("retire", drain=1)
