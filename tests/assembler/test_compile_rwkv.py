"""A ternary RWKV-4 compiles: state other than the recurrence's is kept from token to token, as PyTorch has it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference needs PyTorch")

from trilobit.assembler.bundle import load_bundle  # noqa: E402
from trilobit.assembler.compiler import compile_model  # noqa: E402
from trilobit.errors import ModelError  # noqa: E402
from trilobit.evaluation import functional_logits  # noqa: E402
from trilobit.model import check_graph, export_graph  # noqa: E402
from trilobit.model.baselines import build_model, model_config  # noqa: E402
from trilobit.model.evaluator import evaluate_float  # noqa: E402
from trilobit.model.graph import load_graph, load_tensors  # noqa: E402


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, model, token ids): random weights, keys large enough for the exponentials to matter."""
    torch.manual_seed(0)
    model = build_model(
        model_config({"model_type": "rwkv4_ternary", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64})
    ).eval()
    with torch.no_grad():
        model.embeddings.weight.copy_(torch.randn(40, 32).half().float())
        for layer in model.layers:
            layer.attn.k_proj.weight.mul_(3)
            layer.attn.wkv.bonus.normal_()
    ids = np.random.default_rng(0).integers(0, 40, 2000)
    folder = tmp_path_factory.mktemp("rwkv")
    export_graph(model, folder, calibration_ids=ids, source="random tokens")
    return folder, model, ids


def test_everything_maps(exported):
    assert check_graph(exported[1]).ok
    graph = load_graph(exported[0])
    assert [node.op for node in graph.nodes].count("previous") == 2 * 4  # a, b, p and the token before


def test_the_graph_computes_what_the_module_does(exported):
    folder, model, ids = exported
    with torch.no_grad():
        expected = model(torch.from_numpy(ids[:150])[None])[0].numpy()
    graph = load_graph(folder)
    assert np.abs(evaluate_float(graph, load_tensors(graph, folder), ids[:150], chunk=64) - expected).max() < 1e-5


def test_the_program_follows_the_module(exported, tmp_path):
    folder, model, ids = exported
    compile_model(folder, "tiny", tmp_path / "bundle", store_logits=True)
    got: list[np.ndarray] = []
    functional_logits(load_bundle(tmp_path / "bundle"), ids[None, :200], lambda _, logits: got.append(logits[0]))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids[:200])[None])[0].double().numpy()
    rows = np.stack(got)
    cosine = (rows * expected).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.mean() > 0.9995 and cosine.min() > 0.995 and cosine[-50:].mean() > 0.9995
    assert (rows.argmax(1) == expected.argmax(1)).mean() > 0.96


def test_previous_of_nothing(exported):
    graph = load_graph(exported[0])
    next(node for node in graph.nodes if node.op == "previous").attrs["of"] = "nowhere"
    with pytest.raises(ModelError, match="previous of 'nowhere': expected a node of length 32"):
        graph.validate()
