"""Names of an assembly source: constants, instructions, regions and the segments in them."""

import contextlib
from dataclasses import dataclass, field

from trilobit.assembler.diagnostics import Diagnostics, SourceLine, suggest
from trilobit.assembler.expression import ExpressionError, Number, evaluate
from trilobit.assembler.parser import Argument
from trilobit.isa.core import CoreConfig

__all__ = ["REGISTERS", "Data", "Symbols", "UndefinedError"]

REGISTERS = {
    "vreg": {f"v{i}": i for i in range(8)},
    "act": {f"a{i}": i for i in range(2)},
    "scalar": {f"s{i}": i for i in range(4)},
    "counter": {f"x{i}": i for i in range(4)},
}
"""Register names by the kind of a field, with their numbers."""
_RESERVED = {name for names in REGISTERS.values() for name in names}
CHAIN_LIMIT = 64  # of constants that name constants that come later; backward references don't count
_CORE = ("beat_bytes", "lanes", "batch", "max_length", "program_words")


class UndefinedError(Exception):
    """A value that was asked for but whose own error has been noted already; say nothing more."""


class _LaterError(UndefinedError):
    """A value that depends on data which is not laid out yet."""


@dataclass(eq=False)
class Data:
    """A region or a labelled part of one.

    Attributes:
        name: as in the source.
        offset: bytes from its region's start; None until the region is built.
        size: bytes, None until then.
        addr: byte offset in the window, None until regions are placed.
        attributes: further numbers: ``len`` in elements, ``rows`` and ``columns`` of a segment.
    """

    name: str
    offset: int | None = None
    size: int | None = None
    addr: int | None = None
    attributes: dict[str, int] = field(default_factory=dict)


class Symbols:
    """All names and their values; where they are defined, for messages."""

    def __init__(self, diagnostics: Diagnostics):
        self.diagnostics = diagnostics
        self.core: CoreConfig | None = None
        self.unplaced = False  # the layout failed: addresses and sizes may stay unknown, which is no further error
        self._early = False
        self.code: dict[str, int] = {}
        self.data: dict[str, Data] = {}
        self._constants: dict[str, tuple[SourceLine, Argument]] = {}
        self._values: dict[str, Number | None] = {}  # evaluated constants; None: in error
        self._open: list[str] = []  # constants being evaluated
        self._defined: dict[str, SourceLine] = {}

    def define(self, name: Argument, line: SourceLine) -> bool:
        """Take a name. False, with an error noted, if it is a register or taken."""
        text, column = name
        if text in _RESERVED or text.startswith("core."):
            self.diagnostics.error(line, column, f"expected a new name, got {text!r}, which the assembler defines itself")
        elif text in self._defined:
            first = self._defined[text]
            message = f"{text!r} is defined already, in {first.file.shown}:{first.number}"
            self.diagnostics.error(line, column, message)
        else:
            self._defined[text] = line
            return True
        return False

    def constant(self, name: Argument, line: SourceLine, value: Argument) -> None:
        """Define ``.equ``; the value is found when it is first used, so it may name what comes later."""
        if self.define(name, line):
            self._constants[name[0]] = (line, value)

    def evaluate_constants(self, *, early: bool = False) -> None:
        """Evaluate all constants in their order, used or not, so that every error is seen.

        Args:
            early: before data is laid out; constants that name data stay open for later.
        """
        self._early = early
        for name in self._constants:
            with contextlib.suppress(UndefinedError):  # noted where the constant stands
                self._constant(name)
        self._early = False

    def _constant(self, name: str, offset: int = 0) -> Number:
        if name in self._open or name not in self._values:
            if name in self._open or len(self._open) == CHAIN_LIMIT:
                what = "refers to itself" if name in self._open else f"is more than {CHAIN_LIMIT} constants deep"
                raise ExpressionError(offset, f"constant {name!r} {what}")
            line, argument = self._constants[name]
            self._open.append(name)
            self._values[name] = None
            try:
                self._values[name] = self.number(line, argument, code=True)
            except _LaterError:
                del self._values[name]
                raise
            except UndefinedError:
                pass  # noted where the constant stands
            finally:
                self._open.pop()
        value = self._values[name]
        if value is None:
            raise UndefinedError
        return value

    def _data(self, name: str) -> tuple[Data, str] | None:
        if name in self.data:
            return self.data[name], "addr"
        base, _, attribute = name.rpartition(".")
        return (self.data[base], attribute) if base in self.data else None

    def _attribute(self, data: Data, attribute: str, offset: int) -> int:
        if data.size is None and self._early:
            raise _LaterError
        if data.size is None and self.unplaced:
            raise UndefinedError
        known = {"addr": data.addr, "size": data.size, **data.attributes}
        if attribute == "beats":
            if self.core is None:
                raise ExpressionError(offset, "expected .core NAME or --core: beats depend on the core")
            known["beats"] = None if data.size is None else -(-data.size // self.core.beat_bytes)
        if attribute not in known and data.size is not None:
            known.setdefault("beats", 0)
            raise ExpressionError(offset, f"{data.name!r} has no {attribute!r}; it has {', '.join(sorted(known))}")
        value = known.get(attribute)
        if value is None:
            if self.unplaced:
                raise UndefinedError
            what = "the address of" if attribute == "addr" else f"{attribute!r} of"
            raise ExpressionError(offset, f"{what} {data.name!r} isn't known while data is laid out")
        return value

    def resolve(self, name: str, offset: int, *, code: bool, data: bool = True) -> Number:
        """The value of a name.

        Args:
            name: it.
            offset: where it stands in its expression.
            code: instruction labels are allowed; data: regions, segments and their attributes are.

        Raises:
            ExpressionError: no such name, or not of that kind. UndefinedError: its own definition is in error.
        """
        if name in self._constants:
            return self._constant(name, offset)
        if name in self.code:
            if code:
                return self.code[name]
            raise ExpressionError(offset, f"{name!r} is the label of an instruction; expected an address or a number")
        if found := self._data(name):
            if data:
                return self._attribute(*found, offset)
            raise ExpressionError(offset, f"{name!r} is in memory; expected the label of an instruction")
        if name.startswith("core."):
            if name[5:] not in _CORE:
                raise ExpressionError(offset, f"expected one of {', '.join('core.' + key for key in _CORE)}, got {name!r}")
            if self.core is None:
                raise ExpressionError(offset, f"expected .core NAME or --core, as {name!r} is used")
            return getattr(self.core, name[5:])
        if name in _RESERVED:
            raise ExpressionError(offset, f"expected a number or a name, got register {name!r}")
        if name in self._defined:
            raise UndefinedError
        raise ExpressionError(offset, f"undefined name {name!r}{suggest(name, [*self._constants, *self.code, *self.data])}")

    def number(self, line: SourceLine, argument: Argument, *, code: bool = False, data: bool = True) -> Number:
        """The value of an expression; errors are noted at their place.

        Raises:
            UndefinedError: there was an error, noted already.
        """
        text, column = argument
        if text.isdecimal():
            return int(text)
        try:
            return evaluate(text, lambda name, offset: self.resolve(name, offset, code=code, data=data))
        except ExpressionError as error:
            self.diagnostics.error(line, column + error.offset, error.message)
        except RecursionError:
            self.diagnostics.error(line, column, "expected a shorter expression: it is too deeply nested")
        raise UndefinedError

    def whole(self, line: SourceLine, argument: Argument, low: int, high: int, what: str, *, code: bool = False, data: bool = True) -> int:
        """As :meth:`number`, for a whole number from ``low`` to ``high``; ``what`` names it in messages."""
        value = self.number(line, argument, code=code, data=data)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int):
            self.diagnostics.error(line, argument[1], f"expected {what} as a whole number, got {value!r}")
        elif not low <= value <= high:
            self.diagnostics.error(line, argument[1], f"expected {what} from {low} to {high}, got {value}")
        else:
            return value
        raise UndefinedError
