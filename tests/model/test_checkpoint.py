"""Model folders: both layouts, and one clear message for each way a folder can be wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trilobit.errors import ModelError
from trilobit.model import load_pretrained, save_packed
from trilobit.model.files import atomic_folder

GOLDEN = Path(__file__).parent / "golden" / "mlgru-2x128"


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / name, tmp_path / name)
    return tmp_path


def change(folder, function):
    tensors = load_file(folder / "model.safetensors")
    function(tensors)
    save_file(tensors, folder / "model.safetensors")


def fails(folder, *texts):
    with pytest.raises(ModelError) as error:
        load_pretrained(folder)
    for text in texts:
        assert text in str(error.value)


def test_missing_files(folder):
    (folder / "model.safetensors").unlink()
    fails(folder, "model.safetensors: no such file")
    (folder / "config.json").unlink()
    fails(folder, "config.json: no such file")


@pytest.mark.parametrize("keep", [0, 4, 1000, 2_000_000])
def test_truncated(folder, keep):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:keep])
    fails(folder, "truncated or damaged", f"{keep} bytes")


def test_missing_key(folder):
    change(folder, lambda t: t.pop("model.layers.1.attn.g_norm.weight"))
    fails(folder, "missing key model.layers.1.attn.g_norm.weight")


def test_unexpected_key(folder):
    change(folder, lambda t: t.update({"model.layers.7.extra": torch.zeros(2)}))
    fails(folder, "unexpected key 'model.layers.7.extra'")


def test_wrong_shape(folder):
    change(folder, lambda t: t.update({"model.norm.weight": torch.ones(64)}))
    fails(folder, "model.norm.weight: expected shape [128], got [64]")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(folder, value):
    change(folder, lambda t: t["lm_head.weight"][3].fill_(value))
    fails(folder, "lm_head.weight: holds NaN or infinity")


def test_not_floating_point(folder):
    change(folder, lambda t: t.update({"lm_head.weight": t["lm_head.weight"].to(torch.int32)}))
    fails(folder, "lm_head.weight: expected floating point")


def test_damaged_config(folder):
    (folder / "config.json").write_text("{")
    fails(folder, "config.json: expected a JSON object")


@torch.no_grad()
def test_shards_and_half_precision(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-{n % 2 + 1}-of-2.safetensors" for n, name in enumerate(names)}
    for file in set(places.values()):
        save_file({n: tensors[n].to(torch.bfloat16) for n in names if places[n] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert load_pretrained(folder)(torch.tensor([[1, 2]])).shape == (1, 2, 256)
    (folder / "model-1-of-2.safetensors").unlink()
    fails(folder, "model-1-of-2.safetensors: no such file")
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    fails(folder, "index.json: expected a weight_map")


@torch.no_grad()
def test_tied_embeddings(folder):
    values = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(values))
    change(folder, lambda t: t.pop("lm_head.weight"))
    ids = torch.tensor([[5, 6, 7]])
    model = load_pretrained(folder)
    assert torch.equal(model.lm_head.weight, model.model.embeddings.weight)
    assert torch.equal(load_pretrained(folder, form="packed")(ids), model(ids))


@torch.no_grad()
def test_packed_round_trip(tmp_path):
    model = load_pretrained(GOLDEN)
    half = model.model.embeddings.weight.half().float()
    model.model.embeddings.weight.copy_(half)  # what the packed layout keeps of it
    save_packed(model, tmp_path / "packed")
    assert not list(tmp_path.glob(".*"))
    again = load_pretrained(tmp_path / "packed")
    ids = torch.randint(0, 256, (2, 20))
    assert torch.equal(again(ids), model(ids))
    with pytest.raises(ModelError, match="ternary weights only"):
        load_pretrained(tmp_path / "packed", form="training")
    size = (tmp_path / "packed" / "model.safetensors").stat().st_size
    assert size < (GOLDEN / "model.safetensors").stat().st_size / 8


def test_packed_of_another_version(tmp_path):
    save_packed(load_pretrained(GOLDEN), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"trilobit": {"layout": "packed", "version": 9}}))
    fails(tmp_path, "expected the packed layout, version 1")


def test_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_text("old")
    for name in ("there", "new"):
        with pytest.raises(RuntimeError), atomic_folder(tmp_path / name) as temporary:
            (temporary / "a").write_text("half")
            raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there" / "a").read_text() == "old"
