"""The PLL's divisors: exact, within the data sheet's limits, and those that ecppll finds."""

import re

import pytest

from trilobit.hdl.boards import BOARDS
from trilobit.hdl.boards.pll import OSCILLATOR, PHASE_DETECTOR, pll_settings
from trilobit.sim.toolchain import ECPPLL


@pytest.mark.parametrize("input_mhz", [25.0, 50.0])
@pytest.mark.parametrize("mhz", [40.0, 50.0, 55.0, 60.0, 62.5, 65.0, 75.0])
def test_settings_are_exact_and_within_limits(input_mhz, mhz):
    s = pll_settings(input_mhz, mhz, phase=180)
    assert s.first_mhz == pytest.approx(mhz) and s.second_mhz == pytest.approx(2 * mhz) and s.phase == 180
    assert OSCILLATOR[0] <= s.oscillator_mhz <= OSCILLATOR[1]
    assert PHASE_DETECTOR[0] <= input_mhz / s.input_div <= PHASE_DETECTOR[1]
    assert 1 <= s.feedback_div <= 80 and s.first_div == 2 * s.second_div <= 128


@pytest.mark.parametrize("board", [BOARDS["ulx3s_85f"], BOARDS["icepi_zero"]], ids=lambda board: board.name)
def test_settings_are_those_of_ecppll(board):
    if not ECPPLL.available:
        pytest.skip("ecppll from pip is not installed")
    s = pll_settings(board.oscillator_mhz, board.clock_mhz, phase=board.sdram_phase)
    text = ECPPLL.run(["-i", board.oscillator_mhz, "-o", board.clock_mhz, "--clkout1", 2 * board.clock_mhz, "--phase1", board.sdram_phase])
    found = dict(re.findall(r"^(.*): (\d+)", text, re.MULTILINE))
    theirs = [int(found[k]) for k in ("Refclk divisor", "Feedback divisor", "clkout0 divisor", "clkout1 divisor")]
    assert theirs == [s.input_div, s.feedback_div, s.first_div, s.second_div]
    assert int(found["VCO frequency"]) == s.oscillator_mhz


def test_clocks_that_it_cannot_make_are_refused():
    with pytest.raises(ValueError, match=r"expected clocks that an ECP5's PLL makes of 25 MHz, got 61.03 MHz and 122.06 MHz"):
        pll_settings(25.0, 61.03, phase=180)
    with pytest.raises(ValueError, match="at 33 degrees"):
        pll_settings(25.0, 60.0, phase=33)
