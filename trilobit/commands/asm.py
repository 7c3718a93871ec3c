"""``trilobit asm``: assembly text to a program binary."""

from pathlib import Path

import click

from trilobit.assembler.asm import assemble_source, read_source
from trilobit.assembler.listing import listing
from trilobit.errors import ConfigError, ProgramError
from trilobit.output import json_option, print_json, print_table, write_text

__all__ = ["command"]


@click.command(name="asm", short_help="Assemble a program.")
@click.argument("source", metavar="PROG.s", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="PROG.bin", type=click.Path(path_type=Path), required=True, help="The binary.")
@click.option("--core", metavar="PRESET", help="Core preset or YAML file; comes before the source's .core.")
@click.option("-I", "--include", "include_dirs", metavar="DIR", multiple=True, type=click.Path(path_type=Path),
              help="A further folder that .include may read from; can be repeated.")  # fmt: skip
@click.option("-D", "--define", "defines", metavar="NAME=VALUE", multiple=True,
              help="Set a constant instead of its .equ in the source; can be repeated.")  # fmt: skip
@click.option("--listing", "listing_file", metavar="FILE", type=click.Path(path_type=Path), help="Write a listing too.")
@json_option
def command(source: Path, output: Path, core: str | None, include_dirs: tuple[Path, ...], defines: tuple[str, ...],
            listing_file: Path | None, as_json: bool) -> None:  # fmt: skip
    """Assemble PROG.s into a program binary."""
    constants = {}
    for define in defines:
        name, equals, value = define.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--define: expected NAME=VALUE, got {define!r}")
        constants[name] = value
    assembly = assemble_source(read_source(source), path=source, core=core, include_dirs=include_dirs, defines=constants)
    program = assembly.program
    if listing_file:
        try:
            write_text(listing_file, listing(assembly))
        except OSError as error:
            raise ProgramError(f"{listing_file}: can't be written: {error.strerror}") from error
    program.save(output)
    if as_json:
        print_json({
            "output": output, "listing": listing_file, "name": program.name, "words": len(program.code), "core": program.core,
            "window_size": program.window_size, "write_start": program.write_start,
            "regions": [
                {"name": r.name, "addr": r.addr, "size": r.size, "element": r.element, "writable": r.writable}
                for r in program.regions.values()
            ],
        })  # fmt: skip
    else:
        print_table({
            "written": str(output), "instructions": str(len(program.code)), "core": program.core or "any",
            "window": f"{program.window_size} bytes, writable from {program.write_start:#x}",
        })  # fmt: skip
