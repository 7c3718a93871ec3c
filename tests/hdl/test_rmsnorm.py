"""The RMSNorm unit: integers, latency, waiting, faults (the tests are in cocotb_rmsnorm.py), and that every core elaborates."""

import json

import pytest
from support import run_cocotb

from trilobit.hdl.rmsnorm import RMSNorm, norm_clocks, normq_clocks, rms_clocks
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import load_core, presets


def test_unit_equals_the_semantics_in_the_documented_time(simulator, seed):
    run_cocotb(RMSNorm(load_core("tiny")), "rmsnorm", "cocotb_rmsnorm", simulators=[simulator], env={"PRESET": "tiny"}, seed=seed)


@pytest.mark.parametrize("changes", [{"lanes": 1}, {"beat_bytes": 8, "lanes": 8}], ids=["1-lane", "8-lanes"])
def test_other_numbers_of_lanes_give_the_same(changes, seed):
    config = load_core("tiny").replace(**changes)
    run_cocotb(RMSNorm(config), "rmsnorm", "cocotb_rmsnorm", simulators=["verilator"], seed=seed,
               env={"PRESET": "tiny", "CHANGES": json.dumps(changes), "CASES": 30})  # fmt: skip


@pytest.mark.parametrize("preset", presets())
def test_every_preset_elaborates(preset):
    assert "module rmsnorm" in to_verilog(RMSNorm(load_core(preset)), "rmsnorm")


def test_documented_figures_are_those_of_the_reference_page():
    config = load_core("ulx3s")
    assert rms_clocks(config, 0) == 52
    assert normq_clocks(config, 1) - 1 == 39
    assert norm_clocks(config, 1) - 2 == 118
