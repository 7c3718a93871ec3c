"""The norm unit's semantics against exact and floating-point norms: statistics, quantisation, whole norms."""

from fractions import Fraction

import numpy as np
import pytest

from trilobit.isa import semantics
from trilobit.isa.fixed import Scalar, rs, sat

SEED = 20240603


def vectors(count: int = 60, largest: int = 1 << 17):
    """Vectors of every kind: lengths 1 to 4096, one LSB to 18 bits, some with an outlier of 300 times the median."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    for i in range(count):
        length = int(rng.choice([1, 2, 7, 64, 1024, 4096]))
        spread = 2.0 ** rng.uniform(0, 14)
        x = np.rint(rng.normal(0, spread, length)).astype(np.int64)
        if i % 3 == 0:
            x[rng.integers(length)] = int(300 * spread * rng.choice([-1, 1]))
        x = np.clip(x, -largest, largest - 1)
        if not x.any():
            x[0] = 1
        yield x, rng.integers(-0x8000, 0x8000, length)


def quantised(z: np.ndarray) -> np.ndarray:
    """round(127*z/max|z|), half away from zero, in whole numbers."""
    largest = int(np.abs(z).max())
    return np.sign(z) * ((2 * 127 * np.abs(z) + largest) // (2 * largest))


@pytest.mark.parametrize("with_gains", [False, True])
def test_normq_is_never_off_by_more_than_one_and_equal_in_999_of_1000(with_gains):
    same = total = 0
    for x, gains in vectors():
        gains = gains if with_gains else None
        z = x * gains if with_gains else x
        if not z.any():
            continue
        act = semantics.normq(x, gains)
        expected = quantised(z)
        assert np.abs(act.value - expected).max() <= 1
        assert np.abs(act.value).max() == 127
        assert act.value[np.abs(z).argmax()] == 127 * np.sign(z[np.abs(z).argmax()])
        assert act.saturated == 0
        same, total = same + int((act.value == expected).sum()), total + len(z)
    print(f"equal: {same} of {total}")
    assert total > 30_000
    assert same >= 0.999 * total


def test_normq_of_zeros_is_zeros_with_scale_zero():
    for gains in (None, np.ones(9, dtype=np.int64)):
        act = semantics.normq(np.zeros(9, dtype=np.int64), gains, Scalar(1 << 35, 0))
        assert act.value.tolist() == [0] * 9
        assert act.scale == Scalar(0, 0)
    act = semantics.normq(np.array([5, -9]), np.zeros(2, dtype=np.int64))
    assert act.value.tolist() == [0, 0] and act.scale.mantissa == 0


def test_normq_scale_undoes_the_quantisation_and_the_norm():
    for x, gains in vectors(30):
        z = x * gains
        if not z.any():
            continue
        square, _ = semantics.rms(x, x)
        plain, scaled = semantics.normq(x, gains).scale, semantics.normq(x, gains, square).scale
        largest = np.abs(z).max()
        root = float((x.astype(np.float64) ** 2).sum()) ** 0.5
        assert plain.mantissa * 2.0**plain.exponent == pytest.approx(largest, rel=2.0**-16)
        assert scaled.mantissa * 2.0**scaled.exponent == pytest.approx(largest / root, rel=2.0**-14)


def test_one_element_quantises_to_127_with_its_sign():
    for value in (1, -1, 131071, -131072, 40000):
        act = semantics.normq(np.array([value]))
        assert act.value.tolist() == [127 if value > 0 else -127]
        assert act.scale.mantissa * 2.0**act.scale.exponent == pytest.approx(abs(value), rel=2.0**-16)


def test_normq_counts_operands_beyond_18_bits():
    act = semantics.normq(np.array([1 << 20, -(1 << 20), 100]))
    assert act.saturated == 2
    assert act.value.tolist() == [127, -127, 0]


def test_rms_is_exact_but_for_the_36_bits_it_keeps():
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    for x, gains in vectors(40):
        y = rng.integers(-30000, 30000, len(x))
        eps_m, eps_e = int(rng.integers(0, 32768)), int(rng.integers(0, 64))
        k_m, k_e = int(rng.integers(0, 65536)), int(rng.integers(0, 32))
        square, saturated = semantics.rms(x, y, gains, shb=1, sho=14, eps_m=eps_m, eps_e=eps_e, k_m=k_m, k_e=k_e)
        w = sat(rs(sat(rs(y, 1), 18) * gains, 14), 18)
        exact = sum(int(v) ** 2 for v in w) + ((sum(int(v) ** 2 for v in x) * eps_m) >> eps_e) + (k_m << k_e)
        value = Fraction(square.mantissa) * Fraction(2) ** square.exponent
        assert 0 <= exact - value <= Fraction(exact, 1 << 34)
        assert saturated == int((w != rs(sat(rs(y, 1), 18) * gains, 14)).sum())


@pytest.mark.parametrize("with_gains", [False, True])
def test_norm_is_the_float_norm_within_its_precision(with_gains):
    for x, gains in vectors():
        gains = gains if with_gains else None
        z = (x * gains if with_gains else x).astype(np.float64)
        root = ((x.astype(np.float64) ** 2).sum() + (77 << 3)) ** 0.5
        exact = z / root * 40000 / 2.0 ** (16 if with_gains else 2)
        got = semantics.norm(x, gains, sho=16 if with_gains else 2, c_m=40000, k_m=77, k_e=3, wide=1)
        # Half an LSB of rounding, z to 20 bits relative to the largest, the root and the factor to a relative 2^-15.
        bound = 0.5 + np.abs(exact).max() * 2.0**-19 + np.abs(exact) * 2.0**-15
        assert (np.abs(got.value - exact) <= bound).all()
        assert got.saturated == 0


def test_norm_is_odd_and_saturates_with_a_count():
    x = np.array([3, -3, 1000, -1000, 0])
    got = semantics.norm(x, sho=0, wide=1)
    assert (got.value[[0, 2]] == -got.value[[1, 3]]).all() and got.value[4] == 0
    narrow = semantics.norm(x, sho=-3)
    assert narrow.value[2:4].tolist() == [32767, -32768]
    assert narrow.saturated == 2
    assert semantics.norm(np.zeros(4, dtype=np.int64), sho=3).value.tolist() == [0] * 4


def test_a_ternary_product_is_exact_but_for_the_scale():
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    trits = rng.integers(-1, 2, (40, 6912))
    trits[0] = 1
    act = semantics.Activations(rng.integers(-127, 128, 6912), Scalar(200_001, -20), 0)
    act.value[:] = np.where(rng.random(6912) < 0.5, 127, act.value)
    segment = Scalar(250_003, -30)
    got = semantics.tmatmul(trits, act, segment, bp=12, wide=1)
    scale = semantics.matmul_scale(act.scale, segment)
    exact = [int(row) for row in trits @ act.value]
    value = Fraction(scale.mantissa) * Fraction(2) ** (scale.exponent + 12)
    assert got.value.tolist() == [int((2 * total * value + 1) // 2) for total in exact]
    truth = Fraction(200_001 * 250_003) / Fraction(2) ** 50
    assert 0 <= truth - value / (1 << 12) <= truth / (1 << 17)
