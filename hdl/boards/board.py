"""Boards as data: what a board gives to a core, and the files that its tools read."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from trilobit.errors import ConfigError, ToolError

__all__ = ["BAUD", "BOARDS", "Board", "find_board"]

BAUD = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board with an ECP5 and a 16-bit SDRAM.

    Attributes:
        name: as the command line has it.
        title: for people.
        platform: module and class of its platform in amaranth-boards.
        core: preset of the core that its top has.
        clock_mhz: clock of the core; the SDRAM has twice of it.
        oscillator: resource of the oscillator; reset: resource and number of the button that resets.
        oscillator_mhz: its frequency.
        lamps: how many there are.
        chip: the SDRAM in ``hdl/sdram_chips.yaml``; cas_latency: at twice the core's clock.
        sdram_phase: degrees by which the SDRAM's clock lags behind the edges on which its pins change.
        io_latency: clocks of the SDRAM through the pins' registers, there and back, at that phase.
        luts, brams, dsps: what its FPGA has: LUT4, block RAMs of 18 Kbit, 18-bit multipliers.
        loader: name of the board in openFPGALoader.
        seed: of the placement with which its core met its clocks (the report is in ``bitstreams/``).
    """

    name: str
    title: str
    platform: tuple[str, str]
    core: str
    clock_mhz: float = 60.0
    oscillator: str
    oscillator_mhz: float
    reset: tuple[str, int]
    lamps: int
    chip: str
    cas_latency: int = 3
    sdram_phase: float = 180.0
    io_latency: int = 10
    luts: int
    brams: int
    dsps: int
    loader: str
    seed: int = 1

    def make_platform(self):
        """A fresh platform, with the open tools.

        Raises:
            ToolError: amaranth-boards is not installed.
        """
        module, name = self.platform
        try:
            return getattr(import_module(module), name)(toolchain="Trellis")
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("amaranth", "amaranth_boards"):
                raise
            advice = 'install it with pip install "trilobit[rtl,boards]"'
            raise ToolError(f"expected {error.name} to write a board top, found none; {advice}") from error


# LUT4, EBR and multipliers: Lattice FPGA-DS-02012 (ECP5 family data sheet), table 1.1. The 12F has the die of the 25F; nextpnr gives it all
# of that die's LUTs, of which the data sheet promises half: 12,096 of 24,288.
_ULX3S: dict[str, dict[str, Any]] = {
    "12f": {"core": "ecp5_25f", "luts": 24_288, "brams": 56, "dsps": 28},
    "25f": {"core": "ecp5_25f", "luts": 24_288, "brams": 56, "dsps": 28},
    "45f": {"core": "ulx3s", "luts": 43_848, "brams": 108, "dsps": 72},
    "85f": {"core": "ulx3s", "luts": 83_640, "brams": 208, "dsps": 156},
}


def _ulx3s(size: str) -> Board:
    return Board(name=f"ulx3s_{size}", title=f"ULX3S with an ECP5-{size.upper()}", oscillator="clk25", oscillator_mhz=25.0,
                 platform=("amaranth_boards.ulx3s", f"ULX3S_{size.upper()}_Platform"), reset=("button_pwr", 0), lamps=8,
                 chip="ulx3s", loader="ulx3s", **_ULX3S[size])  # fmt: skip


BOARDS: dict[str, Board] = {f"ulx3s_{size}": _ulx3s(size) for size in _ULX3S}
BOARDS["icepi_zero"] = Board(
    name="icepi_zero", title="Icepi Zero 1.3 (ECP5-25F)", platform=("amaranth_boards.icepi_zero", "IcepiZero1_3Platform"), core="ecp5_25f",
    oscillator="clk50", oscillator_mhz=50.0, reset=("button", 0), lamps=5, chip="icepi_zero", luts=24_288, brams=56, dsps=28,
    loader="icepi-zero",
)  # fmt: skip
"""Every board, by name."""


def find_board(name: str) -> Board:
    """A board by its name.

    Raises:
        ConfigError: no such board.
    """
    if name not in BOARDS:
        raise ConfigError(f"expected a board ({', '.join(sorted(BOARDS))}), got {name!r}")
    return BOARDS[name]
