"""Inference on packed weights: the reference's logits on a CPU, the twin's on a GPU, and a step that carries its state."""

import pytest
import torch

from trilobit.errors import ModelError
from trilobit.isa import trits
from trilobit.model import inference
from trilobit.model.config import ModelConfig
from trilobit.model.inference import GraphedStep, Native, PackedLM, Twin
from trilobit.model.reference import MatMulFreeLM

# Sizes that are no multiples of five, of 32 (the native kernel's block) or of two's powers.
CONFIG = ModelConfig(vocab_size=203, hidden_size=88, num_hidden_layers=3, intermediate_size=148)


def reference() -> MatMulFreeLM:
    torch.manual_seed(11)
    model = MatMulFreeLM(CONFIG)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    torch.nn.init.normal_(model.model.lower_bounds)
    return model.eval()


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double().cpu().flatten(), b.double().cpu().flatten(), dim=0))


@torch.no_grad()
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_steps_give_the_references_logits(device):
    model = reference()
    ids = torch.randint(203, (2, 12), generator=torch.Generator().manual_seed(5))
    expected = model(ids)
    packed = PackedLM.from_model(model, device)
    state = packed.init_state(2)
    for t in range(12):
        logits, state = packed.step(ids[:, t].to(device), state)
        # fp32 between the products beside the reference's fp64: an activation beside a tie may flip; all else is exact.
        assert cosine(logits, expected[:, t]) > 0.9995, t
    last = model.forward_all(ids)[2]
    assert cosine(state, last) > 0.9995


def prepared(batch: int, matrices: int, columns: int, device: str = "cpu") -> inference.Prepared:
    x = torch.randn(batch, columns, generator=torch.Generator().manual_seed(columns))
    gains = torch.rand(matrices, columns, generator=torch.Generator().manual_seed(matrices)) + 0.5
    return Twin.prepare(x.to(device), torch.ones(columns, device=device), 1e-6, gains.to(device))


def weights(matrices: int, rows: int, columns: int, device: str = "cpu") -> torch.Tensor:
    values = torch.randint(-1, 2, (matrices, rows, columns), generator=torch.Generator().manual_seed(rows))
    return torch.stack([torch.from_numpy(trits.pack(matrix.numpy())) for matrix in values]).to(device)


SHAPES = [(1, 1, 5, 32), (1, 3, 88, 88), (2, 1, 203, 148), (3, 2, 1001, 2052)]


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 4000, 1024)])
def test_native_products_equal_the_twins(shape):
    batch, matrices, rows, columns = shape
    before = prepared(batch, matrices, columns)
    packed, scales = weights(matrices, rows, columns), torch.rand(matrices) + 0.5
    residual = torch.randn(batch, rows) if matrices == 1 else None
    expected = Twin.product(packed, scales, before, rows, residual)
    assert torch.allclose(Native.product(packed, scales, before, rows, residual), expected, rtol=1e-6)


def test_the_prefix_products_decode_every_byte():
    """What the GPU kernel relies on: (b * 3^k) >> 8 is the number that the first k digits of a byte make."""
    for byte in range(256):
        digits = trits.unpack(torch.tensor([[byte]], dtype=torch.uint8).numpy(), 5)[:, 0] + 1
        for k in range(1, 6):
            prefix = (byte * 3**k) >> 8
            assert prefix - 3 * ((byte * 3 ** (k - 1)) >> 8 if k > 1 else 0) == digits[k - 1]
            assert prefix < 256 and byte * 3**k < 1 << 16  # a byte for dp4a, no carry out of a 16-bit lane


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*SHAPES, (1, 3, 2048, 2048), (4, 1, 512, 13824)])
def test_gpu_products_equal_the_twins(shape):
    batch, matrices, rows, columns = shape
    before = prepared(batch, matrices, columns, "cuda")
    packed, scales = weights(matrices, rows, columns, "cuda"), torch.rand(matrices, device="cuda") + 0.5
    residual = torch.randn(batch, rows, device="cuda") if matrices == 1 else None
    expected = Twin.product(packed, scales, before, rows, residual)
    assert torch.allclose(inference.kernels.product(packed, scales, before, rows, residual), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [88, 1024, 5120])
def test_gpu_vector_kernels_equal_the_twins(width):
    generator = torch.Generator("cuda").manual_seed(width)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device="cuda")

    h, gains, lower = draw(2, width), draw(3, width).abs() + 0.5, torch.rand(width, device="cuda")
    ifg, state = draw(2, 3 * width), draw(2, width)
    states = [state.clone(), state.clone()]
    calls = [
        (lambda e, s: e.prepare(h, gains[0], 1e-6, gains)),
        (lambda e, s: e.mix(ifg, s, lower, gains[0], 1e-5, gains[1:2])),
        (lambda e, s: e.glu(ifg[:, : 2 * width].contiguous(), gains[2:])),
    ]
    for call in calls:
        got, expected = call(inference.kernels, states[0]), call(Twin, states[1])
        flips = (got[0].int() - expected[0].int()).abs()
        assert int(flips.max()) <= 1 and float(flips.float().mean()) < 1e-3
        assert torch.allclose(got[1], expected[1], rtol=1e-5)
        assert torch.equal(got[2], got[0].sum(-1, dtype=torch.int32))
    assert torch.allclose(states[0], states[1], rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_a_graph_replays_the_step():
    model = PackedLM.random(CONFIG, "cuda")
    graphed, state = GraphedStep(model, 2), model.init_state(2)
    for n in range(5):
        ids = torch.tensor([n, 2 * n], device="cuda")
        assert torch.equal(graphed(ids), model.step(ids, state)[0])


@pytest.mark.gpu
def test_the_same_random_model_on_a_gpu_and_a_cpu():
    on_gpu = PackedLM.random(ModelConfig(vocab_size=500, hidden_size=512, num_hidden_layers=4), "cuda", seed=7)
    on_cpu = on_gpu.to("cpu")
    states = on_gpu.init_state(1), on_cpu.init_state(1)
    for token in (1, 17, 400):
        got, expected = (m.step(torch.tensor([token], device=m.device), s)[0] for m, s in zip((on_gpu, on_cpu), states, strict=True))
        assert cosine(got, expected) > 0.9995


def test_random_models_hold_1_6_bits_a_weight():
    config = ModelConfig(vocab_size=1000, hidden_size=320, num_hidden_layers=2, intermediate_size=640)
    model = PackedLM.random(config)
    ternary = 2 * (4 * 320 * 320 + 3 * 320 * 640) + 1000 * 320
    small = 4 * (2 * (3 * 320 + 3 * 320 + 320 + 320 + 320 + 640) + 320 + 320 + 2 * 6 + 1)  # norms, gains, bounds, scales
    assert model.nbytes == ternary // 5 + 2 * 1000 * 320 + small
    assert model.generate([1, 2], 4) == model.generate([1, 2], 4)
    assert 0.3 < float((torch.from_numpy(trits.unpack(model.head.packed[0].numpy(), 1000)) == 0).float().mean()) < 0.37


def test_generating_needs_a_prompt():
    with pytest.raises(ModelError, match="at least one token"):
        PackedLM.random(CONFIG).generate([], 1)
