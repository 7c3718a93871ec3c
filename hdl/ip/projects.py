"""Projects for vendors' tools: the core on boards whose memory controller or processor is the vendor's. Nothing of it is built here."""

from importlib import import_module

from trilobit.errors import ToolError
from trilobit.hdl.axi_hosted import AxiHosted
from trilobit.hdl.boards import BoardFiles
from trilobit.hdl.boards.board import BAUD
from trilobit.hdl.boards.vendor import VENDOR_BOARDS, VendorBoard
from trilobit.hdl.ip import TOP, environment, ip_files
from trilobit.hdl.verilog import standalone_verilog
from trilobit.isa.core import CoreConfig, load_core

__all__ = ["HOSTED_TOP", "project_files"]

HOSTED_TOP = "trilobit_hosted"


def _pins(board: VendorBoard) -> dict:
    """Pins of an Arty A7 as amaranth-boards has them.

    Raises:
        ToolError: amaranth-boards is not installed.
    """
    try:
        resources = import_module("amaranth_boards.arty_a7")._ArtyA7Platform.resources
    except ModuleNotFoundError as error:
        raise ToolError(
            'expected amaranth-boards to write a board\'s pins, found none; pip install "trilobit[boards]" brings it'
        ) from error
    found = {(resource.name, resource.number): resource.ios for resource in resources}
    uart = {part.name: part.ios[0].names[0] for part in found["uart", 0] if hasattr(part, "ios")}
    single = {name: found[name, 0][0].names[0] for name in ("clk100", "rst")}
    return {"clk100": single["clk100"], "resetn": single["rst"], "uart_rx": uart["rx"], "uart_tx": uart["tx"],
            "leds": [found["led", k][0].names[0] for k in range(4)]}  # fmt: skip


def project_files(name: str, config: CoreConfig | None = None) -> BoardFiles:
    """Everything of a vendor's project but what the vendor's tool makes of it.

    Args:
        name: one of :data:`VENDOR_BOARDS`.
        config: the core; default the board's preset at the board's clock.

    Raises:
        ConfigError: a core whose width AXI ports don't have.
        ToolError: amaranth-boards is not installed.
    """
    board = VENDOR_BOARDS[name]
    config = config or load_core(board.core).replace(clock_mhz=board.clock_mhz)
    project = f"trilobit_{name}"
    if board.hosted:
        divisor = round(config.clock_mhz * 1e6 / BAUD)
        component = AxiHosted(config, memory_size=board.memory_size, divisor=divisor)
        top, files, pins = HOSTED_TOP, {f"{HOSTED_TOP}.v": standalone_verilog(component, HOSTED_TOP)}, _pins(board)
    else:
        top, files, pins = TOP, ip_files(config), {}
        if "add_core.tcl" not in board.templates:
            del files[f"{TOP}_hw.tcl"]
    context = {"board": board, "core": config, "top": top, "project": project, "pins": pins}
    for file, template in {**board.templates, "README.md": "project.md.j2"}.items():
        files[file] = environment().get_template(template).render(context)
    return BoardFiles(board=name, core=config.name, clock_mhz=config.clock_mhz, top=top, files=files)
