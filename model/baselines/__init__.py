"""Other language models in the same harness, to compare with: one file each, by their ``model_type``.

======================  ==========================  =============================================================
model_type              class                       what it is
======================  ==========================  =============================================================
``hgrn_bit``            :class:`.MatMulFreeLM`      the MatMul-free LM itself
``transformer++``       :class:`.Transformer`       attention and full-precision weights, as Llama has them
``bitnet_b1.58``        :class:`.BitNet`            attention, ternary weights
``rwkv4_ternary``       :class:`.RWKV`              RWKV-4's token mixer, ternary weights; it compiles to the machine
``hgrn_unquantised``    :class:`.Unquantised`       the MatMul-free LM with full-precision weights and activations
======================  ==========================  =============================================================

All of them take ``input_ids`` [B, T] to logits [B, T, V], and have what the training harness calls: ``config``,
``is_recurrent``, ``init_state(batch)`` and ``forward_all(ids, state) -> (logits, hidden states, state)``.
Geometry counts the same in all: a layer has 4*H*H weights in the token mixer (RWKV-4's four projections, too) and
3*H*I in the channel mixer, so equal H, L, I and V are equal sizes.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from torch import nn

from trilobit.errors import ConfigError, ModelError
from trilobit.model.baselines.bitnet import BitNet
from trilobit.model.baselines.config import BaselineConfig
from trilobit.model.baselines.rwkv import RWKV
from trilobit.model.baselines.transformer import Transformer
from trilobit.model.baselines.unquantised import Unquantised
from trilobit.model.reference import MatMulFreeLM, ModelConfig

__all__ = ["ARCHITECTURES", "RWKV", "BaselineConfig", "BitNet", "Transformer", "Unquantised", "build_model", "model_config"]

# model_type -> (its configuration, its class)
ARCHITECTURES: dict[str, tuple[type[Any], Callable[..., nn.Module]]] = {
    "hgrn_bit": (ModelConfig, MatMulFreeLM),
    **{kind: (BaselineConfig, make) for kind, make in
       (("transformer++", Transformer), ("bitnet_b1.58", BitNet), ("rwkv4_ternary", RWKV), ("hgrn_unquantised", Unquantised))},
}  # fmt: skip


def model_config(values: dict[str, Any]) -> Any:
    """The configuration of the architecture that ``model_type`` names (default ``hgrn_bit``), checked.

    Raises:
        ConfigError: an unknown model_type or key; ModelError: a value out of range.
    """
    kind = values.get("model_type", "hgrn_bit")
    if kind not in ARCHITECTURES:
        raise ConfigError(f"model: model_type must be one of {', '.join(ARCHITECTURES)}, got {kind!r}")
    config = ARCHITECTURES[kind][0]
    known = {item.name for item in fields(config)}
    unknown = sorted(map(str, set(values) - known))
    if unknown:
        raise ConfigError(f"model: unknown key {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        return config(**{"bos_token_id": 0, "eos_token_id": 0, **values})
    except TypeError as error:
        raise ModelError(f"model configuration: {error}") from error


def build_model(config: Any, dropout: float = 0.0, embedding_dropout: float = 0.0) -> Any:
    """A model with random weights, in training form; dropout acts in training only."""
    return ARCHITECTURES[config.model_type][1](config, dropout, embedding_dropout)
