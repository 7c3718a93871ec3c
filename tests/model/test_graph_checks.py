"""A damaged graph.json is refused with the node's name, whatever value stands where another should."""

import copy
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from trilobit.assembler.compiler.pipeline import compile_graph
from trilobit.errors import ModelError, TrilobitError
from trilobit.model.graph import load_graph, load_tensors

TOY = Path(__file__).parent / "data" / "toy2"
GRAPH = json.loads((TOY / "graph.json").read_text())


def first(op: str) -> int:
    return next(n for n, node in enumerate(GRAPH["nodes"]) if node["op"] == op)


def load(tmp_path, values):
    (tmp_path / "graph.json").write_text(json.dumps(values))
    return load_graph(tmp_path)


@pytest.mark.parametrize(
    ("op", "key", "value", "text"),
    [
        ("add", "shape", [1], "expected inputs of length 1, got [32, 32]"),
        ("add", "shape", [], "shape as [length]"),
        ("token", "shape", [2], "shape [1]"),
        ("silu", "range", math.nan, "range of at least 0, or null"),
        ("silu", "rms", -1.0, "rms of at least 0, or null"),
        ("rmsnorm", "eps", 0, "eps above 0"),
        ("rmsnorm", "weight", 3, "the name of a tensor as weight"),
        ("embedding", "weight", None, "the name of a tensor as weight"),
        ("bitlinear", "norm_weight", [], "the name of a tensor, or null, as norm_weight"),
        ("bitlinear", "rows", 31, "rows, cols 32, 32"),
        ("bitlinear", "scale", math.inf, "a scale of at least 0"),
        ("slice", "start", -1, "start and stop within 128, 64 apart"),
        ("slice", "stop", 65, "start and stop within 128, 64 apart"),
    ],
)
def test_nodes_that_make_no_sense(tmp_path, op, key, value, text):
    values = copy.deepcopy(GRAPH)
    node = values["nodes"][first(op)]
    (node["attrs"] if key in node["attrs"] else node)[key] = value
    with pytest.raises(ModelError) as error:
        load(tmp_path, values)
    assert text in str(error.value) and f"graph node {node['name']} ({op})" in str(error.value)


def test_files_elsewhere_and_logits_of_another_length(tmp_path):
    with pytest.raises(ModelError, match="a file name without folders"):
        load(tmp_path, GRAPH | {"tensors": "../model.safetensors"})
    with pytest.raises(ModelError, match="logits of length 65, got 64"):
        load(tmp_path, GRAPH | {"vocab_size": 65})


def test_tensors_of_another_shape_or_type(tmp_path):
    values = copy.deepcopy(GRAPH)
    gain = values["nodes"][first("rmsnorm")]["attrs"]
    shutil.copy(TOY / "model.safetensors", tmp_path)
    gain["weight"] = "model.embeddings.weight"
    with pytest.raises(ModelError, match=r"model.embeddings.weight: expected F16 or F32 or F64 \[32\]"):
        load_tensors(load(tmp_path, values), tmp_path)
    gain["weight"] = "lm_head.weight"
    with pytest.raises(ModelError, match=r"lm_head.weight: expected .*, got (U8|F)"):
        load_tensors(load(tmp_path, values), tmp_path)


@pytest.mark.parametrize("name", ["model.embeddings.weight", "model.norm.weight"])
def test_tensors_that_are_not_finite(tmp_path, name):
    tensors = load_file(TOY / "model.safetensors")
    tensors[name].reshape(-1)[7] = np.nan
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=f"{name}: holds NaN or infinity"):
        load_tensors(load(tmp_path, GRAPH), tmp_path)


def test_any_value_anywhere_is_an_error_that_says_so_or_does_no_harm(tmp_path, seed):
    rng = random.Random(seed)
    shutil.copy(TOY / "model.safetensors", tmp_path)
    odd = [None, "x", -1, 0, 10**9, 10**30, [], {}, True, 1.5, math.nan, "1", [1], 1e-300, 1e300]
    for _ in range(60):
        values = copy.deepcopy(GRAPH)
        node = rng.choice(values["nodes"])
        target = node["attrs"] if node["attrs"] and rng.random() < 0.5 else node
        target[rng.choice(sorted(target))] = rng.choice(odd)
        (tmp_path / "graph.json").write_text(json.dumps(values))
        try:
            compile_graph(tmp_path, "tiny")
        except TrilobitError as error:
            assert str(error)
