"""``trilobit verilog``: the core as self-contained Verilog."""

from pathlib import Path

import click

from trilobit.output import json_option, print_json, print_table, write_text


@click.command(name="verilog")
@click.option("--core", "core_name", required=True, metavar="PRESET", help="Core preset, or a YAML file with core parameters.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@json_option
def command(core_name: str, output: Path, as_json: bool) -> None:
    """Write the core as self-contained Verilog (trilobit_core.v)."""
    from trilobit.errors import ToolError
    from trilobit.isa.core import load_core

    config = load_core(core_name)
    try:
        from trilobit.hdl.core import Core
        from trilobit.hdl.verilog import standalone_verilog
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "amaranth":
            raise
        raise ToolError('expected Amaranth to write Verilog, found none; install it with pip install "trilobit[rtl]"') from error

    text = standalone_verilog(Core(config), "trilobit_core")
    output.mkdir(parents=True, exist_ok=True)
    path = output / "trilobit_core.v"
    write_text(path, text)
    modules = sum(line.startswith("module ") for line in text.splitlines())
    data = {"core": config.name, "top": "trilobit_core", "files": [path], "modules": modules, "lines": text.count("\n")}
    if as_json:
        print_json(data)
    else:
        print_table({"written": str(path), "core": config.name, "modules": str(modules), "lines": str(data["lines"])})
