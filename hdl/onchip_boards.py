"""Boards as data, for cores that need nothing outside the FPGA: those of :mod:`trilobit.hdl.boards`, without their SDRAM."""

from dataclasses import replace

from trilobit.errors import ConfigError
from trilobit.hdl.boards.board import BOARDS, Board

__all__ = ["ONCHIP_BAUD", "ONCHIP_BOARDS", "find_any_board"]

ONCHIP_BAUD = 115_200


def _without_sdram(board: Board) -> Board:
    name = "onchip_" + board.name.removeprefix("ulx3s_")
    return replace(board, name=name, title=f"{board.title}, nothing but the FPGA", core="onchip", clock_mhz=50.0, seed=1)


ONCHIP_BOARDS: dict[str, Board] = {board.name: board for board in map(_without_sdram, BOARDS.values())}
"""Every such board, by name. Of a :class:`Board` all counts but its SDRAM."""


def find_any_board(name: str) -> Board:
    """A board by its name, with SDRAM or without.

    Raises:
        ConfigError: no such board.
    """
    found = BOARDS.get(name) or ONCHIP_BOARDS.get(name)
    if found is None:
        raise ConfigError(f"expected a board ({', '.join(sorted([*BOARDS, *ONCHIP_BOARDS]))}), got {name!r}")
    return found
