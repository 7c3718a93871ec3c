"""The noise of sampling: its random words against what chance allows, its values against the exact law."""

import itertools

import numpy as np
import pytest

from trilobit.isa import noise
from trilobit.isa.noise import gumbel, random_word

KEYS = [(0, 0), (0, 1), (1, 0), (7, 1000), (1 << 31, 0), (12345, 777), (0xFFFFFFFF, 0xFFFFFFFF)]
WINDOWS = (0, 8, 16, 24)  # lowest bits of the 12-bit pieces that are counted


def deviations(words) -> list[float]:
    """Chi-square of 12-bit pieces of the words against equal chances, in standard deviations."""
    result = []
    for low in WINDOWS:
        counts = np.bincount((words >> low) & 4095, minlength=4096)
        expected = len(words) / 4096
        result.append((((counts - expected) ** 2 / expected).sum() - 4095) / (2 * 4095) ** 0.5)
    return result


def all_as_chance(found: list[float]):
    """As many standard normal numbers as these stay below 5, and spread by about 1."""
    print(f"{len(found)} tests: largest {np.abs(found).max():.2f}, spread {np.std(found):.3f}")
    assert np.abs(found).max() < 5
    assert np.std(found) == pytest.approx(1, abs=6 / (2 * len(found)) ** 0.5)


def test_words_of_indices_positions_and_seeds_in_a_row_are_uniform():
    run = np.arange(1 << 16)
    found = []
    for seed, position in KEYS:
        found += deviations(random_word(seed, position, run))
    for index in (0, 1, 31999):
        found += deviations(np.array([random_word(3, p, index) for p in range(20_000)]))
        found += deviations(np.array([random_word(s, 5, index) for s in range(20_000)]))
    all_as_chance(found)


@pytest.mark.parametrize(("what", "bits"), [("seed", 32), ("position", 32), ("index", 17)])
def test_one_bit_of_an_input_changes_the_word_as_chance_would(what, bits):
    run = np.arange(1 << 17)
    found = []
    for (seed, position), bit in itertools.product(KEYS[:3], range(bits)):
        values = {"seed": seed, "position": position, "index": run}
        before = random_word(**values)
        after = random_word(**(values | {what: values[what] ^ (1 << bit)}))
        different = before ^ after
        found += deviations(different[run & (1 << bit) == 0] if what == "index" else different)  # a pair of indices counts once
    all_as_chance(found)


def test_neighbours_do_not_know_of_each_other():
    run = np.arange(1 << 17)
    found = []
    for seed, position in KEYS:
        along_index = random_word(seed, position, run)
        for words in (along_index, np.array([random_word(seed, position ^ p, 17) for p in range(20_000)])):
            for low in (0, 6, 12, 18, 24, 30):
                six = (words >> low) & 63
                found += [deviations(six[:-1] << 6 | six[1:])[0]]
    all_as_chance(found)


def test_words_of_one_key_are_all_different():
    words = random_word(99, 4, np.arange(1 << 20))
    assert len(np.unique(words)) == 1 << 20


def test_no_two_keys_are_the_same_in_all_rounds():
    """The keys of the first four rounds have 64 independent bits: as XOR of seed and position bits, they have full rank."""
    zero = noise.round_keys(0, 0)

    def column(seed, position):
        return sum((a ^ b) << (18 * r) for r, (a, b) in enumerate(zip(noise.round_keys(seed, position)[:4], zero, strict=False)))

    basis: dict[int, int] = {}
    for value in [column(1 << bit, 0) for bit in range(32)] + [column(0, 1 << bit) for bit in range(32)]:
        while value and (top := value.bit_length()) in basis:
            value ^= basis[top]
        assert value, "a combination of the bits before gives the same keys"
        basis[value.bit_length()] = value


def exact(words):
    """-log2(-log2(u)) in float64 for the middle of the interval that each word stands for, and its octave."""
    lower, place = words >> 35, ((words & 0x3FFF) + 0.5) / (1 << 14)
    octave = 21 - np.frexp(((words >> 14) & 0x1FFFFF).astype(np.float64))[1]
    distance = np.exp2(-(octave + 2.0)) * (1 + place)
    return -np.log2(np.where(lower == 1, -np.log2(distance), -np.log1p(-distance) / np.log(2))), octave, lower


def test_noise_is_minus_log2_of_minus_log2_of_its_uniform_number():
    index = np.arange(1 << 21)
    law, octave, lower = exact(random_word(7, 3, index))
    error = np.abs(gumbel(7, 3, index) / 65536 - law)
    print(f"largest error: upper half {error[lower == 0].max():.2e}, lower half {error[(lower == 1) & (octave < 16)].max():.2e}")
    assert octave[lower == 0].max() >= 17, "the tail beyond the table was looked at"
    assert error[lower == 0].max() < 2.0**-12  # the whole upper tail
    assert error[(lower == 1) & (octave < noise.OCTAVES)].max() < 2.0**-12


@pytest.mark.parametrize("half", [0, 1])
def test_noise_runs_evenly_through_every_octave(half, monkeypatch):
    """Every place of an octave, in order: monotonic, and no step where one entry or octave meets the next."""
    place = np.arange(1 << 14)
    values = []
    for octave in range(21, -1, -1) if half == 0 else range(noise.OCTAVES - 1, -1, -1):
        words = np.int64(half) << 35 | np.int64(1 << 20 >> octave) << 14 | place
        monkeypatch.setattr(noise, "random_word", lambda *_, words=words: words)
        values.append(gumbel(0, 0, 0))
    steps = np.diff(np.concatenate(values))
    assert (steps <= 0).all() if half == 0 else (steps >= 0).all()
    assert np.abs(steps).max() <= 16


def test_noise_has_the_gumbel_distribution():
    # Units of ln 2, and log2 twice instead of ln: a constant log2(ln 2), the same for every index, is left in.
    for seed, position in KEYS:
        values = np.sort(gumbel(seed, position, np.arange(200_000)) / 65536 - np.log2(np.log(2))) * np.log(2)
        assert values.mean() == pytest.approx(0.5772, abs=0.013)
        assert values.std() == pytest.approx(np.pi / 6**0.5, abs=0.013)
        distance = np.abs(np.exp(-np.exp(-values)) - (np.arange(len(values)) + 0.5) / len(values)).max()
        assert distance < 1.95 / len(values) ** 0.5  # Kolmogorov-Smirnov, 0.1 %


def test_the_largest_of_a_vocabulary_has_its_own_gumbel_law():
    """The largest of 32,000 is a Gumbel number shifted by ln 32,000: the tail that decides what is sampled."""
    count, draws = 32_000, 400
    largest = np.sort([gumbel(11, p, np.arange(count)).max() / 65536 for p in range(draws)])
    shifted = (largest - np.log2(np.log(2)) - np.log2(count)) * np.log(2)
    distance = np.abs(np.exp(-np.exp(-shifted)) - (np.arange(draws) + 0.5) / draws).max()
    assert distance < 1.63 / draws**0.5  # 1 %
    assert len(np.unique(largest)) > 0.97 * draws, "finely resolved"


def test_correlation_between_keys_is_as_small_as_chance():
    index = np.arange(100_000)
    base = gumbel(1, 0, index)
    for other in (gumbel(1, 1, index), gumbel(2, 0, index), gumbel(0, 1, index), gumbel(1, 0, index + 1), gumbel(1, 0, index ^ 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / len(index) ** 0.5
