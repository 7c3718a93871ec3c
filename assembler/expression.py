"""Arithmetic in assembly operands: whole and decimal numbers, names, ``+ - * / // % << >> & | ^ ~`` and parentheses.

Precedence as in Python. ``/`` gives a whole number where it divides exactly and a decimal fraction where it does not;
``//`` rounds down.
"""

import re
from collections.abc import Callable
from functools import lru_cache

__all__ = ["NAME", "Expression", "ExpressionError", "Number", "evaluate"]

NAME = r"[A-Za-z_][\w.]*"
DEPTH_LIMIT = 64
VALUE_BITS = 128

_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    | (?P<int>0[xX][0-9a-fA-F_]+|0[bB][01_]+|\d[\d_]*)
    | (?P<name>{NAME})
    | (?P<op><<|>>|//|[-+*/%&|^~()])
    | (?P<bad>\S)
    | $)""",
    re.VERBOSE,
)
_BINARY = {"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6}
_WHOLE_ONLY = {"|", "^", "&", "<<", ">>", "//", "%"}

Number = int | float
# Nested tuples: ("number", value), ("name", text, offset), ("unary", op, node, offset), ("binary", op, a, b, offset)
Expression = tuple


class ExpressionError(Exception):
    """What is wrong, and at which character of the expression."""

    def __init__(self, offset: int, message: str):
        super().__init__(message)
        self.offset = offset
        self.message = message


class _Parser:
    def __init__(self, text: str):
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            assert match is not None  # the pattern takes any character
            position = match.end()
            if match.lastgroup == "bad":
                raise ExpressionError(match.start("bad"), f"expected a number, a name or an operator, got {match['bad']!r}")
            if match.lastgroup:
                self.tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        self.tokens.append(("end", "", len(text.rstrip())))
        self.index = 0

    def take(self) -> tuple[str, str, int]:
        token = self.tokens[self.index]
        self.index += token[0] != "end"
        return token

    def binary(self, precedence: int, depth: int) -> Expression:
        left = self.unary(depth)
        while True:
            kind, op, offset = self.tokens[self.index]
            if kind != "op" or _BINARY.get(op, 0) < precedence or op not in _BINARY:
                return left
            self.index += 1
            left = ("binary", op, left, self.binary(_BINARY[op] + 1, depth), offset)

    def unary(self, depth: int) -> Expression:
        kind, text, offset = self.take()
        if depth > DEPTH_LIMIT:
            raise ExpressionError(offset, f"expected at most {DEPTH_LIMIT} levels of nesting")
        if kind == "int":
            try:
                return ("number", int(text, 0) if text[:1] == "0" and not text.isdigit() else int(text), offset)
            except ValueError:
                raise ExpressionError(offset, f"expected a whole number, got {text[:40]!r}") from None
        if kind == "float":
            return ("number", float(text), offset)
        if kind == "name":
            return ("name", text, offset)
        if kind == "op" and text in "+-~":
            return ("unary", text, self.unary(depth + 1), offset)
        if kind == "op" and text == "(":
            inner = self.binary(1, depth + 1)
            if self.take()[1] != ")":
                raise ExpressionError(offset, "expected a ')' for this '('")
            return inner
        raise ExpressionError(offset, f"expected a number or a name, got {text!r}" if text else "expected a value")


@lru_cache(maxsize=4096)
def _parse(text: str) -> Expression:
    parser = _Parser(text)
    tree = parser.binary(1, 0)
    kind, token, offset = parser.take()
    if kind != "end":
        raise ExpressionError(offset, f"expected an operator or the end, got {token!r}")
    return tree


def _apply(op: str, a: Number, b: Number, offset: int) -> Number:
    if op in _WHOLE_ONLY and not (isinstance(a, int) and isinstance(b, int)):
        raise ExpressionError(offset, f"expected whole numbers on both sides of {op!r}, got {a!r} and {b!r}")
    if op in ("/", "//", "%") and b == 0:
        raise ExpressionError(offset, "division by zero")
    if op in ("<<", ">>") and not 0 <= b <= VALUE_BITS:
        raise ExpressionError(offset, f"expected a shift from 0 to {VALUE_BITS}, got {b}")
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b
        case "//":
            return a // b
        case "%":
            return a % b
        case "<<":
            return int(a) << int(b)
        case ">>":
            return int(a) >> int(b)
        case "&":
            return int(a) & int(b)
        case "|":
            return int(a) | int(b)
    return int(a) ^ int(b)


def _walk(node: Expression, resolve: Callable[[str, int], Number]) -> Number:
    kind = node[0]
    if kind == "number":
        return node[1]
    if kind == "name":
        return resolve(node[1], node[2])
    if kind == "unary":
        value = _walk(node[2], resolve)
        if node[1] == "~":
            if not isinstance(value, int):
                raise ExpressionError(node[3], f"expected a whole number after '~', got {value!r}")
            return ~value
        return -value if node[1] == "-" else value
    value = _apply(node[1], _walk(node[2], resolve), _walk(node[3], resolve), node[4])
    if isinstance(value, int) and value.bit_length() > VALUE_BITS:
        raise ExpressionError(node[4], f"expected a value of at most {VALUE_BITS} bits")
    return value


def evaluate(text: str, resolve: Callable[[str, int], Number]) -> Number:
    """The value of an expression.

    Args:
        text: its source.
        resolve: gives the value of a name at an offset; may raise ExpressionError.

    Raises:
        ExpressionError: a syntax error, division by zero, a fraction where a whole number must be, or from ``resolve``.
    """
    return _walk(_parse(text), resolve)
