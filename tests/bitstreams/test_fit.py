"""``trilobit build --bundle``: a model that a board can't run is refused before any tool is asked, with the numbers."""

import json
import sys
from importlib.metadata import version

import pytest
from click.testing import CliRunner

from trilobit.assembler import assemble, disassemble
from trilobit.assembler.bundle import Logits, Manifest, core_parameters, save_bundle
from trilobit.cli import main
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA

BOARD = "ulx3s_85f"


def make_bundle(folder, text, preset):
    """A program as a bundle; what a model's bundle says about its model is left out."""
    program = assemble(text)
    values = {"name": "made", "trilobit": version("trilobit"), "isa": ISA.version, "core": core_parameters(load_core(preset)),
              "window_size": program.window_size, "write_start": program.write_start, "logits": Logits(8, 0, None), "weights_per_token": 0,
              "prompt_weights": 0, "bos_token_id": None, "eos_token_id": None, "tokenizer": None, "points": {}, "regions": [],
              "geometry": {"vocab_size": 8}, "calibration": None}  # fmt: skip
    save_bundle(folder, program=program, source=disassemble(program), image=program.memory()[: program.write_start], report={},
                tokenizer=None, manifest=lambda checksums: Manifest(checksums=checksums, **values))  # fmt: skip
    return folder


def program(preset="ulx3s", megabytes=1, length=64, instructions=2):
    loads = "\n".join([f"    ldv v0, [state], len={length}"] * (instructions - 1))
    return f""".core {preset}
.region table, readonly, i16
    .i16 1
.region state, writable, i32, size={megabytes * 2**20}
{loads}
    halt
"""


@pytest.fixture
def no_tools(tmp_path, monkeypatch):
    """Neither PATH nor this Python's environment has a tool: what is refused here was refused without one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


@pytest.mark.parametrize(("changes", "message"), [
    ({"megabytes": 40}, "a memory window of 40.0 MiB of 32 MiB"),
    ({"instructions": 300}, "300 instructions of 256"),
    ({"preset": "paper8"}, "an image for 1 bytes a beat, not 4"),
    ({"length": 1024}, "vectors of 1024 elements of 512"),
    ({"megabytes": 33, "instructions": 257}, "a memory window of 33.0 MiB of 32 MiB; 257 instructions of 256"),
])  # fmt: skip
def test_a_model_that_does_not_fit_is_refused_with_the_numbers(changes, message, tmp_path, no_tools):
    folder = make_bundle(tmp_path / "bundle", program(**changes), changes.get("preset", "ulx3s"))
    core = tmp_path / "short.yaml"
    core.write_text("beat_bytes: 4\nlanes: 1\nmax_length: 512\nprogram_words: 256\n")
    arguments = ["build", BOARD, "--core", core, "--bundle", folder, "-o", tmp_path / "out"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert "ULX3S with an ECP5-85F" in result.stderr and str(folder) in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_fits_goes_on_to_the_tools(tools, tmp_path):
    tools()
    folder = make_bundle(tmp_path / "bundle", program("tiny", megabytes=31), "tiny")
    result = CliRunner().invoke(main, ["build", BOARD, "--core", "tiny", "--bundle", str(folder), "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    fits = json.loads(result.stdout)["fits"]
    assert fits["instructions"] == 2 and fits["memory_size"] == 32 * 2**20 and 31 * 2**20 < fits["window_size"] <= 32 * 2**20
