"""The fused BitLinear: the same values and gradients as the reference module, on a CPU (the twins) and on a GPU (the kernels)."""

import copy

import pytest
import torch

from trilobit.model import fused
from trilobit.model.config import ModelConfig
from trilobit.model.reference import BitLinear, MatMulFreeLM
from trilobit.model.train import train
from trilobit.model.training_config import TrainingConfig

# Rows, columns, outputs: one row, sizes that are no powers of two, sizes that cuBLAS's int8 product does not take.
SHAPES = [(1, 64, 32), (37, 100, 60), (64, 256, 512), (130, 1000, 776), (300, 2816, 1024)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    """||got - expected|| / ||expected||."""
    got, expected = got.double().cpu(), expected.double().cpu()
    return float((got - expected).norm() / expected.norm())


def case(shape: tuple[int, int, int], gain: bool = True, device: str = "cpu") -> tuple[BitLinear, torch.Tensor, torch.Tensor]:
    """A module with gains off one, inputs [M, K] and a gradient [M, N]."""
    rows, columns, outputs = shape
    torch.manual_seed(rows + columns)
    module = BitLinear(columns, outputs, gain)
    if gain:
        torch.nn.init.uniform_(module.norm.weight, 0.5, 1.5)
    return module.to(device), torch.randn(rows, columns).to(device) * 3, torch.randn(rows, outputs).to(device)


def run(module: BitLinear, x: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output and gradients."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    out = module(x)
    out.backward(grad)
    gains = {} if module.norm.weight is None else {"dgain": module.norm.weight.grad}
    return {"out": out.detach(), "dx": x.grad, "dweight": module.weight.grad, **gains}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_equal_the_reference_in_fp32(shape, gain, device):
    module, x, grad = case(shape, gain, device)
    expected = run(module, x, grad)
    got = run(fused.fuse(copy.deepcopy(module)), x, grad)
    for name, value in expected.items():
        # An activation beside a tie may round the other way: 1e-3 of a row's size, in few rows; a wrong formula gives 1.
        assert got[name].dtype == torch.float32
        assert distance(got[name], value) < 5e-4, name


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_products_stay_within_their_precision(device):
    module, x, grad = case((300, 512, 384), device=device)
    expected = run(module, x, grad)
    module.product_dtype = torch.bfloat16
    got = run(fused.fuse(copy.deepcopy(module)), x, grad)
    assert distance(got["out"], expected["out"]) < 5e-4  # the forward product is exact in any precision
    for name in ("dx", "dweight", "dgain"):
        assert 1e-6 < distance(got[name], expected[name]) < 1e-2, name


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_inputs_give_bf16_outputs_and_gradients(device):
    module, x, grad = case((130, 256, 128), device=device)
    x, grad = x.bfloat16(), grad.bfloat16()
    expected = run(module, x.float(), grad.float())
    got = run(fused.fuse(copy.deepcopy(module)), x, grad)
    assert got["out"].dtype == got["dx"].dtype == torch.bfloat16
    for name, value in expected.items():
        assert distance(got[name], value) < 1e-2, name


def test_leading_dimensions_and_strides_are_free():
    module, x, _ = case((60, 64, 32))
    fused.fuse(module)
    x = x.reshape(3, 20, 64).transpose(0, 1)
    assert torch.equal(module(x), module(x.contiguous()))
    assert module(x).shape == (20, 3, 32)


def test_evaluation_and_packing_are_the_references():
    module, x, _ = case((8, 64, 32))
    module.eval()
    expected = module(x.double())
    fused.fuse(module)
    assert torch.equal(module(x.double()), expected)
    assert torch.equal(module.pack().train()(x.double()), expected)
    assert type(fused.unfuse(module)) is BitLinear


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_trains_alike(device):
    """Loss and gradients of a whole model, where one flipped activation would spread."""
    config = ModelConfig(vocab_size=64, hidden_size=64, num_hidden_layers=2, intermediate_size=128)
    torch.manual_seed(3)
    model = MatMulFreeLM(config).to(device).train()
    ids = torch.randint(64, (4, 24)).to(device)

    def gradients(model: MatMulFreeLM) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
        loss.backward()
        return float(loss.detach()), torch.cat([p.grad.flatten() for p in model.parameters()])

    loss, expected = gradients(model)
    got_loss, got = gradients(fused.fuse(model))
    assert abs(got_loss - loss) < 2e-3 * loss
    assert distance(got, expected) < 2e-2
    assert set(model.state_dict()) == set(MatMulFreeLM(config).state_dict())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [*SHAPES, (5, 13824, 64)])
def test_each_kernel_equals_its_twin(shape, dtype):
    module, x, _ = case(shape, device="cuda")
    x, gain, weight = x.to(dtype), module.norm.weight.detach(), module.weight.detach()
    q, inverse, scale = fused.kernels.quantise_rows(x, gain, 1e-6)
    q_twin, inverse_twin, scale_twin = fused.quantise_rows_twin(x, gain, 1e-6)
    assert torch.allclose(inverse, inverse_twin, rtol=1e-6) and torch.allclose(scale, scale_twin, rtol=1e-6)
    flips = (q.int() - q_twin.int()).abs()
    assert int(flips.max()) <= 1 and float(flips.float().mean()) < 1e-4
    dq = torch.randn_like(x)
    got = fused.kernels.rows_backward(dq, x, gain, inverse, scale, torch.bfloat16)
    expected = fused.rows_backward_twin(dq, x, gain, inverse, scale, torch.bfloat16)
    assert torch.equal(got[1].to(torch.int8), q)  # the values again, bit for bit
    assert distance(got[0], expected[0]) < (1e-5 if dtype == torch.float32 else 3e-3)
    assert distance(got[2], expected[2]) < 1e-5
    weight_scale = fused.kernels.weight_scale(weight)
    assert torch.equal(weight_scale, fused.weight_scale_twin(weight))
    for kind in (torch.int8, torch.bfloat16, torch.float32):
        assert torch.equal(
            fused.kernels.quantise_weight(weight, weight_scale, kind), fused.quantise_weight_twin(weight, weight_scale, kind)
        )
    sums = torch.randint(-9999, 9999, (shape[0], shape[2]), dtype=torch.int32, device="cuda")
    scaled = fused.kernels.scale_rows(sums, scale, weight_scale, torch.float32)
    assert torch.allclose(scaled, fused.scale_rows_twin(sums, scale, weight_scale, torch.float32), rtol=1e-6)


def test_the_flag_trains_fused_and_returns_the_plain_model(tmp_path):
    config = ModelConfig(vocab_size=32, hidden_size=32, num_hidden_layers=2, intermediate_size=64)
    ids = torch.randint(32, (4000,), generator=torch.Generator().manual_seed(4)).numpy()
    losses = {}
    for wanted in (False, True):
        how = TrainingConfig(steps=6, batch_size=4, context=32, learning_rate=0.01, warmup_steps=1, fused=wanted, held_out=0.1)
        model, record = train(ids, config, how, tmp_path / str(wanted), device="cpu", quiet=True)
        assert type(model.lm_head) is BitLinear
        losses[wanted] = record["loss"]
    assert abs(losses[True] - losses[False]) < 5e-3
