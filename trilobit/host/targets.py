"""``--target``: a board on a serial port, a core on an AXI bus, or a simulated board, made ready for a program."""

import sys
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from trilobit.errors import ConfigError
from trilobit.hdl.boards.board import BAUD, BOARDS, find_board
from trilobit.hdl.boards.board import Board as BoardData
from trilobit.hdl.boards.vendor import VENDOR_BOARDS
from trilobit.host.access import BoardAccess
from trilobit.host.backend import BoardBackend
from trilobit.host.board import Board, Identity, check_core
from trilobit.host.selftest import self_test
from trilobit.host.transport import SerialTransport, Transport
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program
from trilobit.sim.backend import HostSettings

__all__ = ["open_axi", "open_target", "target_board"]

SIMULATED = "sim:"
AXI = "axi:"
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
        hosted = ", ".join(board.name for board in VENDOR_BOARDS.values() if board.hosted)
        raise ConfigError(
            f"expected a target ({names}, or one of them behind {SIMULATED}; {hosted}; or {AXI} and a device such as /dev/uio0), "
            f"got {target!r}"
        ) from error


def open_axi(target: str) -> BoardAccess:
    """A core on an AXI bus of this machine: ``axi:REGISTERS[,MEMORY]``.

    REGISTERS and MEMORY are as :func:`trilobit.host.mapped.parse_area` takes them; without MEMORY, the second map of the UIO device.

    Raises:
        ConfigError: no such device, no permission, or too small.
    """
    from trilobit.hdl.axi_map import LITE_ADDRESS_BITS
    from trilobit.host.axi import AxiAccess
    from trilobit.host.mapped import MappedMemory, MappedRegisters, parse_area

    where, _, memory = target.removeprefix(AXI).partition(",")
    if not memory and "@" in where:
        raise ConfigError(f"expected the memory behind the registers, as in {target},/dev/mem@0x60000000+256M, got none")
    registers_area = parse_area(where)
    memory_area = parse_area(memory) if memory else parse_area(where.partition(":")[0], map_index=1)
    registers = MappedRegisters(registers_area, 1 << LITE_ADDRESS_BITS)
    try:
        return AxiAccess(registers, MappedMemory(memory_area))
    except BaseException:
        registers.close()
        raise


def open_target(target: str, port: str | None, config: CoreConfig, program: Program, memory: np.ndarray,
                settings: HostSettings) -> BoardBackend:  # fmt: skip
    """Connect, test the board, load what it does not have yet, and set the program up. Says on stderr what it does.

    Args:
        target: a board's name, ``sim:`` and the name, or ``axi:`` and devices (:func:`open_axi`).
        port: the serial port of a real one.
        config: the core that the program was compiled for. memory: the window.

    Raises:
        ConfigError: no such target, a port where none belongs or none where one does, or a program that doesn't fit the board.
        HostError: the board does not answer, or computes wrong.
    """
    way, preload = _way(target, port, len(memory), config)
    console = Console(file=sys.stderr, highlight=False)
    try:
        board = Board(way)
    except BaseException:
        way.close()
        raise
    try:
        board.check_core(config)
        if len(memory) > board.identity.memory_size:
            raise ConfigError(f"expected an image of at most the {board.identity.memory_size} bytes of the board's memory, "
                              f"got {len(memory)}")  # fmt: skip
        rate = board.negotiate()
        tested = self_test(board, config, measure_clock=preload is None)
        clock = f", clock {tested.clock_hz / 1e6:.1f} MHz" if tested.clock_hz else ""
        where = board.access.description
        console.print(f"{where}: self-test right ({tested.compared} bytes compared{clock}){', ' if rate else ''}{rate}")
        if preload is not None:
            preload(memory)
            console.print(f"image of {len(memory):,} bytes put into the simulated memory; comparing checksums")
        else:
            seconds = board.load_seconds(len(memory))
            console.print(f"image of {len(memory):,} bytes" + (f": at most {seconds:.0f} s at this rate" if seconds else ""))
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


def _way(
    target: str, port: str | None, size: int, config: CoreConfig
) -> tuple[Transport | BoardAccess, Callable[[np.ndarray], None] | None]:
    """The way to a target, and what puts an image into a simulated one's memory; what can't work is told before anything takes long."""
    if target.startswith(AXI):
        if port is not None:
            raise ConfigError(f"expected no --port with {target}: the device is in the target's name")
        return open_axi(target), None
    vendor = VENDOR_BOARDS.get(target)
    if vendor is not None and not vendor.hosted:
        raise ConfigError(f"expected {AXI} and a device on {vendor.title}, such as {AXI}/dev/uio0, under its own Linux; got {target!r}")
    found = vendor or target_board(target)
    available = vendor.memory_size if vendor else _memory_size(target)
    if size > available:
        raise ConfigError(f"expected an image of at most the {available} bytes of {found.title}'s memory, got {size}")
    if not target.startswith(SIMULATED):
        return _serial(found.name, port), None
    if port is not None:
        raise ConfigError("expected no --port with a simulated target")
    core = load_core(found.core)  # the simulator is built with it, which takes a minute
    check_core(config, Identity(core.beat_bytes, core.lanes, available, core.program_words, core.max_length, 0))
    from trilobit.host.simulated import DIVISOR, SimulatedTransport
    from trilobit.sim.board import BoardSimulator

    simulated = SimulatedTransport(BoardSimulator(found.name, divisor=DIVISOR))
    return simulated, simulated.preload


def _memory_size(target: str) -> int:
    """Bytes of the SDRAM of an ECP5 board."""
    from trilobit.hdl.sdram_chip import load_sdram_chip

    return load_sdram_chip(target_board(target).chip).size


def _serial(name: str, port: str | None) -> Transport:
    if port is None:
        raise ConfigError(f"expected --port with --target {name}, such as /dev/ttyUSB0")
    return SerialTransport(port, BAUD)
