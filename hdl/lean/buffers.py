"""Buffers in block memory for the lean core's memory side: elements that a store collects, and the queue of gains.

Their pointers are shift registers with feedback: a queue's places may follow each other in any order, if both ends go the same way,
and such a step takes three look-up tables where a counter takes one a bit.
"""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.isa.core import CoreConfig

__all__ = ["ELEMENT_BYTES", "GAIN_LENGTHS", "GainQueue", "StoreBuffer", "follow", "vector_bits"]

ELEMENT_BYTES = 4
HALF_BITS = 16
GAIN_LENGTHS = 16
"""Words of the gain queue beyond its gains: their segments' lengths travel in it, too."""
# Bits (from 1) whose sum is shifted in, for the longest cycle: Xilinx XAPP 052, table 3.
_TAPS = {1: (1,), 2: (2, 1), 3: (3, 2), 4: (4, 3), 5: (5, 3), 6: (6, 5), 7: (7, 6), 8: (8, 6, 5, 4), 9: (9, 5), 10: (10, 7),
         11: (11, 9), 12: (12, 6, 4, 1), 13: (13, 4, 3, 1), 14: (14, 5, 3, 1), 15: (15, 14), 16: (16, 15, 13, 4)}  # fmt: skip


def follow(pointer) -> Value:
    """The place behind ``pointer``: from zero on, and back to it, through every number of 1 to 16 bits once."""
    pointer = Value.cast(pointer)
    bits = len(pointer)
    # Without the second term zero would follow itself.
    first = reduce(xor, (pointer[tap - 1] for tap in _TAPS[bits])) ^ ~pointer[:-1].any() if bits > 1 else ~pointer
    return Cat(first, pointer)[:bits]


def vector_bits(config: CoreConfig) -> int:
    """Bits of a place in a buffer of beats that holds a vector of max_length 32-bit elements."""
    return max(1, ceil_log2(-(-config.max_length * ELEMENT_BYTES // config.beat_bytes)))


def block_memory(shape, depth, init=()):
    """A memory of which no place is read in the cycle in which it is written."""
    return memory.Memory(shape=shape, depth=depth, init=init, attrs={"no_rw_check": 1, "ram_style": "block"})


class StoreBuffer(wiring.Component):
    """Collects elements of 16 or 32 bits to beats, and sends these in write requests.

    An element's half words carry a flag each; the first element of a beat clears those behind it. So the strobes are those of what
    was appended since ``start``, without a look at the length.

    ``start`` and the first element may come in following cycles, as may the last element and ``write``. The request is offered
    from the cycle after ``write`` or ``zeros`` on, its first beat from the cycle after it was taken, then a beat a clock; ``done`` is
    low from the cycle after ``write`` to that of the answer. ``beats`` is looked at with ``write``.

    Members
    -------
    start : In(1)
        The next element is the first of a beat, and that is the next beat to be sent.
    en, data : In(32), wide : In(1)
        Appends an element.
    write, zeros : In(1)
        Send the next beats + 1 beats, or as many of zero bytes (which lose the place of the next beat: a store begins with ``start``).
    beats : In
    wr_valid, wr_ready, wdata_valid, wdata_ready, wdata, wdata_strobe, wresp_valid
        As :class:`trilobit.hdl.interfaces.MemorySignature`.
    done : Out(1)
    """

    def __init__(self, config: CoreConfig, length_bits: int):
        self._config = config
        n = config.beat_bytes
        super().__init__({
            "start": In(1), "en": In(1), "data": In(32), "wide": In(1), "write": In(1), "zeros": In(1), "beats": In(length_bits),
            "wr_valid": Out(1), "wr_ready": In(1), "wdata_valid": Out(1), "wdata_ready": In(1), "wdata": Out(8 * n),
            "wdata_strobe": Out(n), "wresp_valid": In(1), "done": Out(1, init=1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        halves, bits = self._config.beat_bytes // 2, vector_bits(self._config)
        filled, sent, zero = Signal(bits, reset_less=True), Signal(bits, reset_less=True), Signal()
        half = Signal(ceil_log2(halves), reset_less=True)  # of the beat that is being filled
        first, fetch = Signal(), Signal()
        pairs = half[1:]
        m.d.comb += first.eq(self.en & (half == 0))
        for k in range(halves):
            # Twice the places: the upper half reads as zero bytes that count.
            storage = m.submodules[f"half{k}"] = block_memory(HALF_BITS + 1, 2 << bits, [0] * (1 << bits) + [1 << HALF_BITS] * (1 << bits))
            wport, rport = storage.write_port(), storage.read_port()
            mine = self.en & (self.wide | (half[0] == k % 2))
            flag = ~first if k > 1 else ~first | self.wide if k else 1
            m.d.comb += [
                wport.addr.eq(filled), wport.en.eq(first | (mine & (pairs == k // 2))),
                wport.data.eq(Cat(Mux(self.wide, self.data[HALF_BITS:], self.data[:HALF_BITS]) if k % 2 else self.data[:HALF_BITS], flag)),
                rport.addr.eq(Cat(sent, zero)), rport.en.eq(fetch),
                self.wdata.word_select(k, HALF_BITS).eq(rport.data[:HALF_BITS]),
                self.wdata_strobe.word_select(k, 2).eq(rport.data[HALF_BITS].replicate(2)),
            ]  # fmt: skip
        with m.If(self.en):
            m.d.sync += half.eq(Cat(half[0] ^ ~self.wide, pairs + (self.wide | half[0])))
            with m.If(pairs.all() & (self.wide | half[0])):
                m.d.sync += filled.eq(follow(filled))
        with m.If(self.start):
            m.d.sync += [half.eq(0), filled.eq(0)]

        sending, fetched = Signal(), Signal()
        left = Signal(len(self.beats) + 1, reset_less=True)  # its top bit: the last beat has been read
        given, last = Signal(), Signal()
        m.d.comb += [
            self.wdata_valid.eq(sending & fetched), given.eq(self.wdata_valid & self.wdata_ready), last.eq(given & left[-1]),
            fetch.eq((self.wr_valid & ~fetched) | (given & ~left[-1])),
        ]  # fmt: skip
        with m.If(self.write | self.zeros):
            m.d.sync += [self.wr_valid.eq(1), self.done.eq(0), zero.eq(self.zeros), left.eq(self.beats)]
        with m.Elif(self.wr_ready):
            m.d.sync += self.wr_valid.eq(0)
        with m.If(self.wresp_valid):
            m.d.sync += self.done.eq(1)
        m.d.sync += [
            sending.eq((self.wr_valid & self.wr_ready) | (sending & ~last)),
            fetched.eq(fetch | (fetched & ~last)),
        ]
        with m.If(fetch):
            m.d.sync += [sent.eq(follow(sent)), left.eq(left - 1)]
        with m.If(self.start):
            m.d.sync += sent.eq(0)
        return m


class GainQueue(wiring.Component):
    """Gains, and lengths of their segments, in the order in which they came: gain_buffer_elements + GAIN_LENGTHS words at least.

    A word may be popped from the cycle after its push on; ``out`` is there in the cycle after ``pop`` and stays until the one after
    the next. ``some`` tells of pushes, pops and ``clear`` two cycles later. Nobody may pop what isn't there, or push more than there is
    room.

    Members
    -------
    push, data : In(16); pop : In(1), out : Out(signed(16)); some : Out(1); clear : In(1)
    """

    def __init__(self, config: CoreConfig):
        self._bits = ceil_log2(config.gain_buffer_elements + GAIN_LENGTHS + 1)
        super().__init__({
            "push": In(1), "data": In(HALF_BITS), "pop": In(1), "out": Out(signed(HALF_BITS)), "some": Out(1), "clear": In(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = block_memory(HALF_BITS, 1 << self._bits)
        wport, rport = storage.write_port(), storage.read_port()
        put, got = Signal(self._bits), Signal(self._bits)
        m.d.comb += [
            wport.addr.eq(put), wport.data.eq(self.data), wport.en.eq(self.push),
            rport.addr.eq(got), rport.en.eq(self.pop), self.out.eq(rport.data),
        ]  # fmt: skip
        differ = [Signal(name=f"differ{k}") for k in range(0, self._bits, 2)]  # in a register: small look-up tables suffice
        m.d.sync += [signal.eq(put[2 * k : 2 * k + 2] != got[2 * k : 2 * k + 2]) for k, signal in enumerate(differ)]
        m.d.comb += self.some.eq(Cat(differ).any())
        with m.If(self.push):
            m.d.sync += put.eq(follow(put))
        with m.If(self.pop):
            m.d.sync += got.eq(follow(got))
        with m.If(self.clear):
            m.d.sync += [put.eq(0), got.eq(0)]
        return m
