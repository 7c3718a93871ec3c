"""The row-wise unit on both simulators, against trilobit.isa.semantics."""

import pytest
from support import run_cocotb

from trilobit.hdl.rowwise import RowWise
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import load_core


@pytest.mark.parametrize(("simulator", "count"), [("verilator", 24), ("icarus", 3)])
def test_elementwise(simulator, count, seed):
    run_cocotb(RowWise(load_core("tiny")), "rowwise", "cocotb_rowwise", simulators=[simulator], seed=seed,
               env={"PRESET": "tiny", "COUNT": count})  # fmt: skip


def test_one_lane(seed):
    run_cocotb(RowWise(load_core("paper8")), "rowwise", "cocotb_rowwise", simulators=["verilator"], seed=seed,
               env={"PRESET": "paper8", "COUNT": 4})  # fmt: skip


@pytest.mark.parametrize(("preset", "batch"), [("tiny", 2), pytest.param("paper8", 4, marks=pytest.mark.slow)])
def test_every_slot_has_its_own_results_in_the_time_of_one(preset, batch, seed):
    run_cocotb(RowWise(load_core(preset).replace(batch=batch)), "rowwise", "cocotb_rowwise", simulators=["verilator"], seed=seed,
               env={"PRESET": preset, "BATCH": batch, "COUNT": 4})  # fmt: skip


@pytest.mark.parametrize("preset", ["paper8", "ulx3s", "axi512"])
def test_elaborates_with(preset):
    assert "module rowwise(" in to_verilog(RowWise(load_core(preset)), "rowwise")
