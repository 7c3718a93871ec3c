"""``trilobit demo``: the RTL writes what the functional simulator wrote, and a difference stops it."""

import json
import re
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from trilobit import story
from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler.pipeline import compile_model
from trilobit.cli import main
from trilobit.isa.core import load_core
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.power import Resources
from trilobit.story import DifferenceError, clock_evidence, write_story
from trilobit.text import Tokenizer


@pytest.fixture(scope="module")
def demo():
    result = CliRunner().invoke(main, ["demo", "-n", "3", "--prompt", "Once", "--seed", "5", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_figures_follow_from_the_cycles(demo):
    assert len(demo["tokens"]) == 3 and demo["equal_to_functional"]
    assert demo["text"].startswith("Once") and len(demo["text"]) > len("Once")
    assert demo["tokens_per_second"] == pytest.approx(demo["clock_mhz"] * 1e6 / demo["cycles_per_token"])
    assert demo["roofline_share"] == pytest.approx(1.6 / 8 * 7_340_032 / (4 * demo["cycles_per_token"]))
    assert 0.8 < demo["roofline_share"] < 1
    assert demo["weights_per_second"] > 0


def test_every_figure_says_how_it_is_known(demo):
    assert demo["evidence"] == {
        "cycles_per_token": "measured in RTL simulation", "roofline_share": "measured in RTL simulation", "power": "estimated",
        "tokens_per_second": f"from the measured cycles, at clock_mhz; {clock_evidence(load_core('ulx3s'))}",
    }  # fmt: skip
    assert demo["power"]["evidence"] == "estimated" and all(term["source"] for term in demo["power"]["terms"])
    shown = CliRunner().invoke(main, ["demo", "-n", "2", "--prompt", "Once"]).stdout
    assert "measured in RTL simulation" in shown and "estimated for LFE5U-85F" in shown
    below = " ".join(shown.partition("sources of the power's terms:")[2].split())
    assert all(" ".join(term["source"].split()) in below for term in demo["power"]["terms"]), shown


def test_tokens_are_those_of_run_on_the_functional_simulator(demo, tmp_path):
    compile_model("tales", "ulx3s", tmp_path / "bundle")
    arguments = [str(tmp_path / "bundle"), "--prompt", "Once", "-n", "3", "--seed", "5", "--temperature", str(demo["temperature"])]
    result = CliRunner().invoke(main, ["run", *arguments, "--json"])
    assert json.loads(result.stdout)["tokens"] == demo["tokens"]


def test_a_clock_is_routed_only_where_a_report_says_so():
    assert re.fullmatch(r"routed alone on LFE5U-85F-6 the core reaches [\d.]+ MHz", clock_evidence(load_core("ulx3s")))
    others = [load_core("axi512"), load_core("ulx3s", batch=2), load_core("ulx3s").replace(lanes=2)]
    assert {clock_evidence(core) for core in others} == {"the clock is a goal, not routed"}


def test_a_difference_is_found_at_its_token(tmp_path, monkeypatch):
    compile_model("tales", "ulx3s", tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    run = FunctionalSimulator.run

    def wrong(self, *args, **kwargs):
        result = run(self, *args, **kwargs)
        result.tokens[1] ^= 1
        return result

    monkeypatch.setattr(FunctionalSimulator, "run", wrong)
    seen = []
    with pytest.raises(DifferenceError, match=r"token 1: the RTL emitted \d+, the functional simulator \d+"):
        write_story(bundle, Tokenizer(bundle.tokenizer), "", count=3, temperature=0.0, seed=0, on_token=seen.append)
    assert len(seen) == 1


def test_unknown_model_is_one_message():
    result = CliRunner().invoke(main, ["demo", "--model", "sagas"])
    assert result.exit_code == 2
    assert "sagas: expected a folder with graph.json, a model that ships with Trilobit" in result.stderr


def test_a_core_of_several_sequences_is_refused(tmp_path):
    core = tmp_path / "four.yaml"
    core.write_text("beat_bytes: 4\nlanes: 1\nmax_length: 1024\nbatch: 4\n")
    result = CliRunner().invoke(main, ["demo", "--core", str(core), "-n", "3"])
    assert result.exit_code == 2 and "expected a core of batch 1 to write one story, got batch 4" in result.stderr


def test_power_is_unknown_without_a_board_even_where_the_core_was_routed(monkeypatch):
    """It ended the demo's output with an error."""
    monkeypatch.setattr(story, "kept_resources", lambda core: (Resources(registers=1, luts=1, dsps=1, brams=1), "LFE5U-85F"))
    told = SimpleNamespace(counters=dict.fromkeys(("cycles", "stream_read_beats", "ldst_read_beats", "write_beats"), 100))
    assert story.story_power(load_core("ulx3s"), told) is not None
    assert story.story_power(load_core("lean16"), told) is None
