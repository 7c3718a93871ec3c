"""Boards as data whose memory controller or processor is the vendor's: what their projects (:mod:`trilobit.hdl.ip.projects`) need."""

from dataclasses import dataclass

__all__ = ["VENDOR_BOARDS", "VendorBoard"]


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
        run=(f"trilobit run BUNDLE --target {name} --port /dev/ttyUSB1",),
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
