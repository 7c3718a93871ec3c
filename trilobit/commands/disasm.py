"""``trilobit disasm``: a program binary to assembly text."""

from pathlib import Path
from typing import Any

import click

from trilobit.assembler.disasm import disassemble, instruction_text
from trilobit.errors import ProgramError
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.output import json_option, print_json, write_text

__all__ = ["command"]


@click.command(name="disasm", short_help="Turn a binary back into assembly.")
@click.argument("binary", metavar="PROG.bin", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the text to FILE.")
@json_option
def command(binary: Path, output: Path | None, as_json: bool) -> None:
    """Print PROG.bin as assembly that gives the same bits again."""
    program = Program.load(binary)
    if output or not as_json:
        text = disassemble(program)
    if output:
        try:
            write_text(output, text)
        except OSError as error:
            raise ProgramError(f"{output}: can't be written: {error.strerror}") from error
    if as_json:
        print_json({"output": output, **_fields(program)})
    elif not output:
        click.echo(text, nl=False)


def _fields(program: Program) -> dict[str, Any]:
    """Everything in a program but the bytes of its regions."""
    instructions = []
    for index, word in enumerate(program.code):
        instruction = ISA.decode(word)
        file, line = program.lines[index] if program.lines else (None, None)
        instructions.append({
            "index": index, "word": f"{word:032x}", "text": instruction_text(instruction), "mnemonic": instruction.name,
            "fields": instruction.values, "file": file, "line": line,
        })  # fmt: skip
    return {
        "name": program.name, "core": program.core, "window_size": program.window_size,
        "write_start": program.write_start,
        "regions": [
            {"name": r.name, "addr": r.addr, "size": r.size, "element": r.element, "writable": r.writable}
            for r in program.regions.values()
        ],
        "instructions": instructions,
    }  # fmt: skip
