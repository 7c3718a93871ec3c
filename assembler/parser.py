"""Lines of assembly as statements: labels, a mnemonic or directive, and its arguments with their columns.

Knows the shape of a line, not its meaning. A scanner of one regular expression a line: a compiled model is some ten
thousand lines, and a grammar library takes a minute for what this does in a tenth of a second.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from trilobit.assembler.diagnostics import Diagnostics, SourceFile, SourceLine
from trilobit.assembler.expression import NAME

__all__ = ["TRIT_ROW", "Argument", "Statement", "parse", "split_option"]

TRIT_ROW = "+-0"
"""The keyword of a statement that is a row of trits; its argument is the row."""

_LABEL = re.compile(rf"\s*({NAME})\s*:")
_KEYWORD = re.compile(r"\s*(\.?[A-Za-z_][\w.]*)(?=\s|$)\s*")
_ROW = re.compile(r"\s*([-+0][-+0\s]*)$")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")

# An argument: its text without spaces around it, and its column from 1.
Argument = tuple[str, int]


@dataclass(slots=True, eq=False)
class Statement:
    """What stands on one line.

    Attributes:
        line: where it stands.
        labels: names in front of a colon, with columns.
        keyword: mnemonic, directive (with its dot), TRIT_ROW, or "" when there are only labels.
        column: of the keyword.
        arguments: comma-separated, in order.
    """

    line: SourceLine
    labels: list[Argument]
    keyword: str
    column: int
    arguments: list[Argument]


def _without_comment(text: str) -> str:
    """The text up to a ``;`` or ``#`` that stands in no string."""
    if ";" not in text and "#" not in text:
        return text
    position = 0
    while position < len(text):
        character = text[position]
        if character in ";#":
            return text[:position]
        string = _STRING.match(text, position) if character == '"' else None
        position = string.end() if string else position + 1
    return text


def _arguments(text: str, start: int) -> list[Argument]:
    """The comma-separated pieces of ``text[start:]``."""
    rest = text[start:]
    if not rest or rest.isspace():
        return []
    if '"' in rest:
        # Commas in strings are no separators: put something harmless of the same length there to find the others.
        hidden = _STRING.sub(lambda match: "s" * len(match[0]), rest)
        pieces, position = [], 0
        for piece in hidden.split(","):
            pieces.append(rest[position : position + len(piece)])
            position += len(piece) + 1
    else:
        pieces = rest.split(",")
    arguments = []
    for piece in pieces:
        stripped = piece.lstrip()
        arguments.append((stripped.rstrip(), start + len(piece) - len(stripped) + 1))
        start += len(piece) + 1
    return arguments


def parse(text: str, file: SourceFile, diagnostics: Diagnostics, lines: list[SourceLine]) -> Iterator[Statement]:
    """The statements of a source, line by line.

    Args:
        text: the source.
        file: what it is called.
        diagnostics: gets the errors of shape; a line with one yields nothing but its labels.
        lines: gets every line as it is read; shared with included files, so that it is the order of reading.
    """
    for number, raw in enumerate(text.split("\n"), 1):
        raw = raw.rstrip("\r")
        line = SourceLine(file, number, raw, len(lines))
        lines.append(line)
        content = _without_comment(raw)
        if not content or content.isspace():
            continue
        labels: list[Argument] = []
        start = 0
        if ":" in content:
            while match := _LABEL.match(content, start):
                labels.append((match[1], match.start(1) + 1))
                start = match.end()
        match = _KEYWORD.match(content, start)
        if match:
            yield Statement(line, labels, match[1], match.start(1) + 1, _arguments(content, match.end()))
        elif row := _ROW.match(content, start):
            yield Statement(line, labels, TRIT_ROW, row.start(1) + 1, [(row[1], row.start(1) + 1)])
        else:
            rest = content[start:].strip()
            if rest:
                column = start + len(content[start:]) - len(content[start:].lstrip()) + 1
                diagnostics.error(line, column, f"expected a label, a mnemonic or a directive, got {rest[:40]!r}")
            if labels:
                yield Statement(line, labels, "", 1, [])


def split_option(argument: Argument) -> tuple[str, Argument] | None:
    """``key=value`` as the key and the value's text with its column, or None for anything else."""
    text, column = argument
    match = _OPTION.match(text) if "=" in text else None
    return (match[1], (text[match.end() :], column + match.end())) if match else None
