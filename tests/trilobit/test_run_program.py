"""``trilobit run`` of programs: what it prints, the dump, exit codes and messages for what is wrong."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from trilobit.assembler import assemble
from trilobit.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOURCE = """
.core tiny
.region x, readonly, i16
  .i16 1, 2, 3, 4
.region y, writable, i16, size=8
    ldv v0, [x], len=4
    add v2, v0, v1, len=4
    sv [y], v2, len=4
    halt
"""


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["run", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "prog.s"
    path.write_text(SOURCE)
    return path


def npy(folder, name, array):
    np.save(folder / name, array)
    return folder / name


def test_registers_and_counts_are_printed(program):
    out = run(program).stdout
    assert "v0  1 2 3 4 0 0 0 0 ... (64 elements)" in out
    assert "v1" not in out, "registers of zeros are left out"
    assert "instructions     4" in out


def test_set_mem_and_dump(program, tmp_path):
    v1, x = npy(tmp_path, "v1.npy", np.array([100, 200, 300, 400])), npy(tmp_path, "x.npy", np.array([-1, -2], np.int8))
    out = tmp_path / "out"
    result = run(program, "--set", f"v1={v1}", "--mem", f"x={x}", "--dump", "v1-v2,mem:y", "--out", out, "--json")
    data = json.loads(result.stdout)
    assert data["registers"]["v2"][:5] == [99, 198, 303, 404, 0]
    assert list(data["registers"]) == ["v1", "v2"] and len(data["registers"]["v1"]) == 64
    assert data["memory"] == {"y": [99, 198, 303, 404]}
    assert data["halted"] and data["fault"] is None and data["cycles"] is None and data["retired"] == 4
    assert {p.name for p in out.iterdir()} == {"v1.npy", "v2.npy", "mem-y.npy"}
    assert np.load(out / "mem-y.npy").tolist() == [99, 198, 303, 404]
    assert np.load(out / "v2.npy").dtype == np.int32
    text = run(program, "--dump", "v0,mem:y").stdout
    assert "v0 (64 elements)" in text and "mem:y (4 elements)" in text


def test_a_binary_runs_like_its_source(program, tmp_path):
    binary = tmp_path / "prog.bin"
    assemble(SOURCE).save(binary)
    from_source, from_binary = (json.loads(run(p, "--json").stdout) for p in (program, binary))
    assert from_source["registers"] == from_binary["registers"]


def test_step_shows_each_instruction_with_what_it_wrote(program):
    lines = run(program, "--step").stdout.splitlines()
    assert lines[0].endswith("ldv v0, [0x0], len=4  [prog.s:6]")
    assert lines[1].strip() == "v0 = 1 2 3 4"
    steps = json.loads(run(program, "--step", "--json").stdout)["steps"]
    assert [s["pc"] for s in steps] == [0, 1, 2, 3]
    assert steps[1]["result"] == [1, 2, 3, 4]


def test_tokens_and_sampling_of_a_program():
    result = run(EXAMPLES / "argmax.s", "--push", "3", "-n", "4", "--json")
    assert json.loads(result.stdout)["tokens"] == [2, 7, 6, 3]
    assert "tokens 2 7 6 3" in run(EXAMPLES / "argmax.s", "--push", "3", "-n", "4").stdout
    assert "waits for a prompt token" in run(EXAMPLES / "argmax.s").stdout


def test_a_fault_shows_the_state_then_cause_pc_and_source_line_and_exits_with_2(tmp_path):
    path = tmp_path / "bad.s"
    path.write_text(".core tiny\n.unchecked\n  muli v0, v0, imm=1, len=3\n  ldv v1, [0x40000], len=4\n  halt\n")
    result = run(path, code=2)
    assert "instructions     1" in result.stdout
    assert "trilobit: fault 3 (address outside the memory window) at pc 1: ldv v1, [0x40000], len=4  [bad.s:4]" in result.stderr
    assert json.loads(run(path, "--json", code=2).stdout)["fault"] == {
        "code": 3,
        "cause": "address outside the memory window",
        "pc": 1,
    }


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros(65, int), "at most 64 elements"),
        (np.zeros(3), "whole numbers in .*, got float64"),
        (np.zeros((2, 2), int), r"one dimension in .*, got shape \(2, 2\)"),
        (np.array([1 << 31]), "values from -2147483648 to 2147483647 in .*, got 2147483648"),
    ],
)
def test_arrays_are_checked(program, tmp_path, array, message):
    result = run(program, "--set", f"v0={npy(tmp_path, 'a.npy', array)}", code=2)
    assert re.search(f"--set v0: expected .*{message}", result.stderr), result.stderr
    assert result.stdout == ""


def test_a_pickle_is_refused(program, tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "can't read" in run(program, "--set", f"v0={tmp_path / 'p.npy'}", code=2).stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--set", "v8=a.npy"], "--set: expected a register v0 to v7, got 'v8'"),
        (["--set", "v0"], "--set: expected NAME=FILE.npy, got 'v0'"),
        (["--set", "v0=missing.npy"], "can't read missing.npy"),
        (["--mem", "z=a.npy"], "--mem: no region 'z' in program 'prog'; it has x, y"),
        (["--dump", "mem:z"], "--dump: no region 'z'"),
        (["--dump", "v0-v9"], "--dump: expected v0 to v7, a range such as v0-v7, or mem:NAME, got 'v0-v9'"),
        (["--waves", "w.fst"], "expected --backend rtl with --waves"),
        (["--core", "gigantic"], "expected a core preset"),
        (["--prompt", "once"], "expected a bundle with --prompt"),
        (["--temperature", "0.001"], "expected a temperature of 0 (greedy) or at least 0.01"),
        (["--push", "16777216"], "expected prompt tokens from 0 to 16777215"),
        (["--push", "three"], "expected tokens as numbers with commas"),
    ],
)
def test_wrong_options_get_one_message_and_exit_code_2(program, arguments, message):
    assert message in run(program, *arguments, code=2).stderr


def test_values_beyond_a_region_s_element_are_refused(program, tmp_path):
    path = npy(tmp_path, "x.npy", np.array([40000]))
    assert "--mem x: expected values from -32768 to 32767" in run(program, "--mem", f"x={path}", code=2).stderr


def test_the_core_must_be_named_somewhere_and_fit_a_binary(tmp_path):
    path = tmp_path / "plain.s"
    path.write_text("  nop\n  halt\n")
    assert "expected --core PRESET" in run(path, code=2).stderr
    assert run(path, "--core", "ulx3s").exit_code == 0
    binary = tmp_path / "prog.bin"
    assemble(SOURCE).save(binary)
    assert "made for core 'tiny'" in run(binary, "--core", "axi512", code=2).stderr
    assert run(binary, "--core", "ulx3s").exit_code == 0, "the same beats"
    other = tmp_path / "prog.txt"
    other.write_text("")
    assert "expected a bundle (folder), PROG.s or PROG.bin" in run(other, code=2).stderr
