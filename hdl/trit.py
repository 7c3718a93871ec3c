"""A byte of five trits, decoded: the hardware side of :mod:`trilobit.isa.trits`."""

from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.isa.trits import ROWS_PER_BYTE

__all__ = ["DIGIT_BITS", "TritDecoder", "decode_byte"]

DIGIT_BITS = 2


def _pair(entry: int) -> int:
    """Two base-3 digits v // 3 and v % 3 at once, where the entry is v % 8, or 8 more if the number behind it was 128 at least."""
    v = 8 if entry == 8 else entry % 8  # v is 8 only of large numbers, and 0 only of small ones
    return v // 3 | v % 3 << DIGIT_BITS


_PAIRS = sum(_pair(entry) << (2 * DIGIT_BITS * entry) for entry in range(16))


def decode_byte(byte) -> Value:
    """The digits (trit + 1: 0, 1 or 2) of a byte, two bits each, row 5g in the low bits.

    A digit leaves in the top bits of three times the number, and so two of them in the top four bits of nine times
    the number: two such steps and a last comparison, instead of five carry chains. All 256 bytes give what
    ``trilobit.isa.trits`` says.
    """
    rest = Value.cast(byte)
    digits = []
    for _ in range(ROWS_PER_BYTE // 2):
        # 9 * rest = 8 * rest + rest; the low three bits are those of rest. The carry out of the sum is known from rest's top bit.
        high = (rest[3:] + rest)[:8]
        digits.append((Const(_PAIRS, 64) >> Cat(Const(0, 2), high[5:], rest[7]))[: 2 * DIGIT_BITS])
        rest = Cat(rest[:3], high[:5])
    # 3 * rest // 256: rest is at least 86 or 171, nibble by nibble, so that no comparison takes a carry chain.
    low6, low11 = _at_least(rest[:4], 6), _at_least(rest[:4], 11)
    two = _at_least(rest[4:], 11) | (_at_least(rest[4:], 10) & low11)
    one = (_at_least(rest[4:], 6) | (_at_least(rest[4:], 5) & low6)) & ~two
    return Cat(*digits, one, two)


def _at_least(nibble, least: int) -> Value:
    return (Const(0x10000 - (1 << least), 16) >> nibble)[0]


class TritDecoder(wiring.Component):
    """One byte decoded, combinational; see :func:`decode_byte`.

    Members
    -------
    byte : In(8)
    digits : Out(10)
        Five digits of two bits, trit + 1, row 5g in the low bits.
    """

    byte: In(8)
    digits: Out(DIGIT_BITS * ROWS_PER_BYTE)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.digits.eq(decode_byte(self.byte))
        return m
