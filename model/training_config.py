"""How to train: the configuration file, checked. Needs no torch."""

import math
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from trilobit.errors import ConfigError

__all__ = ["TrainingConfig", "read_sections"]

_PRECISIONS = ("fp32", "tf32", "bf16")
_VOCABULARIES = ("bpe", "characters")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train; the ``training`` section of the YAML file.

    Attributes:
        steps: optimiser steps.
        batch_size, context: sequences a step (over all processes), and tokens of each.
        accumulate: pieces a process computes its share of a batch in, one after the other; only memory depends on it.
        learning_rate: at the end of the warm-up.
        warmup_steps: of linear rise.
        halve_at: share of the steps after which the cosine is halved; 1 for never.
        final_lr: share of the learning rate that the cosine ends on.
        weight_decay: on matrices; gains and lower bounds have none.
        decay_until: share of the steps after which there is no weight decay; 1 for always. Ternary models settle without it (BitNet b1.58's
            second stage: Ma et al., "The Era of 1-bit LLMs: Training Tips, Code and FAQ", 2024).
        beta1, beta2: AdamW's.
        clip: largest norm of the gradient.
        dropout: on the residual branches.
        embedding_dropout: on the embedding's output.
        token_dropout: probability that an input token is replaced by a random one.
        ema: decay a step of the averaged weights, which are then what is evaluated and kept; 0 for none.
        restart: probability that a stream starts from the zero state at a step.
        precision: of the products: fp32, tf32 (the same integers, exact) or bf16 (results rounded to 8 bits).
        fused: train each BitLinear as one operation (:mod:`trilobit.model.fused`): a quarter less memory and time on a GPU; where
            ``compile`` can be used, that alone saves more.
        compile: compile each layer with torch.compile.
        cuda_graph: replay a whole step as one CUDA graph, for models so small that launches cost more than work; without
            effect on a CPU and on several GPUs.
        held_out: share of the tokens, at the end of the text, that is not trained on.
        vocabulary: "bpe" (byte pairs, trained on the text) or "characters" (each character of the text a token).
        evaluate_every, checkpoint_every: in steps.
        keep_best: keep the weights of the lowest held-out loss, not the last ones.
        seed: of weights, order and dropout.
    """

    steps: int
    batch_size: int
    context: int
    learning_rate: float
    accumulate: int = 1
    warmup_steps: int = 100
    halve_at: float = 0.5
    final_lr: float = 0.02
    weight_decay: float = 0.1
    decay_until: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    token_dropout: float = 0.0
    ema: float = 0.0
    restart: float = 0.1
    precision: str = "fp32"
    fused: bool = False
    compile: bool = False
    cuda_graph: bool = False
    held_out: float = 0.02
    vocabulary: str = "bpe"
    evaluate_every: int = 200
    checkpoint_every: int = 1000
    keep_best: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        def need(good: bool, name: str, expected: str) -> None:
            if not good:
                raise ConfigError(f"training: {name} must be {expected}, got {getattr(self, name)!r}")

        for item in fields(self):
            value = getattr(self, item.name)
            if item.type is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, item.name, float(value))  # YAML reads 1 as an integer
            else:
                need(type(value) is item.type, item.name, f"of type {item.type.__name__}")  # type: ignore[union-attr]
        for name in ("steps", "batch_size", "context", "accumulate", "evaluate_every", "checkpoint_every"):
            need(getattr(self, name) > 0, name, "positive")
        for name in ("halve_at", "decay_until", "final_lr", "restart", "beta1", "beta2"):
            need(0 <= getattr(self, name) <= 1, name, "between 0 and 1")
        for name in ("dropout", "embedding_dropout", "token_dropout", "ema"):
            need(0 <= getattr(self, name) < 1, name, "at least 0 and below 1")
        need(0 < self.held_out < 1, "held_out", "between 0 and 1")
        for name in ("learning_rate", "clip"):
            need(getattr(self, name) > 0, name, "positive")
        need(self.weight_decay >= 0, "weight_decay", "at least 0")
        need(0 <= self.warmup_steps < self.steps, "warmup_steps", f"fewer than the {self.steps} steps")
        need(self.precision in _PRECISIONS, "precision", f"one of {', '.join(_PRECISIONS)}")
        need(self.vocabulary in _VOCABULARIES, "vocabulary", f"one of {', '.join(_VOCABULARIES)}")
        need(self.batch_size % self.accumulate == 0, "accumulate", f"a divisor of batch_size {self.batch_size}")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, cosine, halved from ``halve_at`` on."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        cosine = self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * share))
        return self.learning_rate * cosine * (0.5 if step >= self.halve_at * self.steps else 1.0)

    def weight_decay_at(self, step: int) -> float:
        """None from ``decay_until`` on."""
        return self.weight_decay if step < self.decay_until * self.steps else 0.0

    def split(self, tokens: int) -> int:
        """How many of that many tokens, the first, are trained on."""
        return int(tokens * (1 - self.held_out))


def read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """The sections ``model`` and ``training`` of a YAML file, or of a preset in ``model/configs`` by its name.

    Raises:
        ConfigError: no such file or preset, no YAML, other sections, or one that is no mapping.
    """
    presets = resources.files("trilobit.model") / "configs"
    if not path.is_file():
        names = sorted(entry.name.removesuffix(".yaml") for entry in presets.iterdir() if entry.name.endswith(".yaml"))
        if path.name.removesuffix(".yaml") not in names:
            raise ConfigError(f"{path}: no such file, and no preset of that name; presets: {', '.join(names)}")
        text = (presets / f"{path.name.removesuffix('.yaml')}.yaml").read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML ({error})") from error
    if not isinstance(values, dict) or set(values) != {"model", "training"}:
        got = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ConfigError(f"{path}: expected the two sections model and training, got {got}")
    for section, found in values.items():
        if not isinstance(found, dict):
            raise ConfigError(f"{path}: {section}: expected a mapping, got {found!r}")
    return values
