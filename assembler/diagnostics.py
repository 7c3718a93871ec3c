"""What the assembler says about a source: every error with its file, line and column, the line and a caret."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from trilobit.errors import ProgramError

__all__ = ["Diagnostics", "SourceFile", "SourceLine", "suggest"]


@dataclass(frozen=True, eq=False)
class SourceFile:
    """A source text.

    Attributes:
        shown: the file as messages call it.
        name: the file relative to the main file's folder, which programs carry.
    """

    shown: str
    name: str


@dataclass(slots=True, eq=False)
class SourceLine:
    """A line of a source: its number from 1, its text without the line end, its place in the order of reading."""

    file: SourceFile
    number: int
    text: str
    order: int


class Diagnostics:
    """Collects errors, so that one run reports all of them."""

    def __init__(self) -> None:
        self._errors: dict[tuple[int, int, str], SourceLine] = {}

    def error(self, line: SourceLine, column: int, message: str) -> None:
        """Note an error at a column (from 1) of a line; the same error twice is one."""
        self._errors.setdefault((line.order, column, message), line)

    def __len__(self) -> int:
        return len(self._errors)

    def render(self) -> str:
        """All errors in the order of the source: ``file:line:column: message``, the line, and a caret below it."""
        blocks = []
        for (_, column, message), line in sorted(self._errors.items(), key=lambda item: item[0]):
            # The caret's line repeats tabs, so that the caret stands right whatever a tab is worth.
            margin = "".join("\t" if c == "\t" else " " for c in line.text[: column - 1].ljust(column - 1))
            blocks.append(f"{line.file.shown}:{line.number}:{column}: {message}\n    {line.text}\n    {margin}^")
        return "\n".join(blocks)

    def raise_if_any(self) -> None:
        """Raise a :class:`ProgramError` with :meth:`render` and a count if anything was noted."""
        if self._errors:
            count = len(self._errors)
            raise ProgramError(f"{self.render()}\n{count} error{'s' if count > 1 else ''}")


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to a misspelt one, or nothing."""
    spelling = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), spelling, n=1, cutoff=0.5)
    return f"; did you mean {spelling[near[0]]!r}?" if near else ""
