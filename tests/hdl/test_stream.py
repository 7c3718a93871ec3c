"""The stream fetch on both simulators."""

import pytest
from support import run_cocotb

from trilobit.hdl.stream import StreamFetch
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import load_core, presets


@pytest.mark.parametrize("preset", ["tiny", "paper8"])
def test_stream_is_fetched_checked_and_steered(preset, seed):
    simulators = ("verilator", "icarus") if preset == "tiny" else ("verilator",)
    run_cocotb(StreamFetch(load_core(preset)), "stream", "cocotb_stream", env={"PRESET": preset}, simulators=simulators, seed=seed)


@pytest.mark.parametrize("preset", [name for name in presets() if load_core(name).machine == "pipelined"])
def test_elaborates(preset):
    assert "module stream" in to_verilog(StreamFetch(load_core(preset)), "stream")
