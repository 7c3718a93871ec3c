"""Does a core fit an FPGA, and a model a board? Asked before any long step."""

from collections.abc import Iterable
from pathlib import Path

from trilobit.bitstreams.kept import core_reports, core_shape
from trilobit.errors import ConfigError
from trilobit.hdl.boards import Board
from trilobit.hdl.interfaces import ELEMENT_BITS
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA, VECTOR_REGISTERS
from trilobit.sim.on_chip import on_chip_memories

__all__ = ["check_bundle", "check_core", "check_resources", "known_resources", "memory_bits"]

BRAM_BITS, LUT_BITS, GAIN_BITS = 18_432, 16, 16  # a LUT4 holds 16 bits, as distributed memory less
# Multipliers of an ECP5, as Yosys counts them for cores of one lane (ulx3s: 28) and of two (tiny: 44), of which 5 a lane are the norm
# unit's and 11 the row-wise unit's: python -m trilobit.bitstreams.counts PRESET --family ecp5. Wider beats take some more.
CORE_DSPS, LANE_DSPS = 12, 16
UNITS = {"luts": "LUT4", "brams": "block RAMs", "dsps": "multipliers"}


def check_resources(board: Board, what: str, resources_: dict[str, int], evidence: str) -> None:
    """Refuse what is larger than the board's FPGA.

    Raises:
        ConfigError: with every number that is too large.
    """
    over = [f"{resources_[key]} {unit} of {getattr(board, key)}" for key, unit in UNITS.items()
            if resources_.get(key, 0) > getattr(board, key)]  # fmt: skip
    if over:
        raise ConfigError(f"expected a core that fits {board.title}, got {what}, which takes {', '.join(over)} ({evidence}); choose a core "
                          "with fewer lanes or a smaller max_length, or a larger FPGA")  # fmt: skip


def known_resources(config: CoreConfig, reports: Iterable[dict] | None = None) -> dict[str, int] | None:
    """What a core of this shape took in a kept report, the least of them; None if there is none."""
    shape = core_shape(config.parameters())
    found = [resources_ for other, resources_ in _cores(reports) if other == shape]
    return min(found, key=lambda r: r["luts"], default=None)


def _cores(reports: Iterable[dict] | None) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Shape and resources of every whole core in the reports."""
    kept = (report for _, report in core_reports()) if reports is None else reports
    return [(core_shape(report["core"]), report["resources"]) for report in kept if {"core", "resources"} <= report.keys()]


def memory_bits(config: CoreConfig) -> int:
    """Bits that a core keeps in on-chip memories at least: registers, program, weight FIFO and gains; all of a lean core's."""
    if config.machine == "lean":
        return sum(on_chip_memories(config).values())
    registers = VECTOR_REGISTERS * config.max_length * config.batch * ELEMENT_BITS
    stream = config.weight_fifo_beats * 8 * config.beat_bytes + config.gain_buffer_elements * GAIN_BITS
    return registers + stream + config.program_words * ISA.word_bits


def check_core(board: Board, config: CoreConfig, reports: Iterable[dict] | None = None) -> None:
    """Refuse a core that is known not to fit, without running any tool.

    Known is a kept report of a core of the same shape, or of one that is no larger in any parameter and takes too much already, how
    many bits the core's memories have, and how many multipliers its lanes.

    Raises:
        ConfigError: with every number that is too large, and where it comes from.
    """
    what = f"core {config.name!r}"
    available = board.brams * BRAM_BITS + board.luts * LUT_BITS
    if (bits := memory_bits(config)) > available:
        raise ConfigError(f"expected a core that fits {board.title}, got {what}, whose registers, program and buffers of weights and gains "
                          f"are {bits} bits; its {board.brams} block RAMs and {board.luts} LUT4 hold {available}; choose a smaller "
                          "max_length or smaller buffers, or a larger FPGA")  # fmt: skip
    if known := known_resources(config, reports):
        check_resources(board, what, known, "from a kept report")
        return
    shape = core_shape(config.parameters())
    for smaller, resources_ in _cores(reports):
        if smaller["machine"] == shape["machine"] and all(value <= shape[key] for key, value in smaller.items()):
            check_resources(board, what, resources_, "or more: so says a kept report of a core that is larger in no parameter")
    if config.machine == "lean":
        return
    least = {"dsps": CORE_DSPS + LANE_DSPS * config.lanes}
    check_resources(board, what, least, f"or more: {LANE_DSPS} for each of {config.lanes} lanes, {CORE_DSPS} beside them")


def check_bundle(board: Board, config: CoreConfig, folder: Path) -> dict[str, int]:
    """Refuse a bundle that the board can't run.

    Returns:
        window_size, memory_size (bytes), instructions, program_words.

    Raises:
        ConfigError: its memory window, program or vectors are too large, or it was made for another beat.
        BundleError: it is damaged.
    """
    from trilobit.assembler.bundle import load_bundle
    from trilobit.hdl.sdram_chip import load_sdram_chip
    from trilobit.isa.core import load_core

    bundle = load_bundle(folder)
    size = load_sdram_chip(board.chip).size
    program = bundle.program
    problems = []
    if program.window_size > size:
        problems.append(f"a memory window of {program.window_size / 2**20:.1f} MiB of {size / 2**20:.0f} MiB")
    if len(program.code) > config.program_words:
        problems.append(f"{len(program.code)} instructions of {config.program_words}")
    if program.core:
        made_for = load_core(program.core)
        if made_for.beat_bytes != config.beat_bytes:
            problems.append(f"an image for {made_for.beat_bytes} bytes a beat, not {config.beat_bytes}")
        if made_for.max_length > config.max_length and _longest(program) > config.max_length:
            problems.append(f"vectors of {_longest(program)} elements of {config.max_length}")
    if problems:
        raise ConfigError(f"expected a model that fits core {config.name!r} on {board.title}, got {folder} with {'; '.join(problems)}")
    return {
        "window_size": program.window_size,
        "memory_size": size,
        "instructions": len(program.code),
        "program_words": config.program_words,
    }


def _longest(program) -> int:
    return max((ISA.decode(word).values.get("len", 0) for word in program.code), default=0)
