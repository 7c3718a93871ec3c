"""The SDRAM controller against a chip model that checks every command."""

import pytest
from support import run_cocotb

from trilobit.errors import ConfigError
from trilobit.hdl.sdram import SdramController
from trilobit.hdl.sdram_chip import load_sdram_chip, sdram_chips
from trilobit.isa.core import load_core

CLOCK_MHZ, CAS_LATENCY, IO_LATENCY = 60.0, 3, 10
QUICK = ["latency_of_open_closed_and_other_rows", "requests_in_any_order_return_what_was_written", "behind_the_end_is_an_error"]


def run(preset, mhz, cas, io, init, simulators, seed, **arguments):
    controller = SdramController(load_core(preset), load_sdram_chip("ulx3s"), clock_mhz=mhz, cas_latency=cas, io_latency=io,
                                 init_clocks=init)  # fmt: skip
    env = {"PRESET": preset, "MHZ": mhz, "CAS": cas, "IO": io, "INIT": init or controller.slots.init}
    run_cocotb(controller, "sdram", "cocotb_sdram", env=env, simulators=simulators, seed=seed, **arguments)


def test_controller_keeps_the_chips_times_as_on_the_board(seed):
    run("ulx3s", CLOCK_MHZ, CAS_LATENCY, IO_LATENCY, 300, ("verilator",), seed)
    run("ulx3s", CLOCK_MHZ, CAS_LATENCY, IO_LATENCY, 300, ("icarus",), seed, testcase=QUICK)


@pytest.mark.parametrize(("preset", "mhz", "cas", "io"), [("tiny", 50.0, 2, 1), ("tiny", 66.0, 3, 0), ("axi512", 60.0, 3, 3)])
def test_controller_keeps_the_chips_times_at_other_clocks(preset, mhz, cas, io, seed):
    run(preset, mhz, cas, io, 300, ("verilator",), seed, testcase=QUICK)


def test_controller_waits_as_long_as_the_chip_asks_for(seed):
    """The whole power-on delay, 200 us at 60 MHz."""
    assert load_sdram_chip("ulx3s").slots(60.0, 3).init == 12_000
    run("tiny", 60.0, 3, 0, 12_000, ("verilator",), seed, testcase="initialises_and_refreshes")


def test_times_are_rounded_up_to_clocks():
    chip = load_sdram_chip("ulx3s")
    clocks = chip.clocks(120.0, 3)
    assert (clocks.rcd, clocks.rp, clocks.ras, clocks.rc, clocks.rrd, clocks.rfc, clocks.wr, clocks.mrd) == (3, 3, 6, 9, 2, 9, 3, 2)
    assert clocks.refi == 937 and clocks.refi / 120e6 * 8192 <= 64e-3
    slots = chip.slots(60.0, 3)
    assert (slots.activate_column, slots.precharge, slots.activate_precharge, slots.activate_activate) == (2, 2, 3, 5)
    assert (slots.refresh, slots.write_precharge, slots.mode, slots.read_write, slots.refresh_interval) == (5, 2, 1, 3, 468)
    assert slots.refresh_cost == 9 and slots.sequential_rate == pytest.approx(0.9808, abs=1e-4)


@pytest.mark.parametrize("name", sdram_chips())
@pytest.mark.parametrize("mhz", [40.0, 50.0, 60.0, 62.5, 66.0])
def test_slots_keep_every_time_in_nanoseconds(name, mhz):
    """A row command leaves half a clock after a column command of the same clock."""
    chip = load_sdram_chip(name)
    slots, t = chip.slots(mhz, 3), 1000 / mhz
    assert slots.activate_column * t - t / 2 >= chip.t_rcd and slots.precharge * t >= chip.t_rp
    assert slots.activate_precharge * t >= chip.t_ras and slots.activate_activate * t >= max(chip.t_rc, chip.t_rrd)
    assert slots.refresh * t >= chip.t_rfc and slots.write_precharge * t >= chip.t_wr and slots.mode * t >= max(chip.t_mrd, t)
    assert slots.refresh_interval * t <= chip.t_refi and slots.init * t >= chip.t_init
    assert slots.read_write * t >= (3 + 1) * t / 2 + chip.t_hz, "the chip has left the bus half a clock before it is driven"


def test_a_clock_too_fast_for_the_cas_latency_is_refused():
    with pytest.raises(ConfigError, match="expected at most 100 MHz at CAS latency 2, got 133"):
        load_sdram_chip("ulx3s").clocks(133.0, 2)
    with pytest.raises(ConfigError, match="expected a CAS latency of"):
        load_sdram_chip("ulx3s").clocks(60.0, 1)
    with pytest.raises(ConfigError, match="expected an SDRAM chip"):
        load_sdram_chip("none")
