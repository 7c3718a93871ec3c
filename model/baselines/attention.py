"""Causal attention with rotary positions, shared by the two baselines that have it."""

import torch
from torch import Tensor, nn

__all__ = ["causal_attention", "rotate"]


def rotate(x: Tensor, theta: float) -> Tensor:
    """Rotary positions (Su et al., arXiv 2104.09864), halves of a head paired as in Llama: [B, heads, T, D] -> the same."""
    T, D = x.shape[-2:]
    wavelength = theta ** (torch.arange(0, D, 2, device=x.device, dtype=torch.float32) / D)
    angle = torch.arange(T, device=x.device, dtype=torch.float32)[:, None] / wavelength  # [T, D/2]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, theta: float, half: bool) -> Tensor:
    """softmax(q k' / sqrt(D)) v over the tokens so far, heads side by side in the last dimension.

    Args:
        q, k, v: [B, T, H].
        heads: that H is split into.
        theta: of the rotary positions.
        half: attend in bfloat16.

    Returns:
        [B, T, H] of q's dtype.
    """
    B, T, H = q.shape
    q, k, v = (x.view(B, T, heads, H // heads).transpose(1, 2) for x in (q, k, v))
    q, k = rotate(q, theta), rotate(k, theta)
    kind = torch.bfloat16 if half else v.dtype
    mixed = nn.functional.scaled_dot_product_attention(q.to(kind), k.to(kind), v.to(kind), is_causal=True)
    return mixed.transpose(1, 2).reshape(B, T, H).to(v.dtype)
