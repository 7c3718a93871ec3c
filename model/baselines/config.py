"""Geometry of the baselines."""

from dataclasses import asdict, dataclass
from typing import Any

from trilobit.errors import ModelError

__all__ = ["BaselineConfig"]


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Geometry and constants; the names are those of the MatMul-free LM's (:class:`trilobit.model.ModelConfig`).

    Attributes:
        model_type: which architecture (:data:`trilobit.model.baselines.ARCHITECTURES`).
        num_heads: heads of the attention; RWKV has none and takes 1.
        rope_theta: base of the rotary positions' wavelengths.

    Raises:
        ModelError: a value out of range; the message names the field.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_heads: int = 1
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    bos_token_id: int = 0
    eos_token_id: int = 0

    def __post_init__(self) -> None:
        def need(good: bool, field: str, expected: str) -> None:
            if not good:
                raise ModelError(f"model configuration: {field} must be {expected}, got {getattr(self, field)!r}")

        for field in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_heads"):
            value = getattr(self, field)
            need(isinstance(value, int) and not isinstance(value, bool) and value > 0, field, "a positive integer")
        need(self.hidden_size % (2 * self.num_heads) == 0, "num_heads", f"such that each head of {self.hidden_size} has an even size")
        need(self.rms_norm_eps > 0 and self.rope_theta > 0, "rms_norm_eps", "positive, and rope_theta too")

    @property
    def mlp_size(self) -> int:
        """I, as the MatMul-free LM's configuration calls it."""
        return self.intermediate_size

    def to_dict(self) -> dict[str, Any]:
        """As in ``config.json``."""
        return asdict(self)
