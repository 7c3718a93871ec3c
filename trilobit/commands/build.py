"""``trilobit build``: a board's bitstream, with the open tools from pip."""

from pathlib import Path

import click

from trilobit.output import check_output_folder, json_option, print_json, print_table, status_line

__all__ = ["command", "import_onchip"]


def import_onchip(core_name: str | None):
    """The module for boards without memory, which needs Amaranth.

    Raises:
        ConfigError: a core is named, but the bundle brings its own.
        ToolError: Amaranth is not installed.
    """
    from trilobit.errors import ConfigError, ToolError

    if core_name is not None:
        raise ConfigError("expected no --core with an onchip_ board: its core is the one that the model of --bundle was compiled for")
    try:
        from trilobit.bitstreams import onchip
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "amaranth":
            raise
        raise ToolError('expected Amaranth to write Verilog, found none; install it with pip install "trilobit[rtl]"') from error
    return onchip


@click.command(name="build", short_help="Synthesise, place, route and pack a bitstream for a board.")
@click.argument("board_name", metavar="BOARD")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Default bitstreams/BOARD.")
@click.option("--core", "core_name", metavar="PRESET", help="Core preset, or a YAML file with its parameters; default the board's.")
@click.option("--bundle", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Refuse at once if this model won't run on it; for onchip_...: the model to build in.")  # fmt: skip
@click.option("--seed", metavar="S", type=click.IntRange(0), help="Placement seed; default one with which the board's core met its clocks.")
@click.option("--force", is_flag=True, help="Build again what is there already.")
@json_option
def command(
    board_name: str, output: Path | None, core_name: str | None, bundle: Path | None, seed: int | None, force: bool, as_json: bool
) -> None:
    """Synthesise, place, route and pack the top of BOARD (ulx3s_85f, ulx3s_45f, ulx3s_25f, ulx3s_12f, icepi_zero).

    With onchip_ in front (onchip_85f, ..., onchip_icepi_zero), a core with the model of --bundle in the FPGA's own memory (default:
    shakespeare-onchip) and text on its serial line: docs/onchip.md.

    Leaves trilobit_BOARD-HASH.bit and .json (utilisation by unit, timing, tools), named by a hash of sources, tools and seed. A clock that
    is missed is an error that says by how much and on which path. Nothing is run on a board; `trilobit flash BOARD` does that.
    """
    from trilobit.bitstreams.boards import build_board
    from trilobit.bitstreams.fit import check_bundle
    from trilobit.hdl.onchip_boards import ONCHIP_BOARDS, find_any_board
    from trilobit.isa.core import load_core

    board = find_any_board(board_name)
    folder = output or Path("bitstreams") / board_name
    if not folder.exists():  # what was built before is found in a folder that may not be written, too
        check_output_folder(folder)

    def say(text: str) -> None:
        click.echo(text, err=True)

    fits: dict = {}
    if board_name in ONCHIP_BOARDS:
        onchip = import_onchip(core_name)
        model = onchip.load_model(board, bundle)
        with status_line(quiet=as_json) as show:
            build = onchip.build_onchip(board_name, folder, model, seed=seed, force=force, say=say, progress=show)
    else:
        config = load_core(core_name or board.core)
        fits = check_bundle(board, config, bundle) if bundle else {}
        with status_line(quiet=as_json) as show:
            build = build_board(board_name, folder, config=config, seed=seed, force=force, say=say, progress=show)
    report = build.report
    if as_json:
        print_json(report | {"report_path": build.report_path, "bitstream_path": build.bitstream_path, "fresh": build.fresh, "fits": fits})
        return
    used, available = report["resources"], report["available"]
    rows = {
        "bitstream": f"{build.bitstream_path}, {report['bitstream_bytes'] / 1e3:.0f} kB{'' if build.fresh else ' (was there already)'}",
        "report": str(build.report_path), "core": report["core"]["name"], "evidence": report["evidence"],
    }  # fmt: skip
    if "speed" in report:
        rows["speed"] = f"{report['speed']['tokens_per_second']:.0f} characters/s: {report['speed']['evidence']}"
    rows |= {f"clock {name}": f"{c['achieved_mhz']} MHz of {c['target_mhz']} MHz wanted" for name, c in report["clocks"].items()}
    rows |= {key: f"{used[key]} of {available[key]}" for key in ("luts", "registers", "brams", "dsps")}
    units = {
        unit: f"{c['luts']} luts, {c['registers']} registers, {c['brams']} brams, {c['dsps']} dsps" for unit, c in report["units"].items()
    }
    print_table(rows | {f"  {unit}": text for unit, text in units.items()})
