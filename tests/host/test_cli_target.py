"""``trilobit run --target``: what can't work is told before anything is built or sent."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import trilobit
from trilobit.cli import main
from trilobit.isa.core import load_core

TOY = Path(__file__).resolve().parents[1] / "model" / "data" / "toy"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("target") / "bundle"
    result = CliRunner().invoke(main, ["compile", "tales", "--core", "ulx3s", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize(("arguments", "message"), [
    (["--target", "ulx4s"], "expected a target (icepi_zero, ulx3s, "),
    (["--target", "ulx3s"], "expected --port with --target ulx3s_85f"),
    (["--target", "arty_a7_35"], "expected --port with --target arty_a7_35"),
    (["--target", "kv260"], "expected axi: and a device on AMD Kria KV260, such as axi:/dev/uio0"),
    (["--target", "ulx3s", "--port", "/dev/does-not-exist"], "expected a serial port at /dev/does-not-exist"),
    (["--target", "sim:ulx3s", "--port", "/dev/ttyUSB0"], "expected no --port with a simulated target"),
    (["--port", "/dev/ttyUSB0"], "expected --target with --port"),
    (["--target", "ulx3s", "--memory", "sdram"], "or --memory with --target"),
])  # fmt: skip
def test_a_target_that_cannot_be_is_refused(bundle, arguments, message):
    result = CliRunner().invoke(main, ["run", str(bundle), "--prompt", "a", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_bundle_for_another_core_is_refused_before_the_simulated_board_is_built(tmp_path, monkeypatch):
    trilobit.compile(TOY, load_core("tiny"), tmp_path / "bundle")
    monkeypatch.setattr("trilobit.sim.board.BoardSimulator", None)
    result = CliRunner().invoke(main, ["run", str(tmp_path / "bundle"), "--push", "1", "--target", "sim:ulx3s"])
    assert result.exit_code == 2
    assert "expected a bundle for 4 bytes a beat and 1 lanes, as the board has, got core 'tiny' with 4 and 2" in result.output
