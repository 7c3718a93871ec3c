"""Microcode of argmax: :func:`trilobit.isa.semantics.argmax_scores`, and the search over several instructions.

Scalars: ``seed``, ``position`` (32 bits without a sign), ``temperature_m`` and ``temperature_e`` (an exponent's word, all its bits) are
given; ``token`` and ``position`` are written by ``last``; ``best`` and ``best_index`` are of the search.

With noise the hash halves must be zero for each element: power-on and every argmax leave them so, and :func:`clear_hashes` is for a start
after a reset in the middle of one.

An index has 24 bits, low half 18 and high half 6. Its low half goes through the hash as x, its high half is one number for all elements
and goes into the first key, unless the low half overflows on the way through the vector.
"""

from trilobit.hdl.lean.idioms import IOTA, T0, T1, T2, T3, VA, arrived, table
from trilobit.hdl.lean.micro import (
    ZERO,
    Cond,
    Length,
    Max,
    MicroProgram,
    Operand,
    Sat,
    Shift,
    Slice,
    Strobe,
    Target,
    YMode,
)
from trilobit.isa.noise import (
    HALF_BITS,
    MULTIPLIER,
    OCTAVES,
    PLACE_BITS,
    POSITION_TURNS,
    ROUND_CONSTANT,
    ROUNDS,
    SEED_TURNS,
)

__all__ = ["argmax", "clear_hashes"]

HALF = (1 << HALF_BITS) - 1
INDEX_BITS = 24
WORD = 32  # bits of seed and position


def clear_hashes(u: MicroProgram, elements: int) -> None:
    """Make the hash halves of so many elements zero."""
    u.sca(u.const(elements - 1), to=Target.LIMIT, drain=1)
    u.sca(ZERO, ZERO, hash=1, length=Length.LIMIT)


def argmax(u: MicroProgram) -> None:
    """Append argmax. One pass over the elements, with noise 20 (24 where the low half of the index overflows)."""
    u.entry("argmax")
    arrived(u)
    base = u.var("argmax_base")
    u.join(Slice.WORD4, base)
    plain, search = u.fresh("plain"), u.fresh("search")
    u.jump(plain, Cond.NOISE, unless=True)
    u.sca(u.var("temperature_m"))
    u.jump(plain, Cond.ZERO, drain=1)
    _noisy(u, base)
    u.jump(search)
    u.label(plain)
    u.vec(VA, max=Max.START, drain=1)  # the maximum has gone through the engine before it is read
    u.label(search)
    _search(u, base)
    u.jump("retire", drain=1)


def _xor(u: MicroProgram, x: Operand, z: Operand, to: Operand, **values) -> None:
    """to = the low halves of x and z, combined. The product's low half is zero and leaves the hash halves so."""
    u.sca(x, u.const(1 << HALF_BITS), z, hash=1, to=to, **values)


def _block(u: MicroProgram, name: str, low: list[int], high: list[int]) -> tuple[Operand, Operand]:
    """Two lists of eight constants (or, of zeros, variables) that ``stride`` can go through."""
    block = u.block(name)
    u.values |= {block.index + i: value for i, value in enumerate(low)}
    u.values |= {block.index + 8 + i: value for i, value in enumerate(high)}
    return block, block + 8


def _keys(u: MicroProgram) -> Operand:
    """The first of the keys of the rounds. A word turned left is a window of the word written twice."""
    twice = (1 << WORD) + 1
    seed_places = [-(-turn % WORD) << 17 for turn in SEED_TURNS]
    position_places = [-HALF_BITS << 17, *(-(-turn % WORD) << 17 for turn in POSITION_TURNS[1:])]
    from_seed, from_position = _block(u, "argmax_places", seed_places, position_places)
    factors, constants = _block(u, "argmax_factors", [1] + [twice] * (ROUNDS - 1), [ROUND_CONSTANT * (r + 1) & HALF for r in range(ROUNDS)])
    keys, windows = _block(u, "argmax_keys", [0] * 8, [0] * 8)
    keys_, windows_ = keys.strided, windows.strided
    u.sca(u.var("seed"), u.const(twice), n=from_seed.strided, to=windows_, length=Length.EIGHT)
    _xor(u, windows_, constants.strided, keys_, length=Length.EIGHT)
    u.sca(u.var("position"), factors.strided, n=from_position.strided, to=windows_, length=Length.EIGHT)
    _xor(u, windows_, keys_, keys_, length=Length.EIGHT)
    return keys


def _index(u: MicroProgram, base: Operand, key: Operand) -> None:
    """T0 = the low half of each index; its high half in the first key or in the hash halves."""
    low, high, end = u.var("argmax_low"), u.var("argmax_high"), u.var("argmax_end")
    rest = INDEX_BITS - HALF_BITS
    _xor(u, base, ZERO, low)
    u.sca(base, n=HALF_BITS, to=high)
    u.sca(high, u.const(1 << (2 * HALF_BITS - rest)), hash=1, to=high)  # drops what is above the index, which counts modulo 2^24
    u.sca(high, n=HALF_BITS - rest, to=high)
    u.vec(IOTA, z=low, to=T0)
    fits, ready = u.fresh("fits"), u.fresh("ready")
    u.move(Slice.WORD2, end)
    u.sca(end, z=low, to=end)
    u.sca(end, z=u.const(-HALF - 2))
    u.jump(fits, Cond.NEGATIVE, drain=1)
    u.vec(T0, z=high, n=HALF_BITS, to=T1)
    u.vec(T1, u.const(1 << (2 * HALF_BITS - rest)), hash=1, to=T1)
    u.vec(T1, n=HALF_BITS - rest, to=T1)
    u.vec(T1, z=T0, hash=1, to=T0)
    u.jump(ready)
    u.label(fits)
    _xor(u, high, key, key)
    u.label(ready)


def _gumbel(u: MicroProgram) -> None:
    """T2 = noise, of the last round's low halves in T0 and high halves.

    The word is, from the top, the half of [0, 1), 21 bits of chance whose leading zeros are the octave, 14 bits of place. The condition
    bits are set in the upper half (where the bit is 0). There the octave is counted with a one below the last bit of chance. In the
    lower half chance is counted 16 places further to the right, so that 16 is added and, modulo 32, no octave is above 15.
    """
    top = 1 << 21
    u.vec(ZERO, ZERO, hash=1, to=T1)  # the high halves, which are zero then
    u.vec(T1, n=PLACE_BITS, z=u.const(-top), to=T2)  # the chance's low bits
    u.vec(T0, u.const(1 << (HALF_BITS - PLACE_BITS)), T2, setc=1, to=T3)  # chance - top or, in the lower half, chance
    # Upper: (chance - top) * (2^22 - 1) >> 11 is chance << 11 and, below, (top - chance) >> 11, which is 2^10 for 0. Lower: chance >> 5.
    u.vec(T3, u.const((1 << 22) - 1), n=u.exponent(12), fconst=23, ymode=YMode.SELECT, ngate=1, to=T0)
    u.vec(T0, clz=1, to=T0)
    u.vec(T0, z=u.exponent(1 - OCTAVES), ymode=YMode.AND, sat=Sat.RELU, to=T3)  # octaves beyond the last of the table
    u.vec(T2, u.const(-1 << PLACE_BITS), T1, to=T1)  # place, as far as the table looks at it
    u.vec(T0, z=T1, n=17 - PLACE_BITS, to=T1)
    u.vec(T3, u.const(-1), T1, n=17 - PLACE_BITS, to=T1)
    table(u, 2, T1, T2)
    u.vec(T3, z=T2, n=1, to=T2)


def _noisy(u: MicroProgram, base: Operand) -> None:
    keys = _keys(u)
    _index(u, base, keys)
    for r in range(ROUNDS):
        u.vec(T0, u.const(MULTIPLIER), keys + r, hash=1, to=T0)
    _gumbel(u)
    shift, mantissa = u.var("argmax_shift"), u.var("temperature_m")
    u.sca(u.var("temperature_e"), z=u.exponent(16), sat=Sat.S25, to=shift)  # as far as N goes, which is as far as shifts go
    above = u.var("argmax_above")
    u.sca(shift, z=u.exponent(-1), sat=Sat.S25, to=above)
    u.sca(u.const(-1), n=above, fsel=Shift.SHA, round=1, sat=Sat.S16)  # by n + 1 places it is zero, but for negative n
    short, done = u.fresh("short"), u.fresh("done")
    u.jump(short, Cond.NEGATIVE, drain=1)
    u.vec(VA, mantissa, T2, n=shift, fsel=Shift.SHA, round=1, sat=Sat.S32, max=Max.START, drain=1)
    u.jump(done)
    u.label(short)
    u.vec(VA, mantissa, T2, sat=Sat.S32, max=Max.START, drain=1)
    u.label(done)


def _search(u: MicroProgram, base: Operand) -> None:
    """The largest of this vector against the best so far; ``last`` commits."""
    best, best_index = u.var("best"), u.var("best_index")
    score, index, change = u.var("argmax_score"), u.var("argmax_index"), u.var("argmax_change")
    minus = u.const(-1)
    u.sca(ZERO, max=Max.READ, to=score)
    u.sca(ZERO, max=Max.INDEX, to=index)
    u.sca(index, z=base, to=index)
    with u.unless(Cond.FIRST, inverted=True):
        u.sca(u.const(-1 << 32), to=best)  # below any score
    u.sca(score, minus, best, setc=1, to=change)
    u.sca(change, minus, best, ymode=YMode.AND, to=best)
    u.sca(best_index, minus, index, to=change)
    u.sca(change, z=best_index, ymode=YMode.AND, to=best_index)
    with u.unless(Cond.LAST, inverted=True):
        position = u.var("position")
        u.sca(position, z=u.const(1), to=position)
        u.sca(best_index, u.const(1 << (34 - INDEX_BITS)), to=change)  # operands have 34 bits
        u.sca(change, n=34 - INDEX_BITS, setc=1, to=change)
        u.sca(u.const(1), u.const(1 << INDEX_BITS), change, ymode=YMode.AND, to=u.var("token"), drain=1, strobe=Strobe.COMMIT)
