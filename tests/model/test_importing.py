"""Import: what comes out of a published checkpoint, how little memory it takes, and every way in which one can be wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from trilobit.errors import ModelError
from trilobit.model import ModelConfig, load_pretrained
from trilobit.model.evaluator import evaluate_float
from trilobit.model.export import export_graph
from trilobit.model.graph import load_graph, load_tensors
from trilobit.model.importing import import_checkpoint
from trilobit.model.synthetic import synthesize

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())
SMALL = ModelConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_heads=2, intermediate_size=48)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda p: p.name)
def test_same_as_the_export_of_the_module(golden, tmp_path):
    report = import_checkpoint(golden, tmp_path / "packed")
    traced = export_graph(load_pretrained(golden), tmp_path / "traced")
    made = load_graph(tmp_path / "packed")
    got, expected = load_file(tmp_path / "packed" / "model.safetensors"), load_file(tmp_path / "traced" / "model.safetensors")
    assert {k for k in got if not k.startswith("constant.")} == {k for k in expected if not k.startswith("constant.")}
    for name, tensor in got.items():
        if not name.startswith("constant."):
            wanted = expected[name].dtype if name != "model.embeddings.weight" else torch.float32  # half would not be exact
            assert tensor.dtype == wanted and torch.equal(tensor.to(expected[name].dtype), expected[name]), name
    for mine, theirs in zip(made.nodes, traced.nodes, strict=True):
        assert mine.range == pytest.approx(theirs.range, rel=1e-3) and mine.op == theirs.op
    assert report.scales["lm_head.weight"] == float(expected["lm_head.scale"])
    assert report.packed_bytes < report.source_bytes / 8


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda p: p.name)
def test_golden_outputs_after_import(golden, tmp_path):
    """The packed checkpoint in the reference, and its graph in NumPy, against the published implementation's outputs."""
    import_checkpoint(golden, tmp_path)
    io = load_file(golden / "io.safetensors")
    expected = io["logits"].numpy()
    with torch.no_grad():
        reference = load_pretrained(tmp_path)(io["input_ids"]).numpy()
    graph = load_graph(tmp_path)
    tensors = load_tensors(graph, tmp_path)
    for b, ids in enumerate(io["input_ids"].numpy()):
        for logits in (reference[b], evaluate_float(graph, tensors, ids)):
            cosine = (logits * expected[b]).sum(-1) / np.linalg.norm(logits, axis=-1) / np.linalg.norm(expected[b], axis=-1)
            assert cosine.min() >= 0.9999


def test_shards_in_bfloat16(tmp_path):
    synthesize(SMALL, tmp_path / "source", seed=4, shard_bytes=5000)
    shards = sorted((tmp_path / "source").glob("*.safetensors"))
    assert len(shards) > 3 and shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    seen = []
    report = import_checkpoint(tmp_path / "source", tmp_path / "packed", progress=seen.append)
    assert len(seen) == len(set(seen)) == 35
    assert report.source_bytes == json.loads((tmp_path / "source" / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    ids = torch.randint(0, 64, (2, 20))
    with torch.no_grad():
        expected = load_pretrained(tmp_path / "source", form="packed")
        half = expected.model.embeddings.weight
        half.copy_(half.half().float())
        assert torch.equal(load_pretrained(tmp_path / "packed")(ids), expected(ids))


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_other_types(tmp_path, dtype):
    synthesize(SMALL, tmp_path / "source", dtype=dtype)
    import_checkpoint(tmp_path / "source", tmp_path / "packed")
    ids = torch.randint(0, 64, (1, 9))
    with torch.no_grad():
        assert load_pretrained(tmp_path / "packed")(ids).isfinite().all()


def test_tied_embeddings(tmp_path):
    synthesize(SMALL, tmp_path / "source", dtype="fp32")
    values = json.loads((tmp_path / "source" / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps(values | {"tie_word_embeddings": True}))
    tensors = load_file(tmp_path / "source" / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "source" / "model.safetensors")
    import_checkpoint(tmp_path / "source", tmp_path / "packed")
    expected = load_pretrained(tmp_path / "source", form="packed").lm_head.weight
    assert torch.equal(load_pretrained(tmp_path / "packed").lm_head.weight, expected)
    tensors["lm_head.weight"] = torch.randn(64, 32)  # a tied model does not look at it
    save_file(tensors, tmp_path / "source" / "model.safetensors")
    import_checkpoint(tmp_path / "source", tmp_path / "packed")
    assert torch.equal(load_pretrained(tmp_path / "packed").lm_head.weight, expected)
    assert torch.equal(load_pretrained(tmp_path / "source", form="packed").lm_head.weight, expected)


def test_embeddings_lose_nothing(tmp_path):
    for dtype, kept in (("bf16", torch.float16), ("fp16", torch.float16), ("fp32", torch.float32)):
        synthesize(SMALL, tmp_path / dtype, dtype=dtype)
        import_checkpoint(tmp_path / dtype, tmp_path / "packed")
        before, after = (load_file(tmp_path / f / "model.safetensors")["model.embeddings.weight"] for f in (dtype, "packed"))
        assert after.dtype == kept and (after.float() - before.float()).abs().max() < 1e-7
    change(tmp_path / "fp16", lambda t: t.update({"model.embeddings.weight": torch.full((64, 32), 1e5)}))
    import_checkpoint(tmp_path / "fp16", tmp_path / "packed")
    assert load_file(tmp_path / "packed" / "model.safetensors")["model.embeddings.weight"].dtype == torch.float32


def test_without_torch_and_without_the_model_in_memory(tmp_path):
    """45 million parameters: 90 MB in the file, 180 MB as floats. The process grows by its largest tensor and the packed model."""
    config = ModelConfig(vocab_size=8000, hidden_size=640, num_hidden_layers=6, intermediate_size=1664)
    synthesize(config, tmp_path / "source")
    code = (
        "import resource, sys; sys.modules['torch'] = None\n"
        "from trilobit.model.importing import import_checkpoint\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\n"
        f"import_checkpoint({str(tmp_path / 'source')!r}, {str(tmp_path / 'packed')!r})\n"
        "print(peak() - before)\n"
    )
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 60, grown


# ---- what can be wrong -----------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    synthesize(SMALL, tmp_path / "source", dtype="fp32")
    return tmp_path / "source"


def change(folder, function):
    tensors = load_file(folder / "model.safetensors")
    function(tensors)
    save_file(tensors, folder / "model.safetensors")


def configure(folder, **changes):
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v != "drop"}))


def fails(source, *texts, **options):
    output = source.parent / "packed"
    with pytest.raises(ModelError) as error:
        import_checkpoint(source, output, **options)
    for text in texts:
        assert text in str(error.value)
    assert sorted(p.name for p in source.parent.iterdir() if p.is_dir()) == ["source"]  # nothing half-written


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_type": "llama"}, "model_type must be 'hgrn_bit' (the MatMul-free LM), got 'llama'; bring another architecture as"),
        ({"use_short_conv": True}, "got True; take a checkpoint trained without this option"),
        ({"hidden_ratio": float("inf"), "intermediate_size": None}, "hidden_ratio must be positive and at most 1,000,000, got inf"),
        ({"hidden_ratio": float("nan"), "intermediate_size": None}, "hidden_ratio must be positive"),
        ({"hidden_act": "gelu"}, "hidden_act must be"),
        ({"num_heads": 3}, "num_heads must be a divisor"),
        ({"expand_ratio": 2}, "expand_ratio must be 1"),
        ({"model_type": "drop"}, "missing model_type"),
        ({"hidden_size": 48}, "expected shape [64, 48], got [64, 32]"),
        ({"num_hidden_layers": 1, "use_lower_bound": False}, "unexpected key 'model.l"),
        ({"num_hidden_layers": 3}, "model.lower_bounds: expected shape [3, 32], got [2, 32]"),
        ({"trilobit": {"layout": "packed", "version": 1}}, "is packed already"),
        ({"trilobit": {"layout": "packed", "version": 7}}, "expected the packed layout, version 1"),
    ],
)
def test_configuration_errors(source, changes, text):
    configure(source, **changes)
    fails(source, text, str(source))


def test_no_such_folder_and_no_configuration(source, tmp_path):
    with pytest.raises(ModelError, match=r"none: expected a model folder .* no such folder"):
        import_checkpoint(tmp_path / "none", tmp_path / "packed")
    (source / "config.json").unlink()
    fails(source, "config.json: no such file")


@pytest.mark.parametrize("name", ["model.embeddings.weight", "model.lower_bounds", "lm_head.weight", "model.norm.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_not_finite(source, name, value):
    change(source, lambda t: t[name].reshape(-1)[5].fill_(value))
    fails(source, f"{name}: holds NaN or infinity", "damaged", "download it again")


def test_integers(source):
    change(source, lambda t: t.update({"lm_head.weight": t["lm_head.weight"].to(torch.int8)}))
    fails(source, "lm_head.weight: expected floating point values", "I8")


@pytest.mark.parametrize("keep", [0, 5, 3000, -1])
def test_cut_short(source, keep):
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    fails(source, "truncated or damaged", "download it again")


def shards(tmp_path) -> Path:
    synthesize(SMALL, tmp_path / "source", shard_bytes=5000)
    return tmp_path / "source"


def test_shard_missing_or_cut_short(tmp_path):
    source = shards(tmp_path)
    last = sorted(source.glob("*.safetensors"))[-1]
    data = last.read_bytes()
    last.write_bytes(data[:-100])
    fails(source, last.name, "truncated or damaged")
    last.unlink()
    fails(source, f"{last.name}: no such file", "model.safetensors.index.json names", "copy or download what is missing")
    second = sorted(source.glob("*.safetensors"))[1]
    second.unlink()
    fails(source, f"{second.name}: no such file (nor {last.name})")
    with pytest.raises(ModelError, match="copy or download what is missing"):
        load_pretrained(source)


def test_index_that_does_not_fit(tmp_path):
    source = shards(tmp_path)
    index = source / "model.safetensors.index.json"
    good = json.loads(index.read_text())

    def write(places):
        index.write_text(json.dumps({"weight_map": places}))

    first = good["weight_map"]["model.embeddings.weight"]
    write(good["weight_map"] | {"lm_head.weight": first})
    fails(source, first, "missing key lm_head.weight, which the index places there")
    for escape in ("../outside.safetensors", "/etc/passwd", "..", "a/b.safetensors"):
        write(good["weight_map"] | {"lm_head.weight": escape})
        fails(source, "index.json", repr(escape), "do not use this checkpoint")
    write(good["weight_map"] | {"lm_head.weight": "weights.bin"})
    fails(source, "'weights.bin'", "never opened")
    write([])
    fails(source, "expected a weight_map")
    index.unlink()
    fails(source, "model.safetensors.index.json: no such file; expected the index")


def test_key_twice(tmp_path):
    source = shards(tmp_path)
    first, second = sorted(source.glob("*.safetensors"))[:2]
    save_file(load_file(second) | {"model.embeddings.weight": torch.zeros(64, 32)}, second)
    fails(source, "key 'model.embeddings.weight' is in", first.name)


def test_pickles_are_never_opened(source):
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    fails(source, "pytorch_model.bin", "can run code", "safe_serialization=True")


def tokenizer(path: Path, size: int) -> Path:
    Tokenizer(models.BPE({f"t{n}": n for n in range(size)}, [])).save(str(path))
    return path


def test_vocabulary_must_be_the_models(source, tmp_path):
    tokenizer(source / "tokenizer.json", 65)
    fails(source, "tokens below the model's vocab_size 64, got token 64", "--tokenizer")
    tokenizer(source / "tokenizer.json", 60)
    fails(source, "expected 64 tokens, the model's vocab_size, got 60", "--padded-vocabulary")
    assert import_checkpoint(source, tmp_path / "padded", padded_vocabulary=True).tokenizer
    right = tokenizer(tmp_path / "other.json", 64)
    import_checkpoint(source, tmp_path / "packed", tokenizer=right)
    assert (tmp_path / "packed" / "tokenizer.json").read_bytes() == right.read_bytes()


def test_tokenizers_that_cannot_be_read(source, tmp_path):
    (source / "tokenizer.json").write_text("{}")
    fails(source, "tokenizer.json", "expected a tokenizer")
    (source / "tokenizer.json").unlink()
    fails(source, "none.json: no such file", tokenizer=tmp_path / "none.json")
    (source / "tokenizer.model").write_bytes(b"sentencepiece")
    report = import_checkpoint(source, tmp_path / "packed")
    assert not report.tokenizer and "save_pretrained" in report.notes[0]


def test_outputs_that_are_in_the_way(source, tmp_path):
    with pytest.raises(ModelError, match="another folder than the checkpoint's"):
        import_checkpoint(source, source)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("dear to me")
    with pytest.raises(ModelError, match="exists and is no packed checkpoint"):
        import_checkpoint(source, tmp_path / "there")
    assert (tmp_path / "there" / "thesis.txt").read_text() == "dear to me"


def test_importing_again_replaces_everything(source, tmp_path):
    tokenizer(source / "tokenizer.json", 64)
    import_checkpoint(source, tmp_path / "packed")
    (source / "tokenizer.json").unlink()
    import_checkpoint(source, tmp_path / "packed")
    assert not (tmp_path / "packed" / "tokenizer.json").exists()
    change(source, lambda t: t["lm_head.weight"].fill_(float("nan")))
    before = (tmp_path / "packed" / "model.safetensors").read_bytes()
    with pytest.raises(ModelError):
        import_checkpoint(source, tmp_path / "packed")
    assert (tmp_path / "packed" / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["packed", "source"]
