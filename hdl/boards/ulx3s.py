"""The ULX3S with an ECP5-85F: 25 MHz oscillator, 16-bit SDRAM, FT231X serial port, eight lamps.

Clocks: a PLL makes 60 MHz for everything and a copy a quarter of a period later for the SDRAM's clock pin. Outputs to the SDRAM leave from
registers in the pins and are sampled there at 90 degrees; read data, valid from about 90 degrees plus 6 ns on, are taken by registers in
the pins at the next 360 degrees. So the registers cost one clock between a command and its data (``IO_LATENCY``).
The memory gives two bytes a clock at most, half of what the core takes: this controller shares the core's clock.
"""

from amaranth.build import Platform
from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import cdc, io, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.hdl.system import HostedCore
from trilobit.isa.core import load_core

__all__ = ["BAUD", "CLOCK_MHZ", "CORE", "Ulx3sClocks", "Ulx3sTop", "platform", "top"]

CORE = "ulx3s"
CLOCK_MHZ = 60.0
BAUD = 1_000_000
CAS_LATENCY = 2
IO_LATENCY = 1
HEARTBEAT_BIT = 25  # about 0.9 Hz


def platform() -> Platform:
    """The board's platform from amaranth-boards, with the open tools."""
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    return ULX3S_85F_Platform(toolchain="Trellis")


class Ulx3sClocks(wiring.Component):
    """25 MHz to 60 MHz at 0 and 90 degrees.

    The divisors and phases are those that ecppll gives for ``-i 25 -o 60 --clkout1 60 --phase1 90`` (VCO at 600 MHz).

    Members
    -------
    clk25 : In(1), clk : Out(1), clk90 : Out(1), locked : Out(1)
    """

    clk25: In(1)
    clk: Out(1)
    clk90: Out(1)
    locked: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI="25", a_FREQUENCY_PIN_CLKOP="60", a_FREQUENCY_PIN_CLKOS="60",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=5, p_CLKFB_DIV=12, p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=10, p_CLKOP_CPHASE=4, p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED", p_CLKOS_DIV=10, p_CLKOS_CPHASE=6, p_CLKOS_FPHASE=4,
            i_CLKI=self.clk25, i_CLKFB=self.clk, o_CLKOP=self.clk, o_CLKOS=self.clk90, o_LOCK=self.locked,
            i_RST=Const(0), i_STDBY=Const(0), i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1), i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0),
        )  # fmt: skip
        return m


class Ulx3sTop(wiring.Component):
    """The board's top; only for the ULX3S's platform, whose pins it takes.

    Reset: until the PLL has locked, and while the power button is pressed. Lamps: 0 running, 1 waiting for a prompt token, 2 halted,
    3 fault, 4 memory ready, 5 serial line busy, 7 heartbeat.

    Parameters
    ----------
    baud : int
        Of the serial port; the clock must be a multiple of it.
    init_clocks : int
        For simulation: clocks before the SDRAM's first command; default the chip's.
    """

    def __init__(self, *, baud: int = BAUD, init_clocks: int | None = None):
        clock = round(CLOCK_MHZ * 1e6)
        if clock % baud:
            raise ValueError(f"expected a baud rate that divides {clock} Hz, got {baud!r}")
        self._system = HostedCore(load_core(CORE), load_sdram_chip("ulx3s"), clock_mhz=CLOCK_MHZ, divisor=clock // baud,
                                  cas_latency=CAS_LATENCY, io_latency=IO_LATENCY, init_clocks=init_clocks)  # fmt: skip
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = self._system

        # ---- clocks and reset ----------------------------------------------------------------------------------------------
        m.submodules.clocks = clocks = Ulx3sClocks()
        m.submodules.clk25 = clk25 = io.Buffer("i", platform.request("clk25", dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request("button_pwr", dir="-"))
        m.domains.sync = ClockDomain()
        m.d.comb += [clocks.clk25.eq(clk25.i), ClockSignal().eq(clocks.clk)]
        m.submodules.reset = cdc.ResetSynchronizer(~clocks.locked | button.i)
        platform.add_clock_constraint(clocks.clk, CLOCK_MHZ * 1e6)

        # ---- serial port and lamps -----------------------------------------------------------------------------------------
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        heartbeat = Signal(HEARTBEAT_BIT + 1)
        m.d.sync += heartbeat.eq(heartbeat + 1)
        states = (system.running, system.waiting, system.halted, system.fault, system.memory_ready, ~system.rx | ~system.tx)
        for k, lamp in enumerate((*states, Const(0, 1), heartbeat[-1])):
            m.submodules[f"led{k}"] = led = io.Buffer("o", platform.request("led", k, dir="-"))
            m.d.comb += led.o.eq(lamp)

        # ---- SDRAM -----------------------------------------------------------------------------------------------------------
        pins, port = system.sdram, platform.request("sdram", 0, dir="-")
        m.submodules.sdram_clk = clk = io.Buffer("o", port.clk)
        m.d.comb += clk.o.eq(clocks.clk90)
        for name in ("clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm"):
            m.submodules[f"sdram_{name}"] = buffer = io.FFBuffer("o", getattr(port, name))
            m.d.comb += buffer.o.eq(getattr(pins, name))
        m.submodules.sdram_dq = dq = io.FFBuffer("io", port.dq)
        m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]
        return m


def top() -> Ulx3sTop:
    """The top that ``trilobit verilog --board ulx3s_85f`` writes."""
    return Ulx3sTop()
