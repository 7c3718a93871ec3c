"""Binary points: the highest at which a range fits."""

import math

import numpy as np
import pytest

from trilobit.assembler.compiler.points import fit


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
