"""What every test can use."""

import os
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# No limits of time: on a busy machine a simulator's build beside it may stop an example for longer than any.
settings.register_profile("trilobit", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("trilobit")


@pytest.fixture
def seed() -> int:
    """The seed of this test's random numbers: ``TRILOBIT_SEED`` from the environment, else a fresh one.

    It is printed, so that a failure can be repeated.
    """
    value = int(os.environ.get("TRILOBIT_SEED") or random.SystemRandom().randrange(1 << 31))
    print(f"TRILOBIT_SEED={value}")
    return value


@pytest.fixture
def rng(seed) -> np.random.Generator:
    """Random numbers from :func:`seed`."""
    return np.random.default_rng(seed)


@pytest.fixture(params=("verilator", "icarus"))
def simulator(request) -> str:
    """Both simulators, one after the other, for a test that wants them apart."""
    return request.param
