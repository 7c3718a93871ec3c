"""How well a model predicts a text: loss, bits per character, teacher-forced logits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from trilobit.errors import ModelError
from trilobit.model.checkpoint import load_pretrained
from trilobit.model.data import encode, load_tokenizer
from trilobit.model.reference import MatMulFreeLM

__all__ = ["TextScore", "bits_per_character", "evaluate_text", "mean_loss", "reference_logits", "score"]


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


@torch.no_grad()
def mean_loss(model: Any, ids: torch.Tensor, rows: int = 1, chunk: int = 256, context: int = 512) -> float:
    """Mean loss of a text, nats per token; the model is in eval mode.

    A recurrent model reads ``rows`` parallel streams, each from the zero state. One with attention reads windows of
    ``context`` tokens that overlap by half; of each but the first only the second half counts, so that every token is
    predicted from at least context/2 tokens before it.

    Args:
        model: of any architecture (:mod:`trilobit.model.baselines`).
        ids: [N] int64 on the model's device; tokens 1..N-1 are predicted (the last few are left out if ``rows`` > 1).
        rows, chunk: see above; tokens computed at once.
        context: of the windows: what the model was trained with.
    """
    total, count = 0.0, 0

    def add(logits: torch.Tensor, targets: torch.Tensor) -> None:
        nonlocal total, count
        total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").double())
        count += targets.numel()

    if model.is_recurrent:
        length = (len(ids) - 1) // rows
        x, y = ids[: rows * length].view(rows, length), ids[1 : rows * length + 1].view(rows, length)
        state = model.init_state(rows)
        for start in range(0, length, chunk):
            logits, _, state = model.forward_all(x[:, start : start + chunk], state)
            add(logits, y[:, start : start + chunk])
        return total / count
    half = max(context // 2, 1)
    windows = [(start, min(start + context, len(ids) - 1)) for start in range(0, max(len(ids) - 1 - half, 1), half)]
    full = [start for start, stop in windows if stop - start == context]
    for part in range(0, len(full), 32):
        at = torch.tensor(full[part : part + 32], device=ids.device)[:, None] + torch.arange(context, device=ids.device)
        logits = model(ids[at])
        if part == 0:
            add(logits[:1, :half], ids[at + 1][:1, :half])
        add(logits[:, half:], ids[at + 1][:, half:])
    for start, stop in windows:
        if stop - start < context:  # the last one
            first = half if start else 0
            add(model(ids[None, start:stop])[:, first:], ids[None, start + 1 : stop + 1][:, first:])
    return total / count


def score(model: Any, tokenizer: Tokenizer, text: str, context: int = 512, chunk: int = 512) -> TextScore:
    """Score a text as one stream from the zero state, its first token predicted from the end mark.

    Args:
        model: in eval mode, of any architecture.
        tokenizer, text: the text's whole cross-entropy counts.
        context, chunk: see :func:`mean_loss`.

    Raises:
        ModelError: an empty text.
    """
    targets = torch.from_numpy(encode(tokenizer, text))
    if not len(targets):
        raise ModelError("expected a text to score, got an empty one")
    ids = torch.cat([torch.tensor([model.config.eos_token_id]), targets])
    loss = mean_loss(model, ids, chunk=chunk, context=context)
    bits = bits_per_character(loss, len(targets), len(text))
    return TextScore(tokens=len(targets), characters=len(text), loss=loss, bits_per_character=bits)


def _logits(model: MatMulFreeLM, ids: torch.Tensor, chunk: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(start, logits [B, n, V]) of streams of ids [B, T], from the zero state, ``chunk`` tokens of each at a time."""
    state = model.init_state(len(ids))
    for start in range(0, ids.shape[1], chunk):
        logits, _, state = model.forward_all(ids[:, start : start + chunk], state)
        yield start, logits


@torch.no_grad()
def reference_logits(
    folder: str | Path, token_ids: np.ndarray, chunk: int = 512, *, noise: float = 0.0, seed: int = 1, streams: int = 1
) -> np.ndarray:
    """Teacher-forced logits of the reference: the row t is the prediction after tokens 0..t.

    Args:
        folder: a model in the published or packed layout.
        token_ids: [T] integers, one stream from the zero state.
        chunk: tokens computed at once; only memory depends on it.
        streams: T tokens are so many equal parts one after the other, each from the zero state.
        noise: standard deviation of Gaussian noise added to each token's embedding, new at each position (``seed``).

    Returns:
        [T, V] float32.

    Raises:
        ModelError: the model cannot be loaded, or a token is outside its vocabulary.
    """
    model = load_pretrained(folder)
    if noise:
        generator = torch.Generator().manual_seed(seed)

        def disturb(module: torch.nn.Module, inputs: tuple, embedded: torch.Tensor) -> torch.Tensor:
            exact = embedded.double()
            return exact + noise * torch.randn(exact.shape, generator=generator, dtype=exact.dtype)

        model.model.embeddings.register_forward_hook(disturb)
    ids = torch.as_tensor(np.asarray(token_ids, dtype=np.int64))
    V = model.config.vocab_size
    if ids.ndim != 1 or (len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= V)):
        raise ModelError(f"token ids: expected [T] of 0..{V - 1}, got shape {list(ids.shape)} with other values")
    if len(ids) % streams:
        raise ModelError(f"expected a multiple of {streams} tokens for {streams} streams, got {len(ids)}")
    ids = ids.reshape(streams, -1)
    out = np.empty((*ids.shape, V), np.float32)
    for start, logits in _logits(model, ids, max(chunk // streams, 1)):
        out[:, start : start + logits.shape[1]] = logits.numpy()
    return out.reshape(-1, V)


def evaluate_text(folder: str | Path, text: str, chunk: int = 512) -> TextScore:
    """Score a text as one stream from the zero state, its first token predicted from the end mark.

    Raises:
        ModelError: no tokenizer.json in the folder, an empty text, or a model that cannot be loaded.
    """
    return score(load_pretrained(folder), load_tokenizer(Path(folder) / "tokenizer.json"), text, chunk=chunk)
