"""Triton kernels of :mod:`trilobit.model.fused`: what surrounds the products of a BitLinear, one pass over memory each.

A program takes one row (or several in turn) and keeps it in registers, so a row is read once. The functions are the
GPU's counterparts of the twins in ``fused.py``: same arguments, same results but for the order of sums.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["quantise_rows", "quantise_weight", "rows_backward", "scale_rows", "weight_scale"]

_ALMOST_HALF = tl.constexpr(0.5 - 2.0**-25)
_FLOOR = tl.constexpr(1e-5)
_BLOCK = 4096  # elements of a weight matrix a program
_MOST_PROGRAMS = 528  # four for each of 132 multiprocessors; each leaves one partial gradient of the gain


def _shape(columns: int) -> tuple[int, int]:
    """Block and warps for a row of this many columns."""
    block = triton.next_power_of_2(columns)
    return block, min(max(block // 512, 1), 16)


@triton.jit
def quantise(y):
    """int8 values (as fp32) of a row that is zero outside its length, and its scale: half away from zero, as published."""
    scale = tl.div_rn(127.0, tl.maximum(tl.max(tl.abs(y), axis=0), _FLOOR))
    v = y * scale
    return tl.where(v >= 0, tl.floor(v + _ALMOST_HALF), tl.ceil(v - _ALMOST_HALF)), scale


@triton.jit
def inverse_rms(x, length, eps):
    """1 / sqrt(mean(x^2) + eps) of a row that is zero outside its length."""
    return tl.div_rn(1.0, tl.sqrt_rn(tl.sum(x * x, axis=0) / length + eps))


@triton.jit
def _quantise_rows(x, gain, q, rms, scales, K, eps, HAS_GAIN: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    valid = column < K
    value = tl.load(x + row * K + column, mask=valid, other=0.0).to(tl.float32)
    inverse = inverse_rms(value, K, eps)
    y = value * inverse
    if HAS_GAIN:
        y = y * tl.load(gain + column, mask=valid, other=0.0)
    values, scale = quantise(y)
    tl.store(q + row * K + column, values.to(tl.int8), mask=valid)
    tl.store(rms + row, inverse)
    tl.store(scales + row, scale)


def quantise_rows(x: Tensor, gain: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`trilobit.model.fused.quantise_rows_twin`."""
    rows, columns = x.shape
    q = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    inverse, scale = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
    block, warps = _shape(columns)
    _quantise_rows[(rows,)](x, gain, q, inverse, scale, columns, eps, HAS_GAIN=gain is not None, BLOCK=block, num_warps=warps)
    return q, inverse, scale


@triton.jit
def _rows_backward(dy, x, gain, inverse, scales, dx, q, dgain, M, K, HAS_GAIN: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    valid = column < K
    total = tl.zeros((BLOCK,), tl.float32)
    if HAS_GAIN:
        weight = tl.load(gain + column, mask=valid, other=0.0)
    for row in range(tl.program_id(0), M, tl.num_programs(0)):
        place = tl.cast(row, tl.int64) * K + column
        rms, scale = tl.load(inverse + row), tl.load(scales + row)
        normed = tl.load(x + place, mask=valid, other=0.0).to(tl.float32) * rms
        grad = tl.load(dy + place, mask=valid, other=0.0).to(tl.float32) * scale
        y = normed
        if HAS_GAIN:
            total += grad * normed
            grad = grad * weight
            y = normed * weight
        v = y * scale
        values = tl.where(v >= 0, tl.floor(v + _ALMOST_HALF), tl.ceil(v - _ALMOST_HALF))
        tl.store(q + place, values.to(q.dtype.element_ty), mask=valid)
        mean = tl.sum(grad * normed, axis=0) / K
        tl.store(dx + place, (rms * (grad - normed * mean)).to(dx.dtype.element_ty), mask=valid)
    if HAS_GAIN:
        tl.store(dgain + tl.program_id(0).to(tl.int64) * K + column, total, mask=valid)


def rows_backward(
    dq: Tensor, x: Tensor, gain: Tensor | None, inverse: Tensor, scale: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As :func:`trilobit.model.fused.rows_backward_twin`."""
    rows, columns = x.shape
    programs = min(rows, _MOST_PROGRAMS)
    dx = torch.empty_like(x)
    q = torch.empty(x.shape, dtype=dtype, device=x.device)
    partial = torch.empty((programs, columns), dtype=torch.float32, device=x.device) if gain is not None else None
    block, warps = _shape(columns)
    _rows_backward[(programs,)](
        dq, x, gain, inverse, scale, dx, q, partial, rows, columns, HAS_GAIN=gain is not None, BLOCK=block, num_warps=warps
    )
    return dx, q, None if partial is None else partial.sum(0)


@triton.jit
def _absolute_sums(w, sums, N, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    place = start + tl.arange(0, BLOCK)
    value = tl.load(w + place, mask=place < N, other=0.0)
    tl.store(sums + tl.program_id(0), tl.sum(tl.abs(value).to(tl.float64), axis=0))


def weight_scale(weight: Tensor) -> Tensor:
    """mean|W|, at least 1e-5, [1]: the sum in fp64, as the reference takes it."""
    programs = triton.cdiv(weight.numel(), _BLOCK)
    sums = torch.empty(programs, dtype=torch.float64, device=weight.device)
    _absolute_sums[(programs,)](weight, sums, weight.numel(), BLOCK=_BLOCK)
    return (sums.sum(0, keepdim=True) / weight.numel()).clamp(min=_FLOOR.value).float()


@triton.jit
def _quantise_weight(w, scale, trits, N, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(w + place, mask=place < N, other=0.0) * tl.div_rn(1.0, tl.load(scale))
    # Half rounds to even: only what is beyond a half is a trit.
    trit = (value > 0.5).to(tl.int32) - (value < -0.5).to(tl.int32)
    tl.store(trits + place, trit.to(trits.dtype.element_ty), mask=place < N)


def quantise_weight(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """As :func:`trilobit.model.fused.quantise_weight_twin`."""
    trits = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    _quantise_weight[(triton.cdiv(weight.numel(), _BLOCK),)](weight, scale, trits, weight.numel(), BLOCK=_BLOCK)
    return trits


@triton.jit
def _scale_rows(source, scales, weight_scale, out, N, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    factor = tl.div_rn(tl.load(weight_scale), tl.load(scales + row))
    value = tl.load(source + row * N + column, mask=column < N, other=0).to(tl.float32) * factor
    tl.store(out + row * N + column, value.to(out.dtype.element_ty), mask=column < N)


def scale_rows(source: Tensor, scale: Tensor, weight_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """As :func:`trilobit.model.fused.scale_rows_twin`."""
    rows, columns = source.shape
    out = torch.empty(source.shape, dtype=dtype, device=source.device)
    block = min(triton.next_power_of_2(columns), 2048)
    _scale_rows[(rows, triton.cdiv(columns, block))](source, scale, weight_scale, out, columns, BLOCK=block)
    return out
