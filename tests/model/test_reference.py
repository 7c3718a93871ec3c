"""The reference against the published implementation's outputs, and its forms against one another."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trilobit.errors import ModelError
from trilobit.model import BitLinear, MatMulFreeLM, ModelConfig, load_pretrained
from trilobit.model.reference import round_half_away

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())
SMALL = ModelConfig(vocab_size=50, hidden_size=48, num_hidden_layers=3, num_heads=4, intermediate_size=80)


def random_model(seed: int = 0, config: ModelConfig = SMALL) -> MatMulFreeLM:
    torch.manual_seed(seed)
    model = MatMulFreeLM(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("norm.weight"):
                value.uniform_(0.5, 1.5)
            elif name.endswith(("embeddings.weight", "lower_bounds")):
                value.normal_()
    return model.eval()


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda p: p.name)
@pytest.mark.parametrize("form", [None, "packed"])
def test_golden(folder, form):
    model, io = load_pretrained(folder, form=form), load_file(folder / "io.safetensors")
    with torch.no_grad():
        logits, hidden, state = model.forward_all(io["input_ids"])
        assert torch.equal(model(io["input_ids"]), logits)
    expected = io["logits"]
    assert logits.dtype == torch.float32 and logits.shape == expected.shape
    assert torch.nn.functional.cosine_similarity(logits, expected, dim=-1).min() >= 0.9999
    assert (logits.argmax(-1) == expected.argmax(-1)).float().mean() >= 0.99
    assert ((logits - expected).abs() <= 1e-3).float().mean() >= 0.99
    assert (torch.stack(hidden) - io["hidden_states"]).abs().max() < 1e-4
    assert (state.reshape(io["final_state"].shape) - io["final_state"]).abs().max() < 1e-4


def test_packed_gives_the_same_results():
    model = random_model()
    ids = torch.randint(0, 50, (2, 30))
    with torch.no_grad():
        before = model(ids)
        assert torch.equal(model.pack()(ids), before)
    assert all(m.is_packed for m in model.modules() if isinstance(m, BitLinear))


@torch.no_grad()
def test_step_by_step_equals_the_whole_sequence():
    model = random_model()
    ids = torch.randint(0, 50, (3, 17))
    logits, _, final = model.forward_all(ids)
    state = model.init_state(3)
    for t in range(17):
        one, state = model.step(ids[:, t], state)
        assert torch.allclose(one, logits[:, t], atol=1e-6)
    assert torch.allclose(state, final, atol=1e-12)


@torch.no_grad()
def test_state_carries_on():
    model = random_model()
    ids = torch.randint(0, 50, (1, 40))
    whole = model(ids)
    _, _, state = model.forward_all(ids[:, :13])
    assert torch.allclose(model.forward_all(ids[:, 13:], state)[0], whole[:, 13:], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_half_away(dtype):
    below = torch.nextafter(torch.tensor(0.5, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    x = torch.tensor([0.0, 0.5, 1.5, 2.5, 126.5, -0.5, -2.5, 0.4, -0.6], dtype=dtype)
    assert round_half_away(x).tolist() == [0, 1, 2, 3, 127, -1, -3, 0, -1]
    assert round_half_away(torch.stack([below, -below])).abs().tolist() == [0, 0]


def test_bitlinear_quantises_as_documented():
    layer = BitLinear(24, 10)
    x = torch.randn(5, 24)
    q, scale = layer.quantised_activations(layer.norm(x))
    assert q.abs().amax(-1).tolist() == [127.0] * 5
    trits, mean = layer.quantised_weight()
    assert set(trits.unique().tolist()) <= {-1, 0, 1}
    assert torch.allclose(layer(x), (q / scale) @ (trits * mean).T, atol=1e-5)
    assert torch.count_nonzero(layer(torch.zeros(1, 24))) == 0


def test_straight_through_gradients():
    layer = BitLinear(24, 10)
    x = torch.randn(5, 24, requires_grad=True)
    layer(x).square().sum().backward()
    for gradient in (x.grad, layer.weight.grad, layer.norm.weight.grad):
        assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_configuration_reads_the_published_file():
    config = ModelConfig.from_json(GOLDEN[0] / "config.json")
    assert (config.hidden_size, config.mlp_size) == (128, 512)
    for hidden, size in ((1024, 2816), (2048, 5632), (2560, 6912)):
        assert dataclasses.replace(config, hidden_size=hidden).mlp_size == size


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_type": "llama"}, "model_type must be 'hgrn_bit'"),
        ({"use_short_conv": True}, "use_short_conv must be false"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'swish'"),
        ({"num_heads": 3}, "num_heads must be a divisor of hidden_size 128"),
        ({"hidden_size": "128"}, "hidden_size must be a positive integer, got '128'"),
        ({"expand_ratio": 2}, "expand_ratio must be 1"),
        ({"vocab_size": None}, "vocab_size must be a positive integer"),
        ({"eos_token_id": [2, 3]}, "eos_token_id must be one token, or null"),
        ({"bos_token_id": 256}, "bos_token_id must be below vocab_size 256, got 256"),
    ],
)
def test_configuration_errors(tmp_path, change, text):
    values = json.loads((GOLDEN[0] / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"config\.json") as error:
        ModelConfig.from_json(tmp_path / "config.json")
    assert text in str(error.value)
