"""Text to tokens and back, through the tokenizers library: prompts, and text that streams as tokens come."""

from collections.abc import Sequence
from pathlib import Path

from trilobit.errors import ModelError

__all__ = ["TextStream", "Tokenizer"]

_HALF = "\ufffd"  # what decoding puts where the bytes of a character are not complete


class Tokenizer:
    """A vocabulary from a ``tokenizer.json``.

    Args:
        path: the file.

    Raises:
        ModelError: it can't be read or is no tokenizer.
    """

    def __init__(self, path: Path):
        import tokenizers  # some 40 ms, and only text needs it

        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path}: expected a tokenizer.json of the tokenizers library: {error}") from error

    @property
    def size(self) -> int:
        """Tokens of the vocabulary, added ones included."""
        return self._tokenizer.get_vocab_size()

    @property
    def highest(self) -> int:
        """The largest token, -1 if there is none: numbers may have gaps."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without special tokens around it.

        Raises:
            ModelError: the text has bytes that were no characters in the terminal's encoding.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ModelError(f"expected text, got bytes that are none in this terminal's encoding: {text!r}; use UTF-8") from error
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens, special ones left out; incomplete characters show as U+FFFD."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)


class TextStream:
    """Tokens in, text out as soon as it is certain: never half a character, and nothing is said twice.

    A token may end within a character (byte-level vocabularies), and how a token reads may depend on the one before it
    (spaces). So the text of a short tail of tokens is compared with and without the new ones, and what would end in an
    incomplete character waits.

    Args:
        tokenizer: the vocabulary.
        prompt: tokens that came before and were shown already; a vocabulary that marks the beginnings of words drops the
            space in front of the first token that it sees.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()):
        self._tokenizer = tokenizer
        self._tail = list(prompt)  # tokens that were shown, for context, then those that wait
        self._shown = len(self._tail)

    def push(self, token: int) -> str:
        """The text that this token completes; often one word, sometimes nothing."""
        self._tail.append(token)
        text = self._new_text()
        if not text or text.endswith(_HALF):
            return ""
        self._tail = self._tail[self._shown :]
        self._shown = len(self._tail)
        return text

    def finish(self) -> str:
        """What still waits at the end, without an incomplete character."""
        text = self._new_text().rstrip(_HALF)
        self._tail, self._shown = [], 0
        return text

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._tail[: self._shown])
        return self._tokenizer.decode(self._tail)[len(before) :]
