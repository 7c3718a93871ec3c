"""The reports and bitstreams of whole boards that are in the repository."""

import hashlib
import json
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner

from trilobit.bitstreams.flash import find_bitstream
from trilobit.bitstreams.table import HEAD, board_reports, row
from trilobit.bitstreams.timing import clock_at, missed_clocks
from trilobit.cli import main
from trilobit.hdl.boards import BOARDS
from trilobit.hdl.boards.flow import PLACEMENT, SYNTHESIS
from trilobit.sim.toolchain import Tool

ROOT = Path(__file__).parents[2]
FOLDER = Path(str(resources.files("trilobit.bitstreams")))
REPORTS = sorted(path for name in BOARDS for path in (FOLDER / name).glob(f"trilobit_{name}-*.json"))


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_kept_report_is_whole(path):
    report = json.loads(path.read_text())
    board = BOARDS[path.parent.name]
    missed = missed_clocks(report["clocks"])
    assert report["board"] == board.name and path.stem == f"trilobit_{board.name}-{report['hash']}{'-missed' if missed else ''}"
    assert "not run on a board" in report["evidence"]
    assert all(report["resources"][key] <= report["available"][key] for key in report["resources"])
    assert sum(unit["luts"] for unit in report["units"].values()) == report["synthesised"]["luts"]
    assert [report["available"][key] for key in ("luts", "brams", "dsps")] == [board.luts, board.brams, board.dsps]
    assert set(SYNTHESIS) <= set(report["yosys"].split()) and " ".join(PLACEMENT) in " ".join(report["nextpnr"])
    assert (
        report["sdram_mhz"] == 2 * report["clock_mhz"] == 2 * board.clock_mhz
        and clock_at(report["clocks"], 60.0)["achieved_mhz"] == report["fmax_mhz"]
    )
    if missed:
        assert "bitstream" not in report and not path.with_suffix(".bit").exists()
    else:
        data = path.with_suffix(".bit").read_bytes()
        assert len(data) == report["bitstream_bytes"] < 3_000_000
        assert hashlib.sha256(data).hexdigest() == report["bitstream_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BOARDS, "onchip_25f"])
def test_a_kept_bitstream_is_of_the_sources_as_they_are(name, monkeypatch):
    """So a build finds it by its hash and has nothing to do."""

    run = Tool.run

    def only_its_version(tool, arguments, **options):
        assert arguments == [tool.version_flag], f"{tool.name} would run"
        return run(tool, arguments, **options)

    monkeypatch.setattr(Tool, "run", only_its_version)
    result = CliRunner().invoke(main, ["build", name, "-o", str(FOLDER / name), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert not json.loads(result.stdout)["fresh"]


def test_the_ulx3s_85f_has_a_bitstream_that_flash_finds_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bitstream = find_bitstream(BOARDS["ulx3s_85f"])
    report = json.loads(bitstream.with_suffix(".json").read_text())
    assert not missed_clocks(report["clocks"]) and report["seed"] == BOARDS["ulx3s_85f"].seed
    assert report["core"]["name"] == "ulx3s" and report["fmax_mhz"] >= 60


def test_the_documentation_has_the_reports_figures():
    text = (ROOT / "docs" / "reference" / "boards.md").read_text()
    assert HEAD in text
    for report in board_reports().values():
        assert row(report) in text
