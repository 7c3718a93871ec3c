"""``trilobit verilog``: the core as self-contained Verilog, or a board's top with its constraints and scripts."""

from pathlib import Path

import click

from trilobit.output import batch_option, check_output_folder, json_option, output_folder, print_json, print_table, write_text


@click.command(name="verilog", short_help="Write the Verilog of a core, an IP or a board's top.")
@click.option("--core", "core_name", metavar="PRESET", help="Core preset, or a YAML file with its parameters; default the board's.")
@batch_option
@click.option(
    "--board",
    "board_name",
    metavar="NAME",
    help="A board's top (ulx3s_85f, icepi_zero, onchip_25f, ...), or a vendor tool's project (arty_a7, arty_a7_35, kv260, de10_nano).",
)
@click.option("--wrapper", type=click.Choice(["axi"]), help="The core as IP with AXI ports, and what other flows need of it.")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="BUNDLE",
              help="With --wrapper: its core, and its memory image and program for test benches; for onchip_...: built in.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@json_option
def command(
    core_name: str | None, batch: int | None, board_name: str | None, wrapper: str | None, bundle: Path | None, output: Path, as_json: bool
) -> None:  # fmt: skip
    """Write a core as self-contained Verilog (trilobit_core.v), or a board's top with the files that its tools read.

    With --core alone, the core; with --board, that board's top, with its own core or the one that --core names.
    """
    from trilobit.errors import ConfigError

    check_output_folder(output)
    if batch is not None and (wrapper or board_name):
        _check_batch(batch)
    if wrapper is not None:
        if board_name is not None:
            raise ConfigError("expected --wrapper or --board, got both")
        _write_wrapper(core_name, bundle, output, as_json)
    elif board_name is not None and board_name.startswith("onchip_"):
        _write_onchip(board_name, core_name, bundle, output, as_json)
    elif bundle is not None:
        raise ConfigError("expected --wrapper axi or --board onchip_... with --bundle")
    elif board_name is not None:
        _write_board(board_name, core_name, output, as_json)
    elif core_name is not None:
        _write_core(core_name, batch, output, as_json)
    else:
        raise ConfigError("expected --core, --board or both, got neither")


def _check_batch(batch: int) -> None:
    from trilobit.errors import ConfigError

    if batch != 1:
        raise ConfigError(f"expected --core alone with a batch of {batch}: board tops and the AXI wrapper serve one sequence")


def _write_core(core_name: str, batch: int | None, output: Path, as_json: bool) -> None:
    from trilobit.errors import ToolError
    from trilobit.isa.core import load_core

    config = load_core(core_name, batch)
    try:
        from trilobit.hdl.machine import build_core
        from trilobit.hdl.verilog import standalone_verilog
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "amaranth":
            raise
        raise ToolError('expected Amaranth to write Verilog, found none; install it with pip install "trilobit[rtl]"') from error

    text = standalone_verilog(build_core(config), "trilobit_core")
    output_folder(output)
    path = output / "trilobit_core.v"
    write_text(path, text)
    modules = sum(line.startswith("module ") for line in text.splitlines())
    data = {"core": config.name, "top": "trilobit_core", "files": [path], "modules": modules, "lines": text.count("\n")}
    if as_json:
        print_json(data)
    else:
        print_table({"written": str(path), "core": config.name, "modules": str(modules), "lines": str(data["lines"])})


def _write_wrapper(core_name: str | None, bundle_folder: Path | None, output: Path, as_json: bool) -> None:
    from trilobit.assembler.bundle import load_bundle
    from trilobit.errors import ConfigError, ToolError
    from trilobit.isa.core import load_core

    bundle = load_bundle(bundle_folder) if bundle_folder else None
    if core_name is None and bundle is None:
        raise ConfigError("expected --core or --bundle with --wrapper, got neither")
    config = load_core(core_name) if core_name else bundle.core  # type: ignore[union-attr]
    _check_batch(config.batch)
    if bundle is not None and bundle.core.beat_bytes != config.beat_bytes:
        raise ConfigError(f"expected a bundle for {config.beat_bytes} bytes a beat, got one for {bundle.core.beat_bytes}")
    try:
        from trilobit.hdl.ip import TOP, ip_files, memory_image
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("amaranth", "jinja2"):
            raise
        raise ToolError('expected Amaranth to write Verilog, found none; install it with pip install "trilobit[rtl]"') from error

    files = ip_files(config)
    if bundle is not None:
        files |= {
            "memory.hex": memory_image(bundle.memory(), config.beat_bytes),
            "program.hex": "".join(f"{word:032x}\n" for word in bundle.program.code),
        }
    output_folder(output)
    for name, text in files.items():
        write_text(output / name, text)
    note = "simulated on AXI memories; no vendor's tool has read it"
    data = {"core": config.name, "top": TOP, "wrapper": "axi", "files": [output / name for name in sorted(files)], "note": note}
    if as_json:
        print_json(data)
    else:
        print_table({"written": ", ".join(sorted(files)), "to": str(output), "core": config.name, "note": note})


def _write_board(board_name: str, core_name: str | None, output: Path, as_json: bool) -> None:
    from trilobit.errors import ConfigError
    from trilobit.hdl.boards import BOARDS, board_files
    from trilobit.hdl.boards.vendor import VENDOR_BOARDS
    from trilobit.hdl.ip.projects import project_files
    from trilobit.isa.core import load_core

    if board_name not in {**BOARDS, **VENDOR_BOARDS}:
        onchip = sorted("onchip_" + name.removeprefix("ulx3s_") for name in BOARDS)
        raise ConfigError(f"expected a board ({', '.join([*sorted(BOARDS), *onchip, *sorted(VENDOR_BOARDS)])}), got {board_name!r}")
    core = load_core(core_name) if core_name else None
    if core is not None:
        _check_batch(core.batch)
    write = project_files if board_name in VENDOR_BOARDS else board_files
    board = write(board_name, core)
    warning = ""
    if core is not None and core.clock_mhz < board.clock_mhz:
        warning = f"; the core's own clock is {core.clock_mhz:g} MHz: this one may be missed"
    _print_board(board, output, as_json, warning)


def _write_onchip(board_name: str, core_name: str | None, bundle: Path | None, output: Path, as_json: bool) -> None:
    from trilobit.commands.build import import_onchip

    onchip = import_onchip(core_name)
    model = onchip.load_model(onchip.find_onchip(board_name), bundle)
    from trilobit.hdl.onchip_top import onchip_files

    _print_board(onchip_files(board_name, model.baked), output, as_json)


def _print_board(board, output: Path, as_json: bool, warning: str = "") -> None:
    output_folder(output)
    for name, text in board.files.items():
        write_text(output / name, text)
    paths = [output / name for name in sorted(board.files)]
    note = f"written only: not placed, routed or run on a board{warning}"
    data = {"board": board.board, "core": board.core, "clock_mhz": board.clock_mhz, "top": board.top, "files": paths, "note": note}
    if as_json:
        print_json(data)
    else:
        print_table({"written": ", ".join(path.name for path in paths), "to": str(output), "board": board.board, "core": board.core,
                     "clock": f"{board.clock_mhz:g} MHz", "note": note})  # fmt: skip
