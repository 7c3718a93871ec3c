"""A byte of five trits, decoded: the hardware side of :mod:`trilobit.isa.trits`."""

from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.isa.trits import ROWS_PER_BYTE

__all__ = ["DIGIT_BITS", "TritDecoder", "decode_byte"]

DIGIT_BITS = 2
# Two base-3 digits at once: entry v holds v // 3, then v % 3. Entries 9..15 do not occur.
_PAIRS = sum((v // 3 | v % 3 << DIGIT_BITS) << (2 * DIGIT_BITS * v) for v in range(9))


def decode_byte(byte) -> Value:
    """The digits (trit + 1: 0, 1 or 2) of a byte, two bits each, row 5g in the low bits.

    A digit leaves in the top bits of three times the number, and so two of them in the top four bits of nine times
    the number: two such steps and a last comparison, instead of five carry chains. All 256 bytes give what
    ``trilobit.isa.trits`` says.
    """
    rest = Value.cast(byte)
    digits = []
    for _ in range(ROWS_PER_BYTE // 2):
        # 9 * rest = 8 * rest + rest; the low three bits are those of rest.
        high = (rest[3:] + rest)[:9]
        digits.append((Const(_PAIRS, 64) >> Cat(Const(0, 2), high[5:]))[: 2 * DIGIT_BITS])
        rest = Cat(rest[:3], high[:5])
    last = Cat((rest >= 86) & (rest < 171), rest >= 171)
    return Cat(*digits, last)


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
