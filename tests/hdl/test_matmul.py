"""The ternary product unit on both simulators."""

import pytest
from support import run_cocotb

from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import load_core, presets


@pytest.mark.parametrize("preset", ["tiny", "paper8"])
def test_products_equal_their_integer_function(preset, seed):
    simulators = ("verilator", "icarus") if preset == "tiny" else ("verilator",)
    run_cocotb(TernaryMatmul(load_core(preset)), "matmul", "cocotb_matmul", env={"PRESET": preset}, simulators=simulators, seed=seed)


@pytest.mark.parametrize(("preset", "batch"), [("tiny", 2), pytest.param("paper8", 4, marks=pytest.mark.slow)])
def test_every_slot_has_its_own_products_in_the_time_of_one(preset, batch, seed):
    config = load_core(preset).replace(batch=batch)
    run_cocotb(TernaryMatmul(config), "matmul", "cocotb_matmul", env={"PRESET": preset, "BATCH": batch}, simulators=["verilator"],
               seed=seed)  # fmt: skip


@pytest.mark.parametrize("preset", presets())
def test_elaborates(preset):
    assert "module matmul" in to_verilog(TernaryMatmul(load_core(preset)), "matmul")
