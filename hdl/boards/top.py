"""The top of a board with an ECP5 and an SDRAM: clocks, pins, lamps, and a core with its host link behind them.

All logic has the core's clock; the SDRAM has twice of it. The pins' registers work on both edges of the core's clock (ODDRX1F, IDDRX1F):
what belongs to the first half of a clock leaves in its first half. They take a command three clocks after the controller gave it, and
give sampled data two or one and a half clocks after; with the SDRAM's clock half of its period behind, the first word of a burst is
sampled 3.5 of its clocks after the edge that took the command (CAS latency 3). So ``io_latency`` is 10;
docs/decisions/0004-sdram.md has the sum.
"""

from amaranth.hdl import Cat, ClockDomain, Const, Module, Signal
from amaranth.lib import cdc, io, wiring

from trilobit.hdl.boards.board import BAUD, Board
from trilobit.hdl.boards.pll import BoardClocks, pll_settings
from trilobit.hdl.sdram import SdramPins
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.hdl.system import HostedCore
from trilobit.isa.core import CoreConfig, load_core

__all__ = ["BoardTop", "SdramPads"]

HEARTBEAT_BIT = 25  # about 0.9 Hz
ACTIVITY_BITS = 22  # a lamp stays on for about 70 ms


class SdramPads(wiring.Component):
    """The pins of an SDRAM in a platform's resource, with registers on both edges of the clock; the domain ``sdram`` has twice of it."""

    def __init__(self, port):
        self._port = port
        super().__init__({"pins": wiring.In(SdramPins())})

    def elaborate(self, platform):
        m = Module()
        pins, port = self.pins, self._port
        m.submodules.clock = clk = io.DDRBuffer("o", port.clk, o_domain="sdram")
        m.d.comb += [clk.o[0].eq(1), clk.o[1].eq(0)]  # the PLL sets its phase
        m.submodules.clk_en = clk_en = io.FFBuffer("o", port.clk_en)
        m.d.comb += clk_en.o.eq(pins.clk_en)
        halves = {name: (getattr(pins, name)[0], getattr(pins, name)[1]) for name in ("cs", "ras", "cas", "we")}
        halves |= {"ba": (pins.ba_0, pins.ba_1), "a": (pins.a_0, pins.a_1), "dqm": (pins.dqm[:2], pins.dqm[2:])}
        for name, (first, second) in halves.items():
            pad = getattr(port, name)
            m.submodules[name] = buffer = io.DDRBuffer("o", pad)
            m.d.comb += [buffer.o[0].eq(first), buffer.o[1].eq(second)]
        m.submodules.dq = dq = io.DDRBuffer("io", port.dq)
        m.d.comb += [dq.o[0].eq(pins.dq_o[:16]), dq.o[1].eq(pins.dq_o[16:]), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(Cat(dq.i[0], dq.i[1]))]
        return m


class BoardTop(wiring.Component):
    """A board's top; only for the board's platform, whose pins it takes.

    Reset: until the PLL has locked, and while the reset button is pressed. Lamps: 0 running, 1 waiting for a prompt token, 2 fault,
    3 the serial line is busy, 4 memory ready, 5 halted, 7 heartbeat; as many as there are.

    Parameters
    ----------
    board : Board
    config : CoreConfig
        The core; default the board's preset.
    baud : int
        Of the serial port after reset; the clock must be a multiple of it.
    init_clocks : int
        For simulation: clocks before the SDRAM's first command; default the chip's.
    """

    def __init__(self, board: Board, config: CoreConfig | None = None, *, baud: int = BAUD, init_clocks: int | None = None):
        clock = round(board.clock_mhz * 1e6)
        if clock % baud:
            raise ValueError(f"expected a baud rate that divides {clock} Hz, got {baud!r}")
        self._board = board
        self._pll = pll_settings(board.oscillator_mhz, board.clock_mhz, phase=board.sdram_phase)
        self._system = HostedCore(config or load_core(board.core), load_sdram_chip(board.chip), clock_mhz=board.clock_mhz,
                                  divisor=clock // baud, cas_latency=board.cas_latency, io_latency=board.io_latency,
                                  init_clocks=init_clocks)  # fmt: skip
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        board = self._board
        m.submodules.system = system = self._system

        # ---- clocks and reset ----------------------------------------------------------------------------------------------
        m.submodules.clocks = clocks = BoardClocks(self._pll)
        m.submodules.osc = osc = io.Buffer("i", platform.request(board.oscillator, dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request(*board.reset, dir="-"))
        m.domains.sync = sync = ClockDomain()
        m.domains.sdram = sdram = ClockDomain(reset_less=True)
        m.d.comb += [clocks.osc.eq(osc.i), sync.clk.eq(clocks.clk), sdram.clk.eq(clocks.clk_sdram)]
        m.submodules.reset = cdc.ResetSynchronizer(~clocks.locked | button.i)
        # The oscillator's clock is constrained with its pin; nextpnr derives both others from it by the PLL's divisors.

        # ---- serial port and lamps -----------------------------------------------------------------------------------------
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        heartbeat, activity, line = Signal(HEARTBEAT_BIT + 1), Signal(ACTIVITY_BITS), Signal(init=1)
        m.submodules.line = cdc.FFSynchronizer(rx.i, line, init=1)
        m.d.sync += heartbeat.eq(heartbeat + 1)
        with m.If(~line | ~system.tx):
            m.d.sync += activity.eq((1 << ACTIVITY_BITS) - 1)
        with m.Elif(activity != 0):
            m.d.sync += activity.eq(activity - 1)
        states = (system.running, system.waiting, system.fault, activity != 0, system.memory_ready, system.halted, Const(0, 1))
        lamps = Signal(8)  # registers of their own, so that pins pull nothing of the core towards them
        m.d.sync += lamps.eq(Cat(*states, heartbeat[-1]))
        for k in range(board.lamps):
            m.submodules[f"led{k}"] = led = io.Buffer("o", platform.request("led", k, dir="-"))
            m.d.comb += led.o.eq(lamps[k])

        # ---- SDRAM -----------------------------------------------------------------------------------------------------------
        m.submodules.pads = pads = SdramPads(platform.request("sdram", 0, dir="-"))
        wiring.connect(m, system.sdram, pads.pins)
        return m
