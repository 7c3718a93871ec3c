"""``trilobit verilog``: one self-contained file that Verilator lints clean and Icarus accepts."""

import json

import pytest
from click.testing import CliRunner

from trilobit.cli import main
from trilobit.sim.toolchain import ICARUS, VERILATOR


@pytest.fixture(scope="module", params=["tiny", "ulx3s"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "out"
    result = CliRunner().invoke(main, ["verilog", "--core", request.param, "-o", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), folder / "trilobit_core.v"


def test_one_file_with_the_core_on_top(written):
    data, path = written
    assert data["files"] == [str(path)]
    assert data["top"] == "trilobit_core"
    text = path.read_text()
    assert "module trilobit_core(" in text
    assert "`include" not in text and "$readmem" not in text and ".py" not in text


def test_verilator_lints_it_clean(written):
    report = VERILATOR.run(["--lint-only", "-Wall", "-Wno-fatal", "--top-module", "trilobit_core", written[1]])
    assert "%Warning" not in report


def test_icarus_accepts_it(written, tmp_path):
    if not ICARUS.available:
        pytest.skip("Icarus not installed")
    ICARUS.run(["-g2012", "-Wall", "-Wno-timescale", "-s", "trilobit_core", "-o", tmp_path / "core.vvp", written[1]])
    assert (tmp_path / "core.vvp").stat().st_size > 0


def test_unknown_core_writes_nothing(tmp_path):
    result = CliRunner().invoke(main, ["verilog", "--core", "huge", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "expected a core preset (" in result.stderr
    assert not (tmp_path / "out").exists()
