"""The text of the sequences that a run generates side by side, shown in their order while it comes."""

from collections.abc import Callable, Sequence

import click

from trilobit.text import TextStream, Tokenizer

__all__ = ["Sequences"]


class Sequences:
    """Tokens of several sequences in, their text out one after the other.

    The first sequence streams as its tokens come, and the others wait; when one has ended, the next shows what it has so far and streams
    on. A single sequence has no heading.

    Args:
        prompts: what each sequence begins with, shown in front of its text.
        tokens: the tokens of each prompt.
        tokenizer: the vocabulary; None shows tokens as numbers.
        ended: whether a sequence has ended, by its tokens.
        seeds: of each sequence's sampling, for the headings.
        quiet: show nothing.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        tokens: Sequence[list[int]],
        tokenizer: Tokenizer | None,
        ended: Callable[[list[int]], bool],
        seeds: Sequence[int],
        quiet: bool = False,
    ):
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self._prompts, self._seeds, self._quiet, self._ended = list(prompts), list(seeds), quiet, ended
        self._streams = None if tokenizer is None else [TextStream(tokenizer, prompt) for prompt in tokens]
        self._pieces: list[list[str]] = [[] for _ in prompts]
        self._shown = -1  # the sequence that streams

    @property
    def texts(self) -> list[str] | None:
        """What each sequence has said behind its prompt; None without a tokenizer."""
        return ["".join(pieces) for pieces in self._pieces] if self._streams else None

    def start(self) -> None:
        """Show how the first sequence begins."""
        self._next()

    def push(self, token: int, slot: int) -> None:
        """A sequence's next token; sequences that are not shown are left out."""
        if slot >= len(self.tokens):
            return
        self.tokens[slot].append(token)
        self._say(slot, self._streams[slot].push(token) if self._streams else f"{token} ")
        if self._ended(self.tokens[slot]):
            self._flush(slot)
            while self._shown < len(self.tokens) - 1 and self._ended(self.tokens[self._shown]):
                self._next()

    def finish(self) -> None:
        """The run is over: show what waits."""
        for slot, tokens in enumerate(self.tokens):
            if not self._ended(tokens):
                self._flush(slot)
        while self._shown < len(self.tokens) - 1:
            self._next()
        self._write("\n")

    def _flush(self, slot: int) -> None:
        if self._streams:
            self._say(slot, self._streams[slot].finish())

    def _say(self, slot: int, piece: str) -> None:
        self._pieces[slot].append(piece)
        if slot == self._shown:
            self._write(piece)

    def _next(self) -> None:
        self._shown += 1
        slot = self._shown
        if len(self._prompts) > 1:
            gap = "\n\n" if slot else ""
            self._write(f"{gap}--- {slot + 1} of {len(self._prompts)}, seed {self._seeds[slot]}\n")
        self._write(self._prompts[slot] + "".join(self._pieces[slot]))

    def _write(self, text: str) -> None:
        if not self._quiet:
            click.echo(text, nl=False)  # and flushed
