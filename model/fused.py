"""BitLinear for training with its norm, quantisation and straight-through gradient fused: less memory, fewer passes.

The module of :mod:`trilobit.model.reference` leaves autograd one tensor for each operation between input and product.
Here a BitLinear is one operation that keeps its input and two numbers a row; the backward pass computes the int8 values
and the trits again. (The paper, arXiv 2406.02528, section 3.3, fuses the norm with the quantisation for the same end.)

With y = norm(x), q = int8(y * a), t the trits and s the scale of the weight, out = (q t^T) s / a. Backwards, both
quantisations pass the gradient on, so with d = grad * s / a: dq = d t, dy = a dq, dW = (d^T q) / s.

Everything around the products is written twice: as Triton kernels (``fused_kernels.py``, used on a GPU) and as the
PyTorch twins here, which define them. The forward product is the exact integer one (int8 matrix units on a GPU); the
backward products are in bf16 where the training's precision is bf16.
"""

from types import ModuleType

import torch
from torch import Tensor, nn

from trilobit.model.reference import SCALE_FLOOR, BitLinear, round_half_away

kernels: ModuleType | None = None
try:  # Triton comes with PyTorch's CUDA builds only
    from trilobit.model import fused_kernels

    kernels = fused_kernels
except ImportError:
    pass

__all__ = [
    "FusedBitLinear", "bitlinear", "fuse", "quantise_rows_twin", "quantise_weight_twin", "rows_backward_twin", "scale_rows_twin",
    "unfuse", "weight_scale_twin",
]  # fmt: skip


# ---- the twins: what each kernel computes --------------------------------------------------------------------------------


def quantise_rows_twin(x: Tensor, gain: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Norm and quantisation of rows.

    Args:
        x: [M, K], fp32 or bf16; computed in fp32.
        gain: [K] fp32, or None.
        eps: of the norm.

    Returns:
        int8 [M, K]; 1/rms [M]; 127 / max|y| [M].
    """
    inverse = torch.rsqrt(x.float().square().mean(-1) + eps)
    y = _normed(x, inverse, gain)
    scale = 127 / y.abs().amax(-1).clamp(min=SCALE_FLOOR)
    return _values(y, scale).to(torch.int8), inverse, scale


def _normed(x: Tensor, inverse: Tensor, gain: Tensor | None) -> Tensor:
    y = x.float() * inverse[:, None]
    return y if gain is None else y * gain


def _values(y: Tensor, scale: Tensor) -> Tensor:
    return round_half_away(y * scale[:, None]).clamp(-128, 127)


def rows_backward_twin(
    dq: Tensor, x: Tensor, gain: Tensor | None, inverse: Tensor, scale: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradient through quantisation (straight through) and norm, and the int8 values again.

    Args:
        dq: [M, K], the gradient by the int8 values, of any float type.
        x, gain, inverse, scale: of :func:`quantise_rows_twin`.
        dtype: of the values.

    Returns:
        dx [M, K] as x; values [M, K]; dgain [K] fp32 or None.
    """
    normed = x.float() * inverse[:, None]
    dy = dq.float() * scale[:, None]
    dgain = None if gain is None else (dy * normed).sum(0)
    dn = dy if gain is None else dy * gain
    dx = inverse[:, None] * (dn - normed * (dn * normed).mean(-1, keepdim=True))
    return dx.to(x.dtype), _values(_normed(x, inverse, gain), scale).to(dtype), dgain


def weight_scale_twin(weight: Tensor) -> Tensor:
    """mean|W|, at least 1e-5, [1], the sum in fp64."""
    return weight.abs().mean(dtype=torch.float64).clamp(min=SCALE_FLOOR).float().reshape(1)


def quantise_weight_twin(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Trits of [N, K] fp32 weights with the scale [1], as numbers of this type."""
    return (weight * (1 / scale)).round().clamp(-1, 1).to(dtype)


def scale_rows_twin(source: Tensor, scale: Tensor, weight_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """[M, N] of any type, times weight_scale [1] / scale [M], as this type."""
    return (source.float() * (weight_scale / scale)[:, None]).to(dtype)


# ---- the operation -------------------------------------------------------------------------------------------------------


def _pick(name: str, on: Tensor):  # the kernel on a GPU, else its twin
    return getattr(kernels, name) if on.is_cuda and kernels is not None else globals()[f"{name}_twin"]


def _integer_product(q: Tensor, trits: Tensor) -> Tensor:
    """q [M, K] times trits [N, K] transposed, both int8: exact, int32 or fp32 [M, N]."""
    rows, inner = q.shape
    if q.is_cuda and rows > 16 and inner % 8 == 0 and trits.shape[0] % 8 == 0:  # what cuBLAS's int8 product takes
        return torch._int_mm(q, trits.t())
    return nn.functional.linear(q.float(), trits.float())  # |sum| <= 127 * K < 2^24: exact in fp32


# A custom operator is opaque to torch.compile, and keeps between the passes what it says and nothing else.
@torch.library.custom_op("trilobit::bitlinear", mutates_args=())
def _forward(x: Tensor, weight: Tensor, gain: Tensor | None, eps: float, half: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, inverse, scale = _pick("quantise_rows", x)(x, gain, eps)
    weight_scale = _pick("weight_scale", x)(weight)
    trits = _pick("quantise_weight", x)(weight, weight_scale, torch.int8)
    return _pick("scale_rows", x)(_integer_product(q, trits), scale, weight_scale, x.dtype), inverse, scale, weight_scale


@_forward.register_fake
def _(x, weight, gain, eps, half):
    rows = x.shape[0]
    return x.new_empty(rows, weight.shape[0]), *(x.new_empty(n, dtype=torch.float32) for n in (rows, rows, 1))


@torch.library.custom_op("trilobit::bitlinear_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, gain: Tensor | None, inverse: Tensor, scale: Tensor, weight_scale: Tensor, half: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.bfloat16 if half else torch.float32
    d = _pick("scale_rows", x)(grad.contiguous(), scale, weight_scale, dtype)
    dq = d @ _pick("quantise_weight", x)(weight, weight_scale, dtype)
    dx, q, dgain = _pick("rows_backward", x)(dq, x, gain, inverse, scale, dtype)
    dweight = (d.t() @ q) * (1 / weight_scale)  # [1] of fp32: the result is fp32
    return dx, dweight, x.new_empty(0, dtype=torch.float32) if dgain is None else dgain


@_backward.register_fake
def _(grad, x, weight, gain, inverse, scale, weight_scale, half):
    return (
        torch.empty_like(x),
        torch.empty_like(weight),
        torch.empty_like(gain) if gain is not None else x.new_empty(0, dtype=torch.float32),
    )


def _setup_context(ctx, inputs, output) -> None:
    x, weight, gain, _, half = inputs
    ctx.half = half
    ctx.save_for_backward(x, weight, gain, *output[1:])


def _gradient(ctx, grad, *_unused):
    x, weight, gain, inverse, scale, weight_scale = ctx.saved_tensors
    dx, dweight, dgain = _backward(grad, x, weight, gain, inverse, scale, weight_scale, ctx.half)
    return dx, dweight, dgain if gain is not None else None, None, None


_forward.register_autograd(_gradient, setup_context=_setup_context)


def bitlinear(x: Tensor, weight: Tensor, gain: Tensor | None, eps: float, half: bool = False) -> Tensor:
    """A whole BitLinear, differentiable by x, weight and gain.

    Args:
        x: [..., K], fp32 or bf16.
        weight: [N, K] fp32, quantised here.
        gain: [K] fp32 of the norm in front, or None.
        eps: of the norm.
        half: the backward products in bf16.

    Returns:
        [..., N] of x's type.
    """
    flat = x.reshape(-1, x.shape[-1]).contiguous()
    return _forward(flat, weight, gain, eps, half)[0].reshape(*x.shape[:-1], weight.shape[0])


class FusedBitLinear(BitLinear):
    """A BitLinear that trains as one operation; evaluation and the packed form are the reference's."""

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        if self.is_packed or not self.training or x.dtype == torch.float64:
            return super().forward(x)
        return bitlinear(x, self.weight, self.norm.weight, self.norm.eps, self.product_dtype == torch.bfloat16)


def fuse(model: nn.Module) -> nn.Module:
    """Let every BitLinear of a model train fused, in place; parameters and their names stay as they are."""
    return _become(model, BitLinear, FusedBitLinear)


def unfuse(model: nn.Module) -> nn.Module:
    """The inverse of :func:`fuse`."""
    return _become(model, FusedBitLinear, BitLinear)


def _become(model: nn.Module, old: type, new: type) -> nn.Module:
    for module in model.modules():
        if type(module) is old:
            module.__class__ = new
    return model
