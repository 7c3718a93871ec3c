"""Beats of memory <-> words of vector elements.
 A beat has ``beat_bytes`` bytes, a word ``lanes`` elements of 2 bytes, or 4 if ``wide``; all are powers of two. So
either several beats make a word (beat_bytes <= 2 * lanes) or a beat holds several words (beat_bytes >= 4 * lanes),
and which of the two is known when the hardware is built; only the ratio depends on ``wide``.
"""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Packer", "Unpacker"]

ELEMENT_BITS = 32
HALF_BITS = 16


def _log2(name: str, value: int) -> int:
    if value < 1 or value & (value - 1):
        raise ValueError(f"expected {name} to be a power of two, got {value!r}")
    return value.bit_length() - 1


def _ceil_shift(value, shift: int):
    """ceil(value / 2**shift) in hardware."""
    return (value + ((1 << shift) - 1)) >> shift


class Unpacker(wiring.Component):
    """Beats to words: loads and gains.

    ``start`` (one cycle) begins a vector of ``length`` elements; it is allowed while ``busy`` is low and in the cycle
    in which the last word of the vector before is taken. From the next cycle on exactly ceil(length * size /
    beat_bytes) beats are taken, and ceil(length / lanes) words are offered; what the last beat holds beyond them is
    dropped, and elements of the last word beyond the vector are whatever the memory held there.

    Latency: a word is offered in the cycle after its last byte was taken. Throughput: a beat a clock if a word has as
    many bytes as a beat or more, else a word a clock. ``i_ready`` depends on ``o_ready`` in the same cycle.

    Parameters
    ----------
    beat_bytes, lanes : int
        Powers of two.
    max_length : int
        Longest vector, in elements.
    element_bits : int
        32: elements of 2 bytes are sign-extended, or have 4 bytes if ``wide``. 16: elements have 2 bytes, and
        ``wide`` must be low.

    Members
    -------
    start, length, wide : In
        A new vector; sampled in the cycle of ``start`` only.
    flush : In(1)
        Drops the vector and what is buffered. Ignores ``start``.
    busy : Out(1)
        Words are still to be taken.
    i_valid, i_ready, i_data : 8 * beat_bytes bits of data
    o_valid, o_ready, o_data : lanes * element_bits bits of data, element 0 in the low bits
    o_last : Out(1)
        With ``o_valid``: the last word of the vector.
    """

    def __init__(self, beat_bytes: int, lanes: int, max_length: int, element_bits: int = ELEMENT_BITS):
        _log2("beat_bytes", beat_bytes)
        _log2("lanes", lanes)
        if element_bits not in (HALF_BITS, ELEMENT_BITS):
            raise ValueError(f"expected element_bits of 16 or 32, got {element_bits!r}")
        self._beat_bytes = beat_bytes
        self._lanes = lanes
        self._max_length = max_length
        self._element_bits = element_bits
        super().__init__({
            "start": In(1), "length": In(range(max_length + 1)), "wide": In(1), "flush": In(1), "busy": Out(1),
            "i_valid": In(1), "i_ready": Out(1), "i_data": In(8 * beat_bytes),
            "o_valid": Out(1), "o_ready": In(1), "o_data": Out(lanes * element_bits), "o_last": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        lane_shift = _log2("lanes", self._lanes)
        words = Signal(range(-(-self._max_length // self._lanes) + 1))  # words still to be taken
        wide = Signal()
        wide_in = self.wide if self._element_bits == ELEMENT_BITS else Const(0, 1)
        taken = self.o_valid & self.o_ready
        m.d.comb += self.o_last.eq(words == 1)
        with m.If(taken):
            m.d.sync += words.eq(words - 1)
            with m.If(self.o_last):
                m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [words.eq(_ceil_shift(self.length, lane_shift)), wide.eq(wide_in), self.busy.eq(self.length.any())]
        with m.If(self.flush):
            m.d.sync += [words.eq(0), self.busy.eq(0)]
        if self._beat_bytes <= 2 * self._lanes:
            bits = self._gather(m, wide, wide_in, taken)
        else:
            bits = self._scatter(m, words, wide, taken)
        for j in range(self._lanes):
            low = bits[HALF_BITS * j :][:HALF_BITS]
            element = self.o_data.word_select(j, self._element_bits)
            if self._element_bits == HALF_BITS:
                m.d.comb += element.eq(low)
            else:
                m.d.comb += element.eq(Mux(wide, bits[ELEMENT_BITS * j :][:ELEMENT_BITS], low.as_signed()))
        return m

    def _gather(self, m, wide, wide_in, taken):
        """Several beats make a word: one slot a beat."""
        beat_shift = _log2("beat_bytes", self._beat_bytes)
        slots = self._lanes * self._element_bits // 8 // self._beat_bytes
        half = max(2 * self._lanes // self._beat_bytes, 1)  # beats of a word of 2-byte elements
        buffer = [Signal(8 * self._beat_bytes, name=f"slot{k}") for k in range(slots)]
        beats = Signal(range(-(-self._max_length * self._element_bits // 8 // self._beat_bytes) + 1))  # still to come
        index = Signal(range(max(slots, 2)))
        full = Signal()
        m.d.comb += [
            self.o_valid.eq(full),
            self.i_ready.eq((beats != 0) & (~full | self.o_ready)),
        ]
        with m.If(taken):
            m.d.sync += full.eq(0)
        with m.If(self.i_valid & self.i_ready):
            ends = (index == Mux(wide, slots - 1, half - 1)) | (beats == 1)
            m.d.sync += [full.eq(ends), index.eq(Mux(ends, 0, index + 1)), beats.eq(beats - 1)]
            for k, slot in enumerate(buffer):
                with m.If(index == k):
                    m.d.sync += slot.eq(self.i_data)
        with m.If(self.start):
            m.d.sync += beats.eq(_ceil_shift(Mux(wide_in, self.length << 2, self.length << 1), beat_shift))
        with m.If(self.flush):
            m.d.sync += [beats.eq(0), full.eq(0), index.eq(0)]
        return Cat(buffer)

    def _scatter(self, m, words, wide, taken):
        """A beat holds several words: they leave from the low end of a buffer that shifts down."""
        slot_bits = HALF_BITS * self._lanes
        slots = 8 * self._beat_bytes // slot_bits
        buffer = [Signal(slot_bits, name=f"slot{k}") for k in range(slots)]
        have = Signal(range(slots + 1))  # words in the buffer
        last = taken & (words == 1)
        m.d.comb += [
            self.o_valid.eq(have != 0),
            self.i_ready.eq(self.busy & ~last & ((have == 0) | ((have == 1) & self.o_ready))),
        ]
        with m.If(taken):
            m.d.sync += have.eq(Mux(last, 0, have - 1))
            for k, slot in enumerate(buffer):
                after = [buffer[k + s] if k + s < slots else Const(0, slot_bits) for s in (1, 2)]
                m.d.sync += slot.eq(Mux(wide, after[1], after[0]))
        with m.If(self.i_valid & self.i_ready):
            m.d.sync += have.eq(Mux(wide, slots // 2, slots))
            for k, slot in enumerate(buffer):
                m.d.sync += slot.eq(self.i_data.word_select(k, slot_bits))
        with m.If(self.flush):
            m.d.sync += have.eq(0)
        return Cat(buffer[:2])


class Packer(wiring.Component):
    """Words to beats: stores.

    ``start`` begins a vector of ``length`` elements, under the same rule as :class:`Unpacker`'s. ceil(length / lanes)
    words are taken and ceil(length * size / beat_bytes) beats offered; bytes beyond the vector are not strobed in the
    last beat. Elements are the low 16 bits of the input's 32, or all of them if ``wide``: saturate before.

    Latency: a beat is offered in the cycle after the word that completes it was taken. Throughput: a beat a clock if
    a word has as many bytes as a beat or more, else a word a clock. ``i_ready`` depends on ``o_ready`` in the same
    cycle.

    Parameters
    ----------
    beat_bytes, lanes : int
        Powers of two.
    max_length : int
        Longest vector, in elements.

    Members
    -------
    start, length, wide : In
        A new vector; sampled in the cycle of ``start`` only.
    flush : In(1)
        Drops the vector and what is buffered. Ignores ``start``.
    busy : Out(1)
        Beats are still to be taken.
    i_valid, i_ready, i_data : lanes * 32 bits of data, element 0 in the low bits
    o_valid, o_ready, o_data : 8 * beat_bytes bits of data
    o_strobe : Out(beat_bytes)
        One bit a byte.
    o_last : Out(1)
        With ``o_valid``: the last beat of the vector.
    """

    def __init__(self, beat_bytes: int, lanes: int, max_length: int):
        _log2("beat_bytes", beat_bytes)
        _log2("lanes", lanes)
        self._beat_bytes = beat_bytes
        self._lanes = lanes
        self._max_length = max_length
        super().__init__({
            "start": In(1), "length": In(range(max_length + 1)), "wide": In(1), "flush": In(1), "busy": Out(1),
            "i_valid": In(1), "i_ready": Out(1), "i_data": In(lanes * ELEMENT_BITS),
            "o_valid": Out(1), "o_ready": In(1), "o_data": Out(8 * beat_bytes),
            "o_strobe": Out(beat_bytes), "o_last": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        n = self._beat_bytes
        beat_shift = _log2("beat_bytes", n)
        words = Signal(range(-(-self._max_length // self._lanes) + 1))  # still to be taken from the input
        beats = Signal(range(-(-4 * self._max_length // n) + 1))  # still to be taken from the output
        tail = Signal(range(max(n, 2)))  # strobed bytes of the last beat; 0 means all
        wide = Signal()
        taken = self.o_valid & self.o_ready
        m.d.comb += [self.busy.eq(beats != 0), self.o_last.eq(beats == 1)]
        for j in range(n):
            m.d.comb += self.o_strobe[j].eq(~self.o_last | (tail == 0) | (j < tail))
        with m.If(taken):
            m.d.sync += beats.eq(beats - 1)
        with m.If(self.i_valid & self.i_ready):
            m.d.sync += words.eq(words - 1)
        with m.If(self.start):
            size = Mux(self.wide, self.length << 2, self.length << 1)
            m.d.sync += [
                words.eq(_ceil_shift(self.length, _log2("lanes", self._lanes))),
                beats.eq(_ceil_shift(size, beat_shift)),
                tail.eq(size & (n - 1)),
                wide.eq(self.wide),
            ]
        with m.If(self.flush):
            m.d.sync += [words.eq(0), beats.eq(0)]
        # A narrow word in the low half, as bytes stand in memory.
        elements = [self.i_data.word_select(j, ELEMENT_BITS) for j in range(self._lanes)]
        narrow = Cat(element[:HALF_BITS] for element in elements)
        if n <= 2 * self._lanes:
            self._scatter(m, words, beats, wide, taken, narrow)
        else:
            self._gather(m, words, wide, taken, narrow)
        return m

    def _scatter(self, m, words, beats, wide, taken, narrow):
        """A word makes several beats: they leave from the low end of a buffer that shifts down."""
        n = self._beat_bytes
        slots = 4 * self._lanes // n
        buffer = [Signal(8 * n, name=f"slot{k}") for k in range(slots)]
        have = Signal(range(slots + 1))  # beats in the buffer
        m.d.comb += [
            self.o_data.eq(buffer[0]),
            self.o_valid.eq(have != 0),
            self.i_ready.eq((words != 0) & ((have == 0) | ((have == 1) & self.o_ready))),
        ]
        with m.If(taken):
            m.d.sync += have.eq(Mux(beats == 1, 0, have - 1))
            for low, high in pairwise(buffer):
                m.d.sync += low.eq(high)
        with m.If(self.i_valid & self.i_ready):
            m.d.sync += have.eq(Mux(wide, slots, slots // 2))
            for k, slot in enumerate(buffer):
                m.d.sync += slot.eq(Mux(wide, self.i_data.word_select(k, 8 * n), narrow.word_select(k % (slots // 2), 8 * n)))
        with m.If(self.flush):
            m.d.sync += have.eq(0)

    def _gather(self, m, words, wide, taken, narrow):
        """Several words make a beat: one or two slots a word."""
        slot_bits = HALF_BITS * self._lanes
        slots = 8 * self._beat_bytes // slot_bits
        buffer = [Signal(slot_bits, name=f"slot{k}") for k in range(slots)]
        index = Signal(range(slots))
        full = Signal()
        m.d.comb += [
            self.o_data.eq(Cat(buffer)),
            self.o_valid.eq(full),
            self.i_ready.eq((words != 0) & (~full | self.o_ready)),
        ]
        with m.If(taken):
            m.d.sync += full.eq(0)
        with m.If(self.i_valid & self.i_ready):
            ends = (index == Mux(wide, slots - 2, slots - 1)) | (words == 1)
            m.d.sync += [full.eq(ends), index.eq(Mux(ends, 0, index + Mux(wide, 2, 1)))]
            for k, slot in enumerate(buffer):
                here = Mux(wide, (index | 1) == (k | 1), index == k)
                with m.If(here):
                    m.d.sync += slot.eq(Mux(wide, self.i_data.word_select(k & 1, slot_bits), narrow))
        with m.If(self.flush):
            m.d.sync += [full.eq(0), index.eq(0)]
