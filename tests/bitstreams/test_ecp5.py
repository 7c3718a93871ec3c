"""Place and route with the pip tools, and the report that is kept."""

import json
from importlib import resources

import pytest

from trilobit.bitstreams.ecp5 import route_out_of_context
from trilobit.errors import ToolError
from trilobit.hdl.boards.flow import PLACEMENT, synthesis_script
from trilobit.hdl.uart import UartTransmitter
from trilobit.isa.core import load_core
from trilobit.sim.toolchain import NEXTPNR_ECP5, YOSYS

needs_tools = pytest.mark.skipif(not (YOSYS.available and NEXTPNR_ECP5.available), reason="Yosys and nextpnr from pip are not installed")


def test_the_kept_report_of_the_ulx3s_core_says_what_it_is():
    report = json.loads(resources.files("trilobit.bitstreams").joinpath("ulx3s-core", "report.json").read_text())
    core = load_core("ulx3s")
    assert report["evidence"].startswith("placed and routed out of context")
    assert report["target_mhz"] == core.clock_mhz >= 60
    assert report["fmax_mhz"] >= report["target_mhz"] and "missing its goal" not in report["evidence"]
    assert report["yosys"] == synthesis_script("trilobit_core")
    assert " ".join([*PLACEMENT, "--freq", "60"]) in " ".join(report["nextpnr"]) and report["seed"] == 2
    assert report["core"]["beat_bytes"] == core.beat_bytes and report["core"]["lanes"] == core.lanes
    assert min(report["resources"].values()) > 0


def test_a_route_keeps_what_the_tools_were_asked_and_a_missed_clock_is_an_error(tools, tmp_path):
    tools(mhz=61.5)
    report = route_out_of_context(UartTransmitter(16), "uart", load_core("tiny"), tmp_path / "out", seed=3, unit=True)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["yosys"] == synthesis_script("uart") and f"--seed 3 {' '.join(PLACEMENT)} --freq 60" in " ".join(report["nextpnr"])
    assert report["resources"] == {"registers": 1, "luts": 12, "dsps": 0, "brams": 1} and report["fmax_mhz"] == 61.5
    assert report["synthesised"] == {"CCU2C": 1, "DP16KD": 1, "LUT4": 10, "TRELLIS_FF": 1}
    other = route_out_of_context(UartTransmitter(16), "uart", load_core("tiny"), tmp_path / "out", seed=4, unit=True)
    assert other["hash"] != report["hash"]
    with pytest.raises(ToolError, match=r"uart misses its clock: expected 70.0 MHz, got 61.5 MHz; the path ends system.core.pc.a ->"):
        route_out_of_context(UartTransmitter(16), "uart", load_core("tiny"), tmp_path / "out", target_mhz=70.0, unit=True)
    assert "missing its goal of 70 MHz" in json.loads((tmp_path / "out" / "report.json").read_text())["evidence"]


@needs_tools
@pytest.mark.slow
def test_a_small_component_is_routed_and_a_missed_clock_is_an_error(tmp_path):
    config = load_core("tiny")
    report = route_out_of_context(UartTransmitter(16), "uart", config, tmp_path)
    assert report["resources"]["registers"] > 0 and report["fmax_mhz"] > 60
    assert json.loads((tmp_path / "report.json").read_text()) == report
    with pytest.raises(ToolError, match=r"misses its clock: expected 5000.0 MHz, got"):
        route_out_of_context(UartTransmitter(16), "uart", config, tmp_path, target_mhz=5000.0)
