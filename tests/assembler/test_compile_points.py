"""Binary points: the highest at which a range fits."""

import math

import numpy as np
import pytest

from trilobit.assembler.compiler.ir import Builder
from trilobit.assembler.compiler.points import Policy, choose, fit


@pytest.mark.parametrize("bits", [16, 18, 25, 32])
@pytest.mark.parametrize("headroom", [0, 1, 3])
def test_fit_is_the_highest_point_that_fits(bits, headroom):
    tops = np.exp(np.random.default_rng(bits + headroom).uniform(-12, 12, 200)).tolist()
    tops += [1.0, 2.0, 0.5, 2 * (1 - 2.0**-18), 1 - 2.0**-40, 1 + 2.0**-40, 3.0]
    for top in tops:
        point = fit(top, bits, headroom)
        for shift, fits in ((0, True), (1, False)):
            largest = math.floor(top * 2.0 ** (point + shift + headroom) + 0.5)
            assert (largest <= (1 << (bits - 1)) - 1) == fits, (top, point)


@pytest.mark.parametrize(("rms", "wide"), [(1.0, False), (0.2, True), (0.0, False)])
def test_heavy_tails_get_32_bits(rms, wide):
    b = Builder()
    x = b.make("emb", length=8, module="", name="x", range=1.0, table="t")
    y = b.make("silu", x, length=8, module="", name="y", range=10.0, rms=rms)
    b.make("max", y, x, length=8, module="", name="z", range=10.0)
    choose(b.values, Policy())
    assert y.wide == wide
    assert 10.0 * 2.0**y.point * 2 ** (3 if wide else 1) < 2 ** (31 if wide else 15)
