"""Geometry and constants of a MatMul-free LM: the published ``config.json``, checked. Needs no torch."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trilobit.errors import ModelError

__all__ = ["ModelConfig"]

_MOST_LAYERS = 10_000  # a damaged file must not keep the machine busy for hours
_MOST_RATIO = 1_000_000  # of the MLP's size to the model's: beyond it no file holds the weights

# What to do about a model that is another one, after the message that says which field tells so.
_OTHER = "; bring another architecture as its PyTorch module (trilobit compile FILE.py:FUNCTION)"
_OPTION = "; take a checkpoint trained without this option, or bring it as its PyTorch module (trilobit compile FILE.py:FUNCTION)"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Geometry and constants of a model; the names are those of the published ``config.json``.

    Raises:
        ModelError: a value that this model cannot have; the message names the field.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_heads: int = 1
    expand_ratio: int = 1
    use_lower_bound: bool = True
    hidden_ratio: float = 4
    intermediate_size: int | None = None
    hidden_act: str = "swish"
    rms_norm_eps: float = 1e-6
    use_short_conv: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    tie_word_embeddings: bool = False
    model_type: str = "hgrn_bit"

    def __post_init__(self) -> None:
        def need(good: bool, field: str, expected: str, what_to_do: str = "") -> None:
            if not good:
                raise ModelError(f"model configuration: {field} must be {expected}, got {getattr(self, field)!r}{what_to_do}")

        for field in ("vocab_size", "hidden_size", "num_hidden_layers", "num_heads"):
            value = getattr(self, field)
            need(isinstance(value, int) and not isinstance(value, bool) and value > 0, field, "a positive integer")
        need(self.num_hidden_layers <= _MOST_LAYERS, "num_hidden_layers", f"at most {_MOST_LAYERS}")
        need(self.model_type == "hgrn_bit", "model_type", "'hgrn_bit' (the MatMul-free LM)", _OTHER)
        need(not self.use_short_conv, "use_short_conv", "false (the short convolution is not part of this model)", _OPTION)
        need(self.expand_ratio == 1, "expand_ratio", "1 (the recurrent state is as wide as the model)", _OPTION)
        need(self.hidden_act in ("swish", "silu"), "hidden_act", "'swish' (also called 'silu')", _OPTION)
        need(self.hidden_size % self.num_heads == 0, "num_heads", f"a divisor of hidden_size {self.hidden_size}")
        need(isinstance(self.rms_norm_eps, float) and 0 < self.rms_norm_eps < 1, "rms_norm_eps", "between 0 and 1")
        for field in ("bos_token_id", "eos_token_id"):
            token = getattr(self, field)
            need(token is None or (isinstance(token, int) and token >= 0), field, "one token, or null")
        given = self.intermediate_size
        need(given is None or (isinstance(given, int) and given > 0), "intermediate_size", "null or positive")
        ratio = self.hidden_ratio
        need(isinstance(ratio, int | float) and 0 < ratio <= _MOST_RATIO, "hidden_ratio", f"positive and at most {_MOST_RATIO:,}")

    @property
    def mlp_size(self) -> int:
        """I: the given intermediate size, or 2/3 of hidden_ratio * H rounded up to a multiple of 256."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        return 256 * math.ceil(int(self.hidden_size * self.hidden_ratio * 2 / 3) / 256)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """From a parsed ``config.json``; keys that do not concern the forward pass are left out."""
        if not isinstance(values, dict):
            raise ModelError(f"model configuration: expected a JSON object, got {type(values).__name__}")
        names = {field.name for field in fields(cls)}
        known = {key: value for key, value in values.items() if key in names}
        if known.get("hidden_ratio", 4) is None:  # the published code reads null as 4
            known["hidden_ratio"] = 4
        missing = sorted({"model_type", "vocab_size", "hidden_size", "num_hidden_layers"} - set(known))
        if missing:
            raise ModelError(f"model configuration: missing {', '.join(missing)}; is this a MatMul-free LM's config?")
        config = cls(**known)
        for name in ("bos_token_id", "eos_token_id"):
            if (known.get(name) or 0) >= config.vocab_size:
                raise ModelError(f"model configuration: {name} must be below vocab_size {config.vocab_size}, got {known[name]}")
        return config

    @classmethod
    def from_json(cls, path: str | Path) -> "ModelConfig":
        """Read ``config.json``; raises ModelError if it is missing, no JSON, or of another model."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"{path}: no such file; a model folder holds config.json and model.safetensors") from None
        except (ValueError, OSError) as error:
            raise ModelError(f"{path}: expected a JSON object, could not read it: {error}") from error
        try:
            return cls.from_dict(values)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """As in ``config.json``, to be read back by :meth:`from_dict`."""
        return asdict(self)
