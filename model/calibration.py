"""Measuring ranges on a text: layer by layer on the packed weights, hundreds of tokens at once.

The graph is computed node by node for all tokens of a piece before the next node, so each matrix is unpacked once a piece
(and, if it is large, block by block), and what is in memory are one piece's vectors of one layer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trilobit.errors import ModelError
from trilobit.model.graph import Graph
from trilobit.model.ranges import calibrate
from trilobit.text import Tokenizer

__all__ = ["DEFAULT_TOKENS", "Measured", "calibrate_on_text", "text_tokens"]

DEFAULT_TOKENS = 1024


@dataclass(frozen=True)
class Measured:
    """A calibration: tokens it ran over, the text's name, and the seconds that it took."""

    tokens: int
    source: str
    seconds: float


def text_tokens(path: str | Path, count: int, vocab_size: int, tokenizer: str | Path | None) -> list[int]:
    """The first tokens of a text file, by a tokenizer, or its bytes if there is none.

    Args:
        path: UTF-8 text.
        count: tokens at most.
        vocab_size: the model's.
        tokenizer: the model's tokenizer.json, or None.

    Raises:
        ModelError: a file that can't be read or is empty; a token outside the vocabulary; no tokenizer and fewer than 256
            tokens in the vocabulary.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(64 * count)  # no tokenizer has tokens of more than 64 bytes on average
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror})") from error
    if tokenizer is not None:
        tokens = Tokenizer(Path(tokenizer)).encode(data.decode("utf-8", errors="ignore"))[:count]
    elif vocab_size < 256:
        raise ModelError(f"{path}: a text needs a tokenizer, or a vocabulary of at least 256 (one token a byte)")
    else:
        tokens = list(data[:count])
    if not tokens:
        raise ModelError(f"{path}: expected a text to measure ranges on, got an empty one")
    if max(tokens) >= vocab_size:
        raise ModelError(f"{path}: expected tokens below the model's {vocab_size}, got {max(tokens)}: not this model's tokenizer")
    return tokens


def calibrate_on_text(
    graph: Graph,
    tensors: dict[str, np.ndarray],
    path: str | Path,
    tokenizer: str | Path | None,
    count: int = DEFAULT_TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Set the ranges of a graph from a run over the beginning of a text; see :func:`trilobit.model.ranges.calibrate`.

    Args:
        graph, tensors: as loaded; the tensors may be mapped from a file.
        path, tokenizer, count: as for :func:`text_tokens`.
        progress: called with nodes done and nodes to do.

    Raises:
        ModelError: as :func:`text_tokens`, or a vector that is not finite.
    """
    tokens = text_tokens(path, count, graph.vocab_size, tokenizer)
    start = time.perf_counter()
    calibrate(graph, tensors, tokens, Path(path).name, progress=progress)
    return Measured(len(tokens), Path(path).name, time.perf_counter() - start)
