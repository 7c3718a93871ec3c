"""Triton kernels of :mod:`trilobit.model.inference`: one token on packed weights, 1.6 bits each, eight launches a layer.

The weights stay as the checkpoint and the accelerator have them (``trilobit.isa.trits``): five rows of one column to a
byte. A trit is decoded in one instruction, so that reading the weights is what takes the time: with the base-3 digits
d_1..d_5 of a byte b, ``(b * 3^k) >> 8`` is the prefix P_k = 3 P_{k-1} + d_k, and as a product is linear,
sum d_k q = sum P_k q - 3 sum P_{k-1} q. A 32-bit word holds four columns; spread over two words of 16-bit lanes, one
multiplication each gives the prefixes of two columns (b * 243 < 2^16: no carry between lanes), one byte permutation
packs four of them, and one dp4a multiplies these with four activations and adds. Unpacking two-bit weights would take
0.75 instructions a trit, not 1.0, and read a quarter more.
"""

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from trilobit.model.fused_kernels import inverse_rms, quantise

__all__ = ["glu", "mix", "prepare", "product"]

_NATIVE = tl.constexpr(os.environ.get("TRITON_INTERPRET") != "1")  # the interpreter knows no assembly
_EPS = tl.constexpr(1e-6)  # of a BitLinear's own norm


def _row(length: int) -> dict[str, int]:
    block = triton.next_power_of_2(length)
    return {"BLOCK": block, "num_warps": min(max(block // 512, 1), 16)}


def _outputs(batch: int, matrices: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.empty((batch, matrices, columns), dtype=torch.int8, device=like.device)
    scale = torch.empty((batch, matrices), dtype=torch.float32, device=like.device)
    return q, scale, torch.empty((batch, matrices), dtype=torch.int32, device=like.device)


@triton.jit
def _finish(y, gain, q, scales, totals, n, K, column, valid):
    """Norm with its gain and quantisation of row n; its values, scale and sum of values are stored."""
    y = y * inverse_rms(y, K, _EPS) * tl.load(gain + column, mask=valid, other=0.0)
    values, scale = quantise(y)
    tl.store(q + n * K + column, values.to(tl.int8), mask=valid)
    tl.store(scales + n, scale)
    tl.store(totals + n, tl.sum(values, axis=0).to(tl.int32))  # |sum| < 2^24: exact in fp32


@triton.jit
def _prepare(h, outer, gains, q, scales, totals, K, eps, S, BLOCK: tl.constexpr):
    matrix, batch = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, BLOCK)
    valid = column < K
    x = tl.load(h + batch * K + column, mask=valid, other=0.0)
    x = x * inverse_rms(x, K, eps) * tl.load(outer + column, mask=valid, other=0.0)
    _finish(x, gains + matrix * K, q, scales, totals, batch * S + matrix, K, column, valid)


def prepare(h: Tensor, outer: Tensor, eps: float, gains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As :meth:`.Twin.prepare`."""
    (batch, columns), matrices = h.shape, len(gains)
    out = _outputs(batch, matrices, columns, h)
    _prepare[(matrices, batch)](h, outer, gains, *out, columns, eps, matrices, **_row(columns))
    return out


@triton.jit
def _mix(ifg, state, lower, g_gain, o_gain, q, scales, totals, H, eps, BLOCK: tl.constexpr):
    batch = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    valid = column < H
    base = ifg + batch * 3 * H + column
    i = tl.load(base, mask=valid, other=0.0)
    f = tl.sigmoid(tl.load(base + H, mask=valid, other=0.0))
    g = tl.load(base + 2 * H, mask=valid, other=0.0)
    bound = tl.load(lower + column, mask=valid, other=0.0)
    f = bound + (1 - bound) * f
    s = f * tl.load(state + batch * H + column, mask=valid, other=0.0) + (1 - f) * i * tl.sigmoid(i)
    tl.store(state + batch * H + column, s, mask=valid)
    y = g * inverse_rms(g, H, eps) * tl.load(g_gain + column, mask=valid, other=0.0) * s * tl.sigmoid(s)
    _finish(y, o_gain, q, scales, totals, batch, H, column, valid)


def mix(ifg: Tensor, state: Tensor, lower: Tensor, g_gain: Tensor, eps: float, o_gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As :meth:`.Twin.mix`."""
    batch, hidden = state.shape
    out = _outputs(batch, 1, hidden, state)
    _mix[(batch,)](ifg, state, lower, g_gain, o_gain, *out, hidden, eps, **_row(hidden))
    return out


@triton.jit
def _glu(gate, gain, q, scales, totals, inner, BLOCK: tl.constexpr):
    batch = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    valid = column < inner
    x = tl.load(gate + batch * 2 * inner + column, mask=valid, other=0.0)
    y = tl.load(gate + batch * 2 * inner + inner + column, mask=valid, other=0.0)
    _finish(x * tl.sigmoid(x) * y, gain, q, scales, totals, batch, inner, column, valid)


def glu(gate: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As :meth:`.Twin.glu`."""
    batch, inner = gate.shape[0], gate.shape[1] // 2
    out = _outputs(batch, 1, inner, gate)
    _glu[(batch,)](gate, gain, *out, inner, **_row(inner))
    return out


@triton.jit
def _add(even, odd, q, total):
    """total + the products of four prefixes (bits 8..15 of the lanes) and four activations."""
    if _NATIVE:
        total = tl.inline_asm_elementwise(
            "{ .reg .b32 t; prmt.b32 t, $1, $2, 0x7351; dp4a.u32.s32 $0, t, $3, $4; }",
            "=r,r,r,r,r", [even, odd, q, total], dtype=tl.int32, is_pure=True, pack=1,
        )  # fmt: skip
    else:
        total += ((even >> 8) & 255) * ((q << 24) >> 24) + ((odd >> 8) & 255) * ((q << 16) >> 24)
        total += ((even >> 24) & 255) * ((q << 8) >> 24) + ((odd >> 24) & 255) * (q >> 24)
    return total


@triton.jit
def _product(
    packed, q, scales, totals, weight_scales, residual, out, G, W, ROWS, S,
    HAS_RESIDUAL: tl.constexpr, GROUPS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    matrix, batch = tl.program_id(1), tl.program_id(2)
    group = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    vector = batch * S + matrix
    packed += matrix.to(tl.int64) * G * W + tl.minimum(group, G - 1)[:, None].to(tl.int64) * W
    q += vector * W
    a1 = tl.zeros((GROUPS, WORDS), tl.int32)
    a2 = a1
    a3 = a1
    a4 = a1
    a5 = a1
    for start in range(0, W, WORDS):
        word = start + tl.arange(0, WORDS)
        valid = word < W
        b = tl.load(packed + word[None, :], mask=valid[None, :], other=0)
        v = tl.load(q + word, mask=valid, other=0)[None, :].broadcast_to((GROUPS, WORDS))  # zero: adds nothing
        even = b & 0x00FF00FF
        odd = (b >> 8) & 0x00FF00FF
        a1 = _add(even * 3, odd * 3, v, a1)
        a2 = _add(even * 9, odd * 9, v, a2)
        a3 = _add(even * 27, odd * 27, v, a3)
        a4 = _add(even * 81, odd * 81, v, a4)
        a5 = _add(even * 243, odd * 243, v, a5)
    s1, s2, s3, s4, s5 = tl.sum(a1, 1), tl.sum(a2, 1), tl.sum(a3, 1), tl.sum(a4, 1), tl.sum(a5, 1)
    total = tl.load(totals + vector)  # a digit is its trit + 1
    factor = tl.div_rn(tl.load(weight_scales + matrix), tl.load(scales + vector))
    row = group * 5
    at = vector * ROWS + row
    _store(s1 - total, factor, residual, out, at, row < ROWS, HAS_RESIDUAL)
    _store(s2 - 3 * s1 - total, factor, residual, out, at + 1, row + 1 < ROWS, HAS_RESIDUAL)
    _store(s3 - 3 * s2 - total, factor, residual, out, at + 2, row + 2 < ROWS, HAS_RESIDUAL)
    _store(s4 - 3 * s3 - total, factor, residual, out, at + 3, row + 3 < ROWS, HAS_RESIDUAL)
    _store(s5 - 3 * s4 - total, factor, residual, out, at + 4, row + 4 < ROWS, HAS_RESIDUAL)


@triton.jit
def _store(value, factor, residual, out, at, valid, HAS_RESIDUAL: tl.constexpr):
    value = value.to(tl.float32) * factor
    if HAS_RESIDUAL:
        value += tl.load(residual + at, mask=valid, other=0.0)
    tl.store(out + at, value, mask=valid)


def tile(groups: int, words: int) -> tuple[int, int, int]:
    """Groups and words of a program's tile, and its warps: the fastest on an H100 (``bench/kernels.py tiles``)."""
    return (1, 512, 4) if words > 1280 else (1, min(triton.next_power_of_2(words), 256), 2)


def product(
    packed: Tensor, weight_scales: Tensor, prepared: tuple[Tensor, Tensor, Tensor], rows: int, residual: Tensor | None = None
) -> Tensor:
    """As :meth:`.Twin.product`; K must be a multiple of 4."""
    matrices, groups, columns = packed.shape
    q, scale, total = prepared
    out = torch.empty((len(q), matrices, rows), dtype=torch.float32, device=q.device)
    GROUPS, WORDS, warps = tile(groups, columns // 4)
    _product[(triton.cdiv(groups, GROUPS), matrices, len(q))](
        packed.view(torch.int32), q.view(torch.int32), scale, total, weight_scales, residual, out, groups, columns // 4, rows, matrices,
        HAS_RESIDUAL=residual is not None, GROUPS=GROUPS, WORDS=WORDS, num_warps=warps,
    )  # fmt: skip
    return out.view(len(q), matrices * rows)
