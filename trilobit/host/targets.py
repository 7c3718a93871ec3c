"""``--target``: a board on a serial port, or a simulated one, made ready for a program."""

import sys

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from trilobit.errors import ConfigError
from trilobit.hdl.boards.board import BAUD, BOARDS, find_board
from trilobit.hdl.boards.board import Board as BoardData
from trilobit.host.backend import BoardBackend
from trilobit.host.board import Board
from trilobit.host.selftest import self_test
from trilobit.host.transport import SerialTransport, Transport
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.sim.backend import HostSettings

__all__ = ["open_target", "target_board"]

SIMULATED = "sim:"
ALIASES = {"ulx3s": "ulx3s_85f"}  # the largest of a family


def target_board(target: str) -> BoardData:
    """The board that a target names, with or without ``sim:``.

    Raises:
        ConfigError: no such board.
    """
    name = target.removeprefix(SIMULATED)
    try:
        return find_board(ALIASES.get(name, name))
    except ConfigError as error:
        names = ", ".join(sorted({*BOARDS, *ALIASES}))
        raise ConfigError(f"expected a target ({names}, or one of them behind {SIMULATED}), got {target!r}") from error


def open_target(target: str, port: str | None, config: CoreConfig, program: Program, memory: np.ndarray,
                settings: HostSettings) -> BoardBackend:  # fmt: skip
    """Connect, test the board, load what it does not have yet, and set the program up. Says on stderr what it does.

    Args:
        target: a board's name, or ``sim:`` and the name.
        port: the serial port of a real one.
        config: the core that the program was compiled for. memory: the window.

    Raises:
        ConfigError: no such target, a port where none belongs or none where one does, or a program that doesn't fit the board.
        HostError: the board does not answer, or computes wrong.
    """
    found = target_board(target)
    # Before anything that takes long.
    from trilobit.hdl.sdram_chip import load_sdram_chip

    size = load_sdram_chip(found.chip).size
    if len(memory) > size:
        raise ConfigError(f"expected an image of at most the {size} bytes of {found.title}'s memory, got {len(memory)}")
    simulated = target.startswith(SIMULATED)
    transport = _simulated(found.name, port) if simulated else _serial(found, port)
    console = Console(file=sys.stderr, highlight=False)
    board = Board(transport)
    try:
        board.check_core(config)
        board.negotiate()
        tested = self_test(board, config, measure_clock=not simulated)
        clock = f", clock {tested.clock_hz / 1e6:.1f} MHz" if tested.clock_hz else ""
        console.print(f"{transport.description}: self-test right ({tested.compared} bytes compared{clock}), {transport.baud:,} baud")
        if simulated:
            transport.preload(memory)  # type: ignore[attr-defined]
            console.print(f"image of {len(memory):,} bytes put into the simulated memory; comparing checksums")
        else:
            console.print(f"image of {len(memory):,} bytes: at most {board.load_seconds(len(memory)):.0f} s at this rate")
        columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("loading", total=len(memory))
            return BoardBackend(
                board, config, program, memory, settings,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )  # fmt: skip
    except BaseException:
        board.close()
        raise


def _serial(found: BoardData, port: str | None) -> Transport:
    if port is None:
        raise ConfigError(f"expected --port with --target {found.name}, such as /dev/ttyUSB0")
    return SerialTransport(port, BAUD)


def _simulated(name: str, port: str | None) -> Transport:
    if port is not None:
        raise ConfigError("expected no --port with a simulated target")
    from trilobit.host.simulated import DIVISOR, SimulatedTransport
    from trilobit.sim.board import BoardSimulator

    return SimulatedTransport(BoardSimulator(name, divisor=DIVISOR))
