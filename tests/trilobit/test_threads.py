"""Products side by side: every argument once, errors come through, BLAS is put back as it was."""

import numpy as np
import pytest
import threadpoolctl

from trilobit.threads import one_blas_thread, side_by_side


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


def test_blas_has_one_thread_within_and_what_it_had_afterwards():
    before = blas_threads()
    assert before, "NumPy has no BLAS that threadpoolctl knows"
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_every_argument_once(count):
    done = np.zeros(count, dtype=int)

    def function(n: int) -> None:
        done[n] += 1

    side_by_side(function, range(count))
    assert (done == 1).all()


def test_errors_come_through():
    def function(n: int) -> None:
        if n == 3:
            raise ValueError("the fourth")

    before = blas_threads()
    with pytest.raises(ValueError, match="the fourth"):
        side_by_side(function, range(6))
    assert blas_threads() == before
