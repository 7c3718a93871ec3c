"""Board tops: a core with what its board gives it, and the files that the board's tools read."""

from dataclasses import dataclass

from trilobit.errors import ConfigError
from trilobit.hdl.boards.board import BAUD, BOARDS, Board, find_board
from trilobit.hdl.boards.flow import SYNTHESIS, top_files
from trilobit.isa.core import CoreConfig, load_core

__all__ = ["BAUD", "BOARDS", "Board", "BoardFiles", "board_files", "find_board"]


@dataclass(frozen=True)
class BoardFiles:
    """What a board's tools read.

    Attributes:
        board: its name.
        core: the core preset.
        clock_mhz: clock of the core.
        top: name of the top module.
        files: file name -> text.
    """

    board: str
    core: str
    clock_mhz: float
    top: str
    files: dict[str, str]


def board_files(name: str, config: CoreConfig | None = None) -> BoardFiles:
    """Verilog, constraints and tool scripts of a board's top. Nothing is synthesised.

    Args:
        name: the board.
        config: the core; default the board's preset.

    Raises:
        ConfigError: no such board, or a core that its memory can't serve.
        ToolError: amaranth-boards is not installed.
    """
    board = find_board(name)
    config = config or load_core(board.core)
    from trilobit.hdl.boards.top import BoardTop

    top = f"trilobit_{name}"
    try:
        component = BoardTop(board, config)
    except ValueError as error:
        raise ConfigError(f"core {config.name!r} on {name}: {error}") from error
    files = top_files(board, component, top, synth_opts=list(SYNTHESIS))
    # The scripts read the Verilog that lies beside them, so that one text is what people see and what tools build.
    files[f"{top}.ys"] = files[f"{top}.ys"].replace(f"read_rtlil {top}.il", f"read_verilog {top}.v")
    files["README.txt"] = _README.format(name=name, core=config.name, clock=board.clock_mhz, sdram=2 * board.clock_mhz, top=top, baud=BAUD)
    return BoardFiles(board=name, core=config.name, clock_mhz=board.clock_mhz, top=top, files=files)


_README = """\
Trilobit for {name}: core preset {core}, clock {clock:g} MHz, SDRAM at {sdram:g} MHz, UART {baud} baud.

{top}.v      the top and everything below it
{top}.lpf    pins and clocks
{top}.ys     Yosys script
build_{top}.sh  calls Yosys, nextpnr-ecp5 and ecppack one after the other

These files were written, no more: they were not placed, routed or run on a board when they were written. The project's tests lint and
simulate this top with the board's own core.
The SDRAM's clock phase and the timing at its pins follow from data sheets and have not been measured.
The protocol of the UART is in docs/reference/host-link.md of the project; `trilobit build {name}` makes a bitstream.
"""
