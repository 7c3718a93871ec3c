"""A whole board in simulation: UART, host link, core and SDRAM controller as they are on a board, an SDRAM chip behind them."""

import ctypes
from importlib import resources
from pathlib import Path

import numpy as np

from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.sim.build_cache import build_once, cache_folder, content_hash
from trilobit.sim.rtl_build import CXX_FLAGS, MAKE_FLAGS, TOP, VERILATOR_FLAGS, build_library
from trilobit.sim.toolchain import GXX, VERILATOR

__all__ = ["BoardSimulator"]

RECEIVE_BYTES = 1 << 16


class BoardSimulator:
    """A board's system, clocked by a compiled harness that is its SDRAM chip and the other end of its serial line.

    What is left out of the board's top: PLL, reset synchroniser and the registers in the SDRAM's pins (their clocks count as
    ``io_latency``).

    Args:
        board: its name (trilobit.hdl.boards).
        config: another core than the board's.
        divisor: clocks a bit of the serial line after reset; default the board's, which is slow to simulate.
        init_clocks: clocks before the SDRAM's first command; default few: the chip here needs no time.

    Raises:
        ConfigError: no such board.
        ToolError: Amaranth, Verilator or a C++ compiler is missing or fails.

    Attributes:
        clock_hz: the board's clock. divisor: clocks a bit after reset. config: the core's parameters.
    """

    def __init__(self, board: str, *, config: CoreConfig | None = None, divisor: int | None = None, init_clocks: int = 16):
        from trilobit.hdl.boards.board import BAUD, find_board
        from trilobit.hdl.sdram_chip import load_sdram_chip
        from trilobit.hdl.system import HostedCore
        from trilobit.hdl.verilog import to_verilog

        found = find_board(board)
        chip = load_sdram_chip(found.chip)
        self.name, self.config = board, config or load_core(found.core)
        self.clock_hz = round(found.clock_mhz * 1e6)
        self.divisor = divisor or self.clock_hz // BAUD
        system = HostedCore(self.config, chip, clock_mhz=found.clock_mhz, divisor=self.divisor, cas_latency=found.cas_latency,
                            io_latency=found.io_latency, init_clocks=init_clocks)  # fmt: skip
        defines = [f"-DCOLUMN_BITS={chip.column_bits}", f"-DCAS_LATENCY={found.cas_latency}", f"-DIO_LATENCY={found.io_latency}"]
        self.memory_size = chip.size
        self._lib = _load(_library(board, to_verilog(system, TOP), defines))
        self._board = self._lib.board_new(chip.size, self.divisor)

    @property
    def memory(self) -> np.ndarray:
        """The SDRAM's content, live, through the back door: [memory_size] of uint8."""
        return np.ctypeslib.as_array(self._lib.board_memory(self._handle), shape=(self.memory_size // 2,)).view(np.uint8)

    @property
    def now(self) -> int:
        """Clocks since reset."""
        return self._lib.board_now(self._handle)

    def send(self, data: bytes) -> None:
        """Bytes onto the line; comes back when the last stop bit has gone."""
        self._lib.board_send(self._handle, data, len(data))
        self._lib.board_run(self._handle, 1 << 62, 0)

    def receive(self, clocks: int) -> bytes:
        """The bytes that have come from the board; waits for one, ``clocks`` at most."""
        self._lib.board_run(self._handle, clocks, 1)
        buffer = ctypes.create_string_buffer(RECEIVE_BYTES)
        count = self._lib.board_receive(self._handle, buffer, RECEIVE_BYTES)
        return buffer.raw[:count]

    def send_break(self, clocks: int) -> None:
        """Hold the line low."""
        self._lib.board_break(self._handle, clocks)
        self._lib.board_run(self._handle, 1 << 62, 0)

    def set_divisor(self, divisor: int) -> None:
        """Clocks a bit of this side of the line."""
        self._lib.board_divisor(self._handle, divisor)

    def close(self) -> None:
        """Give the simulation back. Idempotent."""
        if self._board:
            self._lib.board_delete(self._board)
            self._board = None

    def __del__(self):
        if getattr(self, "_board", None):
            self.close()

    @property
    def _handle(self) -> int:
        if not self._board:
            raise ConfigError("expected an open simulation, this one was closed")
        return self._board


def _library(name: str, verilog: str, defines: list[str]) -> Path:
    VERILATOR.check_version()
    harness = resources.files("trilobit.sim").joinpath("board.cpp").read_text()
    key = content_hash(verilog, harness, *VERILATOR_FLAGS, *MAKE_FLAGS, *CXX_FLAGS, *defines, VERILATOR.version, GXX.version)

    def build(work: Path, log: Path) -> Path:
        build_library(work, verilog, {"harness.cpp": harness}, defines, waves=None, log=log)
        return work / "core.so"

    return build_once(cache_folder() / f"board-{key}.so", f"Building the simulator of board {name!r} (once; about a minute)", build)


def _load(path: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(path))
    handle, u32, u64, void, data = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, None, ctypes.c_char_p
    signatures = {
        "board_new": (handle, [u64, u32]), "board_delete": (void, [handle]), "board_memory": (ctypes.POINTER(ctypes.c_uint16), [handle]),
        "board_now": (u64, [handle]), "board_divisor": (void, [handle, u32]), "board_break": (void, [handle, u32]),
        "board_send": (void, [handle, data, u64]), "board_run": (void, [handle, u64, ctypes.c_int32]),
        "board_receive": (u64, [handle, data, u64]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
