"""The published layout as data: the same tensors and the same graph as the PyTorch module has."""

import dataclasses

import numpy as np
import pytest
import torch

from trilobit.model import MatMulFreeLM, ModelConfig
from trilobit.model.export import build_graph
from trilobit.model.graph import Graph
from trilobit.model.published import GEOMETRIES, graph_of, published_config, tensor_specs

CONFIGS = [
    ModelConfig(vocab_size=50, hidden_size=48, num_hidden_layers=3, num_heads=4, intermediate_size=80, rms_norm_eps=1e-5),
    ModelConfig(vocab_size=20, hidden_size=32, num_hidden_layers=2, use_lower_bound=False, hidden_ratio=2),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_tensors_are_those_of_the_module(config):
    with torch.device("meta"):
        state = MatMulFreeLM(config).state_dict()
    assert {spec.name: spec.shape for spec in tensor_specs(config)} == {name: tuple(t.shape) for name, t in state.items()}


def shape_of(graph: Graph) -> list:
    """The graph without the names of its nodes and constants, which are the tracer's own."""
    place = {node.name: n for n, node in enumerate(graph.nodes)}
    rows = []
    for node in graph.nodes:
        attrs = {k: v for k, v in node.attrs.items() if k != "tensor"}
        rows.append((node.op, [place[name] for name in node.inputs], attrs, node.module, node.shape))
    return rows


@pytest.mark.parametrize("config", CONFIGS)
def test_graph_is_the_traced_one(config):
    torch.manual_seed(0)
    module = MatMulFreeLM(config).eval()
    traced, tensors = build_graph(module)
    made = graph_of(config, {node.attrs["weight"]: node.attrs["scale"] for node in traced.nodes if node.op == "bitlinear"}.__getitem__)
    made.validate()
    assert shape_of(made) == shape_of(traced)
    assert [n.name for n in made.nodes if n.op in ("bitlinear", "rmsnorm", "recurrence")] == [
        n.name for n in traced.nodes if n.op in ("bitlinear", "rmsnorm", "recurrence")
    ]
    assert dataclasses.asdict(config) == made.config
    assert all(isinstance(t, np.ndarray) for t in tensors.values())


def test_published_sizes():
    """Parameters and ternary weights as the models' publishers state them."""
    expected = {"370m": (374_108_160, 341_049_344), "1.3b": (1_364_779_008, 1_298_661_376), "2.7b": (2_702_357_504, 2_619_473_920)}
    for name in GEOMETRIES:
        specs = tensor_specs(published_config(name))
        assert (sum(s.size for s in specs), sum(s.size for s in specs if s.ternary)) == expected[name]
