"""The load/store unit on both simulators."""

import pytest
from support import run_cocotb

from trilobit.hdl.ldst import LoadStore
from trilobit.isa.core import load_core


@pytest.mark.parametrize("preset", ["tiny", "paper8"])
def test_loads_stores_embeds_and_clears(preset, seed):
    simulators = ("verilator", "icarus") if preset == "tiny" else ("verilator",)
    run_cocotb(LoadStore(load_core(preset)), "ldst", "cocotb_ldst", env={"PRESET": preset}, simulators=simulators, seed=seed)


@pytest.mark.parametrize(("preset", "batch"), [("tiny", 2), pytest.param("tiny", 8, marks=pytest.mark.slow),
                                               pytest.param("paper8", 4, marks=pytest.mark.slow)])  # fmt: skip
def test_slots_move_together_and_their_rows_one_by_one(preset, batch, seed):
    run_cocotb(LoadStore(load_core(preset, batch)), "ldst", "cocotb_ldst", env={"PRESET": preset, "BATCH": batch},
               simulators=("verilator",), seed=seed)  # fmt: skip
