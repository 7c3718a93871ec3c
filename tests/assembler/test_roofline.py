"""Compiled programs against the memory's roofline: bars in cycles from the cycle model, which equals the RTL to the cycle."""

import importlib.util
import json
from pathlib import Path

import pytest

from trilobit.assembler.geometry import compile_geometry
from trilobit.isa.core import load_core
from trilobit.sim.estimate import estimate
from trilobit.sim.geometry import GEOMETRIES, Geometry, roofline_share

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("bench_levers", ROOT / "bench" / "levers.py")
levers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(levers)


@pytest.mark.parametrize("geometry", ["370m", "1.3b", "2.7b"])
def test_whole_token_takes_97_percent_of_the_port(geometry):
    core, g = load_core("axi512"), GEOMETRIES[geometry]
    cycles = levers.cycles(g, core)
    share = roofline_share(g.ternary_weights, core.beat_bytes, cycles)
    print(f"{geometry}: {cycles:,} cycles, {share:.2%}")
    assert share >= 0.97


@pytest.mark.parametrize(("core", "most"), [("axi512", 41_500), ("ddr128", 165_000), ("kv260", 41_500), ("d5005", 41_500)])
def test_one_layer_with_gains_and_quantisation(core, most):
    assert levers.layer(load_core(core), H=1024, I=2816) <= most


def test_levers_are_measured_with_the_parts_that_the_compiler_has_now():
    """Off is worse where the waits are long; a lever that no longer takes hold would cost exactly nothing."""
    core = load_core("axi512").replace(lanes=8, weight_fifo_beats=128)
    rows = {row["what"].split(" (")[0]: row for row in levers.measure(Geometry(H=512, L=3, I=1280, V=640), core, "ideal")}
    assert rows["as it is"]["costs"] == 0
    assert rows["instructions scheduled"]["costs"] > 0
    assert rows["two activation buffers"]["costs"] > 0
    assert rows["gains a product ahead"]["costs"] != 0
    assert rows["next token's stream queued a token ahead"]["costs"] > 0
    assert rows["weights fetched 32 beats ahead instead of 128"]["costs"] > 0
    assert rows["4 lanes instead of 8"]["costs"] > 0 > rows["16 lanes instead of 8"]["costs"]


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("levers-*.json")), ids=lambda path: path.stem)
def test_kept_figures_still_hold_to_a_thousandth(path):
    kept = json.loads(path.read_text())
    core = load_core(kept["core"])
    found = levers.cycles(GEOMETRIES[kept["geometry"]], core, kept["memory"])
    assert found == pytest.approx(kept["levers"][0]["cycles_per_token"], rel=1e-3), "run bench/levers.py again"


@pytest.mark.parametrize("memory", ["ideal", "ddr4-2400"])
def test_four_sequences_a_pass_make_almost_four_times_the_tokens(memory):
    kept = json.loads((ROOT / "bench" / "results" / "batch-1.3b-axi512.json").read_text())["rows"]
    for batch, lanes in ((1, 32), (4, 8)):
        core = load_core("axi512", batch).replace(lanes=lanes)
        compiled = compile_geometry("1.3b", core)
        found = estimate(compiled.program, core, weights=compiled.weights(), memory=memory, segments=compiled.layout.stream)
        (row,) = (row for row in kept if (row["batch"], row["lanes"], row["memory"]) == (batch, lanes, memory))
        assert found.cycles_per_token == pytest.approx(row["cycles_per_pass"], rel=1e-3), "run bench/batch.py again"
        if batch == 1:
            alone = found.tokens_per_second
    assert found.tokens_per_second >= 3.8 * alone  # even with as many lanes in all as one sequence has
