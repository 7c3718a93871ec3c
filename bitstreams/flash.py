"""Bitstreams onto boards, through openFPGALoader; its failures explained."""

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from trilobit.errors import ConfigError, ToolError
from trilobit.hdl.boards import Board
from trilobit.hdl.onchip_boards import find_any_board
from trilobit.sim.toolchain import OPENFPGALOADER

__all__ = ["UDEV_RULE", "find_bitstream", "flash_board"]

UDEV_RULE = (
    'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{vendor:04x}", ATTRS{{idProduct}}=="{product:04x}", MODE="0664", GROUP="plugdev", TAG+="uaccess"'
)
USB = {"ulx3s": (0x0403, 0x6015)}
"""Vendor and product of a loader's USB chip: the ULX3S' FT231X."""
ANY_FTDI = (0x0403, 0x6010)  # FT2232H, by which openFPGALoader finds most other boards
# What libftdi and libusb say.
FORBIDDEN = ("usb_open() failed", "inappropriate permissions", "LIBUSB_ERROR_ACCESS", "Permission denied", "insufficient permission")
ABSENT = ("device not found", "No device found", "no device found", "unable to open ftdi device: -3")


def find_bitstream(board: Board, folders: list[Path] | None = None) -> Path:
    """The newest build of a board: in ``bitstreams/NAME`` here, else the one that comes with Trilobit.

    Raises:
        ConfigError: there is none.
    """
    if folders is None:
        shipped = resources.files("trilobit.bitstreams").joinpath(board.name)
        folders = [Path("bitstreams") / board.name, Path(str(shipped))]
    for folder in folders:
        reports = sorted(folder.glob(f"trilobit_{board.name}-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for report in reports:
            if report.with_suffix(".bit").is_file():
                return report.with_suffix(".bit")
    raise ConfigError(f"expected a bitstream in {folders[0]}, found none; make one with: trilobit build {board.name}")


def _check(board: Board, bitstream: Path) -> None:
    """The file is whole and for this board, as far as a report lies beside it."""
    if not bitstream.is_file():
        raise ConfigError(f"expected a bitstream, found no file {bitstream}")
    report_path = bitstream.with_suffix(".json")
    if report_path.is_file():
        try:
            report = json.loads(report_path.read_text())
            made_for, digest = report["board"], report["bitstream_sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"expected the report of a build in {report_path}, got a file without board and checksum: it is damaged; "
                              f"build again with: trilobit build {board.name} --force") from error  # fmt: skip
        if made_for != board.name:
            raise ConfigError(f"expected a bitstream for {board.name}, got {bitstream}, made for {made_for}")
        found = hashlib.sha256(bitstream.read_bytes()).hexdigest()
        if found != digest:
            raise ConfigError(f"expected {bitstream} with SHA-256 {digest[:16]}..., got {found[:16]}...: it is "
                              f"damaged; build it again with: trilobit build {board.name} --force")  # fmt: skip


def flash_board(name: str, bitstream: Path | None = None, *, permanent: bool = False,
                progress: Callable[[str], None] = lambda text: None) -> dict:  # fmt: skip
    """Load a bitstream.

    Returns:
        board, bitstream, into ("SRAM" or "flash"), loader (its version).

    Raises:
        ConfigError: no such board or bitstream, or one for another board.
        ToolError: openFPGALoader is missing, finds no board, or may not use it.
    """
    board = find_any_board(name)
    if bitstream is None:
        bitstream = find_bitstream(board)
    _check(board, bitstream)
    OPENFPGALOADER.require()
    try:
        OPENFPGALOADER.run(["-b", board.loader, "-f" if permanent else "-m", bitstream], each_line=progress)
    except ToolError as error:
        text = str(error)
        vendor, product = USB.get(board.loader, ANY_FTDI)
        if any(sign in text for sign in FORBIDDEN):
            rule = UDEV_RULE.format(vendor=vendor, product=product)
            raise ToolError(f"expected to be allowed to use the board's USB, got a refusal: {text.splitlines()[-1].strip()}\n"
                            f"allow it, plug the board in again and retry:\n"
                            f"  echo '{rule}' | sudo tee /etc/udev/rules.d/70-trilobit.rules\n"
                            f"  sudo udevadm control --reload-rules && sudo udevadm trigger") from error  # fmt: skip
        if any(sign in text for sign in ABSENT):
            raise ToolError(f"expected {board.title} at a USB port ({vendor:04x}:{product:04x}), found none; is it plugged in by a cable "
                            f"that carries data? openFPGALoader said: {text.splitlines()[-1].strip()}") from error  # fmt: skip
        raise
    return {"board": board.name, "bitstream": bitstream, "into": "flash" if permanent else "SRAM", "loader": OPENFPGALOADER.version}
