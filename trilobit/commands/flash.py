"""``trilobit flash``: a board's bitstream onto the board, through openFPGALoader."""

from pathlib import Path

import click

from trilobit.output import json_option, print_json, print_table, status_line


@click.command(name="flash", short_help="Load a bitstream onto a board.")
@click.argument("board_name", metavar="BOARD")
@click.option("--permanent", is_flag=True, help="Into the board's flash, where it stays without power; default into the FPGA's SRAM.")
@click.option("--bitstream", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Default the newest build in bitstreams/BOARD.")  # fmt: skip
@json_option
def command(board_name: str, permanent: bool, bitstream: Path | None, as_json: bool) -> None:
    """Load the bitstream that `trilobit build BOARD` made onto the board at this computer's USB."""
    from trilobit.bitstreams.flash import flash_board

    with status_line(quiet=as_json) as show:
        result = flash_board(board_name, bitstream, permanent=permanent, progress=show)
    if as_json:
        print_json(result)
    else:
        print_table({"loaded": str(result["bitstream"]), "to": f"{result['board']}, {result['into']}", "by": result["loader"]})
