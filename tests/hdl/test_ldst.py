"""The load/store unit on both simulators."""

import pytest
from support import run_cocotb

from trilobit.hdl.ldst import LoadStore
from trilobit.isa.core import load_core


@pytest.mark.parametrize("preset", ["tiny", "paper8"])
def test_loads_stores_embeds_and_clears(preset, seed):
    simulators = ("verilator", "icarus") if preset == "tiny" else ("verilator",)
    run_cocotb(LoadStore(load_core(preset)), "ldst", "cocotb_ldst", env={"PRESET": preset}, simulators=simulators, seed=seed)
