"""Gumbel noise for sampling: a random word from seed, position and index, and the noise that it stands for.

The random word is a counter hash: seven rounds of Philox's multiplication and exchange (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011) on two halves of 18 bits, which are one multiplier of a small FPGA a round. Its constants and key schedule are
this project's own, tested in tests/isa/test_noise.py; why: docs/decisions/0003-noise.md. It is for sampling, not for secrets.

The word says where the uniform number u lies, without any arithmetic: which half of [0, 1), which octave of its distance
from that half's end, and where in the octave. So noise is as finely resolved in the tail as in the middle.
"""

import numpy as np

__all__ = [
    "HALF_BITS",
    "MULTIPLIER",
    "NOISE_BITS",
    "NOISE_TABLE",
    "OCTAVES",
    "PLACE_BITS",
    "POSITION_TURNS",
    "REST_BITS",
    "ROUNDS",
    "ROUND_CONSTANT",
    "SEED_TURNS",
    "SLOPE_BITS",
    "WORD_BITS",
    "gumbel",
    "random_word",
]  # fmt: skip

HALF_BITS = 18
WORD_BITS = 2 * HALF_BITS
ROUNDS = 7
MULTIPLIER = 0x2C1B3
ROUND_CONSTANT = 0x1E377
# The round's key: seed and position, turned left by these, and a constant; the low 18 bits. The first round has the top 14
# bits of the position alone, so that no change of both cancels out: 64 bits of key are in after four rounds.
SEED_TURNS = tuple(18 * r % 32 for r in range(ROUNDS))
POSITION_TURNS = (14, *(23 * r % 32 for r in range(ROUNDS - 1)))
_HALF = (1 << HALF_BITS) - 1

# Of the random word, from the top: the half of [0, 1), 21 bits whose leading zeros are the octave, 14 bits of place.
PLACE_BITS = 14
CHANCE_BITS = WORD_BITS - 1 - PLACE_BITS
OCTAVES = 16  # with an entry of their own; the tail beyond the last has its shape, so that only the octave is added
INDEX_BITS = 5
REST_BITS = PLACE_BITS - INDEX_BITS
NOISE_BITS = 22  # of a result, signed, with 16 fraction bits
SLOPE_BITS = 13


def _turned(word: int, turn: int) -> int:
    return (word << turn | word >> (32 - turn)) & 0xFFFFFFFF


def round_keys(seed: int, position: int) -> list[int]:
    """The keys of the rounds, 18 bits each."""
    keys = []
    for r, (seed_turn, position_turn) in enumerate(zip(SEED_TURNS, POSITION_TURNS, strict=True)):
        from_position = _turned(position, position_turn) if r else position >> 18
        keys.append((_turned(seed, seed_turn) ^ from_position ^ (ROUND_CONSTANT * (r + 1))) & _HALF)
    return keys


def random_word(seed: int, position: int, index) -> np.ndarray:
    """36 random bits for each index.

    Args:
        seed, position: 32 bits each.
        index: [n] of indices; their low 24 bits count.

    Returns:
        [n] of int64. Different indices under one seed and position give different words.
    """
    index = np.asarray(index, dtype=np.int64) & 0xFFFFFF
    low, high = index & _HALF, index >> HALF_BITS
    for key in round_keys(int(seed), int(position)):
        product = low * MULTIPLIER
        low, high = product >> HALF_BITS ^ key ^ high, product & _HALF
    return low << HALF_BITS | high


def _noise_at(upper: np.ndarray, octave: np.ndarray, place: np.ndarray) -> np.ndarray:
    """``-log2(-log2(u))`` where u is 2^-(octave+2) * (1 + place) from 1 (``upper``) or from 0."""
    distance = np.exp2(-(octave + 2.0)) * (1 + place)
    return -np.log2(np.where(upper, -np.log1p(-distance), -np.log(distance)) / np.log(2))


def _noise_table() -> tuple[np.ndarray, np.ndarray]:
    """Values at 32 places of each octave of either half, and the steps to the next."""
    lower, octave, index = np.meshgrid(np.arange(2), np.arange(OCTAVES), np.arange((1 << INDEX_BITS) + 1), indexing="ij")
    points = np.rint(_noise_at(lower == 0, octave, index / (1 << INDEX_BITS)) * 65536).astype(np.int64)
    return points[..., :-1].ravel(), np.diff(points, axis=-1).ravel()


NOISE_TABLE = _noise_table()
"""Base and slope [2 * 16 * 32]: half (0: the upper), octave, interval."""


def gumbel(seed: int, position: int, index) -> np.ndarray:
    """Gumbel noise in units of ln 2, 16 fraction bits: ``-log2(-log2(u))`` for the u that :func:`random_word` stands for.

    From -4.1 to 22.5; within 2^-12 of the exact value, but for the smallest 2^-17 of the numbers, which come out as about -4.

    Args:
        seed: 32 bits, from the host.
        position: number of tokens chosen before this one.
        index: [n] of vocabulary indices.
    """
    word = random_word(seed, position, index)
    lower, chance, place = word >> (WORD_BITS - 1), (word >> PLACE_BITS) & ((1 << CHANCE_BITS) - 1), word & ((1 << PLACE_BITS) - 1)
    octave = CHANCE_BITS - np.frexp(chance.astype(np.float64))[1]  # leading zeros: 0 to 21
    entry = (lower * OCTAVES + np.minimum(octave, OCTAVES - 1)) << INDEX_BITS | place >> REST_BITS
    base, slope = NOISE_TABLE
    value = base[entry] + ((slope[entry] * (place & ((1 << REST_BITS) - 1)) + (1 << (REST_BITS - 1))) >> REST_BITS)
    beyond = np.where(lower == 1, 0, np.maximum(octave - (OCTAVES - 1), 0))
    return value + (beyond << 16)
