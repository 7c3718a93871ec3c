"""Place and route with the pip tools, and the report that is kept."""

import json
from importlib import resources

import pytest

from trilobit.bitstreams.ecp5 import route_out_of_context
from trilobit.errors import ToolError
from trilobit.hdl.uart import UartTransmitter
from trilobit.isa.core import load_core
from trilobit.sim.toolchain import NEXTPNR_ECP5, YOSYS

needs_tools = pytest.mark.skipif(not (YOSYS.available and NEXTPNR_ECP5.available), reason="Yosys and nextpnr from pip are not installed")


def test_the_kept_report_of_the_ulx3s_core_says_what_it_is():
    report = json.loads(resources.files("trilobit.bitstreams").joinpath("ulx3s-core", "report.json").read_text())
    core = load_core("ulx3s")
    assert report["evidence"].startswith("placed and routed out of context")
    assert report["target_mhz"] == core.clock_mhz >= 60
    assert (report["fmax_mhz"] < report["target_mhz"]) == ("missing its goal" in report["evidence"])
    assert report["core"]["beat_bytes"] == core.beat_bytes and report["core"]["lanes"] == core.lanes
    assert min(report["resources"].values()) > 0


@needs_tools
@pytest.mark.slow
def test_a_small_component_is_routed_and_a_missed_clock_is_an_error(tmp_path):
    config = load_core("tiny")
    report = route_out_of_context(UartTransmitter(16), "uart", config, tmp_path)
    assert report["resources"]["registers"] > 0 and report["fmax_mhz"] > 60
    assert json.loads((tmp_path / "report.json").read_text()) == report
    with pytest.raises(ToolError, match=r"misses its clock: expected 5000.0 MHz, got"):
        route_out_of_context(UartTransmitter(16), "uart", config, tmp_path, target_mhz=5000.0)
