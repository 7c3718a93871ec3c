"""The MatMul-free LM without its quantisation: what ternary weights and int8 activations cost, apart from the recurrence.

The same layers, norms and lower bounds; only the products have full-precision weights and operands.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trilobit.model.baselines.config import BaselineConfig
from trilobit.model.reference import BitLinear, MatMulFreeLM, ModelConfig

__all__ = ["Unquantised"]


class _Linear(nn.Module):
    """What a BitLinear would be without rounding: its norm and its matrix."""

    def __init__(self, ternary: BitLinear):
        super().__init__()
        self.norm, self.weight = ternary.norm, ternary.weight
        self.product_dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        dtype = self.product_dtype if self.training else torch.float32
        return nn.functional.linear(self.norm(x).to(dtype), self.weight.to(dtype)).to(x.dtype)


class Unquantised(MatMulFreeLM):
    """The language model; calling it with ``input_ids`` [B, T] gives logits [B, T, V].

    Args:
        config: the geometry; ``num_heads`` has no meaning here.
        dropout, embedding_dropout: on both residual branches and on the embedding, in training only.
    """

    config: Any  # a BaselineConfig

    def __init__(self, config: BaselineConfig, dropout: float = 0.0, embedding_dropout: float = 0.0):
        shared = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "rms_norm_eps")
        super().__init__(ModelConfig(**{name: getattr(config, name) for name in shared}), dropout, embedding_dropout)
        self.config = config
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, BitLinear):
                    setattr(module, name, _Linear(child))

    def set_precision(self, precision: str) -> None:
        """Of the products in training: "bf16", or fp32 for any other name."""
        for module in self.modules():
            if isinstance(module, _Linear):
                module.product_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
