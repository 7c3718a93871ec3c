"""The PLL of an ECP5: its divisors, computed, and the clocks of a core and of an SDRAM at twice the core's."""

from dataclasses import dataclass

from amaranth.hdl import Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BoardClocks", "PllSettings", "pll_settings"]

# MHz; as ecppll has them, from the ECP5 family data sheet.
INPUT, PHASE_DETECTOR, OSCILLATOR, OUTPUT = (8, 400), (3.125, 400), (400, 800), (10, 400)
PREFERRED = 600
PHASE_STEPS = 8  # of a period of the oscillator


@dataclass(frozen=True, kw_only=True)
class PllSettings:
    """Divisors of an EHXPLLL with feedback from its first output; ``lag`` is the second output's, in eighths of oscillator periods."""

    input_mhz: float
    input_div: int
    feedback_div: int
    first_div: int
    second_div: int
    lag: int

    @property
    def first_mhz(self) -> float:
        return self.input_mhz / self.input_div * self.feedback_div

    @property
    def oscillator_mhz(self) -> float:
        return self.first_mhz * self.first_div

    @property
    def second_mhz(self) -> float:
        return self.oscillator_mhz / self.second_div

    @property
    def phase(self) -> float:
        """Degrees of the second output's period that it lags behind."""
        return 360 * self.lag / PHASE_STEPS / self.second_div


def pll_settings(input_mhz: float, mhz: float, *, phase: float) -> PllSettings:
    """Divisors for an output of ``mhz`` and one of twice of it that lags by ``phase`` degrees of its own period.

    Of the exact solutions, the one with the oscillator nearest to 600 MHz, then with the fastest phase detector (ecppll's choice).

    Raises:
        ValueError: no divisors give exactly these clocks.
    """
    found = []
    if INPUT[0] <= input_mhz <= INPUT[1] and OUTPUT[0] <= mhz and 2 * mhz <= OUTPUT[1]:
        for input_div in range(1, 129):
            detector = input_mhz / input_div
            feedback_div = round(mhz / detector)
            exact = abs(detector * feedback_div - mhz) < 1e-9 * mhz
            if not (PHASE_DETECTOR[0] <= detector <= PHASE_DETECTOR[1] and 1 <= feedback_div <= 80 and exact):
                continue
            for first_div in range(2, 129, 2):
                lag = phase / 360 * (first_div // 2) * PHASE_STEPS
                if OSCILLATOR[0] <= mhz * first_div <= OSCILLATOR[1] and abs(lag - round(lag)) < 1e-9:
                    settings = PllSettings(input_mhz=input_mhz, input_div=input_div, feedback_div=feedback_div, first_div=first_div,
                                           second_div=first_div // 2, lag=round(lag))  # fmt: skip
                    found.append((abs(settings.oscillator_mhz - PREFERRED), input_div, settings))
    if not found:
        clocks = f"{mhz:g} MHz and {2 * mhz:g} MHz at {phase:g} degrees"
        raise ValueError(f"expected clocks that an ECP5's PLL makes of {input_mhz:g} MHz, got {clocks}")
    return min(found, key=lambda entry: entry[:2])[2]


class BoardClocks(wiring.Component):
    """A core's clock and the SDRAM's at twice of it, from one PLL.

    Parameters
    ----------
    settings : PllSettings

    Members
    -------
    osc : In(1), clk : Out(1), clk_sdram : Out(1), locked : Out(1)
    """

    osc: In(1)
    clk: Out(1)
    clk_sdram: Out(1)
    locked: Out(1)

    def __init__(self, settings: PllSettings):
        self._settings = settings
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        s = self._settings
        # An output with a phase of DIV - 1 periods of the oscillator rises with the others that have theirs.
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{s.input_mhz:g}", a_FREQUENCY_PIN_CLKOP=f"{s.first_mhz:g}", a_FREQUENCY_PIN_CLKOS=f"{s.second_mhz:g}",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=s.input_div, p_CLKFB_DIV=s.feedback_div, p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=s.first_div, p_CLKOP_CPHASE=s.first_div - 1, p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED", p_CLKOS_DIV=s.second_div, p_CLKOS_CPHASE=s.second_div - 1 + s.lag // PHASE_STEPS,
            p_CLKOS_FPHASE=s.lag % PHASE_STEPS,
            i_CLKI=self.osc, i_CLKFB=self.clk, o_CLKOP=self.clk, o_CLKOS=self.clk_sdram, o_LOCK=self.locked,
            i_RST=Const(0), i_STDBY=Const(0), i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1), i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0),
        )  # fmt: skip
        return m
