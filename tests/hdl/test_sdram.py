"""The SDRAM controller against a chip model that checks every command."""

import pytest
from support import run_cocotb

from trilobit.errors import ConfigError
from trilobit.hdl.sdram import SdramController
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core


def run(preset, mhz, cas, io, init, simulators, seed):
    controller = SdramController(load_core(preset), load_sdram_chip("ulx3s"), clock_mhz=mhz, cas_latency=cas, io_latency=io,
                                 init_clocks=init)  # fmt: skip
    env = {"PRESET": preset, "MHZ": mhz, "CAS": cas, "IO": io, "INIT": init or controller.clocks.init}
    run_cocotb(controller, "sdram", "cocotb_sdram", env=env, simulators=simulators, seed=seed)


def test_controller_keeps_the_chips_times_as_on_the_board(seed):
    run("ulx3s", 60.0, 2, 1, 300, ("verilator", "icarus"), seed)


@pytest.mark.parametrize(("preset", "mhz", "cas", "io"), [("tiny", 100.0, 2, 0), ("tiny", 133.0, 3, 2), ("axi512", 60.0, 3, 0)])
def test_controller_keeps_the_chips_times_at_other_clocks(preset, mhz, cas, io, seed):
    run(preset, mhz, cas, io, 300, ("verilator",), seed)


def test_controller_waits_as_long_as_the_chip_asks_for(seed):
    """The whole power-on delay, 200 us at 60 MHz."""
    controller = SdramController(load_core("tiny"), load_sdram_chip("ulx3s"), clock_mhz=60.0)
    assert controller.clocks.init == 12_000
    run_cocotb(controller, "sdram", "cocotb_sdram", testcase="initialises_and_refreshes", simulators=("verilator",), seed=seed,
               env={"PRESET": "tiny", "MHZ": 60.0, "CAS": 2, "IO": 0, "INIT": 12_000})  # fmt: skip


def test_times_are_rounded_up_to_clocks():
    clocks = load_sdram_chip("ulx3s").clocks(60.0, 2)
    assert (clocks.rcd, clocks.rp, clocks.ras, clocks.rc, clocks.rfc, clocks.wr, clocks.mrd) == (2, 2, 3, 5, 5, 2, 2)
    assert clocks.refi == 468 and clocks.refi / 60e6 * 8192 <= 64e-3


def test_a_clock_too_fast_for_the_cas_latency_is_refused():
    with pytest.raises(ConfigError, match="expected at most 100 MHz at CAS latency 2, got 133"):
        load_sdram_chip("ulx3s").clocks(133.0, 2)
    with pytest.raises(ConfigError, match="expected a CAS latency of"):
        load_sdram_chip("ulx3s").clocks(60.0, 1)
    with pytest.raises(ConfigError, match="expected an SDRAM chip"):
        load_sdram_chip("none")
