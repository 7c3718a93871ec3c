"""The recurrence keeps its memory: the gate from ``sig neg``, the state through ``lerp``, 4,000 steps, against float64."""

import numpy as np
import pytest

from trilobit.isa import semantics

SEED = 20240604
STEPS = 4000
CHANNELS = 128
STATE_POINT = 26  # of the state, 32 bits
INPUT_POINT = 12  # of the input, 16 bits


@pytest.mark.parametrize("power", [8, 9, 10, 11, 12, 13])
def test_state_error_is_at_most_one_in_a_thousand_after_4000_steps(power):
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    # c around 2^-power: sigmoid(-x) for x around power * ln 2, at a binary point where 4 * 2^-power still fits.
    mean = rng.normal(power * np.log(2), 0.1, CHANNELS)
    gate_point = 22 + power
    level = rng.normal(0, 2, CHANNELS)
    state, exact = np.zeros(CHANNELS, dtype=np.int64), np.zeros(CHANNELS)
    worst = 0.0
    for step in range(STEPS):
        x = np.rint((mean + rng.normal(0, 0.2, CHANNELS)) * 2.0**11).astype(np.int64)  # 16 bits, 11 fraction bits
        i = np.clip(np.rint((level + rng.normal(0, 1, CHANNELS)) * 2.0**INPUT_POINT), -32768, 32767).astype(np.int64)
        c = semantics.sig(x, shb=-6, sho=40 - gate_point, neg=1, wide=1)
        moved = semantics.lerp(state, i, c.value, shb=INPUT_POINT - STATE_POINT, sho=gate_point)
        assert c.saturated == moved.saturated == 0
        state = moved.value
        exact += 1 / (1 + np.exp(x / 2.0**11)) * (i / 2.0**INPUT_POINT - exact)
        if step % 250 == 249:
            worst = max(worst, relative_rms(state / 2.0**STATE_POINT, exact))
    print(f"c = 2^-{power}: relative RMS error {worst:.2e}")
    assert worst <= 1e-3


def relative_rms(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((got - expected) ** 2).mean() / (expected**2).mean()))


def test_a_16_bit_state_would_not_do():
    """The same update on a 16-bit state misses the bound, so the test above measures something."""
    rng = np.random.default_rng(SEED)
    state, exact = np.zeros(CHANNELS, dtype=np.int64), np.zeros(CHANNELS)
    level = rng.normal(0, 2, CHANNELS)
    for _ in range(STEPS):
        i = np.clip(np.rint((level + rng.normal(0, 1, CHANNELS)) * 2.0**12), -32768, 32767).astype(np.int64)
        c = np.full(CHANNELS, 1 << 11)  # 2^-13 at 24 fraction bits
        state = semantics.mov(semantics.lerp(state, i, c, sho=24).value).value
        exact += 2.0**-13 * (i / 2.0**12 - exact)
    assert relative_rms(state / 2.0**12, exact) > 3e-3
