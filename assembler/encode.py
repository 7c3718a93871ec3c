"""Instructions of assembly text as words: operands in the order of the ISA's data, then options and flags by name."""

from dataclasses import dataclass

from trilobit.assembler.checks import breaches
from trilobit.assembler.diagnostics import suggest
from trilobit.assembler.parser import Argument, Statement, split_option
from trilobit.assembler.symbols import REGISTERS, Symbols, UndefinedError
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA, Field, Opcode

__all__ = ["Pending", "encode", "usage"]

KIND_NAMES = {
    "vreg": "a vector register v0-v7",
    "act": "an activation buffer a0 or a1",
    "scalar": "a scalar register s0-s3",
    "counter": "a loop counter x0-x3",
}


@dataclass(slots=True, eq=False)
class Pending:
    """An instruction as it was read.

    Attributes:
        statement: its line.
        length: the statement of ``.len`` in force, or None.
        checked: whether rules of core and window apply.
    """

    statement: Statement
    length: Statement | None
    checked: bool


def usage(op: Opcode) -> str:
    """How an instruction is written: ``ldv vd, addr, len=, wide``."""
    positional = [f.name for f in op.operands]
    options = [key if option.field.kind == "flag" else f"{key}=" for key, option in op.options.items() if key not in positional]
    return f"{op.name} {', '.join(positional + options)}".strip()


def _limits(op: Opcode, field: Field) -> tuple[int, int]:
    option = op.options.get(field.name)
    return (option.low, option.high) if option else (field.lowest, field.highest)


def _operand(op: Opcode, field: Field, argument: Argument, statement: Statement, symbols: Symbols) -> int:
    text, column = argument
    if field.kind in KIND_NAMES:
        number = REGISTERS[field.kind].get(text)
        if number is None:
            known = REGISTERS[field.kind]
            message = f"{op.name}: expected {KIND_NAMES[field.kind]} as {field.name}, got {text!r}{suggest(text, known)}"
            symbols.diagnostics.error(statement.line, column, message)
            raise UndefinedError
        return number
    low, high = _limits(op, field)
    if field.kind == "addr":
        if text[:1] == "[" and text[-1:] == "]":
            inner = text[1:-1]
            text, column = inner.strip(), column + 1 + len(inner) - len(inner.lstrip())
        return symbols.whole(statement.line, (text, column), low, high, "an address")
    target = field.kind == "target"
    return symbols.whole(statement.line, (text, column), low, high, field.name, code=target, data=not target)


def _option(op: Opcode, argument: Argument, statement: Statement, symbols: Symbols) -> tuple[str, int]:
    """An option or flag by name, and its value."""
    split = split_option(argument)
    name = split[0] if split else argument[0]
    option = op.options.get(name)
    if option is None or name in {f.name for f in op.operands}:
        known = [key for key in op.options if key not in {f.name for f in op.operands}]
        if split is None and len(op.operands) == 0 and not known:
            message = f"{op.name}: expected no operands, got {argument[0]!r}"
        else:
            what = "unknown option" if split or name.isidentifier() else "expected an option, got"
            message = f"{op.name}: {what} {name!r}{suggest(name, known)} (usage: {usage(op)})"
        symbols.diagnostics.error(statement.line, argument[1], message)
        raise UndefinedError
    if split is None:
        if option.field.kind != "flag":
            message = f"{op.name}: expected a value, as in {name}={option.low}"
            symbols.diagnostics.error(statement.line, argument[1], message)
            raise UndefinedError
        return name, 1
    return name, symbols.whole(statement.line, split[1], option.low, option.high, name)


def _fields(op: Opcode, pending: Pending, symbols: Symbols) -> tuple[dict[str, int], dict[str, Argument]]:
    """The values of all fields and the arguments that gave them; every error of the line is noted."""
    statement = pending.statement
    diagnostics, arguments = symbols.diagnostics, statement.arguments
    operands = op.operands
    if len(arguments) < len(operands):
        missing = operands[len(arguments)]
        message = f"{op.name}: expected {missing.name} ({missing.text}); usage: {usage(op)}"
        diagnostics.error(statement.line, statement.column, message)
        raise UndefinedError
    values: dict[str, int] = {}
    given: dict[str, Argument] = {}
    failed = misspelt = False
    for index, argument in enumerate(arguments):
        try:
            if index < len(operands):
                name, value = operands[index].name, _operand(op, operands[index], argument, statement, symbols)
            else:
                name, value = _option(op, argument, statement, symbols)
                if name in given:
                    diagnostics.error(statement.line, argument[1], f"{op.name}: {name!r} is given twice")
            values[name] = value
            given[name] = argument
        except UndefinedError:
            failed = True
            split = split_option(argument)
            if index < len(operands):
                name = operands[index].name
            else:
                name = split[0] if split else argument[0]
                misspelt = misspelt or name not in op.options
            given[name] = argument
    for name, option in op.options.items():
        if name in values or name in given:
            continue
        if option.default is not None:
            values[name] = option.default
        elif name == "len" and pending.length is not None:
            length = pending.length
            try:
                values[name] = symbols.whole(length.line, length.arguments[0], option.low, option.high, "len")
            except UndefinedError:
                failed = True
        elif not misspelt:  # else it may be the one that is missing: one error is enough
            hint = " or a .len before" if name == "len" else ""
            message = f"{op.name}: expected {name}= ({option.field.text}){hint}; usage: {usage(op)}"
            diagnostics.error(statement.line, statement.column, message)
            failed = True
    if failed:
        raise UndefinedError
    return values, given


def encode(pending: Pending, symbols: Symbols, *, config: CoreConfig | None, window: int, write_start: int, words: int) -> int:
    """The word of an instruction.

    Args:
        pending: the instruction.
        symbols: all names, with addresses.
        config, window, write_start, words: as for :func:`trilobit.assembler.checks.breaches`.

    Raises:
        UndefinedError: there was an error, noted already.
    """
    statement = pending.statement
    op = ISA.by_name[statement.keyword]
    values, given = _fields(op, pending, symbols)
    if pending.checked:
        failed = False
        for name, message in breaches(op, values, config=config, window=window, write_start=write_start, words=words):
            column = given[name][1] if name in given else statement.column
            symbols.diagnostics.error(statement.line, column, f"{op.name}: {message}")
            failed = True
        if failed:
            raise UndefinedError
    word = op.opcode
    for field in op.fields:
        word |= (values[field.name] << field.lo) & field.mask
    return word
