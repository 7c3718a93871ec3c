"""``trilobit run --target``: what can't work is told before anything is built or sent."""

import pytest
from click.testing import CliRunner

from trilobit.cli import main


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
