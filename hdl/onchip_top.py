"""Boards with a core that needs nothing outside the FPGA: tops, pins, and the files that the tools read."""

from amaranth.hdl import Cat, ClockDomain, Module, Signal
from amaranth.lib import cdc, io, wiring

from trilobit.errors import ConfigError
from trilobit.hdl.boards import Board, BoardFiles
from trilobit.hdl.boards.flow import SYNTHESIS, top_files
from trilobit.hdl.boards.pll import BoardClocks, pll_settings
from trilobit.hdl.onchip import BakedModel, OnChipCore
from trilobit.hdl.onchip_boards import ONCHIP_BAUD, ONCHIP_BOARDS

__all__ = ["OnChipTop", "onchip_files", "onchip_script"]

HEARTBEAT_BIT = 25  # about 0.7 Hz
# Queues and delays: some of them ask for block RAM, which is what the weights need here. Each is 64 words at most.
IN_LUTS = ("core.outputs", "core.prompts", "core.ldst.landing", "core.stream.landing", "core.stream.weights", "core.rmsnorm.engine",
           "core.rowwise", "core.rowwise.lane0")  # fmt: skip


class OnChipTop(wiring.Component):
    """A board's top; only for the board's platform, whose pins it takes.

    Reset: until the PLL has locked, and while the reset button is pressed. Lamps: 0 running, 1 halted, 2 fault, 3 the serial line is
    busy, 4 heartbeat.

    Parameters
    ----------
    board : Board
        Of :data:`trilobit.hdl.onchip_boards.ONCHIP_BOARDS`.
    model : BakedModel
    """

    def __init__(self, board: Board, model: BakedModel):
        self._board = board
        self._pll = pll_settings(board.oscillator_mhz, board.clock_mhz, phase=0)
        self._system = OnChipCore(model, divisor=round(board.clock_mhz * 1e6 / ONCHIP_BAUD))
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        board = self._board
        m.submodules.system = system = self._system
        m.submodules.clocks = clocks = BoardClocks(self._pll)
        m.submodules.osc = osc = io.Buffer("i", platform.request(board.oscillator, dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request(*board.reset, dir="-"))
        m.domains.sync = sync = ClockDomain()
        m.d.comb += [clocks.osc.eq(osc.i), sync.clk.eq(clocks.clk)]
        m.submodules.reset = cdc.ResetSynchronizer(~clocks.locked | button.i)
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        heartbeat, line = Signal(HEARTBEAT_BIT + 1), Signal(init=1)
        m.submodules.line = cdc.FFSynchronizer(rx.i, line, init=1)
        m.d.sync += heartbeat.eq(heartbeat + 1)
        lamps = Signal(5)  # registers of their own, so that pins pull nothing of the core towards them
        m.d.sync += lamps.eq(Cat(system.running, system.halted, system.fault, ~line | ~system.tx, heartbeat[-1]))
        for k in range(min(board.lamps, len(lamps))):
            m.submodules[f"led{k}"] = led = io.Buffer("o", platform.request("led", k, dir="-"))
            m.d.comb += led.o.eq(lamps[k])
        return m


def onchip_script(top: str, source: str = "top.v", netlist: str = "top.json") -> str:
    """Commands for Yosys, as :func:`trilobit.hdl.boards.flow.synthesis_script`; short memories go into LUTs."""
    attributes = "; ".join(f'setattr -set ram_style "distributed" *.{name}/m:*' for name in IN_LUTS)
    return f"read_verilog {source}; hierarchy -top {top}; {attributes}; synth_ecp5 {' '.join(SYNTHESIS)} -top {top} -json {netlist}"


def onchip_files(name: str, model: BakedModel) -> BoardFiles:
    """Verilog, constraints and tool scripts of a board's top with a model in it. Nothing is synthesised.

    Raises:
        ConfigError: no such board, or a model that can't be built in.
        ToolError: amaranth-boards is not installed.
    """
    if name not in ONCHIP_BOARDS:
        raise ConfigError(f"expected a board ({', '.join(sorted(ONCHIP_BOARDS))}), got {name!r}")
    board = ONCHIP_BOARDS[name]
    top = f"trilobit_{name}"
    try:
        component = OnChipTop(board, model)
    except ValueError as error:
        raise ConfigError(f"model {model.name!r} on {name}: {error}") from error
    files = top_files(board, component, top)
    files[f"{top}.ys"] = onchip_script(top, f"{top}.v", f"{top}.json").replace("; ", "\n") + "\n"
    files["README.txt"] = _README.format(name=name, model=model.name, clock=board.clock_mhz, top=top, baud=ONCHIP_BAUD)
    return BoardFiles(board=name, core=model.config.name, clock_mhz=board.clock_mhz, top=top, files=files)


_README = """\
Trilobit for {name} with the model {model} in it: clock {clock:g} MHz, UART {baud} baud.

{top}.v      the top and everything below it, program and weights included
{top}.lpf    pins and clocks
{top}.ys     Yosys script
build_{top}.sh  calls Yosys, nextpnr-ecp5 and ecppack one after the other

These files were written and simulated, no more: they were not placed, routed or run on a board when they were written.
What is sent and received is in docs/onchip.md of the project; `trilobit build {name}` makes a bitstream.
"""
