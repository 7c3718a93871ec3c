"""The assembler: text to a :class:`trilobit.isa.program.Program`. The language is described in docs/reference/assembly.md."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trilobit.assembler.checks import alignment
from trilobit.assembler.diagnostics import Diagnostics, SourceFile, SourceLine, suggest
from trilobit.assembler.encode import Pending, encode
from trilobit.assembler.parser import TRIT_ROW, Argument, Statement, parse, split_option
from trilobit.assembler.regions import DATA_DIRECTIVES, Item, RegionSource, build, place
from trilobit.assembler.symbols import Data, Symbols, UndefinedError
from trilobit.errors import ConfigError, ProgramError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import ELEMENTS, MAX_ADDRESS, MAX_WORDS, Program, Region
from trilobit.isa.spec import ISA

__all__ = ["Assembly", "assemble", "assemble_file", "assemble_source"]

LINE_LIMIT = 500_000  # of a source with its includes; a file that includes another twice, and so on, grows fast
NO_CORE = "no core given"
REGION_USAGE = ".region NAME, readonly|writable, ELEMENT, at=ADDRESS, size=BYTES"


@dataclass(frozen=True)
class Assembly:
    """A program with the source it came from.

    Attributes:
        program: the result.
        lines: every source line in the order of reading, with the index of its instruction word or None.
    """

    program: Program
    lines: list[tuple[SourceLine, int | None]]


class _Assembler:
    def __init__(self, path: Path | None, core: CoreConfig | None, include_dirs: Sequence[Path], defines: Mapping[str, str]):
        self.defines = dict(defines)
        self.overridden: set[str] = set()
        self.diagnostics = Diagnostics()
        self.symbols = Symbols(self.diagnostics)
        self.symbols.core = core
        self.core_given = core is not None
        self.core_line: SourceLine | None = None
        self.path = path
        self.roots = [*([path.parent.resolve()] if path else []), *(Path(d).resolve() for d in include_dirs)]
        self.open_files: list[Path] = []
        self.lines: list[SourceLine] = []
        self.instructions: list[Pending] = []
        self.regions: list[RegionSource] = []
        self.region: RegionSource | None = None
        self.labels: list[tuple[Argument, SourceLine]] = []  # not yet known whether of code or data
        self.length: Statement | None = None
        self.checked = True
        self.name: str | None = None
        self.window: Statement | None = None
        self.directives: dict[str, Callable[[Statement], None]] = {
            ".equ": self.equ, ".len": self.set_length, ".include": self.include, ".region": self.begin_region,
            ".core": self.set_core, ".window": self.set_window, ".name": self.set_name,
            ".unchecked": self.set_unchecked, ".checked": self.set_checked,
        }  # fmt: skip

    # -- first pass: read, note names, collect instructions and data

    def read(self, text: str, file: SourceFile, path: Path | None) -> None:
        if path:
            self.open_files.append(path.resolve())
        for statement in parse(text, file, self.diagnostics, self.lines):
            if len(self.lines) > LINE_LIMIT:
                self.error(statement, f"expected at most {LINE_LIMIT} lines with all includes")
                break
            for label in statement.labels:
                if self.symbols.define(label, statement.line):
                    self.labels.append((label, statement.line))
            self.statement(statement)
        if path:
            self.open_files.pop()

    def statement(self, statement: Statement) -> None:
        keyword = statement.keyword
        if keyword in ISA.by_name:
            self.place_labels()
            self.region = None
            self.instructions.append(Pending(statement, self.length, self.checked))
        elif keyword in DATA_DIRECTIVES:
            self.data(statement)
        elif keyword == TRIT_ROW:
            if self.region and self.region.items:
                self.region.items[-1].rows.append(statement)
            else:
                self.error(statement, "expected .ternary above rows of + - 0")
        elif keyword in self.directives:
            self.directives[keyword](statement)
        elif keyword:
            known = [*self.directives, *DATA_DIRECTIVES] if keyword[0] == "." else ISA.by_name
            what = "directive" if keyword[0] == "." else "mnemonic"
            self.error(statement, f"unknown {what} {keyword!r}{suggest(keyword, known)}")

    def error(self, statement: Statement, message: str, argument: Argument | None = None) -> None:
        self.diagnostics.error(statement.line, argument[1] if argument else statement.column, message)

    def place_labels(self) -> None:
        """Labels that wait belong to the next instruction."""
        for (name, _), _line in self.labels:
            self.symbols.code[name] = len(self.instructions)
        self.labels.clear()

    def data(self, statement: Statement) -> None:
        if self.region is None:
            self.error(statement, f"{statement.keyword}: expected a .region before data")
            return
        labels = [Data(name) for (name, _), _line in self.labels]
        self.symbols.data.update({label.name: label for label in labels})
        self.labels.clear()
        if self.region.element is None and statement.keyword[1:] in ELEMENTS and "element" not in self.region.options:
            self.region.element = ELEMENTS[statement.keyword[1:]]
        self.region.items.append(Item(statement, labels))

    def string(self, argument: Argument, statement: Statement, what: str) -> str | None:
        try:
            value = json.loads(argument[0])
            if isinstance(value, str):
                return value
        except ValueError:
            pass
        self.error(statement, f'expected {what} as a string in "quotes", got {argument[0]!r}', argument)
        return None

    def one(self, statement: Statement, usage: str) -> Argument | None:
        if len(statement.arguments) == 1 and statement.arguments[0][0]:
            return statement.arguments[0]
        self.error(statement, f"expected {usage}, got {len(statement.arguments)} arguments")
        return None

    def none(self, statement: Statement) -> bool:
        if statement.arguments:
            self.error(statement, f"{statement.keyword}: expected no arguments", statement.arguments[0])
        return not statement.arguments

    # -- directives

    def equ(self, statement: Statement) -> None:
        arguments = statement.arguments
        if len(arguments) != 2 or not arguments[0][0].replace(".", "_").isidentifier():
            self.error(statement, "expected .equ NAME, VALUE")
            return
        (name, _), (value, column) = arguments
        if name in self.defines:
            self.overridden.add(name)
            value = self.defines[name]
        self.symbols.constant(arguments[0], statement.line, (value, column))

    def set_length(self, statement: Statement) -> None:
        if self.one(statement, ".len ELEMENTS"):
            self.length = statement

    def set_unchecked(self, statement: Statement) -> None:
        if self.none(statement):
            self.checked = False

    def set_checked(self, statement: Statement) -> None:
        if self.none(statement):
            self.checked = True

    def set_name(self, statement: Statement) -> None:
        argument = self.one(statement, '.name "TEXT"')
        if argument:
            self.name = self.string(argument, statement, "a name")

    def set_core(self, statement: Statement) -> None:
        argument = self.one(statement, ".core PRESET")
        if argument is None or self.core_given:
            return
        if self.core_line:
            self.error(statement, f"the core is given already, in line {self.core_line.number}")
            return
        self.core_line = statement.line
        name = self.string(argument, statement, "a core") if argument[0].startswith('"') else argument[0]
        if name:
            try:
                self.symbols.core = load_core(name)
            except ConfigError as error:
                self.error(statement, str(error), argument)

    def set_window(self, statement: Statement) -> None:
        if self.window:
            self.error(statement, f"the window is given already, in line {self.window.line.number}")
        elif len(statement.arguments) == 1 or (
            len(statement.arguments) == 2 and (split_option(statement.arguments[1]) or ("",))[0] == "write_start"
        ):
            self.window = statement
        else:
            self.error(statement, "expected .window BYTES or .window BYTES, write_start=ADDRESS")

    def begin_region(self, statement: Statement) -> None:
        self.place_labels()
        self.region = None
        positional = [a for a in statement.arguments if split_option(a) is None]
        options: dict[str, Argument] = {}
        ok = True
        for argument in statement.arguments:
            if option := split_option(argument):
                if option[0] not in ("at", "size"):
                    self.error(statement, f"unknown option {option[0]!r}{suggest(option[0], ('at', 'size'))}", argument)
                    ok = False
                options[option[0]] = option[1]
        if not 2 <= len(positional) <= 3:
            self.error(statement, f"expected {REGION_USAGE}")
            return
        kinds, elements = ("readonly", "writable"), (*ELEMENTS, "stream")
        if positional[1][0] not in kinds:
            message = f"expected readonly or writable, got {positional[1][0]!r}{suggest(positional[1][0], kinds)}"
            self.error(statement, message, positional[1])
            ok = False
        if len(positional) == 3:
            element = positional[2][0]
            if element not in elements:
                message = f"expected an element type of {', '.join(elements)}, got {element!r}{suggest(element, elements)}"
                self.error(statement, message, positional[2])
                ok = False
            options["element"] = positional[2]
        name, quoted = positional[0][0], positional[0][0].startswith('"')
        if quoted:
            name = self.string(positional[0], statement, "a region's name") or ""
            ok = ok and bool(name)
        elif not name.replace(".", "_").isidentifier():
            self.error(statement, f"expected a name for the region, got {name!r}", positional[0])
            ok = False
        elif not self.symbols.define(positional[0], statement.line):
            ok = False
        if ok and any(region.name == name for region in self.regions):
            self.error(statement, f"expected a new name for the region, got {name!r} again", positional[0])
            ok = False
        symbol = Data(name)
        source = RegionSource(
            name, statement, positional[1][0] == "writable",
            ELEMENTS.get(positional[2][0]) if len(positional) == 3 else None, options, symbol,
        )  # fmt: skip
        self.region = source  # even if it is wrong, so that its data causes no further errors
        if ok:
            self.regions.append(source)
            if not quoted:
                self.symbols.data[name] = symbol

    def include(self, statement: Statement) -> None:
        argument = self.one(statement, '.include "FILE"')
        name = self.string(argument, statement, "a file") if argument else None
        if argument is None or name is None:
            return
        if not self.open_files:
            self.error(statement, "expected a source in a file: an include is relative to its folder", argument)
            return
        here = self.open_files[-1].parent
        candidates = [folder / name for folder in [here, *self.roots[1:]]]
        inside = [p.resolve() for p in candidates if any(p.resolve().is_relative_to(root) for root in self.roots)]
        if not inside:
            message = f"expected a file in the folder of the main file or an include folder (-I), got {name!r}"
            self.error(statement, message, argument)
            return
        found = next((p for p in inside if p.is_file()), None)
        if found is None:
            self.error(statement, f"can't find {name!r}", argument)
        elif found in self.open_files:
            chain = " -> ".join(p.name for p in [*self.open_files[self.open_files.index(found) :], found])
            self.error(statement, f"{name!r} includes itself: {chain}", argument)
        else:
            root = next(root for root in self.roots if found.is_relative_to(root))
            shown = os.path.join(os.path.dirname(statement.line.file.shown), name)
            try:
                text = found.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                self.error(statement, f"can't read {name!r}: {error}", argument)
                return
            self.read(text, SourceFile(shown, found.relative_to(root).as_posix()), found)

    # -- second pass: sizes, addresses, words

    def layout(self) -> tuple[dict[str, Region], int, int]:
        """Regions by name, window size and write_start."""
        step = alignment(self.symbols.core)
        contents: list[bytes | None] = []
        failed = False
        for source in self.regions:
            try:
                contents.append(build(source, self.symbols, step))
            except UndefinedError:
                failed = True
        window: int | None = None
        write_start: int | None = None
        if self.window:
            line, arguments = self.window.line, self.window.arguments
            window = self.symbols.whole(line, arguments[0], 0, MAX_ADDRESS, "the window's size", code=False)
            if len(arguments) == 2:
                option = split_option(arguments[1])
                assert option is not None  # seen when the directive was read
                write_start = self.symbols.whole(line, option[1], 0, window, "write_start")
        if failed:
            raise UndefinedError
        regions, write_start, size = place(self.regions, contents, self.symbols, step, write_start)
        window = size if window is None else window
        write_start = min(write_start, window)
        self.check_regions(regions, window, write_start)
        return regions, window, write_start

    def check_regions(self, regions: dict[str, Region], window: int, write_start: int) -> None:
        statements = {source.name: source.statement for source in self.regions}
        behind: Region | None = None
        for region in sorted(regions.values(), key=lambda r: (r.addr, r.end)):
            message = ""
            if region.end > window:
                message = f"{region.name!r} ends at {region.end:#x}, outside the window of {window} bytes"
            elif region.writable and region.addr < write_start:
                message = f"{region.name!r} is writable but at {region.addr:#x}, below write_start {write_start:#x}"
            elif not region.writable and region.end > write_start:
                message = f"{region.name!r} is read-only but ends at {region.end:#x}, above write_start {write_start:#x}"
            elif behind and region.addr < behind.end:
                message = f"{region.name!r} at {region.addr:#x} overlaps {behind.name!r}"
            if message:
                self.error(statements[region.name], message)
            behind = region

    def finish(self) -> Assembly:
        self.place_labels()
        config = self.symbols.core
        self.symbols.evaluate_constants(early=True)
        try:
            regions, window, write_start = self.layout()
        except UndefinedError:
            # Go on for the errors of instructions; what depends on addresses is silent.
            self.symbols.unplaced = True
            regions, window, write_start = {}, 2 * MAX_ADDRESS, 0
        self.symbols.evaluate_constants()
        words: list[int] = []
        capacity = config.program_words if config else MAX_WORDS
        for index, pending in enumerate(self.instructions):
            if index == capacity and (pending.checked or index == MAX_WORDS):
                where = f" on core {config.name!r}" if config else ""
                self.error(pending.statement, f"expected at most {capacity} instructions{where}; this is one more")
            with contextlib.suppress(UndefinedError):  # noted; go on for the errors of the others
                words.append(
                    encode(
                        pending, self.symbols, config=config, window=window, write_start=write_start,
                        words=len(self.instructions),
                    )
                )  # fmt: skip
        self.diagnostics.raise_if_any()
        name = self.name if self.name is not None else self.path.stem if self.path else "program"
        lines = [(p.statement.line.file.name, p.statement.line.number) for p in self.instructions]
        program = Program(name, words, window, write_start, regions, config.name if config else None, lines)
        indices = {id(p.statement.line): index for index, p in enumerate(self.instructions)}
        return Assembly(program, [(line, indices.get(id(line))) for line in self.lines])


def assemble_source(
    text: str,
    *,
    path: str | os.PathLike | None = None,
    core: str | CoreConfig | None = None,
    include_dirs: Sequence[str | os.PathLike] = (),
    defines: Mapping[str, str] | None = None,
) -> Assembly:
    """As :func:`assemble`, but keeps the source lines for a listing."""
    config = load_core(core) if isinstance(core, str) else core
    main = Path(path) if path is not None else None
    assembler = _Assembler(main, config, [Path(d) for d in include_dirs], defines or {})
    shown = str(path) if path is not None else "<text>"
    assembler.read(text, SourceFile(shown, main.name if main else shown), main)
    if unknown := set(assembler.defines) - assembler.overridden:
        raise ProgramError(f"{shown}: expected constants that the source sets with .equ to be defined, it has no .equ {min(unknown)}")
    return assembler.finish()


def assemble(
    text: str,
    *,
    path: str | os.PathLike | None = None,
    core: str | CoreConfig | None = None,
    include_dirs: Sequence[str | os.PathLike] = (),
    defines: Mapping[str, str] | None = None,
) -> Program:
    """Assemble a source text.

    Args:
        text: the source.
        path: its file, for messages, for the program's name, and as the folder that includes are looked up in.
        core: preset, YAML file or configuration; it comes before the source's ``.core``. Without either, what depends on
            beats is an error, regions are aligned for any core, and rules of a core are not checked.
        include_dirs: further folders that includes may come from.
        defines: constants whose ``.equ`` in the source takes this expression instead.

    Raises:
        ProgramError: with every error of the source: file:line:column, the line and a caret.
        ConfigError: no such core.
    """
    return assemble_source(text, path=path, core=core, include_dirs=include_dirs, defines=defines).program


def assemble_file(
    path: str | os.PathLike,
    core: str | CoreConfig | None = None,
    *,
    include_dirs: Sequence[str | os.PathLike] = (),
    defines: Mapping[str, str] | None = None,
) -> Program:
    """Assemble a file; as :func:`assemble`.

    Raises:
        ProgramError: as :func:`assemble`, or the file can't be read.
    """
    return assemble(read_source(path), path=path, core=core, include_dirs=include_dirs, defines=defines)


def read_source(path: str | os.PathLike) -> str:
    """The text of a source file; a ProgramError if it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ProgramError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProgramError(f"{path}: expected UTF-8 text: {error}") from error
