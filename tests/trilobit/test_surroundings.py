"""What a machine can refuse a command: one line and exit code 2, never a traceback; a reader who leaves is no error."""

import errno
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trilobit import cli
from trilobit.errors import ModelError
from trilobit.text import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
NORM = str(ROOT / "examples" / "norm.s")
NO_TEMPORARY = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")


def trilobit(arguments, **keywords):
    return subprocess.run([sys.executable, "-m", "trilobit", *arguments], stderr=subprocess.PIPE, text=True, **keywords)


@pytest.mark.parametrize(("error", "line"), [
    (OSError(errno.ENOSPC, "No space left on device", "out"), "out: expected to read or write, got: No space left on device; free"),
    (PermissionError(errno.EACCES, "Permission denied", b"out"), "out: expected to read or write, got: Permission denied; choose"),
    (NO_TEMPORARY, "expected a folder for temporary files that can be written, found none; set TMPDIR to one"),
])  # fmt: skip
def test_what_the_file_system_refuses_is_one_line(monkeypatch, error, line):
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: click.command()(lambda: (_ for _ in ()).throw(error)))
    result = CliRunner().invoke(cli.main, ["verb"])
    assert result.exit_code == 2 and result.stderr.startswith(f"trilobit: {line}") and result.stderr.count("\n") == 1


def test_an_unexpected_missing_file_keeps_its_traceback(monkeypatch):
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "isa.yaml")
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: click.command()(lambda: (_ for _ in ()).throw(error)))
    with pytest.raises(FileNotFoundError):
        CliRunner().invoke(cli.main, ["verb"], catch_exceptions=False)


@pytest.fixture(params=["buffered", "unbuffered"])
def buffering(request, monkeypatch):
    """Both ways in which Python can treat stdout: what it holds back it tries to write at its exit."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1" if request.param == "unbuffered" else "")


def test_a_full_device_on_stdout_is_one_line(buffering):
    with open("/dev/full", "w") as full:
        result = trilobit(["run", NORM, "--core", "tiny", "--backend", "functional"], stdout=full)
    assert result.returncode == 2
    assert result.stderr == "trilobit: expected to read or write, got: No space left on device; free some space or choose another place\n"


def test_a_reader_that_leaves_ends_the_command_in_silence(buffering):
    reader, writer = os.pipe()
    os.close(reader)
    result = trilobit(["run", NORM, "--core", "tiny", "--backend", "functional"], stdout=writer)
    os.close(writer)
    assert result.returncode == 1 and result.stderr == ""


def test_a_program_can_be_written_to_a_device():
    """As /dev/stdout, or /dev/null to see the errors alone; a file in place of the device would be a disaster."""
    result = trilobit(["asm", NORM, "-o", "/dev/null"], stdout=subprocess.PIPE)
    assert result.returncode == 0 and Path("/dev/null").is_char_device()


def test_a_prompt_that_is_no_text_is_one_line():
    tokenizer = Tokenizer(ROOT / "model" / "pretrained" / "tales" / "tokenizer.json")
    with pytest.raises(ModelError, match="expected text, got bytes that are none in this terminal's encoding"):
        tokenizer.encode(os.fsdecode(b"\xdcber"))


@pytest.mark.parametrize("arguments", [["demo"], ["bench", "rtl", "--geometry", "2.7b"]], ids=["demo", "bench"])
def test_what_needs_the_rtl_in_the_end_misses_its_packages_at_once(monkeypatch, arguments):
    """Not after the minutes of compiling and of the functional simulator that come before."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr == 'trilobit: expected amaranth to build the hardware, found none; pip install "trilobit[rtl]" brings it\n'


def test_an_interrupt_amid_the_making_of_hardware_ends_in_one_word():
    """With parts of a core in hand that no design took up: Amaranth's warnings of them would bury what happened."""
    script = """
import click
from amaranth.hdl import Fragment
from amaranth.lib.fifo import SyncFIFO
from trilobit import cli

@click.command()
def verb():
    Fragment.get(SyncFIFO(width=8, depth=4), None)  # from the first design on it warns
    part = SyncFIFO(width=8, depth=4)
    raise KeyboardInterrupt

cli.LazyGroup.get_command = lambda self, ctx, name: verb
cli.main(["verb"])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.split() == ["Aborted!"], result.stderr
