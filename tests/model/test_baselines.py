"""The baselines: each learns, each is causal, states carry on exactly, and the compiler says what is in the way."""

import numpy as np
import pytest
import torch

from trilobit.errors import ConfigError, ModelError
from trilobit.model import check_graph, export_graph
from trilobit.model.baselines import ARCHITECTURES, build_model, model_config
from trilobit.model.baselines.attention import causal_attention, rotate
from trilobit.model.baselines.rwkv import WKV
from trilobit.model.graph import UnsupportedOperation
from trilobit.model.reference import BitLinear

GEOMETRY = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}


def make(kind: str):
    torch.manual_seed(5)
    heads = {"num_heads": 2} if kind in ("transformer++", "bitnet_b1.58") else {}
    return build_model(model_config({**GEOMETRY, "model_type": kind, **heads}))


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_weights_of_a_layer(kind):
    """4 H H + 3 H I in matrices, in every architecture, so equal geometry is equal size."""
    matrices = sum(p.numel() for name, p in make(kind).named_parameters() if p.ndim == 2 and "layers." in name)
    assert matrices == 2 * (4 * 32 * 32 + 3 * 32 * 48)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_causal(kind):
    """A later token changes nothing before it, and something at it."""
    model = make(kind).eval()
    ids = torch.arange(20)[None] % 40
    other = ids.clone()
    other[0, 12] = 39
    with torch.no_grad():
        a, b = model(ids), model(other)
    assert torch.equal(a[:, :12], b[:, :12]) and not torch.equal(a[:, 12], b[:, 12])


@pytest.mark.parametrize("kind", [kind for kind in sorted(ARCHITECTURES) if ARCHITECTURES[kind][1].is_recurrent])
def test_steps_equal_the_sequence(kind):
    model = make(kind).eval()
    ids = torch.randint(0, 40, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, _, last = model.forward_all(ids, model.init_state(3))
        state, steps = model.init_state(3), []
        for t in range(24):
            logits, state = model.step(ids[:, t], state)
            steps.append(logits)
        assert torch.allclose(torch.stack(steps, 1), whole, atol=1e-6) and torch.allclose(state, last, atol=1e-9)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_learns(kind):
    """A sequence that repeats is soon foretold."""
    model = make(kind).train()
    ids = (torch.arange(33) % 8)[None].repeat(4, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        logits, _, _ = model.forward_all(ids[:, :-1], model.init_state(4))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        optimiser.step()
    assert float(loss.detach()) < 0.5


def test_wkv_is_its_definition():
    """Against the plain sums of e^k in double precision, where those do not overflow."""
    torch.manual_seed(2)
    wkv = WKV(6, 0.5)
    torch.nn.init.normal_(wkv.bonus)
    k, v = 3 * torch.randn(2, 15, 6, dtype=torch.float64), torch.randn(2, 15, 6, dtype=torch.float64)
    w, u = wkv.log_decay.double().exp(), wkv.bonus.double()
    got, _ = wkv(k, v)
    for t in range(15):
        weights = torch.stack([torch.exp(k[:, j] - (t - 1 - j) * w) for j in range(t)] + [torch.exp(u + k[:, t])])
        values = torch.stack([v[:, j] for j in range(t + 1)])
        assert torch.allclose(got[:, t], (weights * values).sum(0) / weights.sum(0), rtol=1e-5)


def test_wkv_of_large_keys_is_finite():
    wkv = WKV(4, 0.0)
    k = torch.tensor([200.0, -300.0, 500.0, 90.0]).view(1, 4, 1).repeat(1, 1, 4).requires_grad_()
    got, state = wkv(k, torch.ones(1, 4, 4))
    got.sum().backward()
    assert torch.allclose(got, torch.ones_like(got)) and torch.isfinite(k.grad).all() and all(torch.isfinite(s).all() for s in state)


def test_rotary_positions_are_relative():
    torch.manual_seed(3)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    a, b = rotate(q.repeat(1, 1, 9, 1), 1e4)[0, 0], rotate(k.repeat(1, 1, 9, 1), 1e4)[0, 0]
    assert torch.allclose(a[5] @ b[2], a[8] @ b[5], atol=1e-4) and torch.allclose(a.norm(dim=-1), q.norm().expand(9), atol=1e-4)


def test_attention_is_its_definition():
    torch.manual_seed(4)
    q, k, v = (torch.randn(2, 7, 12) for _ in range(3))
    got = causal_attention(q, k, v, heads=3, theta=1e4, half=False)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        a, b = (rotate(x[..., part].unsqueeze(1), 1e4).squeeze(1) for x in (q, k))
        scores = (a @ b.transpose(1, 2) / 2).masked_fill(~torch.ones(7, 7).tril().bool(), -torch.inf)
        assert torch.allclose(got[..., part], scores.softmax(-1) @ v[..., part], atol=1e-5)


def test_the_compiler_names_what_is_in_the_way(tmp_path):
    """BitNet has one thing that the machine lacks, its attention; Transformer++ also its full-precision products."""
    found = check_graph(make("bitnet_b1.58"))
    assert {(o.operation.rpartition(".")[2], o.module) for o in found.unmapped} == {
        ("causal_attention", f"layers.{n}.attn") for n in range(2)
    }
    with pytest.raises(UnsupportedOperation, match=r"causal_attention in layers\.0\.attn: no mapping"):
        export_graph(make("bitnet_b1.58"), tmp_path / "out")
    with pytest.raises(UnsupportedOperation, match=r"Linear in layers\.0\.attn\.qkv_proj"):
        export_graph(make("transformer++"), tmp_path / "out")
    assert any("causal_attention" in o.operation for o in check_graph(make("transformer++")).unmapped)
    with pytest.raises(UnsupportedOperation, match=r"linear in model\.layers\.0\.attn\.f_proj"):
        export_graph(make("hgrn_unquantised"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"model_type": "mamba"}, ConfigError, "model_type must be one of hgrn_bit, transformer"),
        ({"model_type": "rwkv4_ternary", "expand_ratio": 1}, ConfigError, "unknown key expand_ratio"),
        ({"model_type": "transformer++", "num_heads": 5}, ModelError, "num_heads must be such that each head"),
        ({"model_type": "transformer++", "hidden_size": 0}, ModelError, "hidden_size must be a positive integer"),
    ],
)
def test_configuration_errors(values, error, text):
    with pytest.raises(error, match="model") as caught:
        model_config({**GEOMETRY, **values})
    assert text in str(caught.value)


def test_equal_initial_loss_is_that_of_guessing():
    for kind in ARCHITECTURES:
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(make(kind).eval()(torch.arange(40)[None])[0], torch.arange(40))
        assert abs(float(loss) - np.log(40)) < 1.0, kind


def test_the_unquantised_model_is_the_ternary_one_but_for_rounding(monkeypatch):
    """With weights that are trits already and activations that aren't rounded, the ternary model gives the same."""
    full, ternary = make("hgrn_unquantised").eval(), make("hgrn_bit").eval()
    ids = torch.arange(40)[None]
    with torch.no_grad():
        for module in ternary.modules():
            if isinstance(module, BitLinear):
                trits, scale = module.quantised_weight()
                module.weight.copy_(trits * scale)
                monkeypatch.setattr(module, "quantised_weight", lambda trits=trits, scale=scale: (trits, scale))
        full.load_state_dict(ternary.state_dict())
        assert not torch.allclose(full(ids), ternary(ids), atol=1e-3)
        monkeypatch.setattr(BitLinear, "quantised_activations", staticmethod(lambda y: (y.float(), torch.ones(()))))
        torch.testing.assert_close(full(ids), ternary(ids), atol=1e-5, rtol=1e-5)
