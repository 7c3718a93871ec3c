"""Board tops: a core with what its board gives it, and the files that the board's tools read.

A board is a module with ``CORE`` (preset), ``platform()`` and ``top()``; :data:`BOARDS` names them.
"""

from dataclasses import dataclass
from importlib import import_module

from trilobit.errors import ConfigError, ToolError

__all__ = ["BOARDS", "BoardFiles", "board_files"]

BOARDS = {"ulx3s_85f": "trilobit.hdl.boards.ulx3s"}
"""Module of every board, by name."""


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


def board_files(name: str) -> BoardFiles:
    """Verilog, constraints and tool scripts of a board's top. Nothing is synthesised.

    Raises:
        ConfigError: no such board.
        ToolError: amaranth-boards is not installed.
    """
    if name not in BOARDS:
        raise ConfigError(f"expected a board ({', '.join(sorted(BOARDS))}), got {name!r}")
    try:
        module = import_module(BOARDS[name])
        platform = module.platform()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("amaranth", "amaranth_boards"):
            raise
        advice = 'install it with pip install "trilobit[rtl,boards]"'
        raise ToolError(f"expected {error.name} to write a board top, found none; {advice}") from error
    from trilobit.hdl.verilog import lint_waived

    top = f"trilobit_{name}"
    plan = platform.build(module.top(), name=top, do_build=False, emit_src=False, debug_verilog=True)
    files = {path: text.decode() if isinstance(text, bytes) else text for path, text in plan.files.items()}
    del files[f"{top}.il"]
    files[f"{top}.v"] = lint_waived(files.pop(f"{top}.debug.v"))
    # The scripts read the Verilog that lies beside them, so that one text is what people see and what tools build.
    files[f"{top}.ys"] = files[f"{top}.ys"].replace(f"read_rtlil {top}.il", f"read_verilog {top}.v")
    files["README.txt"] = _README.format(name=name, core=module.CORE, clock=module.CLOCK_MHZ, top=top, baud=module.BAUD)
    return BoardFiles(board=name, core=module.CORE, clock_mhz=module.CLOCK_MHZ, top=top, files=files)


_README = """\
Trilobit for {name}: core preset {core}, clock {clock:g} MHz, UART {baud} baud.

{top}.v      the top and everything below it
{top}.lpf    pins and clocks
{top}.ys     Yosys script
build_{top}.sh  calls Yosys, nextpnr-ecp5 and ecppack one after the other

These files were written, linted and simulated, no more: they were not placed, routed or run on a board when they were written.
The SDRAM's clock phase and the timing at its pins follow from data sheets and have not been measured.
The protocol of the UART is in docs/reference/host-link.md of the project.
"""
