"""Export: the graph computes what the module does, for modules nobody has seen before."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trilobit.errors import CompileError, ModelError
from trilobit.model import BitLinear, LinearRecurrence, RMSNorm, check_graph, export_graph, load_pretrained
from trilobit.model.evaluator import evaluate_float
from trilobit.model.graph import UnsupportedOperation, load_graph, load_tensors
from trilobit.model.ranges import calibrate, estimate_ranges

DATA = Path(__file__).parent / "data"
V, H = 40, 32


class Unseen(nn.Module):
    """Another gate order, extra residual branches, two recurrences, scalars on both sides, slices, division."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, H)
        self.norm = RMSNorm(H, eps=1e-5, gain=False)
        self.wide = BitLinear(H, 3 * H)
        self.back = BitLinear(H, H, gain=False)
        self.narrow = BitLinear(H // 2, H)
        self.mix = nn.Sequential(BitLinear(H, H), nn.SiLU(), nn.Dropout(0.5))
        self.decay = nn.Parameter(torch.randn(1, 1, H))
        self.share = nn.Parameter(torch.tensor(0.3))
        self.fast, self.slow = LinearRecurrence(), LinearRecurrence()
        self.head = BitLinear(H, V)

    def forward(self, ids, scale=2.0):
        h = self.embed(ids)
        a, b, c = torch.split(self.wide(self.norm(h)), H, dim=-1)
        bound = torch.sigmoid(self.decay) * 0.9
        f = bound + (1 - bound) * b.sigmoid()
        s = self.fast(torch.tanh(a), f) * torch.exp(-torch.relu(c))
        slow = self.slow(h, 1 - 0.05 * torch.sigmoid(c))
        h = h + self.back(s) / scale + self.share * torch.lerp(slow, s, f)
        h = h - self.mix(h) * torch.maximum(a, -b)
        low, high = h[..., : H // 2], h[:, :, H // 2 :]
        h = h + self.narrow(low * high / (1.0 + high * high))
        _, rest = (self.wide(h) + 0.5).chunk(2, dim=-1)
        h = self.back(rest[..., 4 : 4 + H].clamp(min=-0.5)) + torch.square(slow)
        h = h * torch.minimum(a, b) + self.back(h) * (2.0 - self.share)
        return self.head(h)


def module(seed=3):
    torch.manual_seed(seed)
    return Unseen()


@pytest.mark.parametrize("name", ["toy", "toy2"])
def test_toys_evaluate_as_the_reference(name):
    graph = load_graph(DATA / name)
    ids = np.random.default_rng(1).integers(0, 64, 300)
    got = evaluate_float(graph, load_tensors(graph, DATA / name), ids, chunk=128)
    with torch.no_grad():
        expected = load_pretrained(DATA / name)(torch.from_numpy(ids)[None])[0].numpy()
    assert np.abs(got - expected).max() < 1e-6


def test_toy_graphs_are_fresh(tmp_path):
    for name in ("toy", "toy2"):
        graph = load_graph(DATA / name)
        again = export_graph(load_pretrained(DATA / name), tmp_path / name)
        assert [(n.name, n.op, n.inputs, n.shape) for n in again.nodes] == [(n.name, n.op, n.inputs, n.shape) for n in graph.nodes]


def test_lower_bounds_become_constants():
    graph = load_graph(DATA / "toy2")
    assert [n.op for n in graph.nodes].count("constant") == 2
    assert [n.op for n in load_graph(DATA / "toy").nodes].count("constant") == 0


def test_unseen_module(tmp_path):
    model = module()
    graph = export_graph(model, tmp_path / "out", eos_token_id=3)
    assert (graph.vocab_size, graph.eos_token_id, graph.config) == (V, 3, None)
    assert model.training  # as it was
    loaded = load_graph(tmp_path / "out")
    assert loaded == graph
    tensors = load_tensors(loaded, tmp_path / "out")
    ids = np.random.default_rng(2).integers(0, V, 64)
    model.eval()
    with torch.no_grad():
        model.embed.weight.copy_(model.embed.weight.half().float())
        expected = model(torch.from_numpy(ids)[None])[0].double().numpy()
    got = evaluate_float(loaded, tensors, ids)
    cosine = (got * expected).sum(-1) / np.linalg.norm(got, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert np.median(cosine) > 0.999999 and cosine.min() > 0.99  # the module computes in fp32: rare int8 flips
    assert {n.op for n in graph.nodes} == {
        *("token", "embedding", "rmsnorm", "bitlinear", "recurrence", "constant"),
        *("add", "sub", "mul", "div", "max", "neg", "exp", "sigmoid", "silu", "slice"),
    }
    bits = next(n for n in graph.nodes if n.module == "back")
    assert bits.attrs["norm_weight"] is None and bits.attrs["eps"] == 1e-6
    scalars = [(n.attrs["scalar"], n.attrs["side"]) for n in graph.nodes if "scalar" in n.attrs]
    assert (2.0, "right") in scalars and (1.0, "left") in scalars


def test_ranges_are_measured(tmp_path):
    model = load_pretrained(DATA / "toy2")
    ids = np.random.default_rng(5).integers(0, 64, 700)
    graph = export_graph(model, tmp_path, calibration_ids=ids, source="random")
    assert (graph.calibration.tokens, graph.calibration.source) == (700, "random")
    with torch.no_grad():
        _, hidden, _ = model.forward_all(torch.from_numpy(ids)[None])
    final = graph.node("model_norm")
    assert final.range == pytest.approx(float(hidden[-1].abs().max()), rel=1e-6)
    assert final.rms == pytest.approx(float(hidden[-1].square().mean().sqrt()), rel=1e-6)
    assert graph.node("lm_head").attrs["range_in"] == final.range


def test_estimated_ranges_hold_on_a_run(tmp_path):
    graph = export_graph(load_pretrained(DATA / "toy2"), tmp_path)
    assert graph.calibration.tokens == 0
    estimated = {n.name: (n.range, n.rms) for n in graph.nodes}
    calibrate(graph, load_tensors(graph, tmp_path), np.random.default_rng(5).integers(0, 64, 2000), "random")
    for node in graph.nodes[1:]:
        assert node.range <= estimated[node.name][0] * 1.01 <= node.range * 64, node.name
    estimate_ranges(graph, load_tensors(graph, tmp_path))
    assert {n.name: (n.range, n.rms) for n in graph.nodes} == estimated


class Bad(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.embed, self.head, self.inner = nn.Embedding(V, H), BitLinear(H, V), nn.Linear(H, H)
        self.operation = operation

    def forward(self, ids):
        return self.head(self.operation(self, self.embed(ids)))


def branch(m, h):
    return h * 2 if h.sum() > 0 else h


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (lambda m, h: m.inner(h), ("module Linear in inner", "bitlinear")),
        (lambda m, h: torch.softmax(h, -1), ("softmax", "supported:")),
        (lambda m, h: h.mean(1, keepdim=True), ("Tensor.mean",)),
        (lambda m, h: h[:, -1:], ("getitem", "contiguous slice of the last dimension")),
        (lambda m, h: h.chunk(2, dim=1)[0], ("chunk along dimension 1",)),
        (lambda m, h: h.clamp(-1, 1), ("clamp with an upper bound",)),
        (lambda m, h: h + h[..., :1], ("lengths 32 and 1",)),
        (lambda m, h: torch.add(h, h, alpha=2), ("alpha",)),
        (branch, ("cannot be traced", "control flow")),
    ],
)
def test_unsupported_operations_are_named(tmp_path, operation, named):
    with pytest.raises(UnsupportedOperation) as error:
        export_graph(Bad(operation), tmp_path / "out")
    assert isinstance(error.value, CompileError)
    for text in named:
        assert text in str(error.value)
    assert not list(tmp_path.iterdir())


def test_check_lists_without_failing():
    result = check_graph(Bad(lambda m, h: torch.softmax(m.inner(h) * 2, -1) + h))
    assert not result.ok
    assert [(o.operation, o.module) for o in result.unmapped] == [("module Linear", "inner"), ("torch.softmax", "")]
    assert ("module BitLinear", "head") in [(o.operation, o.module) for o in result.mapped]
    assert check_graph(module()).ok
    assert not check_graph(Bad(branch)).ok


def test_a_graph_that_computes_something_else_is_refused(tmp_path):
    class Changing(Bad):
        """Decides by a counter in Python, which a trace cannot see."""

        calls = 0

        def forward(self, ids):
            self.calls += 1
            return self.head(self.embed(ids) + (50.0 * torch.arange(H) if self.calls > 1 else 0.0))

    with pytest.raises(ModelError, match="the graph's logits differ"):
        export_graph(Changing(None), tmp_path / "out")


def test_graph_errors(tmp_path):
    with pytest.raises(ModelError, match=r"graph\.json: no such file"):
        load_graph(tmp_path)
    values = json.loads((DATA / "toy" / "graph.json").read_text())

    def fails(text, **changes):
        (tmp_path / "graph.json").write_text(json.dumps(values | changes))
        with pytest.raises(ModelError) as error:
            load_graph(tmp_path)
        assert text in str(error.value)

    fails("expected schema", schema="other")
    fails("expected version 1, got 2", version=2)
    fails("unknown operation 'warp'", nodes=[*values["nodes"], {"name": "x", "op": "warp", "shape": [1]}])
    fails("inputs not defined before it", nodes=values["nodes"][1:])
    fails("expected names of nodes", outputs=["nothing"])
    fails("Expected `array`", nodes=3)
    (tmp_path / "graph.json").write_text("{")
    with pytest.raises(ModelError, match="expected JSON"):
        load_graph(tmp_path)


def test_graph_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import trilobit.model, trilobit.model.graph as g\nfrom trilobit.model import evaluator\n"
        f"graph = g.load_graph({str(DATA / 'toy')!r})\n"
        f"print(evaluator.evaluate_float(graph, g.load_tensors(graph, {str(DATA / 'toy')!r}), [1, 2, 3]).shape)\n"
        "try: trilobit.model.load_pretrained\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "(3, 64)" in out and "ToolError" in out and "pip install 'trilobit[model]'" in out


def test_products_are_the_same_whether_weights_are_kept_or_unpacked_in_blocks(monkeypatch):
    from trilobit.model import evaluator as module

    graph = load_graph(DATA / "toy2")
    tensors = load_tensors(graph, DATA / "toy2")
    ids = np.random.default_rng(6).integers(0, 64, 90)
    expected = module.Evaluator(graph, tensors)(ids)
    for elements in (1, 700, 1 << 20):
        monkeypatch.setattr(module, "_UNPACKED_ELEMENTS", elements)
        assert (module.Evaluator(graph, tensors, keep_bytes=0)(ids) == expected).all()
        assert (module.Evaluator(graph, tensors, keep_bytes=9000)(ids) == expected).all()
