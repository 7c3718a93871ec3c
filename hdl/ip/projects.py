"""Projects for vendors' tools: the core on boards whose memory controller or processor is the vendor's. Nothing of it is built here."""

from dataclasses import dataclass
from importlib import import_module

from trilobit.errors import ToolError
from trilobit.hdl.axi_hosted import AxiHosted
from trilobit.hdl.boards import BoardFiles
from trilobit.hdl.boards.board import BAUD
from trilobit.hdl.ip import TOP, environment, ip_files
from trilobit.hdl.verilog import standalone_verilog
from trilobit.isa.core import CoreConfig, load_core

__all__ = ["HOSTED_TOP", "VENDOR_BOARDS", "VendorBoard", "project_files"]

HOSTED_TOP = "trilobit_hosted"


@dataclass(frozen=True, kw_only=True)
class VendorBoard:
    """A board that a vendor's tool builds.

    Attributes:
        name: as the command line has it. title: for people.
        core: preset of its core by default; clock_mhz: the core's clock then.
        part: the FPGA. board_part: its board files in Vivado, without version (empty: none).
        hosted: the host is at a serial line, else a processor at the registers.
        registers: where the processor sees them. memory_size: bytes, of a hosted one.
        templates: file -> template.
        build, run: lines for the README; needs, notes: paragraphs of it.
    """

    name: str
    title: str
    core: str
    clock_mhz: float
    part: str
    board_part: str = ""
    hosted: bool = False
    registers: int = 0
    memory_size: int = 0
    templates: dict[str, str]
    build: tuple[str, ...]
    needs: str
    run: tuple[str, ...]
    notes: str


def _arty(size: int, core: str) -> VendorBoard:
    name = "arty_a7" if size == 100 else f"arty_a7_{size}"
    return VendorBoard(
        name=name, title=f"Digilent Arty A7-{size}T", core=core, clock_mhz=60.0, hosted=True, memory_size=1 << 28,
        part={35: "xc7a35ticsg324-1L", 100: "xc7a100tcsg324-1"}[size], board_part=f"digilentinc.com:arty-a7-{size}:part0",
        templates={"build.tcl": "arty_a7.tcl.j2", f"trilobit_{name}.xdc": "arty_a7.xdc.j2"},
        build=("vivado -mode batch -source build.tcl", f"openFPGALoader --board arty_a7_{size}t trilobit_{name}.bit"),
        needs="Vivado (the free edition has this part) with Digilent's board files, whose DDR3 settings the script takes.",
        run=("from trilobit.host import Board", "from trilobit.host.transport import SerialTransport",
             f'board = Board(SerialTransport("/dev/ttyUSB1", {BAUD}))'),
        notes="The host link of the serial boards (docs/reference/host-link.md of the project) on the USB port's second channel. "
              "The core's clock and the memory controller's differ, SmartConnect passes between them. "
              "Lamps: running, waiting, fault, memory ready.",
    )  # fmt: skip


VENDOR_BOARDS: dict[str, VendorBoard] = {board.name: board for board in (
    _arty(100, "ddr128"),
    _arty(35, "ulx3s"),
    VendorBoard(
        name="kv260", title="AMD Kria KV260", core="ddr128", clock_mhz=100.0, part="xck26-sfvc784-2LV-c",
        board_part="xilinx.com:kv260_som:part0", registers=0xA000_0000, templates={"build.tcl": "kv260.tcl.j2"},
        build=("vivado -mode batch -source build.tcl",),
        needs="Vivado (the free edition has this part) with the board files of the K26 module, whose DDR4 settings the script takes.",
        run=("sudo fpgautil -b trilobit_kv260.bit.bin    # bootgen makes it of trilobit_kv260.bit",
             "sudo trilobit run BUNDLE --target axi:/dev/mem@0xA0000000,/dev/mem@0x60000000+256M"),
        notes="Reserve the memory in the device tree first; docs/how-to/axi.md of the project says how, and how it goes without root. The "
              "core's one port meets one 128-bit port of the processing system, which a core of 16 bytes a beat fills; the preset kv260 "
              "(64 bytes, four such ports side by side) can be written with --core kv260, but has a quarter of its bandwidth here.",
    ),
    VendorBoard(
        name="de10_nano", title="Terasic DE10-Nano", core="ulx3s", clock_mhz=50.0, part="5CSEBA6U23I7", registers=0xFF30_0000,
        templates={"add_core.tcl": "de10_nano.tcl.j2", "build.sh": "de10_nano.sh.j2"},
        build=("cp -r DE10_NANO_SoC_GHRD ghrd", "sh build.sh ghrd"),
        needs="Quartus Prime with Platform Designer, its embedded command shell, and Terasic's reference design from the board's System "
              "CD: the processor's pins and its DDR3 settings are in there. The component is trilobit_axi_hw.tcl.",
        run=("# trilobit_de10_nano.rbf goes where U-Boot loads the FPGA from; then, with the bridges on:",
             "sudo trilobit run BUNDLE --target axi:/dev/mem@0xFF300000,/dev/mem@0x30000000+128M"),
        notes="The core reads memory through the FPGA-to-HPS bridge, 64 bits wide. Keep Linux out of that memory (mem=768M on its command "
              "line).",
    ),
)}  # fmt: skip
"""Every board with a vendor's project, by name."""


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
