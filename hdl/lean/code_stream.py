"""Microcode of the weight stream: regions, segment headers, gains, and the ternary product.

Where the next header lies is followed here: ``head`` in the region that ends before ``head_end``, in beats. A header is read when an
instruction needs a segment; gains that stand in front of a product's matrix go to the gain queue, their length first.
"""

from trilobit.hdl.lean.micro import Cond, Dest, Length, MicroProgram, Offset, Operand, Slice, Source, Strobe, Target
from trilobit.isa.core import CoreConfig
from trilobit.isa.segments import KINDS, MAGIC
from trilobit.isa.trits import ROWS_PER_BYTE

__all__ = ["gains", "stream"]

GAIN = Operand(Source.TABLE)
# ceil(rows / 5) = (rows + 4) * 52429 >> 18 for all rows of 16 bits (tests/hdl/test_lean_control.py).
FIFTH, FIFTH_SHIFT = 52429, 18
EXPONENT = 1 << 17


def gains(u: MicroProgram) -> None:
    """Make the next gains of the queue those of this instruction, which take field len words from it; fault 5 if there are none or not as
    many."""
    with u.unless(Cond.GAINS):
        u.call("segment")
        u.jump("bad_segment", Cond.GAINS, unless=True)
    length, mine = u.var("gain_length"), u.var("length")
    u.move(Slice.WORD2, mine)
    u.sca(u.const(1), GAIN, to=length)
    u.sca(length, u.const(-1), mine, drain=1, cond=Cond.ZERO, invert=1, target="bad_segment")
    u.sca(mine, u.const(1), u.var("gain_room"), to=u.var("gain_room"))


def stream(u: MicroProgram, config: CoreConfig) -> None:
    """The routine ``segment``, and the instructions stream and tmatmul."""
    _segment(u, config)
    _product(u)


def _segment(u: MicroProgram, config: CoreConfig) -> None:
    """Take the next header. Gains are queued. Returns with ZERO saying that they were gains, else with the matrix' numbers in variables."""
    n, shift = config.beat_bytes, (config.beat_bytes - 1).bit_length()
    minus, head, end = u.const(-1), u.var("head"), u.var("head_end")
    header, sums = u.block("header"), u.block("sums")
    scratch, beats = u.var("scratch"), u.var("payload")
    rows, columns, mantissa = header + 1, header + 2, u.var("mantissa")

    u.label("segment")
    u.sca(head, minus, end, drain=1)
    with u.unless(Cond.ZERO, inverted=True):
        u.jump("bad_segment", Cond.QUEUE_EMPTY)
        u.sca(u.block("queue").strided, offset=Offset.QUEUE_READ, to=head)
        u.sca(u.block("queue_end").strided, offset=Offset.QUEUE_READ, to=end, drain=1, strobe=Strobe.MEET)
    if config.header_beats > 1:  # a region may end inside of it
        u.sca(head, None, u.const(config.header_beats), to=scratch)
        u.sca(scratch, minus, end, drain=1, cond=Cond.NEGATIVE, target="bad_segment")
    u.move(Slice.STREAM, header.strided, length=Length.EIGHT)

    # The check: all words add up to 0xffff modulo 2^16.
    u.sca(header.strided, None, (header + 4).strided, length=Length.FOUR, to=sums.strided, drain=1)
    u.sca(sums.strided, None, (sums + 2).strided, length=Length.TWO, to=sums.strided)
    u.sca(sums, None, sums + 1, to=sums)
    u.sca(sums, None, u.const(1), to=sums)
    u.sca(sums, n=16, to=scratch)
    u.sca(scratch, u.const(-(1 << 16)), sums, drain=1, cond=Cond.ZERO, invert=1, target="bad_segment")
    # Sizes.
    u.sca(rows, drain=1, cond=Cond.ZERO, target="bad_segment")
    u.sca(columns, drain=1, cond=Cond.ZERO, target="bad_segment")
    u.sca(columns, minus, u.const(config.max_length), drain=1, cond=Cond.NEGATIVE, target="bad_segment")
    # The scale: bytes 6 to 8, of which the last has two bits, and its exponent.
    exponent = u.var("exponent")
    u.sca(header + 4, n=8, to=exponent)
    u.sca(exponent, u.const(-256), header + 4, to=scratch)
    u.sca(scratch, minus, u.const(3), drain=1, cond=Cond.NEGATIVE, target="bad_segment")
    u.sca(scratch, u.const(1 << 16), header + 3, to=mantissa)

    u.sca(header, None, u.const(-(MAGIC | KINDS["gains"] << 8)), drain=1, cond=Cond.ZERO, target="gains_header")
    u.sca(header, None, u.const(-(MAGIC | KINDS["ternary"] << 8)), drain=1, cond=Cond.ZERO, invert=1, target="bad_segment")
    u.sca(mantissa, None, drain=1)
    with u.unless(Cond.ZERO):
        u.sca(mantissa, None, u.const(-(1 << 17)), drain=1, cond=Cond.NEGATIVE, target="bad_segment")
    u.sca(rows, None, u.const(ROWS_PER_BYTE - 1), to=scratch)
    u.sca(scratch, u.const(FIFTH), n=FIFTH_SHIFT, to=scratch)
    u.sca(columns, None, u.const(n - 1), to=beats)
    u.sca(beats, n=shift, to=beats)
    u.sca(beats, scratch, to=beats)
    _advance(u, config)
    u.sca(u.const(1), drain=1, strobe=Strobe.RETURN)

    u.label("gains_header")
    u.sca(rows, None, u.const(-1), drain=1, cond=Cond.ZERO, invert=1, target="bad_segment")
    u.sca(columns, u.const(2), u.const(n - 1), to=beats)
    u.sca(beats, n=shift, to=beats)
    _advance(u, config)
    room = u.var("gain_room")
    u.sca(columns, minus, room, to=room, drain=1, cond=Cond.NEGATIVE, target="bad_segment")
    u.sca(columns, to=Dest.GAIN)
    u.sca(columns, None, minus, to=Target.LIMIT, drain=1)
    u.move(Slice.STREAM, Dest.GAIN, length=Length.LIMIT)
    u.sca(u.const(0), drain=1, strobe=Strobe.RETURN)


def _advance(u: MicroProgram, config: CoreConfig) -> None:
    """Go on to the header behind this segment, which must lie in the region or at its end."""
    head, end, at, beats, next_head = (u.var(name) for name in ("head", "head_end", "segment_at", "payload", "next_head"))
    u.sca(head, to=at)
    u.sca(head, None, beats, to=next_head)
    u.sca(next_head, None, u.const(config.header_beats), to=head)
    u.sca(head, u.const(-1), end, drain=1, cond=Cond.NEGATIVE, target="bad_segment")


def _product(u: MicroProgram) -> None:
    minus, scratch, header = u.const(-1), u.var("scratch"), u.block("header")
    u.entry("tmatmul")
    u.jump("bad_length", Cond.LENGTH_BAD)
    u.label("next_matrix")
    u.call("segment")
    u.jump("next_matrix", Cond.ZERO)
    # The segment must be the one that the instruction means: its address, its rows, and as many columns as there are activations.
    u.jump("bad_segment", Cond.ADDRESS_HIGH)
    u.join(Slice.ADDRESS0, scratch)
    u.sca(scratch, minus, u.var("segment_at"), drain=1, cond=Cond.ZERO, invert=1, target="bad_segment")
    u.move(Slice.WORD2, scratch)
    u.sca(scratch, minus, header + 1, drain=1, cond=Cond.ZERO, invert=1, target="bad_segment")
    u.sca(u.block("act_len").strided, minus, header + 2, offset=Offset.ACT, drain=1, cond=Cond.ZERO, invert=1, target="bad_segment")
    u.sca(header + 2, to=Target.COLUMNS)
    u.sca(u.var("mantissa"), to=Target.SEGMENT_M)
    u.sca(u.var("exponent"), u.const(EXPONENT), to=Target.SEGMENT_E)
    u.sca(u.block("act_m").strided, offset=Offset.ACT, to=Target.ACT_M)
    u.sca(u.block("act_e").strided, offset=Offset.ACT, to=Target.ACT_E, drain=1, strobe=Strobe.PRODUCT)
    u.wait(Cond.PRODUCT_DONE)
    u.jump("retire")
