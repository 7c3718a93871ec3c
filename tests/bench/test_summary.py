"""The table of bars: what was measured was measured at a commit on a machine, and a difference is not called none."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import summary

MEASURED = sorted([*summary.RESULTS.glob("rtl-*.json"), *summary.RESULTS.glob("rtl_speed-*.json"), summary.RESULTS / "paper.json"])


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_a_kept_measurement_names_its_commit_and_its_machine(path):
    data = json.loads(path.read_text())
    assert data["commit"] and "+changes" not in data["commit"], "run it again from a clean checkout"
    assert {"processor", "cores", "load", "verilator", "compiler"} <= set(data["machine"])


def test_every_geometry_was_run_whole_on_the_rtl():
    kept = [json.loads(path.read_text()) for path in MEASURED if path.stem.startswith("rtl-")]
    runs = {(data["geometry"], data["memory"]) for data in kept if data["core"] == "axi512" and data["batch"] == 1}
    assert {(geometry, memory) for geometry in summary.GEOMETRIES for memory in ("ideal", "ddr4-2400", "ddr4-2400-hot")} <= runs
    assert all(data["cycles"] and data["peak_memory_bytes"] and data["seconds"]["rtl"] for data in kept)


@pytest.mark.parametrize(("key", "shown"), [("equal_to_cycle_model", "some cycles"), ("equal_to_functional", "0 cycles")])
def test_a_run_that_differs_misses_its_bar(key, shown, tmp_path, monkeypatch):
    data = json.loads((summary.RESULTS / "rtl-370m-axi512-ideal.json").read_text())
    for name, value in (("good", True), ("bad", False)):
        (tmp_path / f"rtl-{name}.json").write_text(json.dumps(data | {key: value}))
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    monkeypatch.setattr(summary, "estimate", lambda *_: {})
    bad, good = summary.equality()[:2]
    assert (good["met"], good["shown"]) == (True, "0 cycles")
    assert (bad["met"], bad["shown"]) == (False, shown)
