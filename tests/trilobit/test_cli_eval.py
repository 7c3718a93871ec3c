"""``trilobit eval``: the compiled program against the reference over the same positions, and its errors."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler.pipeline import compile_model, resolve
from trilobit.cli import main
from trilobit.evaluation import FLOOR_NOISE, Tally, log_softmax, read_text
from trilobit.isa.core import load_core

TEXT = "Once upon a time there was a little girl who lived with her mother in a house at the edge of the wood.\n"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    compile_model("tales", "ulx3s", folder / "logits", store_logits=True)
    compile_model("tales", "ulx3s", folder / "plain")
    (folder / "text.txt").write_text(TEXT)
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["eval", *map(str, arguments), "--json"])


def test_program_is_close_to_the_reference(bundles):
    pytest.importorskip("torch", reason="the reference needs PyTorch")
    result = run("--bundle", bundles / "logits", "--text", bundles / "text.txt")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["characters"] == len(TEXT)
    assert 0 < data["kl"] < 5e-3
    assert data["top1_agreement"] > 0.9
    assert data["bits_per_character"] == pytest.approx(data["reference_bits_per_character"], rel=0.01)

    reference = json.loads(run("--bundle", bundles / "logits", "--text", bundles / "text.txt", "--backend", "torch").stdout)
    assert reference["bits_per_character"] == pytest.approx(data["reference_bits_per_character"], rel=1e-9)
    assert reference["tokens"] == data["tokens"]
    assert 0 < reference["kl"] < 5e-3 and reference["top1_agreement"] > 0.9  # its floor: itself with noise on its embeddings
    assert data["saturations"] == 0 and reference["saturations"] is None


def test_characters_of_a_text_that_is_cut_are_those_that_its_tokens_stand_for(tmp_path):
    """End marks take the line ends around them along, and each byte that the vocabulary lacks is a token: decoded, neither is as long."""
    (tmp_path / "text.txt").write_text("A king.\n<|end|>\nA \u00e9 queen.\n<|end|>\n" * 2, encoding="utf-8")
    tokenizer = resolve("tales") / "tokenizer.json"
    # A, king, ., the mark, A, a space, two bytes of one character, queen, ., the mark
    ends = [1, 6, 7, 16, 17, 18, 19, 19, 25, 26, 35]
    for limit, end in enumerate([*ends, *(35 + end for end in ends)], 1):
        text = read_text(tmp_path / "text.txt", tokenizer, 0, limit)
        assert (len(text.targets), text.characters) == (limit, end)
    assert read_text(tmp_path / "text.txt", tokenizer, 0).characters == 70
    assert read_text(tmp_path / "text.txt", tokenizer, 0, 11, streams=4).characters == 19


def test_reference_under_noise_is_near_itself_and_repeats():
    pytest.importorskip("torch", reason="the reference needs PyTorch")
    from trilobit.model.evaluate import reference_logits

    model, ids = resolve("shakespeare-tiny"), np.arange(40) % 60
    exact, noisy = reference_logits(model, ids), reference_logits(model, ids, noise=FLOOR_NOISE)
    assert 0 < np.abs(noisy - exact).max() < 0.5  # one rounding of int8 that flips moves a logit by some hundredths
    assert np.array_equal(noisy, reference_logits(model, ids, noise=FLOOR_NOISE, chunk=7))
    assert np.abs(reference_logits(model, ids, noise=0.1) - exact).max() > 10 * np.abs(noisy - exact).max()


def test_a_bundle_of_several_sequences_reads_as_many_parts_of_the_text(bundles, tmp_path):
    options = ["--text", bundles / "text.txt", "--reference", "none", "-n", 12]
    compile_model("tales", load_core("ulx3s", 2), tmp_path / "two", store_logits=True)
    together = json.loads(run("--bundle", tmp_path / "two", *options).stdout)
    apart = json.loads(run("--bundle", bundles / "logits", *options, "--streams", 2).stdout)
    differ = {key for key in apart if apart[key] != together[key]}
    assert differ == {"bundle", "seconds"} and together["streams"] == 2
    refused = run("--bundle", tmp_path / "two", *options, "--streams", 3)
    assert refused.exit_code == 2 and "expected --streams 2, as it was compiled for a batch of 2, got 3" in refused.stderr


def test_streams_score_the_same_text_side_by_side(bundles):
    pytest.importorskip("torch", reason="the reference needs PyTorch")
    options = ("--bundle", bundles / "logits", "--text", bundles / "text.txt", "-n", 11, "--streams", 2)
    program, reference = (json.loads(run(*options, "--backend", backend).stdout) for backend in ("functional", "torch"))
    assert program["tokens"] == reference["tokens"] == 10 and program["streams"] == 2  # the eleventh is left out
    assert program["reference_bits_per_character"] == pytest.approx(reference["bits_per_character"], rel=1e-12)
    assert 0 < program["kl"] < 5e-3 and program["saturations"] == 0
    result = run("--bundle", bundles / "logits", "--text", bundles / "text.txt", "--streams", 100000)
    assert result.exit_code == 2 and "at least 100000 tokens" in result.stderr


def test_without_a_reference_and_with_a_limit(bundles):
    data = json.loads(run("--bundle", bundles / "logits", "--text", bundles / "text.txt", "--reference", "none", "-n", 5).stdout)
    assert data["tokens"] == 5
    assert data["kl"] is None and data["top1_agreement"] is None
    assert TEXT.startswith("Once") and 5 <= data["characters"] < len(TEXT)
    assert data["loss"] * 5 / np.log(2) == pytest.approx(data["bits_per_character"] * data["characters"])


@pytest.mark.parametrize(("arguments", "message"), [
    (["--bundle", "plain", "--text", "text.txt", "--reference", "none"], "compile it with --store-logits"),
    (["--bundle", "logits", "--text", "none.txt"], "none.txt: expected a UTF-8 text file"),
    (["--bundle", "logits", "--text", "text.txt", "--reference", "no-such-model"], "give --reference FOLDER"),
    (["--bundle", "none", "--text", "text.txt"], "expected a bundle"),
])  # fmt: skip
def test_wrong_input_is_one_message(bundles, arguments, message):
    paths = [str(bundles / a) if arguments[i - 1] in ("--bundle", "--text") and i else a for i, a in enumerate(arguments)]
    result = run(*paths)
    assert result.exit_code == 2
    assert message in result.stderr


def test_tally_of_equal_predictions_has_no_divergence(rng):
    tally = Tally()
    logits = rng.normal(size=(20, 50))
    targets = rng.integers(0, 50, 20).tolist()
    for row, target in zip(logits, targets, strict=True):
        tally.add(row, target, row + 3.0)  # a constant changes no prediction
    score = tally.score(100, compared=True)
    assert score.kl == pytest.approx(0, abs=1e-12) and score.top1 == 1.0
    assert score.loss == pytest.approx(-np.mean([log_softmax(row)[t] for row, t in zip(logits, targets, strict=True)]))
    assert score.bits_per_character == pytest.approx(score.reference_bits_per_character)


def test_tally_divergence_of_a_known_pair():
    tally = Tally()
    tally.add(np.log([0.25, 0.75]), 0, np.log([0.5, 0.5]))
    score = tally.score(1, compared=True)
    assert score.kl == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))
    assert score.loss == pytest.approx(-np.log(0.25))


def test_bundle_of_the_fixture_stores_logits(bundles):
    assert load_bundle(bundles / "logits").manifest.logits.addr is not None
    assert load_bundle(bundles / "plain").manifest.logits.addr is None
