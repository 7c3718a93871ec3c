"""``trilobit bench rtl``: a small geometry end to end, what it keeps, and that it notices a difference."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from trilobit import rtl_bench
from trilobit.cli import main
from trilobit.isa.core import load_core
from trilobit.sim.cycles import CycleModel
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.memory import IDEAL

ARGUMENTS = ["bench", "rtl", "--geometry", "64/2/64/300", "--core", "tiny"]


def test_figures_of_a_small_geometry_are_kept(tmp_path):
    options = ["--memory", "ddr3-667", "--clock", "100", "--tokens", "3", "--keep", str(tmp_path), "--json"]
    result = CliRunner().invoke(main, [*ARGUMENTS, *options])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    (kept,) = tmp_path.iterdir()
    assert kept.name == "rtl-64x2x64x300-tiny-ddr3-667-100mhz.json"
    assert json.loads(kept.read_text()) == data
    assert (data["H"], data["L"], data["I"], data["V"], len(data["generated"])) == (64, 2, 64, 300, 3)
    assert data["weights"] == 3 * (300 * 64 + 2 * 7 * 64 * 64)
    # 1.6 bits a weight over four bytes a cycle; the DDR3's 1.33 GB/s are faster than this port.
    assert data["roofline_share"] == pytest.approx(0.2 * data["weights"] / 3 / (4 * data["cycles_per_token"]))
    assert data["peak_bytes_per_cycle"] == 4
    assert data["weight_share_of_peak"] == pytest.approx(data["roofline_share"])
    assert data["weight_bytes_per_token"] < data["bytes_per_token"] < 4 * data["cycles_per_token"]
    assert data["equal_to_functional"] and data["equal_to_cycle_model"]


def test_a_wrong_value_is_noticed(monkeypatch):
    register = FunctionalSimulator.register

    def wrong(self, index):
        values = register(self, index).copy()
        if index == 3:
            values[5] += 1
        return values

    monkeypatch.setattr(FunctionalSimulator, "register", wrong)
    with pytest.raises(rtl_bench.DifferenceError, match=r"v3\[5\]"):
        rtl_bench.bench_rtl("64/2/64/300", load_core("tiny"), IDEAL)


def test_a_wrong_cycle_is_noticed(monkeypatch):
    retires = CycleModel.retires.fget

    def wrong(self):
        records = retires(self)
        records[7] = replace(records[7], cycle=records[7].cycle + 1)
        return records

    monkeypatch.setattr(CycleModel, "retires", property(wrong))
    with pytest.raises(rtl_bench.DifferenceError, match="retired on the RTL"):
        rtl_bench.bench_rtl("64/2/64/300", load_core("tiny"), IDEAL)


def test_one_token_has_no_steady_state():
    assert CliRunner().invoke(main, [*ARGUMENTS, "--tokens", "1"]).exit_code == 2
