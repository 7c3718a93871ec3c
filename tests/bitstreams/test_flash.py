"""``trilobit flash`` with a loader that only pretends: what it is asked, and what a person is told when it fails."""

import hashlib
import json
import os

import pytest
from click.testing import CliRunner

from trilobit.bitstreams.flash import find_bitstream
from trilobit.cli import main
from trilobit.errors import ConfigError
from trilobit.hdl.boards import BOARDS

LOADER = """#!/bin/sh
if [ "$1" = "-V" ]; then echo "openFPGALoader v0.fake"; exit; fi
echo "$@" > "$LOADER_CALLS"
echo "$LOADER_SAYS"
exit $LOADER_EXIT
"""


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """A fake openFPGALoader on PATH; returns what it was called with."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "openFPGALoader").write_text(LOADER)
    (folder / "openFPGALoader").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOADER_CALLS", str(tmp_path / "calls"))
    monkeypatch.chdir(tmp_path)

    def behaves(text="Load SRAM: [====] 100%", code=0):
        monkeypatch.setenv("LOADER_SAYS", text)
        monkeypatch.setenv("LOADER_EXIT", str(code))

    behaves()
    return behaves


@pytest.fixture
def built(tmp_path):
    """A build of the ULX3S-85F as ``trilobit build`` leaves it."""
    folder = tmp_path / "bitstreams" / "ulx3s_85f"
    folder.mkdir(parents=True)
    bitstream = folder / "trilobit_ulx3s_85f-0123456789abcdef.bit"
    bitstream.write_bytes(b"bits")
    report = {"board": "ulx3s_85f", "bitstream_sha256": hashlib.sha256(b"bits").hexdigest()}
    bitstream.with_suffix(".json").write_text(json.dumps(report))
    return bitstream


def flash(*arguments):
    return CliRunner().invoke(main, ["flash", *map(str, arguments)])


def test_loads_the_newest_build_into_sram(loader, built, tmp_path):
    older = built.with_name("trilobit_ulx3s_85f-ffffffffffffffff.bit")
    older.write_bytes(b"old")
    older.with_suffix(".json").write_text("{}")
    os.utime(older.with_suffix(".json"), (1, 1))
    result = flash("ulx3s_85f", "--json")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "calls").read_text() == f"-b ulx3s -m bitstreams/ulx3s_85f/{built.name}\n"
    told = json.loads(result.stdout)
    assert told["into"] == "SRAM" and told["loader"] == "openFPGALoader v0.fake"


def test_permanent_goes_to_the_flash(loader, built, tmp_path):
    result = flash("ulx3s_85f", "--permanent", "--bitstream", built)
    assert result.exit_code == 0 and "flash" in result.stdout
    assert (tmp_path / "calls").read_text() == f"-b ulx3s -f {built}\n"


def test_a_missing_loader_gets_the_install_line(built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = flash("ulx3s_85f")
    assert result.exit_code == 2
    assert "expected openFPGALoader to be installed, found none; install the package openfpgaloader" in result.stderr


@pytest.mark.parametrize(
    "text", ["unable to open ftdi device: -4 (usb_open() failed)", "JTAG init failed with: inappropriate permissions on device!"]
)
def test_a_refused_usb_device_gets_the_udev_rule(text, loader, built):
    loader(text, 1)
    result = flash("ulx3s_85f")
    assert result.exit_code == 2
    rule = 'SUBSYSTEM=="usb", ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6015", MODE="0664", GROUP="plugdev", TAG+="uaccess"'
    assert rule in result.stderr and "udevadm control --reload-rules" in result.stderr and text in result.stderr


def test_no_board_is_said(loader, built):
    loader("unable to open ftdi device: -3 (device not found)", 1)
    result = flash("ulx3s_85f")
    assert result.exit_code == 2 and "expected ULX3S with an ECP5-85F at a USB port (0403:6015), found none" in result.stderr


def test_other_failures_show_what_the_loader_said(loader, built):
    loader("Error: something else", 3)
    result = flash("ulx3s_85f")
    assert result.exit_code == 2 and "exit code 3" in result.stderr and "something else" in result.stderr


def test_damaged_foreign_and_missing_bitstreams_are_refused(loader, built, tmp_path):
    built.write_bytes(b"bitz")
    result = flash("ulx3s_85f")
    assert result.exit_code == 2 and "it is damaged; build it again" in result.stderr
    assert "made for ulx3s_85f" in flash("ulx3s_45f", "--bitstream", built).stderr
    with pytest.raises(ConfigError, match="make one with: trilobit build icepi_zero"):
        find_bitstream(BOARDS["icepi_zero"], [tmp_path / "none"])
    assert "expected a board" in flash("de10").stderr
    for text in ("{", "[]", '{"board": "ulx3s_85f"}'):
        built.with_suffix(".json").write_text(text)
        result = flash("ulx3s_85f", "--bitstream", built)
        assert result.exit_code == 2 and "expected the report of a build in" in result.stderr, text
    assert not (tmp_path / "calls").exists()
