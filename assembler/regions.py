"""Data directives: what a region of the memory window holds, and where regions are placed."""

import contextlib
import math
from dataclasses import dataclass, field

import numpy as np

from trilobit.assembler.diagnostics import suggest
from trilobit.assembler.parser import Argument, Statement, split_option
from trilobit.assembler.symbols import Data, Symbols, UndefinedError
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import Scalar
from trilobit.isa.program import ELEMENTS, MAX_ADDRESS, Region
from trilobit.isa.segments import gains_segment, matrix_segment, scalar_of
from trilobit.isa.semantics import threefry
from trilobit.isa.trits import pack

__all__ = ["DATA_DIRECTIVES", "Item", "RegionSource", "build", "place"]

DATA_DIRECTIVES = (*(f".{name}" for name in ELEMENTS), ".zero", ".fill", ".align", ".ternary", ".gains")
DATA_LIMIT = 1 << 30  # bytes of initial data of one region: more belongs into a bundle's image
_TRITS = str.maketrans("", "", " \t")


@dataclass(eq=False)
class Item:
    """One data directive with the labels in front of it and, for ``.ternary``, the rows below it."""

    statement: Statement
    labels: list[Data]
    rows: list[Statement] = field(default_factory=list)


@dataclass(eq=False)
class RegionSource:
    """A ``.region`` as it was read."""

    name: str
    statement: Statement
    writable: bool
    element: str | None
    options: dict[str, Argument]
    symbol: Data
    items: list[Item] = field(default_factory=list)


class _Builder:
    """The content of one region, directive by directive; a piece is bytes, or an int for so many zeros."""

    def __init__(self, source: RegionSource, symbols: Symbols, alignment: int):
        self.source = source
        self.symbols = symbols
        self.alignment = alignment
        self.pieces: list[bytes | int] = []
        self.size = 0
        self.statement = source.statement
        self.options: dict[str, Argument] = {}
        self.positional: list[Argument] = []

    # -- arguments of the directive at hand

    def fail(self, argument: Argument | None, message: str) -> UndefinedError:
        column = argument[1] if argument else self.statement.column
        self.symbols.diagnostics.error(self.statement.line, column, message)
        return UndefinedError()

    def take(self, statement: Statement, known: tuple[str, ...]) -> None:
        self.statement, self.options, self.positional = statement, {}, []
        for argument in statement.arguments:
            option = split_option(argument)
            if option is None:
                self.positional.append(argument)
            elif option[0] not in known:
                expected = f"it takes {', '.join(known)}" if known else "it takes none"
                raise self.fail(argument, f"{statement.keyword}: unknown option {option[0]!r}; {expected}"
                                          f"{suggest(option[0], known)}")  # fmt: skip
            else:
                self.options[option[0]] = option[1]

    def positions(self, least: int, most: int, usage: str) -> None:
        if not least <= len(self.positional) <= most:
            raise self.fail(None, f"expected {usage}, got {len(self.positional)} values")

    def whole(self, argument: Argument, low: int, high: int, what: str) -> int:
        return self.symbols.whole(self.statement.line, argument, low, high, what)

    def option(self, name: str, default: int, low: int, high: int) -> int:
        return self.whole(self.options[name], low, high, name) if name in self.options else default

    def core(self) -> CoreConfig:
        if self.symbols.core is None:
            raise self.fail(None, f"{self.statement.keyword} needs .core NAME or --core: segments depend on beat_bytes")
        return self.symbols.core

    # -- pieces

    def add(self, piece: bytes | int) -> None:
        self.pieces.append(piece)
        self.size += piece if isinstance(piece, int) else len(piece)

    def values(self, low: int, high: int, fraction_bits: int = 0) -> np.ndarray:
        """The directive's values: listed, or drawn with ``random``; ``count`` repeats a list or sizes a drawing."""
        count = self.option("count", 1, 1, DATA_LIMIT)
        if "random" in self.options:
            if self.positional or "count" not in self.options:
                raise self.fail(None, "expected random=SEED with count=N and no values")
            seed = self.option("random", 0, 0, 0xFFFFFFFF)
            least = self.option("low", low, low, high)
            most = self.option("high", high, least, high)
            return least + threefry((seed, 0), np.arange(count)) % (most - least + 1)
        if not self.positional:
            raise self.fail(None, f"{self.statement.keyword}: expected values")
        numbers = []
        for argument in self.positional:
            with contextlib.suppress(UndefinedError):  # noted; see the others as well
                numbers.append(self.value(argument, low, high, fraction_bits))
        if len(numbers) < len(self.positional):
            raise UndefinedError
        if count * len(numbers) > DATA_LIMIT:
            raise self.fail(None, f"expected at most {DATA_LIMIT} values, got {count * len(numbers)}")
        return np.tile(np.array(numbers, dtype=np.int64), count)

    def value(self, argument: Argument, low: int, high: int, fraction_bits: int) -> int:
        """One listed value; rounded half up to ``fraction_bits`` if there are any, else it must be whole."""
        if not fraction_bits:
            return self.whole(argument, low, high, "a value")
        scale = 1 << fraction_bits
        value = math.floor(self.symbols.number(self.statement.line, argument) * scale + 0.5)
        if not low <= value <= high:
            raise self.fail(argument, f"expected a value from {low / scale} to {high / scale}, got {argument[0]}")
        return value

    def numbers(self, name: str, statement: Statement) -> dict[str, int]:
        self.take(statement, ("count", "random", "low", "high"))
        kind = np.dtype(ELEMENTS[name])
        limits = np.iinfo(kind)
        values = self.values(int(limits.min), int(limits.max))
        self.add(values.astype(kind).tobytes())
        return {"len": len(values)}

    def zero(self, statement: Statement) -> dict[str, int]:
        self.take(statement, ())
        self.positions(1, 1, ".zero BYTES")
        self.add(self.whole(self.positional[0], 0, MAX_ADDRESS, "bytes"))
        return {}

    def fill(self, statement: Statement) -> dict[str, int]:
        self.take(statement, ())
        self.positions(2, 2, ".fill COUNT, VALUE")
        if self.source.element is None:
            raise self.fail(None, ".fill: expected a region with an element type, such as .region NAME, readonly, i16")
        kind = np.dtype(self.source.element)
        count = self.whole(self.positional[0], 0, DATA_LIMIT // kind.itemsize, "count")
        limits = np.iinfo(kind)
        value = self.whole(self.positional[1], int(limits.min), int(limits.max), "value")
        self.add(np.full(count, value, dtype=kind).tobytes())
        return {"len": count}

    def align(self, statement: Statement) -> dict[str, int]:
        self.take(statement, ())
        self.positions(0, 1, ".align or .align BYTES")
        step = self.whole(self.positional[0], 1, 4096, "alignment") if self.positional else self.alignment
        self.add(-self.size % step)
        return {}

    def segment_start(self) -> int:
        beat_bytes = self.core().beat_bytes
        if self.size % beat_bytes:
            raise self.fail(None, f"a segment starts at a multiple of {beat_bytes} bytes, got {self.size}; use .align")
        return beat_bytes

    def ternary(self, item: Item) -> dict[str, int]:
        self.take(item.statement, ("scale", "random"))
        self.positions(2, 2, ".ternary ROWS, COLUMNS")
        beat_bytes = self.segment_start()
        rows = self.whole(self.positional[0], 1, 0xFFFF, "rows")
        columns = self.whole(self.positional[1], 1, 0xFFFF, "columns")
        if rows * columns > DATA_LIMIT:
            raise self.fail(None, f"expected at most {DATA_LIMIT} trits, got {rows * columns}")
        scale = self.scale()
        if "random" in self.options:
            seed = self.option("random", 0, 0, 0xFFFFFFFF)
            if item.rows:
                raise self.fail(None, "expected either random=SEED or rows of + - 0, got both")
            trits = threefry((seed, 0), np.arange(rows * columns)).reshape(rows, columns) % 3 - 1
        else:
            trits = self.rows(item, rows, columns)
        self.add(matrix_segment(pack(trits), rows, scale, beat_bytes))
        return {"rows": rows, "columns": columns}

    def scale(self) -> Scalar:
        argument = self.options.get("scale")
        try:
            return scalar_of(float(self.symbols.number(self.statement.line, argument) if argument else 1.0))
        except (ValueError, OverflowError) as error:
            raise self.fail(argument, f"scale: {error}") from error

    def rows(self, item: Item, rows: int, columns: int) -> np.ndarray:
        if len(item.rows) != rows:
            raise self.fail(None, f"expected {rows} rows of + - 0 below, got {len(item.rows)}; or give random=SEED")
        trits = np.zeros((rows, columns), dtype=np.int64)
        failed = False
        for r, row in enumerate(item.rows):
            text = row.arguments[0][0].translate(_TRITS)
            if len(text) != columns:
                message = f"expected {columns} trits, got {len(text)}"
                self.symbols.diagnostics.error(row.line, row.column, message)
                failed = True
            else:
                trits[r] = [("-0+").index(t) - 1 for t in text]
        if failed:
            raise UndefinedError
        return trits

    def gains(self, statement: Statement) -> dict[str, int]:
        self.take(statement, ("bp", "count", "random", "low", "high"))
        beat_bytes = self.segment_start()
        values = self.values(-0x8000, 0x7FFF, self.option("bp", 0, 0, 32))
        if len(values) > 0xFFFF:
            raise self.fail(None, f"expected at most 65535 gains, got {len(values)}")
        self.add(gains_segment(values, beat_bytes))
        return {"rows": 1, "columns": len(values), "len": len(values)}

    def item(self, item: Item) -> None:
        """One directive, and what its labels stand for."""
        keyword, start = item.statement.keyword, self.size
        if item.rows and keyword != ".ternary":
            self.symbols.diagnostics.error(item.rows[0].line, item.rows[0].column, "expected .ternary above rows of + - 0")
        if keyword == ".ternary":
            attributes = self.ternary(item)
        elif keyword[1:] in ELEMENTS:
            attributes = self.numbers(keyword[1:], item.statement)
        else:
            handlers = {".zero": self.zero, ".fill": self.fill, ".align": self.align, ".gains": self.gains}
            attributes = handlers[keyword](item.statement)
        for label in item.labels:
            label.offset, label.size, label.attributes = start, self.size - start, attributes

    def finish(self) -> bytes | None:
        """The region's content; None if all of it is zero or nothing but its size is given."""
        source, symbols = self.source, self.symbols
        self.statement = source.statement
        if "size" in source.options:
            size = symbols.whole(source.statement.line, source.options["size"], self.size, MAX_ADDRESS, "size")
            self.add(size - self.size)
        source.symbol.offset, source.symbol.size = 0, self.size
        if source.element:
            source.symbol.attributes = {"len": self.size // np.dtype(source.element).itemsize}
        if all(isinstance(piece, int) for piece in self.pieces):
            return None
        if self.size > DATA_LIMIT:
            raise self.fail(None, f"expected at most {DATA_LIMIT} bytes in a region with data, got {self.size}")
        return b"".join(bytes(piece) for piece in self.pieces)


def build(source: RegionSource, symbols: Symbols, alignment: int) -> bytes | None:
    """The content of a region; sets the sizes of its symbols. Errors are noted, and the other directives still checked.

    Raises:
        UndefinedError: there was an error, noted already.
    """
    builder = _Builder(source, symbols, alignment)
    failed = False
    for item in source.items:
        try:
            builder.item(item)
        except UndefinedError:
            failed = True
    data = builder.finish()
    if failed:
        raise UndefinedError
    return data


def place(
    sources: list[RegionSource], contents: list[bytes | None], symbols: Symbols, alignment: int, write_start: int | None
) -> tuple[dict[str, Region], int, int]:
    """Give every region its address: read-only ones first, then writable ones, each in the order of the source.

    A region with ``at`` stands there, and the next one follows it.

    Args:
        sources: the regions; contents: what they hold.
        symbols: get the addresses.
        alignment: bytes that addresses are multiples of.
        write_start: where the writable part begins, or None: behind the read-only part.

    Returns:
        regions by name in the order of the source; write_start; the size of the window that holds them.

    Raises:
        UndefinedError: an ``at`` was wrong, noted already.
    """
    regions: dict[str, Region] = {}
    cursor = end = 0
    for writable in (False, True):
        if writable:
            write_start = -(-end // alignment) * alignment if write_start is None else write_start
            cursor = write_start
        for source, content in zip(sources, contents, strict=True):
            if source.writable != writable:
                continue
            size = source.symbol.size
            assert size is not None  # built before
            addr = -(-cursor // alignment) * alignment
            if "at" in source.options:
                addr = symbols.whole(source.statement.line, source.options["at"], 0, MAX_ADDRESS, "an address")
            for symbol in (source.symbol, *(label for item in source.items for label in item.labels)):
                symbol.addr = addr + (symbol.offset or 0)
            regions[source.name] = Region(name=source.name, addr=addr, size=size, data=content, element=source.element, writable=writable)
            cursor = addr + size
            end = max(end, cursor)
    assert write_start is not None
    return {s.name: regions[s.name] for s in sources}, write_start, -(-max(end, write_start) // alignment) * alignment
