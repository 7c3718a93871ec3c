"""Operands and passes that the microcode of several instructions shares."""

from trilobit.hdl.lean.micro import Cond, Micro, MicroProgram, Operand, Sat, Shift, Source, YMode

__all__ = ["IOTA", "T0", "T1", "T2", "T3", "T4", "VA", "VB", "VC", "arrived", "magnitude", "shifted", "table"]

T0, T1, T2, T3, T4 = (Operand(Source.PAGE, page) for page in (8, 9, 10, 11, 15))
"""Pages for temporaries; as n the exponent of what was written."""
IOTA = Operand(Source.PAGE, 12)
"""Each element's index (x only)."""
VA, VB, VC = (Operand(Source.FIELD, field) for field in range(3))
"""The vector registers that the instruction names."""

PLACES = 31  # a multiplier of 2^31 lets a shift go so far to the left


def arrived(u: MicroProgram) -> None:
    """Begin an instruction: a length that is zero or too long is a fault."""
    u.jump("bad_length", Cond.LENGTH_BAD)


def shifted(u: MicroProgram, x: Operand, shift: Shift, sat: Sat, to, **values) -> Micro:
    """A pass of ``to = sat(rs(x, shift))``, where field ``shift`` is -31 to 31 and x has 32 bits."""
    return u.vec(x, u.const(1 << PLACES), fsel=shift, n=u.exponent(-PLACES), round=1, sat=sat, to=to, **values)


def magnitude(u: MicroProgram, x: Operand, to, **values) -> Micro:
    """A pass of ``to = |x|``; the condition bits must say where x is negative."""
    return u.vec(x, ymode=YMode.ABS, to=to, **values)


def table(u: MicroProgram, number: int, y: Operand, to, **values) -> Micro:
    """A pass of ``to = table(y)`` with linear interpolation, limited to 18 bits without a sign. Tables: exp2,
    reciprocal, noise (without the limit)."""
    entry = Operand(Source.TABLE, number)
    return u.vec(entry, y, entry, ymode=YMode.REST, n=9, round=1, sat=Sat.NONE if number == 2 else Sat.S19, to=to, **values)
