"""Random numbers of initial data, and sampling: Threefry against the published algorithm, argmax against its law."""

import numpy as np
import pytest

from trilobit.isa import semantics
from trilobit.isa.fixed import Scalar

SEED = 20240605
ONE_OVER_LN2 = Scalar(47274, -15)  # temperature 1: 1/ln 2 as a 16-bit mantissa


def threefry2x32(key, counter, rounds):
    """Threefry-2x32 as Salmon et al. (SC 2011) write it: whole key schedule first, then rounds, in plain integers."""
    word = (1 << 32) - 1
    extended = [key[0], key[1], 0x1BD11BDA ^ key[0] ^ key[1]]
    x, y = (counter[0] + extended[0]) & word, (counter[1] + extended[1]) & word
    for d in range(rounds):
        r = [13, 15, 26, 6, 17, 29, 16, 24][d % 8]
        x = (x + y) & word
        y = (y << r & word | y >> 32 - r) ^ x
        if (d + 1) % 4 == 0:
            s = (d + 1) // 4
            x = (x + extended[s % 3]) & word
            y = (y + extended[(s + 1) % 3] + s) & word
    return x, y


@pytest.mark.parametrize(
    ("rounds", "counter", "key", "answer"),
    [  # kat_vectors of Random123, the authors' own implementation
        (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
        (13, (0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0xFD36D048, 0x2D17272C)),
        (13, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
        (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (20, (0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        (20, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_independent_threefry_gives_the_published_answers(rounds, counter, key, answer):
    assert threefry2x32(key, counter, rounds) == answer


def test_threefry_is_the_first_word_of_13_rounds():
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    assert semantics.threefry((0, 0), [0]).tolist() == [0x9D1C5EC6]
    for key in [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), *rng.integers(0, 1 << 32, (20, 2)).tolist()]:
        counters = [0, 1, 31999, 0xFFFFFFFF, *rng.integers(0, 1 << 32, 20).tolist()]
        expected = [threefry2x32(key, (c, 0), 13)[0] for c in counters]
        assert semantics.threefry(tuple(key), counters).tolist() == expected


def test_sampling_follows_the_softmax_of_the_logits():
    logits = np.array([3.0, 2.5, 2.0, 1.0, 0.0, -1.0, 2.75, -4.0])
    fixed = np.rint(logits * 256).astype(np.int64)  # binary point 8
    draws = 4000
    counts = np.zeros(len(logits))
    for position in range(draws):
        scores = semantics.argmax_scores(fixed, sha=8, noise=1, temperature=ONE_OVER_LN2, seed=99, position=position)
        counts[scores.argmax()] += 1
    p = np.exp(logits) / np.exp(logits).sum()
    deviation = np.abs(counts - draws * p) / np.sqrt(draws * p * (1 - p))
    assert deviation.max() < 4


def test_scores_are_the_logits_without_noise_or_temperature():
    logits = np.array([5, -3, 5])
    for options in ({"noise": 0, "temperature": ONE_OVER_LN2}, {"noise": 1}):
        scores = semantics.argmax_scores(logits, sha=4, **options)
        assert scores.tolist() == [5, -3, 5]
        assert int(scores.argmax()) == 0  # ties go to the lowest index


def test_tiles_of_the_vocabulary_see_the_noise_of_their_own_indices():
    logits = np.zeros(96, dtype=np.int64)
    whole = semantics.argmax_scores(logits, noise=1, temperature=ONE_OVER_LN2, seed=3, position=9)
    tiles = [
        semantics.argmax_scores(logits[b : b + 32], base=b, noise=1, temperature=ONE_OVER_LN2, seed=3, position=9) for b in (0, 32, 64)
    ]
    assert np.concatenate(tiles).tolist() == whole.tolist()
