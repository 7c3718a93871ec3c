"""The kept reports of single units say what they are, and keep the limits that are promised."""

import json
from importlib import resources

import pytest

from trilobit.bitstreams.fit import known_resources
from trilobit.bitstreams.parts import PARTS
from trilobit.hdl.dot import TernaryDot
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import load_core
from trilobit.isa.trits import ROWS_PER_BYTE


def report_of(name: str) -> dict:
    return json.loads(resources.files("trilobit.bitstreams").joinpath(name, "report.json").read_text())


@pytest.mark.parametrize("name", sorted(PARTS))
def test_the_kept_report_is_of_that_unit_and_meets_its_clock(name):
    report, part = report_of(name), PARTS[name]
    assert report["component"] == name and report["evidence"].startswith("placed and routed out of context")
    assert report["unit_of_core"]["beat_bytes"] == part.config.beat_bytes and report["unit_of_core"]["lanes"] == part.config.lanes
    assert report["fmax_mhz"] >= report["target_mhz"] == part.clock_mhz
    assert report["resources"]["registers"] > 0


def test_a_unit_is_not_taken_for_its_core():
    reports = [report_of(name) for name in PARTS]
    assert all(known_resources(part.config, reports) is None for part in PARTS.values())


def test_the_product_at_16_bytes_takes_less_than_40_luts_a_weight_and_100_mhz():
    report = report_of("matmul16")
    cells = report["synthesised"]
    weights = ROWS_PER_BYTE * report["unit_of_core"]["beat_bytes"]
    luts = (cells["LUT4"] + 2 * cells["CCU2C"]) / weights
    print(f"{luts:.1f} LUT4 a weight per clock, carry cells as two (Yosys); {report['fmax_mhz']} MHz routed out of context")
    assert luts <= 38
    assert report["fmax_mhz"] >= 100


@pytest.mark.parametrize("beat_bytes", [1, 4, 16, 64])
def test_no_multiplier_is_in_the_ternary_path(beat_bytes):
    assert " * " not in to_verilog(TernaryDot(beat_bytes, load_core("ulx3s").max_length), "ternary_dot")
