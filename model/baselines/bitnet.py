"""BitNet b1.58: attention, but ternary weights and int8 activations (Ma et al., arXiv 2402.17764; BitLinear of arXiv 2310.11453).

The products are the MatMul-free LM's :class:`~trilobit.model.reference.BitLinear`, head included, and the channel mixer
is its ternary GLU; what differs is the token mixer alone.
"""

import torch
from torch import Tensor, fx, nn

from trilobit.model.baselines.attention import causal_attention
from trilobit.model.baselines.config import BaselineConfig
from trilobit.model.reference import GLU, BitLinear, RMSNorm, set_product_precision

__all__ = ["BitNet"]

fx.wrap("causal_attention")  # one operation in a trace, so that the compiler names it as what is in the way


class _Attention(nn.Module):
    def __init__(self, config: BaselineConfig):
        super().__init__()
        H = config.hidden_size
        self.heads, self.theta, self.mixed_precision = config.num_heads, config.rope_theta, False
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (BitLinear(H, H) for _ in range(4))

    def forward(self, a: Tensor) -> Tensor:  # [B, T, H] -> [B, T, H]
        half = self.mixed_precision and self.training
        return self.o_proj(causal_attention(self.q_proj(a), self.k_proj(a), self.v_proj(a), self.heads, self.theta, half))


class _Block(nn.Module):
    def __init__(self, config: BaselineConfig, dropout: float):
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = _Attention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GLU(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.dropout(self.attn(self.attn_norm(h)))
        return h + self.dropout(self.mlp(self.mlp_norm(h)))


class BitNet(nn.Module):
    """The language model; calling it with ``input_ids`` [B, T] gives logits [B, T, V].

    Args:
        config: the geometry.
        dropout, embedding_dropout: on both residual branches and on the embedding, in training only.
    """

    is_recurrent = False

    def __init__(self, config: BaselineConfig, dropout: float = 0.0, embedding_dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(embedding_dropout)
        self.layers = nn.ModuleList(_Block(config, dropout) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        nn.init.normal_(self.embeddings.weight, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        h = self.dropout(self.embeddings(input_ids))
        for layer in self.layers:
            h = layer(h)
        return self.lm_head(self.norm(h)).float()

    def set_precision(self, precision: str) -> None:
        """As the MatMul-free LM's; in "bf16" the attention is in bfloat16 too."""
        set_product_precision(self, precision)
        for layer in self.layers:
            layer.attn.mixed_precision = precision == "bf16"  # type: ignore[union-attr]  # ModuleList forgets what its layers are

    def init_state(self, batch: int) -> Tensor:
        """Nothing: [0, B, 0]."""
        return torch.zeros((0, batch, 0), device=self.embeddings.weight.device)

    def forward_all(self, input_ids: Tensor, state: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Logits [B, T, V], no hidden states, the state as it came."""
        return self(input_ids), [], state
