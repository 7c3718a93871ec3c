"""Transformer++: the full-precision baseline, in the form of Llama (Touvron et al., arXiv 2302.13971).

RMSNorm before each mixer, rotary positions, SwiGLU, no biases, embedding and head apart: what the MatMul-free LM's paper
compares with. Sizes: a layer has 4*H*H + 3*H*I weights, as the MatMul-free LM has.
"""

import torch
from torch import Tensor, fx, nn

from trilobit.model.baselines.attention import causal_attention
from trilobit.model.baselines.config import BaselineConfig
from trilobit.model.reference import RMSNorm

__all__ = ["Transformer"]

fx.wrap("causal_attention")  # one operation in a trace, so that the compiler names it as what is in the way


class _Attention(nn.Module):
    def __init__(self, config: BaselineConfig):
        super().__init__()
        H = config.hidden_size
        self.heads, self.theta = config.num_heads, config.rope_theta
        self.qkv_proj = nn.Linear(H, 3 * H, bias=False)
        self.o_proj = nn.Linear(H, H, bias=False)

    def forward(self, a: Tensor) -> Tensor:  # [B, T, H] -> [B, T, H]
        q, k, v = self.qkv_proj(a).chunk(3, dim=-1)
        return self.o_proj(causal_attention(q, k, v, self.heads, self.theta, False))


class _SwiGLU(nn.Module):
    def __init__(self, config: BaselineConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, 2 * config.mlp_size, bias=False)
        self.down_proj = nn.Linear(config.mlp_size, config.hidden_size, bias=False)

    def forward(self, m: Tensor) -> Tensor:  # [B, T, H] -> [B, T, H]
        gate, y = self.gate_proj(m).chunk(2, dim=-1)
        return self.down_proj(nn.functional.silu(gate) * y)


class _Block(nn.Module):
    def __init__(self, config: BaselineConfig, dropout: float):
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = _Attention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = _SwiGLU(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.dropout(self.attn(self.attn_norm(h)))
        return h + self.dropout(self.mlp(self.mlp_norm(h)))


class Transformer(nn.Module):
    """The language model; calling it with ``input_ids`` [B, T] gives logits [B, T, V].

    Args:
        config: the geometry.
        dropout, embedding_dropout: on both residual branches and on the embedding, in training only.
    """

    is_recurrent = False  # every sequence stands alone: nothing is carried from one call to the next

    def __init__(self, config: BaselineConfig, dropout: float = 0.0, embedding_dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.autocast_dtype: torch.dtype | None = None  # torch.bfloat16 for mixed precision, in training only
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(embedding_dropout)
        self.layers = nn.ModuleList(_Block(config, dropout) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # as GPT-2: what adds to the residual stream starts smaller the more layers add to it
                small = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * config.num_hidden_layers) ** 0.5 if small else 0.02)

    def forward(self, input_ids: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        h = self.dropout(self.embeddings(input_ids))
        for layer in self.layers:
            h = layer(h)
        return self.lm_head(self.norm(h)).float()

    def set_precision(self, precision: str) -> None:
        """Training in "bf16" runs under autocast; other names compute in fp32."""
        self.autocast_dtype = torch.bfloat16 if precision == "bf16" else None

    def init_state(self, batch: int) -> Tensor:
        """Nothing: [0, B, 0]."""
        return torch.zeros((0, batch, 0), device=self.embeddings.weight.device)

    def forward_all(self, input_ids: Tensor, state: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Logits [B, T, V], no hidden states, the state as it came."""
        kind = self.autocast_dtype if self.training else None
        with torch.autocast(input_ids.device.type, kind or torch.bfloat16, enabled=kind is not None):
            return self(input_ids), [], state
