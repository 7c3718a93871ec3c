"""Training, its configuration and what it leaves; evaluation of the shipped model; user modules."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trilobit.errors import ConfigError, ModelError
from trilobit.model import (
    build_from_spec,
    evaluate_text,
    export_for_compile,
    load_pretrained,
    reference_logits,
)
from trilobit.model.data import END, encode, load_tokenizer, train_tokenizer
from trilobit.model.evaluator import evaluate_float
from trilobit.model.graph import load_graph, load_tensors
from trilobit.model.train import TrainingConfig, calibration_sample, load_config, main

HERE = Path(__file__).parent
HELD_OUT = HERE / "data" / "tales_heldout.txt"
TALES = HERE.parents[1] / "model" / "pretrained" / "tales"
CONFIG = """
model: {vocab_size: 200, hidden_size: 16, num_hidden_layers: 2, intermediate_size: 32}
training: {steps: 40, batch_size: 4, context: 32, learning_rate: 1.0e-2, warmup_steps: 5, evaluate_every: 20,
           checkpoint_every: 20, dropout: 0.1}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_train_resume_and_result(tmp_path, config):
    out = tmp_path / "out"
    record = main([HELD_OUT], config, out, device="cpu", quiet=True)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [20, 40]
    assert log[1]["held_out_loss"] < log[0]["held_out_loss"] < np.log(200)
    assert record["held_out_bits_per_character"] > 0
    graph = load_graph(out)
    assert graph.calibration.tokens > 1000 and graph.eos_token_id == 0
    ids = encode(load_tokenizer(out / "tokenizer.json"), HELD_OUT.read_text())[:100]
    assert np.abs(evaluate_float(graph, load_tensors(graph, out), ids) - reference_logits(out, ids)).max() < 1e-6
    assert "held-out loss" in (out / "MODEL_CARD.md").read_text()
    config.write_text(CONFIG.replace("steps: 40", "steps: 60, decay_until: 0.5, token_dropout: 0.05"))
    assert main([HELD_OUT], config, out, resume=True, device="cpu", quiet=True)["step"] == 60
    card = (out / "MODEL_CARD.md").read_text()
    assert "weight decay 0.1 up to 50% of the steps, dropout 0.1, 5.0% random input tokens, precision fp32" in card
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == 60
    config.write_text(CONFIG.replace("hidden_size: 16", "hidden_size: 24"))
    with pytest.raises(ModelError, match="another configuration"):
        main([HELD_OUT], config, out, resume=True, device="cpu", quiet=True)


def test_bits_per_character_are_those_of_the_held_out_part(tmp_path, config, rng):
    """Digits at random, nearly a token each, behind a text of longer tokens."""
    words, digits = HELD_OUT.read_text()[:30_000], "".join(map(str, rng.integers(0, 10, 1500)))
    text = tmp_path / "text.txt"
    text.write_text(words + digits)
    record = main([text], config, tmp_path / "out", device="cpu", quiet=True)
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer.json")
    of_digits, of_all = (len(encode(tokenizer, part)) / len(part) for part in (digits, words + digits))
    found = record["held_out_bits_per_character"] * np.log(2) / record["held_out_loss"]
    assert found == pytest.approx(of_digits, rel=0.1) and of_digits > 1.2 * of_all


def test_resume_without_checkpoint(tmp_path, config):
    shutil.copy(TALES / "tokenizer.json", tmp_path / "tokenizer.json")
    with pytest.raises(ModelError, match="expected vocab_size 200 tokens, got 2048"):
        main([HELD_OUT], config, tmp_path, resume=True, device="cpu", quiet=True)
    with pytest.raises(ModelError, match="UTF-8 text file"):
        main([tmp_path / "absent.txt"], config, tmp_path, device="cpu", quiet=True)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("steps: 40", "stepps: 40", "unknown key stepps"),
        ("steps: 40", "steps: many", "steps must be of type int, got 'many'"),
        ("dropout: 0.1", "dropout: 2", "dropout must be at least 0 and below 1"),
        ("warmup_steps: 5", "warmup_steps: 50", "fewer than the 40 steps"),
        ("dropout: 0.1", "precision: int4", "one of fp32, tf32, bf16"),
        ("hidden_size: 16", "hidden_size: 0", "hidden_size must be a positive integer"),
        ("training:", "running:", "two sections"),
        ("steps: 40,", "", "steps"),
        ("model: {", "model: [", "expected YAML"),
    ],
)
def test_configuration_errors(config, old, new, text):
    config.write_text(CONFIG.replace(old, new))
    with pytest.raises(ConfigError, match=r"config\.yaml") as error:
        load_config(config)
    assert text in str(error.value)


def test_presets():
    model, training = load_config("tales")
    assert (model.vocab_size, model.hidden_size, model.mlp_size) == (2048, 256, 768)
    assert load_config("small.yaml")[1].precision == "fp32" and training.precision == "bf16"
    with pytest.raises(ConfigError, match="presets: shakespeare, shakespeare-onchip, shakespeare-tiny, small, tales"):
        load_config("huge")


def test_schedule_rises_falls_and_halves():
    config = TrainingConfig(steps=100, batch_size=1, context=1, learning_rate=1.0, warmup_steps=10, final_lr=0.0)
    assert config.learning_rate_at(0) == pytest.approx(0.1) and config.learning_rate_at(10) == pytest.approx(1.0)
    assert config.learning_rate_at(50) / config.learning_rate_at(49) == pytest.approx(0.5, rel=0.05)
    assert config.learning_rate_at(99) < 1e-3


def test_vocabulary():
    text = HELD_OUT.read_text()
    tokenizer = train_tokenizer(text, 300)
    ids = encode(tokenizer, text)
    assert tokenizer.token_to_id(END) == 0 and (ids == 0).sum() == text.count(END)
    assert 1 not in ids and 1 in encode(tokenizer, "caf\u00e9")
    story = text[: text.index("\n" + END)]
    assert tokenizer.decode(encode(tokenizer, story).tolist()) == story
    assert encode(tokenizer, "").shape == (0,)
    with pytest.raises(ModelError, match="use more text"):
        train_tokenizer("a b c", 2000)


def test_calibration_sample_is_spread():
    sample = calibration_sample(np.arange(100_000), 2048, 1024)
    assert len(sample) == 2048 and sample[0] == 0 and sample[-1] == 99_999
    assert len(calibration_sample(np.arange(10))) == 10


def test_shipped_model_on_held_out_text():
    story = HELD_OUT.read_text()[:6000]
    score = evaluate_text(TALES, story)
    assert score.characters == 6000 and score.tokens < 2200
    assert score.bits_per_character < 1.45
    ids = encode(load_tokenizer(TALES / "tokenizer.json"), story)[:64]
    graph = load_graph(TALES)
    assert graph.calibration.tokens >= 20_000 and graph.eos_token_id == 0
    got = evaluate_float(graph, load_tensors(graph, TALES), ids)
    assert np.abs(got - reference_logits(TALES, ids)).max() < 1e-4
    assert sum(path.stat().st_size for path in TALES.iterdir()) < 3_100_000
    assert sum(p.numel() for p in load_pretrained(TALES).parameters() if p.ndim == 2) > 500_000


@pytest.mark.parametrize(
    ("name", "ternary", "size", "loss"), [("shakespeare", 6_832_896, 1_700_000, 1.25), ("shakespeare-tiny", 448_800, 200_000, 1.35)]
)
def test_shipped_character_models(name, ternary, size, loss):
    """On 2,500 characters of the validation text; random text of these letters would cost above 3 nats."""
    folder = TALES.parent / name
    score = evaluate_text(folder, (HERE / "data" / "shakespeare_heldout.txt").read_text())
    print(score)
    assert score.tokens == score.characters == 2500 and score.loss < loss
    graph = load_graph(folder)
    assert sum(n.attrs["rows"] * n.attrs["cols"] for n in graph.nodes if n.op == "bitlinear") == ternary
    assert graph.calibration.tokens >= 20_000 and sum(path.stat().st_size for path in folder.iterdir()) < size


def test_reference_logits_checks_tokens():
    with pytest.raises(ModelError, match=r"expected \[T\] of 0\.\.63"):
        reference_logits(HERE / "data" / "toy", np.array([64]))
    assert reference_logits(HERE / "data" / "toy", np.array([], dtype=int)).shape == (0, 64)


USER = """
import torch
from torch import nn
from trilobit.model import BitLinear, RMSNorm

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Embedding(2048, 16), RMSNorm(16), BitLinear(16, 2048)
    def forward(self, ids):
        return self.head(self.norm(self.embed(ids)))

def build():
    return Net()

def broken():
    raise RuntimeError("out of cheese")

def number():
    return 3
"""


@pytest.fixture
def user(tmp_path):
    (tmp_path / "my_model.py").write_text(USER)
    return tmp_path


def test_user_module(user):
    spec = f"{user / 'my_model.py'}:build"
    module = build_from_spec(spec)
    save_file(module.state_dict(), user / "w.safetensors")
    graph = export_for_compile(spec, user / "w.safetensors", HELD_OUT, TALES / "tokenizer.json", user / "out")
    assert (graph.calibration.source, graph.eos_token_id) == ("tales_heldout.txt", 0)
    again = build_from_spec(spec, user / "w.safetensors")
    assert torch.equal(again.embed.weight, module.embed.weight)
    assert export_for_compile(spec, None, None, None, user / "other").calibration.tokens == 0


def test_user_module_errors(user):
    def fails(function, text, weights=None):
        with pytest.raises(ModelError) as error:
            build_from_spec(f"{user / 'my_model.py'}:{function}", weights)
        assert text in str(error.value)

    fails("missing", "defines no function missing()")
    fails("broken", "RuntimeError: out of cheese")
    fails("number", "expected a torch.nn.Module, got int")
    fails("build", "no such file", user / "absent.safetensors")
    save_file({"embed.weight": torch.zeros(2048, 16)}, user / "w.safetensors")
    fails("build", "missing key", user / "w.safetensors")
    save_file({"embed.weight": torch.zeros(4, 4)}, user / "w.safetensors")
    fails("build", "expected shape [2048, 16], got [4, 4]", user / "w.safetensors")
    with pytest.raises(ModelError, match=r"expected FILE\.py:FUNCTION"):
        build_from_spec("my_model")
    with pytest.raises(ModelError, match="no such file"):
        build_from_spec(str(user / "absent.py") + ":build")
    with pytest.raises(ModelError, match="needs the model's tokenizer"):
        export_for_compile(f"{user / 'my_model.py'}:build", None, HELD_OUT, None, user / "out")
