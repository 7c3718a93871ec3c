"""Geometries that the golden outputs don't cover: the reference against the published forward pass, written out plainly.

The plain form below is in NumPy, fp64, step by step, heads as in the published code; it shares nothing with the reference. Held
to the golden outputs as well, so that it is itself the published model.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from trilobit.model import ModelConfig, load_pretrained
from trilobit.model.evaluator import evaluate_float
from trilobit.model.graph import load_graph, load_tensors
from trilobit.model.importing import import_checkpoint
from trilobit.model.synthetic import synthesize

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())
CASES = {
    "wide-heads": {"hidden_size": 160, "num_heads": 5, "num_hidden_layers": 3},
    "heads-no-bounds": {"hidden_size": 96, "num_heads": 4, "num_hidden_layers": 2, "use_lower_bound": False},
    "ratio-3": {"hidden_size": 128, "hidden_ratio": 3, "num_hidden_layers": 2, "num_heads": 2},
    "ratio-2.5": {"hidden_size": 192, "hidden_ratio": 2.5, "num_hidden_layers": 1},
    "ratio-null": {"hidden_size": 64, "hidden_ratio": None, "num_hidden_layers": 2},
    "intermediate": {"hidden_size": 72, "intermediate_size": 123, "num_hidden_layers": 4},
    "eps": {"hidden_size": 128, "rms_norm_eps": 1e-5, "num_hidden_layers": 3, "num_heads": 8},
    "eps-large": {"hidden_size": 48, "rms_norm_eps": 1e-3, "num_hidden_layers": 2, "intermediate_size": 80},
    "odd": {"hidden_size": 51, "num_heads": 3, "intermediate_size": 77, "num_hidden_layers": 2, "vocab_size": 211},
}


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Plain:
    """The published forward pass: one sequence [T] to logits [T, V], hidden states and the final state."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.w = {name: values.astype(np.float64) for name, values in load_file(folder / "model.safetensors").items()}
        self.eps = self.config["rms_norm_eps"]

    def bit_linear(self, path, x):
        y = norm(x, self.w[f"{path}.norm.weight"], 1e-6)
        s_a = 127 / np.maximum(np.abs(y).max(-1, keepdims=True), 1e-5)
        q = np.clip(np.sign(y) * np.floor(np.abs(y * s_a) + 0.5), -128, 127)
        W = self.w[f"{path}.weight"].astype(np.float32)
        mean = np.float32(max(np.abs(W).mean(dtype=np.float64), 1e-5))
        t = np.clip(np.round(W * (np.float32(1) / mean)), -1, 1).astype(np.float64)
        return q @ t.T / s_a * np.float64(mean)

    def attention(self, path, a, bound):
        heads = self.config["num_heads"]
        T, H = a.shape

        def split(x):  # [T, H] -> [heads, T, H / heads]
            return x.reshape(T, heads, H // heads).transpose(1, 0, 2)

        i, f = self.bit_linear(f"{path}.i_proj", a), sigmoid(self.bit_linear(f"{path}.f_proj", a))
        if bound is not None:
            f = bound + (1 - bound) * f
        i = split(i * sigmoid(i) * (1 - f))
        f = split(f)
        state = np.zeros((heads, H // heads))
        out = np.empty_like(i)
        for t in range(T):
            state = f[:, t] * state + i[:, t]
            out[:, t] = state
        o = out.transpose(1, 0, 2).reshape(T, H)
        g = norm(self.bit_linear(f"{path}.g_proj", a), self.w[f"{path}.g_norm.weight"], self.eps)
        return self.bit_linear(f"{path}.o_proj", g * o * sigmoid(o)), state

    def __call__(self, ids):
        L = self.config["num_hidden_layers"]
        h = self.w["model.embeddings.weight"][ids]
        bounds = [None] * L
        if self.config["use_lower_bound"]:
            # In fp32, as published: a difference of 1e-8 here would flip an int8 value now and then.
            share = torch.softmax(torch.from_numpy(self.w["model.lower_bounds"]).float(), 0)
            bounds = [None, *(torch.cumsum(share, 0) - share[0]).double().numpy()[1:]]
        hidden, states = [h], []
        for n in range(L):
            path = f"model.layers.{n}"
            out, state = self.attention(f"{path}.attn", norm(h, self.w[f"{path}.attn_norm.weight"], self.eps), bounds[n])
            r = h + out
            gate, y = np.split(self.bit_linear(f"{path}.mlp.gate_proj", norm(r, self.w[f"{path}.mlp_norm.weight"], self.eps)), 2, -1)
            h = r + self.bit_linear(f"{path}.mlp.down_proj", gate * sigmoid(gate) * y)
            hidden.append(h)
            states.append(state)
        hidden[-1] = h = norm(h, self.w["model.norm.weight"], self.eps)
        return self.bit_linear("lm_head", h), np.stack(hidden), np.stack(states)


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda p: p.name)
def test_the_plain_form_is_the_published_model(folder):
    io = load_file(folder / "io.safetensors")
    for b, ids in enumerate(io["input_ids"]):
        logits, hidden, state = Plain(folder)(ids)
        assert np.abs(logits - io["logits"][b]).max() < 1e-4
        assert np.abs(hidden - io["hidden_states"][:, b]).max() < 1e-4
        assert np.abs(state - io["final_state"][:, b]).max() < 1e-4


@pytest.fixture(params=sorted(CASES))
def case(request, tmp_path):
    values = {"vocab_size": 256, "model_type": "hgrn_bit", **CASES[request.param]}
    config = ModelConfig.from_dict(values)
    synthesize(config, tmp_path / "case", seed=sorted(CASES).index(request.param), dtype="fp32")
    path = tmp_path / "case" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return tmp_path / "case"


@torch.no_grad()
@pytest.mark.parametrize("form", [None, "packed"])
def test_reference_is_the_plain_form(case, form):
    """Both in fp64, so that nothing rounds the other way: every logit within 1e-5."""
    model = load_pretrained(case, form=form)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, model.config.vocab_size, (2, 40)))
    logits, hidden, state = model.forward_all(ids)
    for b in range(2):
        expected, expected_hidden, expected_state = Plain(case)(ids[b].numpy())
        assert cosine(logits[b].numpy(), expected).min() >= 0.9999
        assert np.abs(logits[b].numpy() - expected).max() < 1e-5
        assert np.abs(torch.stack(hidden)[:, b].numpy() - expected_hidden).max() < 1e-5
        assert np.abs(state[:, b].reshape(expected_state.shape).numpy() - expected_state).max() < 1e-5


@torch.no_grad()
def test_step_by_step_is_the_plain_form(case):
    model = load_pretrained(case)
    ids = np.random.default_rng(2).integers(0, model.config.vocab_size, 12)
    expected, _, _ = Plain(case)(ids)
    state = model.init_state(1)
    for t, token in enumerate(ids):
        logits, state = model.step(torch.tensor([token]), state)
        assert np.abs(logits[0].numpy() - expected[t]).max() < 1e-4


def test_imported_graph_is_the_plain_form(case, tmp_path):
    """Its lower bounds are computed in fp64 and kept in fp32, which may flip one int8 value in a run."""
    import_checkpoint(case, tmp_path / "packed")
    graph = load_graph(tmp_path / "packed")
    ids = np.random.default_rng(3).integers(0, graph.vocab_size, 40)
    got = evaluate_float(graph, load_tensors(graph, tmp_path / "packed"), ids)
    expected, _, _ = Plain(case)(ids)
    assert cosine(got, expected).min() >= 0.9998
    assert (np.abs(got - expected) < 1e-5).mean() >= 0.9
