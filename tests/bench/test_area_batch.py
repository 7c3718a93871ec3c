"""The kept area of a batch follows from its cells, and says what a batch is for: a sequence takes less than a core of its own."""

import json
from pathlib import Path

import pytest

from trilobit.isa.core import load_core

REPORT = json.loads((Path(__file__).parents[2] / "bench" / "results" / "area-batch.json").read_text())
BATCHES = {entry["batch"]: entry for entry in REPORT["batches"]}


@pytest.mark.parametrize("batch", BATCHES)
def test_shares_follow_from_the_cells(batch):
    entry, core = BATCHES[batch], load_core(REPORT["core"]).replace(batch=batch)
    assert entry["weights_per_clock"] == core.weights_per_clock
    for name, weights in {"core": core.weights_per_clock, "matmul": core.weights_per_clock, "matmul16": 80}.items():
        luts, share = entry["parts"][name]["luts"], entry["shares"][name]
        assert share["luts_per_weight_clock"] == pytest.approx(luts / weights, abs=0.06)
        assert share["luts_per_sequence"] == pytest.approx(luts / batch, abs=0.06)
        assert share["luts_per_weight_clock_and_sequence"] == pytest.approx(luts / weights / batch, abs=0.06)


@pytest.mark.parametrize("part", ["core", "matmul", "matmul16", "rmsnorm", "rowwise"])
def test_a_sequence_of_a_batch_takes_less_than_a_core_of_its_own(part):
    luts = {batch: entry["parts"][part]["luts"] for batch, entry in sorted(BATCHES.items())}
    assert set(luts) >= {1, 2, 4}
    per_sequence = [total / batch for batch, total in luts.items()]
    assert per_sequence == sorted(per_sequence, reverse=True), f"{part}: {luts}"
    assert luts[2] > luts[1]


def test_parts_are_smaller_than_the_core_that_has_them():
    for entry in BATCHES.values():
        luts = {name: cells["luts"] for name, cells in entry["parts"].items()}
        assert max(luts, key=luts.__getitem__) == "core"
