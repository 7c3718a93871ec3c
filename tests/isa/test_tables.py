"""The tables of elementary functions keep their stated bounds on every one of their 2^17 inputs."""

import numpy as np
import pytest

from trilobit.isa.fixed import bit_length
from trilobit.isa.tables import EXP2, RECIP

U = np.arange(1 << 17)


@pytest.mark.parametrize(
    ("table", "function", "fraction_bits", "bound"),
    [
        (EXP2, np.exp2, 17, 2.0**-16),
        (RECIP, lambda u: 1 / (1 + u), 18, 2.0**-17),
    ],
    ids=["exp2", "recip"],
)
def test_error_is_within_the_bound_everywhere(table, function, fraction_bits, bound):
    error = np.abs(table(U) / 2.0**fraction_bits - function(U / 2.0**17))
    print(f"{table.name}: largest error 2^{np.log2(error.max()):.2f}")
    assert error.max() <= bound


@pytest.mark.parametrize(("table", "bits"), [(EXP2, 18), (RECIP, 18)], ids=["exp2", "recip"])
def test_results_are_monotonic_and_fit_their_bits(table, bits):
    values = table(U)
    assert values.min() >= 0 and values.max() < 1 << bits
    steps = np.diff(values)
    assert (steps <= 0).all() if table is RECIP else (steps >= 0).all()


def test_bit_length_is_exact_around_every_power_of_two():
    powers = 2 ** np.arange(52, dtype=np.int64)
    for offset in (-1, 0, 1):
        assert bit_length(powers + offset).tolist() == [int(x).bit_length() for x in powers + offset]
