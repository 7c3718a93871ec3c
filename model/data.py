"""Text to tokens: the byte-pair vocabulary, and files as one stream of ids.

Needs ``tokenizers`` and NumPy only. A text may hold several documents, each closed by a line ``<|end|>``; that mark is
one special token, which also stands before the first document, so that a model learns to begin.
"""

import re
import string
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from trilobit.errors import ModelError

__all__ = ["END", "character_tokenizer", "characters_of", "encode", "load_tokenizer", "read_texts", "train_tokenizer"]

END = "<|end|>"  # id 0: closes a document
UNKNOWN = "<|unk|>"  # id 1: a character outside printable ASCII


def train_tokenizer(texts: str | Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE vocabulary whose alphabet is printable ASCII and newline (other characters: ``<|unk|>``).

    Args:
        texts: the training text, whole or in pieces (:func:`trilobit.model.token_shards.documents`), so that it need not fit memory.
        vocab_size: number of tokens, the two special ones and the alphabet included.

    Raises:
        ModelError: the text is too small for that many tokens.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    printable = [c for c in string.printable if c.isprintable()] + ["\n"]
    # The byte-level alphabet writes a byte as one visible character; only those of ASCII are let in.
    alphabet = sorted({pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(c)[0][0] for c in printable})
    # The mark swallows the line ends around it, so that they cost no tokens.
    end = AddedToken(END, lstrip=True, rstrip=True, special=True, normalized=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[end, AddedToken(UNKNOWN, special=True, normalized=False)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    pieces = [texts] if isinstance(texts, str) else texts
    tokenizer.train_from_iterator((document for piece in pieces for document in piece.split(END)), trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ModelError(
            f"vocabulary: expected {vocab_size} tokens, the text gives {tokenizer.get_vocab_size()}; use more text or a smaller vocab_size"
        )
    return tokenizer


def character_tokenizer(text: str) -> Tokenizer:
    """A vocabulary of single characters: the two special tokens, then the text's characters in their order.

    Raises:
        ModelError: the text is empty.
    """
    characters = sorted(set(text.replace(END, "")))
    if not characters:
        raise ModelError("vocabulary: expected a text with at least one character, got an empty one")
    words = {END: 0, UNKNOWN: 1} | {character: n for n, character in enumerate(characters, start=2)}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[], unk_token=UNKNOWN))
    tokenizer.decoder = decoders.Fuse()
    # The mark swallows the line ends around it, as in the byte-pair vocabulary.
    end = AddedToken(END, lstrip=True, rstrip=True, special=True, normalized=False)
    tokenizer.add_special_tokens([end, AddedToken(UNKNOWN, special=True, normalized=False)])
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a ``tokenizer.json``; raises ModelError if it is missing or none."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a tokenizer.json")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path}: expected a tokenizer of the `tokenizers` library ({error})") from error


def read_texts(files: Sequence[str | Path]) -> str:
    """The texts of several UTF-8 files, each followed by the end mark if it does not close with one."""
    parts = []
    for path in map(Path, files):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: expected a UTF-8 text file ({error})") from error
        parts.append(text if text.rstrip().endswith(END) else f"{text.rstrip()}\n{END}\n")
    if not parts:
        raise ModelError("expected at least one text file, got none")
    return "".join(parts)


def _documents(text: str) -> list[str]:
    """Document by document a text is encoded many times faster than as one string. The mark takes the line ends around it along."""
    return re.findall(rf".*?{re.escape(END)}\s*|.+\Z", text, re.DOTALL)


def encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Token ids of a text, [T] int64, without anything added before or after."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(_documents(text), add_special_tokens=False)]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in ids] or [np.zeros(0, np.int64)])


def characters_of(tokenizer: Tokenizer, text: str, count: int) -> int:
    """Characters of a text that its first ``count`` tokens stand for; slower than :func:`encode`."""
    start = 0
    for document in _documents(text):
        ends = [end for _, end in tokenizer.encode(document, add_special_tokens=False).offsets]
        if count <= len(ends):
            return start + (ends[count - 1] if count else 0)
        start, count = start + len(document), count - len(ends)
    return start
