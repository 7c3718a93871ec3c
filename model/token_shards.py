"""Tokens on disk: a corpus larger than memory as memory-mapped files, read where a batch needs them.

A folder holds ``tokens-00000.npy``, ``tokens-00001.npy`` and so on (1-D uint16 or uint32), and ``shards.json`` that says
how many tokens each has and how many characters they came from. NumPy maps the files; nothing is loaded until it is
sliced. Needs no torch.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from trilobit.errors import ModelError
from trilobit.model.data import END, encode
from trilobit.model.files import atomic_folder

__all__ = ["SHARD_TOKENS", "TokenShards", "documents", "write_shards"]

SHARD_TOKENS = 1 << 26  # tokens a file: 128 MiB of 16-bit ones
_PIECE = 1 << 20  # characters tokenised at once


class TokenShards(Sequence):
    """The tokens of a folder as one long sequence; slices are copied to int64.

    Attributes:
        characters: of the text that they came from.

    Raises:
        ModelError: no such folder, or files that are missing or of another length than ``shards.json`` says.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        try:
            found = json.loads((folder / "shards.json").read_bytes())
            lengths, self.characters = found["tokens"], int(found["characters"])
            self._files = [np.load(folder / _name(n), mmap_mode="r", allow_pickle=False) for n in range(len(lengths))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder}: expected token shards (shards.json and its files): {error}; tokenise again") from error
        for n, (file, length) in enumerate(zip(self._files, lengths, strict=True)):
            if file.shape != (length,) or file.dtype not in (np.uint16, np.uint32):
                raise ModelError(f"{folder / _name(n)}: expected {length} tokens, got {file.dtype} {file.shape}; tokenise again")
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, where: Any) -> Any:  # a slice of step 1 to an int64 array; an integer to an integer
        if isinstance(where, int):
            return int(self[where : where + 1][0]) if where >= 0 else self[len(self) + where]
        start, stop, step = where.indices(len(self))
        if step != 1:
            raise ValueError("token shards: expected a slice of step 1")
        parts = []
        n = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            begin, end = int(self._starts[n]), min(int(self._starts[n + 1]), stop)
            parts.append(self._files[n][start - begin : end - begin].astype(np.int64))
            start, n = end, n + 1
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _name(number: int) -> str:
    return f"tokens-{number:05d}.npy"


def documents(files: Sequence[str | Path], piece: int = _PIECE) -> Iterator[str]:
    """The texts of several UTF-8 files in pieces of about ``piece`` characters, cut after an end mark or else a line, or before a
    space where there is no line end.

    Each file closes with the end mark, as :func:`trilobit.model.data.read_texts` has it; no file is held whole.

    Raises:
        ModelError: a file that is missing or no UTF-8 text.
    """
    if not files:
        raise ModelError("expected at least one text file, got none")
    for path in map(Path, files):
        held = ""
        try:
            with path.open(encoding="utf-8") as stream:
                while more := stream.read(piece):
                    held += more
                    mark = held.rfind(f"\n{END}\n")
                    cut = mark + len(END) + 2 if mark >= 0 else held.rfind("\n", 0, -1) + 1
                    # Line ends around a mark belong to it, so none is left at the head of the next piece.
                    while 0 < cut < len(held) and held[cut] in "\n ":
                        cut += 1
                    if cut == 0 and len(held) >= piece:  # a line that may be as long as the file; a vocabulary's words begin with a space
                        cut = max(held.rfind(" "), 0) or len(held) - 1
                    if 0 < cut < len(held) and len(held) >= piece:
                        yield held[:cut]
                        held = held[cut:]
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: expected a UTF-8 text file ({error})") from error
        yield held if held.rstrip().endswith(END) else f"{held.rstrip()}\n{END}\n"


def write_shards(
    tokenizer: Tokenizer, texts: Iterable[str], folder: str | Path, *, first: int | None = None, shard_tokens: int = SHARD_TOKENS
) -> TokenShards:
    """Tokenise texts piece by piece into a folder, all or nothing; memory holds one piece and one file.

    Args:
        tokenizer: whose ids are written, 16 bits each if they fit.
        texts: pieces (:func:`documents`).
        folder: created; its files are replaced if it exists.
        first: an id to put before everything.
        shard_tokens: tokens a file.
    """
    kind = np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32
    lengths: list[int] = []
    characters = 0
    held = [np.asarray([] if first is None else [first], dtype=kind)]
    with atomic_folder(folder) as temporary:

        def flush(everything: bool) -> None:
            tokens = np.concatenate(held)
            while len(tokens) >= shard_tokens or (everything and len(tokens)):
                np.save(temporary / _name(len(lengths)), tokens[:shard_tokens])
                lengths.append(min(len(tokens), shard_tokens))
                tokens = tokens[shard_tokens:]
            held[:] = [tokens]

        for text in texts:
            held.append(encode(tokenizer, text).astype(kind))
            characters += len(text)
            if sum(map(len, held)) >= shard_tokens:
                flush(False)
        flush(True)
        (temporary / "shards.json").write_text(json.dumps({"tokens": lengths, "characters": characters}) + "\n", encoding="utf-8")
    return TokenShards(folder)
