"""How well a model predicts a text: loss, bits per character, teacher-forced logits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trilobit.errors import ModelError
from trilobit.model.checkpoint import load_pretrained
from trilobit.model.data import encode, load_tokenizer
from trilobit.model.reference import MatMulFreeLM

__all__ = ["TextScore", "bits_per_character", "evaluate_text", "reference_logits"]


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """A model's score on a text.

    Attributes:
        tokens: number of tokens predicted: all of the text's, the first from the end mark.
        characters: number of characters of the text, marks between documents included.
        loss: mean cross-entropy per token, nats.
        bits_per_character: all tokens' cross-entropy in bits over all characters.
    """

    tokens: int
    characters: int
    loss: float
    bits_per_character: float


def bits_per_character(loss: float, tokens: int, characters: int) -> float:
    """From a mean loss in nats per token."""
    return loss * tokens / (math.log(2) * characters)


def _logits(model: MatMulFreeLM, ids: torch.Tensor, chunk: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(start, logits [n, V]) of a stream of ids [T], from the zero state, ``chunk`` tokens at a time."""
    state = model.init_state(1)
    for start in range(0, len(ids), chunk):
        logits, _, state = model.forward_all(ids[None, start : start + chunk], state)
        yield start, logits[0]


@torch.no_grad()
def reference_logits(folder: str | Path, token_ids: np.ndarray, chunk: int = 512) -> np.ndarray:
    """Teacher-forced logits of the reference: the row t is the prediction after tokens 0..t.

    Args:
        folder: a model in the published or packed layout.
        token_ids: [T] integers, one stream from the zero state.
        chunk: tokens computed at once; only memory depends on it.

    Returns:
        [T, V] float32.

    Raises:
        ModelError: the model cannot be loaded, or a token is outside its vocabulary.
    """
    model = load_pretrained(folder)
    ids = torch.as_tensor(np.asarray(token_ids, dtype=np.int64))
    V = model.config.vocab_size
    if ids.ndim != 1 or (len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= V)):
        raise ModelError(f"token ids: expected [T] of 0..{V - 1}, got shape {list(ids.shape)} with other values")
    out = np.empty((len(ids), V), np.float32)
    for start, logits in _logits(model, ids, chunk):
        out[start : start + len(logits)] = logits.numpy()
    return out


@torch.no_grad()
def evaluate_text(folder: str | Path, text: str, chunk: int = 512) -> TextScore:
    """Score a text as one stream from the zero state, its first token predicted from the end mark.

    Raises:
        ModelError: no tokenizer.json in the folder, an empty text, or a model that cannot be loaded.
    """
    model = load_pretrained(folder)
    targets = torch.from_numpy(encode(load_tokenizer(Path(folder) / "tokenizer.json"), text))
    if not len(targets):
        raise ModelError("expected a text to score, got an empty one")
    ids = torch.cat([torch.tensor([model.config.eos_token_id]), targets[:-1]])
    total = 0.0
    for start, logits in _logits(model, ids, chunk):
        total += float(torch.nn.functional.cross_entropy(logits, targets[start : start + len(logits)], reduction="sum").double())
    loss = total / len(targets)
    return TextScore(
        tokens=len(targets),
        characters=len(text),
        loss=loss,
        bits_per_character=bits_per_character(loss, len(targets), len(text)),
    )
