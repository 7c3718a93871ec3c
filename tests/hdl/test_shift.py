"""The rounding shifter and the multiplier in limbs."""

import pytest
from support import run_cocotb

from trilobit.hdl.multiply import Multiplier
from trilobit.hdl.shift import RoundSaturate


@pytest.mark.parametrize("width", [18, 42, 58, 64])
def test_round_saturate(width, seed):
    run_cocotb(RoundSaturate(width), "round_saturate", "cocotb_shift", simulators=["icarus"], seed=seed, env={"WIDTH": width})


@pytest.mark.parametrize("factors", [(33, 25), (34, 34), (25, 17), (16, 30), (18, 18)])
def test_multiplier(factors, seed):
    env = {"FACTORS": "{} {}".format(*factors)}
    run_cocotb(Multiplier(*factors), "multiplier", "cocotb_shift", simulators=["icarus"], seed=seed, env=env)
