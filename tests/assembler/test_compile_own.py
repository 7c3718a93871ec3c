"""Models of one's own: FILE.py:FUNCTION, traced, exported and compiled without the compiler knowing their layers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from assembler_graphs import run_logits
from click.testing import CliRunner

from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler import compile_model
from trilobit.cli import main

torch = pytest.importorskip("torch", reason="needs PyTorch to trace a model")
OWN = Path(__file__).parent / "data" / "own_model.py"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights, a tokenizer of 300 tokens and a text beside each other."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from trilobit.model import build_from_spec

    folder = tmp_path_factory.mktemp("own")
    module = build_from_spec(f"{OWN}:build")
    generator = torch.Generator().manual_seed(11)
    state = {k: torch.randn(v.shape, generator=generator) * 0.5 + (1 if "norm" in k else 0) for k, v in module.state_dict().items()}
    save_file(state, folder / "w.safetensors")
    text = "once upon a time there was a small machine that liked to add and never to multiply\n" * 30
    (folder / "text.txt").write_text(text)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False,
                                                              special_tokens=["<|end|>"]))  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_unseen_module_runs_as_pytorch_computes_it(files):
    from trilobit.model import build_from_spec

    compiled = compile_model(f"{OWN}:build", "axi512", weights=files / "w.safetensors", calibrate=files / "text.txt", store_logits=True)
    tokens = np.random.default_rng(12).integers(0, 300, 80)
    with torch.no_grad():
        expected = build_from_spec(f"{OWN}:build", files / "w.safetensors")(torch.tensor(tokens)[None])[0].double().numpy()
    got, _ = run_logits(compiled, tokens)
    cosine = (expected * got).sum() / np.linalg.norm(expected) / np.linalg.norm(got)
    print(f"cosine {cosine:.6f}")
    assert cosine > 0.999


def test_command_with_weights_and_calibration_text(files, tmp_path):
    arguments = ["compile", f"{OWN}:build", "--weights", str(files / "w.safetensors"), "--calibrate", str(files / "text.txt"),
                 "--core", "ulx3s", "-o", str(tmp_path / "b"), "--json"]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.name == "own_model"
    assert bundle.tokenizer is not None  # the one beside the weights
    assert bundle.manifest.calibration is not None and bundle.manifest.calibration["tokens"] > 0
    report = json.loads(result.output)
    assert report["saturation_run"]["tokens"] == 256  # on the calibration text
    assert report["saturation_run"]["saturated"] == {}


def test_unsupported_operation_of_a_module(files, tmp_path):
    call = CliRunner().invoke
    result = call(main, ["compile", f"{OWN}:build_unsupported", "--core", "ulx3s", "-o", str(tmp_path / "b")])
    assert result.exit_code == 2
    assert "softmax" in result.output and "mixers.1" in result.output
    assert not (tmp_path / "b").exists()
    checked = call(main, ["compile", f"{OWN}:build_unsupported", "--check", "--json"])
    values = json.loads(checked.stdout)
    assert checked.exit_code == 2 and not values["ok"]
    assert [(o["module"], "softmax" in o["operation"]) for o in values["unmapped"]] == [("mixers.1", True)]
    assert call(main, ["compile", f"{OWN}:build", "--check"]).exit_code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--weights", "none.safetensors"], "none.safetensors"),
        (["--weights", "truncated"], "truncated"),
        (["--calibrate", "none.txt"], "none.txt"),
    ],
)
def test_missing_files_leave_nothing(files, tmp_path, change, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if change[1] == "truncated":
        change[1] = str(tmp_path / "truncated.safetensors")
        Path(change[1]).write_bytes((files / "w.safetensors").read_bytes()[:500])
    arguments = ["--weights", str(files / "w.safetensors"), "--tokenizer", str(files / "tokenizer.json"), *change]
    result = CliRunner().invoke(main, ["compile", f"{OWN}:build", "--core", "ulx3s", "-o", "b", *arguments])
    assert result.exit_code == 2 and message in result.output, result.output
    assert not (tmp_path / "b").exists() and not list(tmp_path.glob(".b*"))


def test_no_torch_is_needed_for_exported_graphs():
    import subprocess

    code = "import sys, trilobit.commands.compile, trilobit.assembler.compiler as c; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
