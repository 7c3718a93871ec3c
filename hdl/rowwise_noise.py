"""Gumbel noise for argmax: a random word from seed, position and index, and a table, an element a clock."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from trilobit.hdl.rowwise_delay import Chain
from trilobit.hdl.shift import add_carry
from trilobit.isa.noise import (
    HALF_BITS,
    MULTIPLIER,
    NOISE_BITS,
    NOISE_TABLE,
    OCTAVES,
    PLACE_BITS,
    POSITION_TURNS,
    REST_BITS,
    ROUND_CONSTANT,
    ROUNDS,
    SEED_TURNS,
    SLOPE_BITS,
    WORD_BITS,
)

__all__ = ["HASH_LATENCY", "NOISE_LATENCY", "CounterHash", "GumbelNoise"]

HASH_LATENCY = ROUNDS
NOISE_LATENCY = HASH_LATENCY + 5
INDEX_BITS = 24
_ENTRY_BITS = 1 + (OCTAVES - 1).bit_length() + PLACE_BITS - REST_BITS


class CounterHash(wiring.Component):
    """``trilobit.isa.noise.random_word(seed, position, index)``.

    Latency :data:`HASH_LATENCY` cycles, a word a clock; free of resets. Seed and position must stand while words are on their way.
    One 18x18 multiplier a round.

    Members
    -------
    seed, position : In(32); index : In(24)
    o : Out(36)
    """

    seed: In(32)
    position: In(32)
    index: In(INDEX_BITS)
    o: Out(WORD_BITS)

    def elaborate(self, platform):
        m = Module()
        low, high = self.index[:HALF_BITS], self.index[HALF_BITS:]
        for r in range(ROUNDS):
            from_position = self.position.rotate_left(POSITION_TURNS[r]) if r else self.position[18:]
            key = (self.seed.rotate_left(SEED_TURNS[r]) ^ from_position ^ (ROUND_CONSTANT * (r + 1) & 0xFFFFFFFF))[:HALF_BITS]
            product = Signal(WORD_BITS, name=f"product{r}")
            next_low, next_high = (Signal(HALF_BITS, name=f"{name}{r + 1}", reset_less=True) for name in ("low", "high"))
            m.d.comb += product.eq(low * Const(MULTIPLIER, HALF_BITS))
            m.d.sync += [next_low.eq(product[HALF_BITS:] ^ key ^ high), next_high.eq(product[:HALF_BITS])]
            low, high = next_low, next_high
        m.d.comb += self.o.eq(Cat(high, low))
        return m


def leading_zeros(x) -> tuple[Value, Value]:
    """Whether any bit of ``x`` is set, and the number of zeros above the highest (if none is: as many as a power of two)."""
    x = Value.cast(x)
    if len(x) == 1:
        return x[0], Const(0, 0)
    half = 1 << ((len(x) - 1).bit_length() - 1)
    some, zeros = leading_zeros(x[-half:])
    if len(x) == half:
        return some, zeros
    low_some, low_zeros = leading_zeros(Cat(Const(0, 2 * half - len(x)), x[:-half]))
    return some | low_some, Cat(Mux(some, zeros, low_zeros), ~some)


class GumbelNoise(wiring.Component):
    """``trilobit.isa.noise.gumbel(seed, position, index)``.

    Latency :data:`NOISE_LATENCY` cycles, a number a clock; free of resets. Seed and position must stand while numbers are on their
    way. The table is two block RAMs, the interpolation one 18x18 multiplier.

    Members
    -------
    seed, position : In(32); index : In(24)
    o : Out(signed(22))
        16 fraction bits, in units of ln 2.
    """

    seed: In(32)
    position: In(32)
    index: In(INDEX_BITS)
    o: Out(signed(NOISE_BITS))

    def elaborate(self, platform):
        m = Module()
        m.submodules.hash = words = CounterHash()
        m.d.comb += [words.seed.eq(self.seed), words.position.eq(self.position), words.index.eq(self.index)]

        def reg(shape, name):
            return Signal(shape, name=name, reset_less=True)

        # Cycle 0 after the word: its octave, below 22; the last of the 16 with an entry stands for those beyond.
        chance, place = words.o[PLACE_BITS:-1], words.o[:PLACE_BITS]
        lower, octave = words.o[-1], Signal(5)
        some, zeros = leading_zeros(chance)
        m.d.comb += octave.eq(Mux(some, zeros, len(chance)))
        entry1, rest1, beyond1 = reg(_ENTRY_BITS, "entry1"), reg(REST_BITS, "rest1"), reg(3, "beyond1")
        m.d.sync += [
            entry1.eq(Cat(place[REST_BITS:], octave[:-1] | octave[-1].replicate(4), lower)),
            rest1.eq(place[:REST_BITS]),
            beyond1.eq(Mux(octave[-1] & ~lower, octave[:3] + 1, 0)),
        ]

        # Cycles 1 and 2: the table. Cycle 3: interpolation, rounded half up. Cycle 4: the octaves beyond.
        entries = [
            int(base) & ((1 << NOISE_BITS) - 1) | (int(slope) & ((1 << SLOPE_BITS) - 1)) << NOISE_BITS
            for base, slope in zip(*NOISE_TABLE, strict=True)
        ]  # fmt: skip
        m.submodules.memory = memory = Memory(shape=NOISE_BITS + SLOPE_BITS, depth=len(entries), init=entries)
        read = memory.read_port()
        entry3 = reg(NOISE_BITS + SLOPE_BITS, "entry3")
        rest, beyond = Chain(m, "rest", rest1, 1), Chain(m, "beyond", beyond1, 1)
        m.d.comb += [read.en.eq(1), read.addr.eq(entry1)]
        m.d.sync += entry3.eq(read.data)
        step = Signal(signed(SLOPE_BITS + REST_BITS + 1))
        value4, value5 = reg(signed(NOISE_BITS), "value4"), reg(signed(NOISE_BITS), "value5")
        m.d.comb += step.eq(entry3[NOISE_BITS:].as_signed() * Cat(rest.at(3), 0).as_signed())
        m.d.sync += [
            value4.eq(add_carry(entry3[:NOISE_BITS].as_signed(), step >> REST_BITS, step[REST_BITS - 1])),
            value5.eq(Cat(value4[:16], value4[16:] + beyond.at(4))),
        ]
        m.d.comb += self.o.eq(value5)
        return m
