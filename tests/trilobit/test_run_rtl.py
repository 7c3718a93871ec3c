"""``trilobit run`` on the RTL: the same text and registers as the functional simulator, cycles, stalls, waves."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_support import byte_tokenizer, make_bundle

from trilobit.cli import main

OVERLAP = Path(__file__).resolve().parents[2] / "examples" / "overlap.s"


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["run", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_a_bundle_writes_the_same_text_on_both_backends(temperature, tmp_path):
    folder = make_bundle(tmp_path / "b", byte_tokenizer(tmp_path))
    arguments = [folder, "--prompt", "abc", "-n", 6, "--temperature", temperature, "--seed", 4, "--json", "--backend"]
    functional, rtl = (json.loads(run(*arguments, backend).stdout) for backend in ("functional", "rtl"))
    assert rtl["tokens"] == functional["tokens"] and rtl["text"] == functional["text"] and len(rtl["tokens"]) == 6
    assert rtl["weights"] == functional["weights"]
    assert rtl["cycles"] > functional["weights"] / (5 * 4), "no more than 20 weights a clock on tiny"


def test_a_program_shows_the_same_registers_and_its_stalls_by_cause():
    functional, rtl = (json.loads(run(OVERLAP, "--json", "--backend", b).stdout) for b in ("functional", "rtl"))
    assert rtl["registers"] == functional["registers"]
    assert rtl["cycles"] > 0 and rtl["counters"]["cycles"] == rtl["cycles"]
    text = run(OVERLAP, "--backend", "rtl").stdout
    assert "stalled on" in text and f"cycles           {rtl['cycles']}" in text


def test_step_gives_the_cycle_of_each_retirement_and_the_younger_sum_comes_first():
    steps = json.loads(run(OVERLAP, "--step", "--json", "--backend", "rtl").stdout)["steps"]
    cycles = [step["cycle"] for step in steps]
    assert cycles == sorted(cycles)
    order = [step["pc"] for step in steps]
    assert order.index(4) < order.index(3) and sorted(order) == list(range(8))


def test_waves_hold_changes_and_not_the_first_values_alone(tmp_path):
    cycles = json.loads(run(OVERLAP, "--backend", "rtl", "--waves", tmp_path / "w.fst", "--json").stdout)["cycles"]
    assert (tmp_path / "w.fst").stat().st_size > 150_000 + 100 * cycles, "the first values of tiny's signals are 150 KB"


def test_a_fault_on_the_rtl_exits_with_2_and_names_the_instruction(tmp_path):
    path = tmp_path / "bad.s"
    path.write_text(".core tiny\n.unchecked\n  nop\n  ldv v1, [0x40000], len=4\n  halt\n")
    assert "fault 3 (address outside the memory window) at pc 1" in run(path, "--backend", "rtl", code=2).stderr
