"""exp, sigmoid, silu and division against float64, within the bounds that isa.yaml states."""

import numpy as np

from trilobit.isa import semantics

SEED = 20240602
FRACTION = 2.0**17


def operands(count: int = 300_000) -> np.ndarray:
    """Operands of 24 bits: a grid over all of them, everything near zero, and the ends."""
    grid = np.arange(-(1 << 23), 1 << 23, (1 << 24) // count | 1)
    return np.unique(np.concatenate([grid, np.arange(-4096, 4097), [-(1 << 23), (1 << 23) - 1]]))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, 0))), 1 / (1 + np.exp(-np.maximum(x, 0))))


def test_sigmoid_is_right_to_a_relative_2_to_the_minus_14_in_the_tail_as_well():
    x = operands()
    mantissa, tail = semantics._sigmoid(x)
    exact = sigmoid(x / FRACTION)
    relative = np.abs(mantissa * 2.0 ** (-18.0 - tail) / exact - 1)
    print(f"sigmoid: largest relative error 2^{np.log2(relative.max()):.2f}")
    assert relative.max() <= 2.0**-14


def test_sig_rounds_the_sigmoid_and_neg_gives_one_minus_it():
    x = operands(50_000)
    for sho in (10, 16, 24, 25, 40):
        for neg in (0, 1):
            got = semantics.sig(x, sho=sho, neg=neg, wide=1)
            exact = sigmoid((-x if neg else x) / FRACTION) * 2.0 ** (40 - sho)
            assert (np.abs(got.value - exact) <= 0.5 + exact * 2.0**-14 + 1e-9).all(), (sho, neg)
            assert got.saturated == 0


def test_sig_counts_saturated_operands_and_results():
    got = semantics.sig(np.array([-(1 << 31), (1 << 31) - 1, 1 << 23, (1 << 23) - 1]), sho=25)
    assert got.value.tolist() == [0, (1 << 15) - 1, (1 << 15) - 1, (1 << 15) - 1]
    assert got.saturated == 4  # three operands beyond 24 bits; the last result, 1.0 at 15 fraction bits


def test_exp_is_right_to_a_relative_2_to_the_minus_15():
    x = operands()
    power = np.floor(x / FRACTION * np.log2(np.e)).astype(np.int64)
    x, power = x[np.abs(power) <= 50], power[np.abs(power) <= 50]
    # An output shift for each element leaves 29 significant bits, so that rounding doesn't hide the error.
    got = semantics.exp(x, sho=power + 11, wide=1)
    exact = np.exp(x / FRACTION) * 2.0 ** (40 - (power + 11))
    relative = np.abs(got.value / exact - 1)
    print(f"exp: largest relative error 2^{np.log2(relative.max()):.2f}")
    assert got.saturated == 0
    assert relative.max() <= 2.0**-15


def test_exp_rounds_half_up_and_saturates():
    x = operands(20_000)
    exact = np.exp(x / FRACTION) * 2.0**10
    got = semantics.exp(x, sho=30)
    inside = exact < 32000
    assert (np.abs(got.value - exact)[inside] <= 0.5 + exact[inside] * 2.0**-15).all()
    assert (got.value[exact > 33000] == 32767).all()
    assert (exact > 33000).sum() <= got.saturated <= (exact > 32700).sum()


def test_silu_is_x_times_sigmoid():
    x = operands()
    for sho, wide in ((24, 1), (20, 1), (30, 0)):
        got = semantics.silu(x, sho=sho, wide=wide)
        exact = x * sigmoid(x / FRACTION) * 2.0 ** (24 - sho)
        limit = 32 if wide else 16
        error = np.abs(got.value - np.clip(exact, -(1 << limit - 1), (1 << limit - 1) - 1))
        assert (error <= 0.5 + np.abs(exact) * 2.0**-14 + 1e-9).all(), sho


def test_silu_sees_large_operands_as_one_or_zero_without_counting_a_saturation():
    x = np.array([(1 << 30), -(1 << 30)])
    got = semantics.silu(x, sho=24, wide=1)
    assert got.saturated == 0
    assert abs(int(got.value[0]) - (1 << 30)) <= 1 << 13
    assert got.value[1] == 0


def test_division_is_right_to_a_relative_2_to_the_minus_16():
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    a = rng.integers(1 << 6, 1 << 31, 200_000) * rng.choice([-1, 1], 200_000)
    b = (2.0 ** rng.uniform(0, 30.9, 200_000)).astype(np.int64) * rng.choice([-1, 1], 200_000)
    sho = np.floor(np.log2(np.abs(a / b))).astype(np.int64) - 5  # a result of 29 or 30 bits
    got = semantics.div(a, b, sho=sho, wide=1)
    exact = a / b * 2.0 ** (24 - sho)
    relative = np.abs(got.value - exact) - 0.5
    worst = (relative / np.abs(exact)).max()
    print(f"division: largest relative error 2^{np.log2(worst):.2f}")
    assert got.saturated == 0
    assert worst <= 2.0**-16


def test_division_by_zero_saturates_with_the_sign_and_zero_by_zero_is_zero():
    got = semantics.div(np.array([5, -5, 0, 7]), np.array([0, 0, 0, 1]), sho=24)
    assert got.value.tolist() == [32767, -32768, 0, 7]
    assert got.saturated == 2
    assert semantics.div(np.array([5, -5]), np.array([0, 0]), sho=24, wide=1).value.tolist() == [(1 << 31) - 1, -(1 << 31)]
