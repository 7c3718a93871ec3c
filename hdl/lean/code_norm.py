"""Microcode of the norms: rms, norm and normq, exact as :mod:`trilobit.isa.semantics` has them.

Exponents are in bits 24..17 of their words, as N takes them. Scalar passes cost the same for one element and for eight,
so what can be done side by side is done so: pairs and quadruples of scalars lie in blocks.

A number of up to 62 bits is built as a pair ``[raw, high]``: the sum of its terms modulo 2^36, and the sum of floor(term / 2^30), both from
one pass a term; :func:`_split` makes two words of 32 and 30 bits of it.

The scalar registers keep what normq needs of a square: the mantissa of its inverse root, and that one's exponent plus 32.
"""

from collections.abc import Sequence

from trilobit.hdl.lean.code_stream import gains
from trilobit.hdl.lean.idioms import T0, T1, VA, VB, arrived, magnitude, shifted, table
from trilobit.hdl.lean.micro import (
    COUNT_FIRST,
    COUNT_LAST,
    COUNT_MORE,
    ZERO,
    Cond,
    Dest,
    Length,
    Max,
    MicroProgram,
    Offset,
    Operand,
    Sat,
    Shift,
    Slice,
    Source,
    Strobe,
    YMode,
)

__all__ = ["norms"]

GAIN = Operand(Source.TABLE)
RECIPROCAL = 1  # the table's number

LOW = 17  # bits of a square that ``high`` sums leave out: 4096 squares of up to 2^34 make a high sum of at most 2^29, and a rest below that
SPLIT = 30

# Quadratic of 1/sqrt(f) for f from 1/4 to 1 with the smallest relative error (2.4 %): 2^30 times its coefficients. Two Newton steps follow.
C0, C1, C2 = 2867787662, -3527624809, 1759398851
NEWTON_BIAS = 8  # makes up for all that is rounded upwards: the inverse root is never above the true one
INVERSE_BIAS = 1 << 20  # the same for the inverse of the root
NORM_BIAS, RMS_BIAS = 28, 32  # what the inverse root's exponent is kept with, so that its users need not add it
RECIPROCAL_INDEX = (1 << 18) - 32  # 2^20 times just below a quarter: also the largest divisor, 2^20, has its entry in the table


def norms(u: MicroProgram) -> None:
    """The instructions rms, norm and normq, and the routine ``inverse_root``."""
    _inverse_root(u)
    _rms(u)
    _norm(u)
    _normq(u)


# ---- instructions -----------------------------------------------------------------------------------------------------------


def _rms(u: MicroProgram) -> None:
    _begin(u, "rms")
    shifted(u, VA, Shift.SHA, Sat.S18, T0, count=COUNT_FIRST)
    plain = _squares(u, "plain")
    one, done = u.fresh("one"), u.fresh("done")
    u.jump(one, Cond.GAIN, unless=True)
    shifted(u, VB, Shift.SHB, Sat.S18, T0, count=COUNT_MORE)
    u.vec(T0, GAIN, fsel=Shift.SHO, round=1, sat=Sat.S18, to=T0, count=COUNT_MORE | COUNT_LAST)
    u.jump(done)
    u.label(one)
    shifted(u, VB, Shift.SHB, Sat.S18, T0, count=COUNT_MORE | COUNT_LAST)
    u.label(done)
    weighted = _squares(u, "weighted")

    sums = u.block("sums_of_squares")  # rests at 0 and 4, high sums at 8 and 12
    _fold(u, (plain[0], weighted[0], plain[1], weighted[1]), sums)
    _fold_last(u, sums, Length.SIXTEEN)
    # Modulo 2^34 only, which is what x and y see of it.
    u.sca((sums + 8).strided, u.const(-(1 << LOW)), sums.strided, length=Length.EIGHT, to=sums.strided)

    # The plain sum times eps_m; word 4 has a bit of eps_e on top of that.
    factor, top, moved = u.var("eps_factor"), u.var("eps_top"), u.var("eps_moved")
    u.move(Slice.WORD4, factor)
    u.sca(factor, n=15, to=top)
    u.sca(top, u.const(-(1 << 15)), factor, to=factor)
    u.sca(factor, u.const(1 << LOW), to=moved)
    pair, words = u.block("norm_pair"), u.block("norm_words")
    _term(u, sums + 8, moved, first=True)
    _term(u, sums, factor)
    _split(u, pair, words)
    # The words are normalised, so that the shifted whole is the sum of the shifted words.
    _term(u, words, u.const(1 << SPLIT), first=True, fsel=Shift.EPS_E)
    _term(u, words + 1, fsel=Shift.EPS_E)
    _term(u, sums + 12, u.const(1 << LOW))
    _term(u, sums + 4)
    _addend(u)
    u.call("inverse_root")
    u.sca(u.var("inverse"), to=u.block("square_m").strided, offset=Offset.SC)
    exponent = u.block("square_e").strided
    u.sca(u.var("inverse_e"), None, u.exponent(RMS_BIAS - NORM_BIAS), to=exponent, offset=Offset.SC)
    u.jump("retire", drain=1)


def _norm(u: MicroProgram) -> None:
    _begin(u, "norm")
    shifted(u, VA, Shift.SHA, Sat.S18, T0, count=COUNT_FIRST, setc=1)
    square = _squares(u, "plain")
    _magnitudes(u)

    sums = u.block("sums_of_squares")
    _fold(u, square, sums)
    _fold_last(u, sums, Length.EIGHT)
    u.sca(sums + 4, u.const(-(1 << LOW)), sums, to=sums)
    _term(u, sums + 4, u.const(1 << LOW), first=True)
    _term(u, sums)
    _addend(u)
    u.call("inverse_root")

    factor, product, exponent, zeros = u.var("factor"), u.var("product"), u.var("factor_e"), u.var("largest_zeros")
    u.move(Slice.WORD4, factor)
    u.sca(u.var("inverse"), factor, n=15, to=product)
    u.sca(zeros, u.const(-1), u.var("inverse_e"), to=exponent)
    _one_place(u, product, exponent, factor)

    _signs(u)
    _reduce(u)
    u.vec(T1, factor, n=exponent, fsel=Shift.SHO, round=1, sat=Sat.S32, to=T1, count=COUNT_MORE)
    u.vec(T1, ymode=YMode.ABS, sat=Sat.WIDE, to=Dest.VD, count=COUNT_MORE | COUNT_LAST)
    u.jump("retire", drain=1)


def _normq(u: MicroProgram) -> None:
    _begin(u, "normq")
    shifted(u, VA, Shift.SHA, Sat.S18, T0, count=COUNT_FIRST | COUNT_LAST, setc=1)
    _magnitudes(u)
    largest, quotient = u.var("largest"), u.var("quotient")
    u.sca(largest, u.const(1 << 20), n=u.var("largest_zeros"), fconst=32, round=1, to=largest)  # 2^19 to 2^20, or 0
    _divide(u, largest, quotient)
    _signs(u)
    _reduce(u)
    u.vec(T1, quotient, n=30, round=1, sat=Sat.S8, to=T1)
    u.vec(T1, ymode=YMode.ABS, to=Dest.ACT)

    # The scale: largest times the inverse root, 37 or 38 bits; 2^17 * 2^-17 without one.
    product, exponent, mantissa = u.var("product"), u.var("factor_e"), u.var("factor")
    zeros, minus = u.var("largest_zeros"), u.const(-1)
    one, done = u.fresh("one"), u.fresh("done")
    u.jump(one, Cond.SCALED, unless=True)
    u.sca(largest, u.block("square_m").strided, n=19, to=product, offset=Offset.SC)
    u.sca(zeros, minus, u.block("square_e").strided, to=exponent, offset=Offset.SC)
    u.jump(done)
    u.label(one)
    u.sca(largest, u.const(1 << 17), n=19, to=product)
    u.sca(zeros, minus, u.exponent(RMS_BIAS - 17), to=exponent)
    u.label(done)
    _one_place(u, product, exponent, mantissa)
    u.sca(mantissa, to=u.block("act_m").strided, offset=Offset.ACT)
    u.sca(mantissa, minus, setc=1)  # a scale of zero has the exponent zero
    u.sca(u.const(1), exponent, ymode=YMode.AND, to=u.block("act_e").strided, offset=Offset.ACT)
    u.move(Slice.WORD2, u.block("act_len").strided, offset=Offset.ACT)
    u.jump("retire", drain=1)


def _begin(u: MicroProgram, name: str) -> None:
    u.entry(name)
    arrived(u)
    with u.unless(Cond.GAIN, inverted=True):
        gains(u)


# ---- vectors ----------------------------------------------------------------------------------------------------------------


def _squares(u: MicroProgram, name: str) -> tuple[Operand, Operand]:
    """Partial sums of the squares of T0 (18 bits), sixteen each: modulo 2^36, and of floor(square / 2^17)."""
    whole, high = u.block(f"{name}_whole"), u.block(f"{name}_high")
    for part, places in ((whole, 0), (high, LOW)):
        u.sca(ZERO, length=Length.SIXTEEN, to=part.strided)
        u.vec(T0, T0, part.strided, n=places, to=part.strided)
    return whole, high


def _magnitudes(u: MicroProgram) -> None:
    """With x in T0 and its signs in the condition bits: T0 = z, T1 = abs(z), ``largest`` of those, and its leading zeros of 32 bits (-1 to
    31, or 127 for 0) as the exponent ``largest_zeros``. Condition bits of elements from 16 on stay those of z."""
    largest, zeros, top = u.var("largest"), u.var("largest_zeros"), u.var("largest_top")
    with u.unless(Cond.GAIN, inverted=True):
        u.vec(T0, GAIN, to=T0, setc=1)
    magnitude(u, T0, T1, max=Max.START, drain=1)
    u.sca(ZERO, max=Max.READ, to=largest)
    # clz sees 32 bits: of 2^32, the most there can be, it gives 127, to which 128 is added modulo 2^8.
    u.sca(largest, clz=1, to=zeros)
    u.sca(largest, n=32, to=top)
    u.sca(top, u.const(1 << 24), zeros, to=zeros)


def _signs(u: MicroProgram) -> None:
    """Give the first sixteen condition bits, which scalar passes have used, the signs of T0 again."""
    u.sca(T0, length=Length.SIXTEEN, setc=1)


def _reduce(u: MicroProgram) -> None:
    """T1 to 20 bits relative to the largest."""
    u.vec(T1, u.const(1 << 20), n=u.var("largest_zeros"), fconst=32, round=1, to=T1)


# ---- sums -------------------------------------------------------------------------------------------------------------------


def _fold(u: MicroProgram, parts: Sequence[Operand], to: Operand) -> None:
    """Sixteen partial sums to four, of several parts behind each other; one after the other would read what isn't there yet."""
    for part in parts:
        u.sca((part + 8).strided, None, part.strided, length=Length.EIGHT, to=part.strided)
    for k, part in enumerate(parts):
        u.sca((part + 4).strided, None, part.strided, length=Length.FOUR, to=(to + 4 * k).strided)


def _fold_last(u: MicroProgram, sums: Operand, length: Length) -> None:
    """Groups of four sums to one each, in each group's first place; the other places are garbage."""
    for places in (2, 1):
        u.sca((sums + places).strided, None, sums.strided, length=length, to=sums.strided, drain=int(places == 1))


def _term(u: MicroProgram, x: Operand, y: "Operand | None" = None, first: bool = False, places=(0, SPLIT), **values) -> None:
    """Add floor(x * y / 2^F) to the pair, F from ``values``."""
    pair = u.block("norm_pair").strided
    lanes = _lanes(u, -places[0] << 17, -places[1] << 17)
    u.sca(x, y, ZERO if first else pair, n=lanes, length=Length.TWO, to=pair, **values)


def _addend(u: MicroProgram) -> None:
    """Add k_m << k_e to the pair."""
    addend = u.var("addend")
    u.move(Slice.WORD7, addend)
    # With ``fneg`` F is -k_e - 1: a right shift of 31 - k_e.
    _term(u, addend, u.const(1 << 31), places=(32, 32 + SPLIT), fsel=Shift.K_E, fneg=1)


def _split(u: MicroProgram, pair: Operand, words: Operand) -> None:
    """The pair as its word of bits 30 and above, and its low 30 bits. The terms' low parts must not be more than 2^33 together."""
    low, minus = u.var("norm_low"), u.const(-(1 << SPLIT))
    u.sca(pair + 1, minus, pair, to=low)
    u.sca(low, None, pair + 1, n=SPLIT, to=words)
    u.sca(words, minus, pair, to=words + 1)


def _lanes(u: MicroProgram, low: int, high: int) -> Operand:
    """Two constants side by side, eight such pairs a block."""
    name = f"lanes {low} {high}"
    if name not in u.names:
        pairs = sum(known.startswith("lanes ") for known in u.names)
        place = u.block(f"pairs {pairs // 8}") + pairs % 8 * 2
        u.names[name] = place.index
        u.values |= {place.index: low, place.index + 1: high}
    return Operand(Source.SCALAR, u.names[name]).strided


# ---- scalars ----------------------------------------------------------------------------------------------------------------


def _inverse_root(u: MicroProgram) -> None:
    """The routine: rsqrt(square_norm(pair)) as variables ``inverse`` and ``inverse_e``, the exponent with NORM_BIAS (anything for zero).

    Why the guesses are at most one off: two Newton steps leave a relative error of 1.5 * (1.5 * 0.0241^2)^2 < 2^-19 of 1/sqrt(f), always
    downwards, and rounding less than 2^-27, downwards by NEWTON_BIAS; the root has 18 bits. Its inverse begins with an error below 2^-16,
    which one step squares, and INVERSE_BIAS is 2^-28 of it.
    """
    pair, words, chosen = u.block("norm_pair"), u.block("norm_words"), u.block("norm_chosen")
    one, minus = u.const(1), u.const(-1)
    two = Length.TWO
    u.label("inverse_root")
    _split(u, pair, words)
    # If the high word is zero the low one takes its place: T = (U0 * 2^30 + U1) * 2^(-30 c).
    u.sca(words, None, minus, setc=1, length=two)
    u.sca(_lanes(u, 1, -1), words + 1, words.strided, ymode=YMode.AND, to=chosen.strided, length=two)
    # Moved to the left by an even number 2h of places so that U0 has 31 or 32 bits; the exponent is h + 15 c - 48.
    half, inverse_e = u.var("norm_half"), u.var("inverse_e")
    u.sca(chosen, clz=1, to=half)
    u.sca(half, None, u.exponent(NORM_BIAS - 48), n=1, to=half)
    u.sca(one, u.const(15 << 17), half, ymode=YMode.AND, to=inverse_e)
    power, square = u.block("norm_power"), u.block("norm_square")  # 2^h, 2^2h and their negatives
    signs = _lanes(u, 1 << 16, -(1 << 16))
    u.sca(one, signs, n=half, fconst=16 + NORM_BIAS - 48, to=power.strided, length=two)
    u.sca(power, power.strided, to=square.strided, length=two)
    # f: the negative of the upper 32 bits, rounded upwards; the mantissa m: the upper 36, modulo 2^36.
    f, above, mantissa = u.var("norm_f"), u.var("norm_above"), u.var("norm_mantissa")
    u.sca(square + 1, chosen, to=above)  # y would be read before its second element is there
    u.sca(chosen + 1, square + 1, above, n=SPLIT, to=f)
    u.sca(above, u.const(-16), to=mantissa)
    u.sca(chosen + 1, square, mantissa, n=SPLIT - 4, to=mantissa)
    # 1/sqrt(f) with 30 fraction bits, negative.
    root, squared, inner = u.var("norm_inverse"), u.var("norm_squared"), u.var("norm_inner")
    u.sca(f, u.const(-C2), u.const(C1), n=32, to=inner)
    u.sca(f, inner, u.const(-C0), n=32, to=root)
    for _ in range(2):
        u.sca(root, root, n=30, to=squared)
        u.sca(f, squared, u.const((3 << 30) - NEWTON_BIAS), n=32, to=inner)
        u.sca(root, inner, n=31, to=root)
    # The root of m: a guess that is right or one too large, which it is if its square is above m.
    guess, negative, true = u.block("norm_guess"), u.var("norm_negative"), u.var("norm_root")
    u.sca(f, root, one, n=44, to=guess)
    u.sca(guess, minus, to=negative)
    u.sca(guess, negative, mantissa, setc=1)
    u.sca(one, minus, guess, ymode=YMode.AND, to=true)
    # 2^35 // root: a Newton step (2^48 is zero modulo 2^36) makes a guess that is right or one too small, and the next number.
    error, inverse = u.var("norm_error"), u.var("inverse")
    u.sca(true, root, u.const(-INVERSE_BIAS), to=error)
    u.sca(error, root, root, n=48, to=root)
    u.sca(root, minus, _lanes(u, 0, 1), n=13, to=guess.strided, length=two)
    u.sca(guess + 1, true, u.const((1 << 35) - 1), setc=1)
    u.sca(one, one, guess, ymode=YMode.AND, sat=Sat.S19, to=inverse)
    # Zero has the inverse zero.
    u.sca(chosen, minus, setc=1)
    u.sca(one, inverse, ymode=YMode.AND, to=inverse, drain=1, strobe=Strobe.RETURN)


def _one_place(u: MicroProgram, product: Operand, exponent: Operand, mantissa: Operand) -> None:
    """A product of 18 or 19 bits (or 0) as a mantissa of 18 bits; the exponent, that for 19 bits, is one less for 18."""
    u.sca(product, None, u.const(-(1 << 18)), setc=1)
    u.sca(product, u.const(1 << 19), ymode=YMode.SELECT, n=19, to=mantissa)
    u.sca(u.const(1), u.const(-(1 << 17)), exponent, ymode=YMode.AND, to=exponent)


def _divide(u: MicroProgram, largest: Operand, to: Operand) -> None:
    """((127 << 31) // largest + 1) >> 1 of a number from 2^19 to 2^20; anything if it is 0."""
    index, guess, error, product = u.var("divide_index"), u.var("divide_guess"), u.var("divide_error"), u.block("divide_product")
    one = u.const(1)
    u.sca(largest, u.const(RECIPROCAL_INDEX), u.const(-(RECIPROCAL_INDEX >> 1)), n=20, to=index)
    table(u, RECIPROCAL, index, guess, length=Length.ONE)  # 2^37 / largest
    # A Newton step on the quotient with 12 fraction bits; its error is taken from 2^37, zero modulo 2^36.
    u.sca(guess, largest, to=error)
    u.sca(guess, _lanes(u, 127 << 6, -127 << 6), length=Length.TWO, to=product.strided)
    u.sca(product + 1, error, product, n=37, to=product)  # y would be read before its second element is there
    # Right or one too small.
    pair = u.block("norm_guess")
    u.sca(product, None, _lanes(u, 0, 1), n=12, length=Length.TWO, to=pair.strided)
    u.sca(pair + 1, largest, u.const((1 << 31) - 1), setc=1)  # 127 << 31 is -2^31 modulo 2^36
    u.sca(one, one, pair, ymode=YMode.AND, to=to)
    u.sca(to, round=1, n=1, to=to)
