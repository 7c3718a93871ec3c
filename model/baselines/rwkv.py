"""A ternary RWKV-4: the token mixer that the MatMul-free LM's paper also tried, and ran on its FPGA.

RWKV-4 (Peng et al., arXiv 2305.13048) mixes each token with the one before it, and averages values with weights e^k that
decay by e^-w a token; the current token has a bonus u. The four projections are BitLinear, the channel mixer is the
MatMul-free LM's GLU, so that the token mixer alone differs. Sums of e^k overflow; the stable form keeps their scale in a
running maximum p (all exponents below are at most zero):

    q   = max(p, u + k)         e1 = e^(p - q)       e2 = e^(u + k - q)
    wkv = (e1 a + e2 v) / (e1 b + e2)
    p'  = max(p - w, k)         a' = e^(p - w - p') a + e^(k - p') v         b' = e^(p - w - p') b + e^(k - p')

a, b, p and the token before start at zero: with a = b = 0 any p gives the same values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trilobit.model.baselines.config import BaselineConfig
from trilobit.model.reference import GLU, BitLinear, RMSNorm, set_product_precision
from trilobit.model.scan import linear_scan

__all__ = ["RWKV", "WKV", "TokenShift"]

STATES = 4  # vectors of state a layer: a, b, p, and the token before


class TokenShift(nn.Module):
    """The vectors of the tokens before: x_{t-1}, zero (or ``state``) before the first."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """x: [B, T, H]; state: [B, H] or None. Returns [B, T, H]."""
        first = torch.zeros_like(x[:, :1]) if state is None else state[:, None].to(x.dtype)
        return torch.cat([first, x[:, :-1]], dim=1)


class WKV(nn.Module):
    """RWKV-4's decaying average, with a decay w = exp(``log_decay``) and a bonus u for each channel."""

    def __init__(self, size: int, depth: float):
        """``depth``: the layer's place, 0 for the first and 1 for the last; deeper layers remember longer at first."""
        super().__init__()
        place = torch.linspace(0, 1, size)
        self.log_decay = nn.Parameter(-5 + 8 * place ** (0.7 + 1.3 * depth))  # as RWKV-4 starts
        self.bonus = nn.Parameter(torch.full((size,), 0.5))

    def forward(self, k: Tensor, v: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """k, v: [B, T, H]; state: a, b, p, each [B, H], or None. Returns wkv [B, T, H] and the new state."""
        w, u = self.log_decay.exp().to(k.dtype), self.bonus.to(k.dtype)
        a, b, p = (torch.zeros_like(k[:, 0]) for _ in range(3)) if state is None else (x.to(k.dtype) for x in state)
        before, after = running_maximum(k.detach(), p, w.detach())
        fade, weight = (before - w - after).exp(), (k - after).exp()
        sums, counts = linear_scan(fade, weight * v, a), linear_scan(fade, weight, b)
        sum_before = torch.cat([a[:, None], sums[:, :-1]], dim=1)
        count_before = torch.cat([b[:, None], counts[:, :-1]], dim=1)
        q = torch.maximum(before, (u + k).detach())
        old, new = (before - q).exp(), (u + k - q).exp()
        wkv = (old * sum_before + new * v) / (old * count_before + new)
        return wkv, (sums[:, -1], counts[:, -1], after[:, -1])


def running_maximum(k: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """p before and after each token, [B, T, H] each: p_t = max(p_{t-1} - w, k_t) = cummax(k_t + t w) - t w.

    Its rounding does no harm: wkv does not depend on p, as long as all exponents use the same one.
    """
    drift = torch.arange(k.shape[1] + 1, device=k.device, dtype=k.dtype)[:, None] * w  # [T+1, H]
    every = torch.cummax(torch.cat([p[:, None], k], dim=1) + drift, dim=1).values - drift
    return every[:, :-1], every[:, 1:]


class _Mixer(nn.Module):
    def __init__(self, config: BaselineConfig, depth: float):
        super().__init__()
        H = config.hidden_size
        place = torch.linspace(0, 1, H)
        # How much of the current token each projection sees; the rest is the one before.
        self.mix_r = nn.Parameter(0.5 * (1 + place))
        self.mix_k = nn.Parameter(place.clone())
        self.mix_v = nn.Parameter(0.3 * depth + 0.7 * place)
        self.shift, self.wkv = TokenShift(), WKV(H, depth)
        self.r_proj, self.k_proj, self.v_proj, self.o_proj = (BitLinear(H, H) for _ in range(4))

    def forward(self, a: Tensor, state: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """a: [B, T, H]; state: [4, B, H] or None. Returns the output, and the new state as four of [B, H]."""
        before = self.shift(a, None if state is None else state[3])
        r = self.r_proj(before + self.mix_r * (a - before))
        k = self.k_proj(before + self.mix_k * (a - before))
        v = self.v_proj(before + self.mix_v * (a - before))
        mixed, sums = self.wkv(k, v, None if state is None else (state[0], state[1], state[2]))
        return self.o_proj(torch.sigmoid(r) * mixed), [sums, a[:, -1]]


class _Block(nn.Module):
    def __init__(self, config: BaselineConfig, depth: float, dropout: float):
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = _Mixer(config, depth)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GLU(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, state: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """As the mixer's."""
        mixed, new = self.attn(self.attn_norm(h), state)
        h = h + self.dropout(mixed)
        return h + self.dropout(self.mlp(self.mlp_norm(h))), new


class RWKV(nn.Module):
    """The language model; calling it with ``input_ids`` [B, T] gives logits [B, T, V].

    Args:
        config: the geometry; ``num_heads`` has no meaning here.
        dropout, embedding_dropout: on both residual branches and on the embedding, in training only.
    """

    is_recurrent = True

    def __init__(self, config: BaselineConfig, dropout: float = 0.0, embedding_dropout: float = 0.0):
        super().__init__()
        self.config = config
        L = config.num_hidden_layers
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(embedding_dropout)
        self.layers = nn.ModuleList(_Block(config, n / max(L - 1, 1), dropout) for n in range(L))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        nn.init.normal_(self.embeddings.weight, std=0.02)

    @property
    def compute_dtype(self) -> torch.dtype:
        """Of the vectors between products: as the MatMul-free LM's, fp32 in training and fp64 in eval mode."""
        return torch.float32 if self.training else torch.float64

    def forward(self, input_ids: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        h = self.dropout(self.embeddings(input_ids).to(self.compute_dtype))
        for layer in self.layers:
            h, _ = layer(h, None)
        return self.lm_head(self.norm(h)).float()

    def set_precision(self, precision: str) -> None:
        """As the MatMul-free LM's."""
        set_product_precision(self, precision)

    def init_state(self, batch: int) -> Tensor:
        """The state before the first token: zeros, [4 L, B, H]; of each layer a, b, p and the token before."""
        shape = (STATES * self.config.num_hidden_layers, batch, self.config.hidden_size)
        return torch.zeros(shape, dtype=self.compute_dtype, device=self.embeddings.weight.device)

    def forward_all(self, input_ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, list[Tensor], Tensor]:
        """Logits [B, T, V], no hidden states, the state after the last token [4 L, B, H]."""
        h = self.dropout(self.embeddings(input_ids).to(self.compute_dtype))
        states = self.init_state(len(input_ids)) if state is None else state
        after: list[Tensor] = []
        for n, layer in enumerate(self.layers):
            h, (sums, last) = layer(h, states[STATES * n : STATES * (n + 1)])
            after += [*sums, last]
        return self.lm_head(self.norm(h)).float(), [], torch.stack(after)

    def step(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One token for each sequence: ids [B] to logits [B, V] and the new state."""
        logits, _, state = self.forward_all(ids.unsqueeze(1), state)
        return logits[:, 0], state
