"""The paper's own case, its token mixer on one byte a clock: bars in clocks, from the cycle model and (slowly) from the RTL."""

import importlib.util
import json
from pathlib import Path

import pytest

from trilobit.isa.core import load_core
from trilobit.sim.cycles import CycleModel

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("bench_paper", ROOT / "bench" / "paper.py")
paper = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(paper)


@pytest.mark.parametrize("d", paper.SIZES)
def test_mixer_takes_hardly_more_clocks_than_the_bytes_that_it_moves(d):
    config = load_core("paper8")
    program = paper.mixer(d, config)
    model = CycleModel(program, config)
    assert model.run().halted
    moved = paper.transfers(program, config)
    counters = model.result().counters
    reads = sum(t["bytes"] for t in moved if t["direction"] == "read")
    assert counters["stream_read_beats"] + counters["ldst_read_beats"] == reads
    assert counters["write_beats"] == sum(t["bytes"] for t in moved) - reads
    assert reads == 3 * (-(-d // 5) * d + 16) + 14 * d  # weights and headers; x, w, p of 16 bits, a, b of 32
    assert model.cycles <= 1.03 * reads  # stricter than all bytes: reads and writes have channels of their own
    if d == 512:
        assert model.cycles / (config.clock_mhz * 1e3) <= 3.0  # ms; the paper: 43


def test_kept_figures_still_hold_to_a_thousandth():
    kept = json.loads((ROOT / "bench" / "results" / "paper.json").read_text())
    config = load_core(kept["core"])
    assert [case["d"] for case in kept["cases"]] == list(paper.SIZES)
    for case in kept["cases"]:
        model = CycleModel(paper.mixer(case["d"], config), config)
        model.run()
        assert case["cycles"] == pytest.approx(model.cycles, rel=1e-3), "run bench/paper.py again"
        assert case["milliseconds"] == pytest.approx(case["cycles"] / 60e3, abs=1e-4)
    for found in kept["tokens_1_3b"]:
        now = paper.token(found["core"], found["memory"])
        assert found["cycles_per_token"] == pytest.approx(now["cycles_per_token"], rel=1e-3), "run bench/paper.py again"


@pytest.mark.slow
def test_mixer_at_the_paper_s_width_on_the_rtl():
    case = paper.measure(512, load_core("paper8"))  # ends the run if anything differs
    assert case["milliseconds"] <= 3.0 and case["cycles_over_clocks_of_bytes_moved"] <= 1.03
    assert (case["instructions"], case["products"], case["saturated_elements"]) == (29, 3, 0)
