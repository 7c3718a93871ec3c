"""The program: the token loop around the scheduled instructions, as words and as assembly text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trilobit.assembler.compiler.instr import Instr
from trilobit.assembler.compiler.layout import Layout, table_pitch
from trilobit.errors import CompileError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import ELEMENTS, Program
from trilobit.isa.spec import ISA

__all__ = ["Line", "emit", "to_program", "to_text"]

_ELEMENT_NAMES = {element: name for name, element in ELEMENTS.items()}
_PREFIX = {"vreg": "v", "act": "a", "scalar": "s", "counter": "x"}


@dataclass
class Line:
    """One instruction with its fields' values; ``target`` is a label. ``instr`` is what it came from, if any."""

    op: str
    values: dict[str, int] = field(default_factory=dict)
    label: str = ""
    target: str = ""
    comment: str = ""
    instr: Instr | None = None


def emit(order: Sequence[Instr], place: Layout, core: CoreConfig, vocabulary: int) -> list[Line]:
    """The whole program.

    The stream of the next token is queued at the start of each token, so that its fetch follows without a gap; the
    head's only if no prompt token waits, for then the head runs.

    Raises:
        CompileError: more instructions than the core holds.
    """
    lines = _prologue(place, core)
    body, head = [i for i in order if not i.head], [i for i in order if i.head]
    # The token register is read by the embeddings and may change after them.
    split = max((n + 1 for n, i in enumerate(body) if i.op == "emb"), default=0)
    first = [_line(i, place, core, vocabulary) for i in body[:split]]
    if not first:
        raise CompileError("expected an embedding of the token in what the logits depend on, got none")
    first[0].label = "token"
    lines += first
    lines += [
        Line("poll", comment="the next prompt token, if one waits"),
        Line("bprompt", target="skip_head"),
        _queue("head", place, core),
    ]
    follow = _queue("body", place, core)
    follow.label, follow.comment = "skip_head", "the next token's"
    lines.append(follow)
    lines += [_line(i, place, core, vocabulary) for i in body[split:]]
    lines.append(Line("bprompt", target="token", comment="a prompt token needs no logits"))
    lines += [_line(i, place, core, vocabulary) for i in head]
    lines += [
        Line("emit"),
        Line("bdone", target="end"),
        Line("jump", target="token"),
        Line("halt", label="end"),
    ]
    lines = [line for line in lines if line.op]
    if len(lines) > core.program_words:
        raise CompileError(
            f"the program has {len(lines)} instructions, core {core.name!r} holds {core.program_words}; choose a core with "
            "a larger program memory (program_words)"
        )
    return lines


def _prologue(place: Layout, core: CoreConfig) -> list[Line]:
    lines = []
    if state := place.regions.get("state"):
        values = {"addr": state.addr, "beats": state.size // core.beat_bytes}
        lines.append(Line("clr", values, comment="every recurrent state to zero"))
    lines.append(Line("wait", comment="for the first prompt token"))
    lines.append(_queue("body", place, core))
    return lines


def _queue(name: str, place: Layout, core: CoreConfig) -> Line:
    region = place.regions.get(name)
    if region is None:  # no product in this part
        return Line("nop")
    return Line("stream", {"addr": region.addr, "beats": region.size // core.beat_bytes})


def _line(i: Instr, place: Layout, core: CoreConfig, vocabulary: int) -> Line:
    values = {**i.fields, **i.registers}
    if i.op == "emb":
        values |= {"pitch": table_pitch(i.length, core), "rows": vocabulary}
    if i.place is not None:
        values["addr"] = place.address(i.place)
    if i.matrix is not None:
        values["addr"] = place.segments[id(i)]
    value = i.value
    comment = f"{value.name}" + (f" ({value.module})" if value.module and value.module not in value.name else "")
    return Line(i.op, values, comment=comment, instr=i)


def _labels(lines: Sequence[Line]) -> dict[str, int]:
    return {line.label: n for n, line in enumerate(lines) if line.label}


def to_program(lines: Sequence[Line], place: Layout, core: CoreConfig, name: str) -> Program:
    """Words and regions; the regions' data is the bundle's image."""
    labels = _labels(lines)
    code = []
    for line in lines:
        values = dict(line.values)
        if line.target:
            values["target"] = labels[line.target]
        code.append(ISA.encode(line.op, **values))
    return Program(
        name=name, code=code, window_size=place.window_size, write_start=place.write_start, regions=dict(place.regions),
        core=core.name,
    )  # fmt: skip


def to_text(lines: Sequence[Line], place: Layout, core: CoreConfig, name: str, is_preset: bool) -> str:
    """Assembly that assembles to the same program; the regions' content is in the bundle's image."""
    out = [f'.name "{name}"', f".core {core.name}" if is_preset else f"; for a core {core.name!r} that is no preset"]
    out.append(f".window {place.window_size}, write_start={place.write_start}")
    for region in place.regions.values():
        access = "writable" if region.writable else "readonly"
        element = f", {_ELEMENT_NAMES[region.element]}" if region.element else ""
        out.append(f".region {region.name}, {access}{element}, at={region.addr:#x}, size={region.size}")
    out.append("")
    module = None
    for line in lines:
        if line.instr is not None and line.instr.value.module != module:
            module = line.instr.value.module
            out.append(f"; ---- {module or 'the model'}")
        if line.label:
            out.append(f"{line.label}:")
        text = "    " + _text(line, place)
        out.append(f"{text:<72}; {line.comment}" if line.comment else text)
    return "\n".join(out) + "\n"


def _text(line: Line, place: Layout) -> str:
    op = ISA.by_name[line.op]
    arguments = []
    for operand in op.operands:
        if operand.kind == "target":
            arguments.append(line.target)
        elif operand.kind == "addr":
            arguments.append(f"[{_symbolic(line.values['addr'], place)}]")
        else:
            arguments.append(f"{_PREFIX[operand.kind]}{line.values[operand.name]}")
    names = {operand.name for operand in op.operands}
    for key, option in op.options.items():
        value = line.values.get(key, option.default)
        if key in names or value == option.default:
            continue
        arguments.append(key if option.field.kind == "flag" else f"{key}={value}")
    return f"{line.op:<8}{', '.join(arguments)}".rstrip()


def _symbolic(address: int, place: Layout) -> str:
    for region in place.regions.values():
        if region.addr <= address < region.end:
            return region.name if address == region.addr else f"{region.name} + {address - region.addr}"
    return str(address)
