"""Each time of the data sheet is kept, and a controller made with a wrong one is caught by the chip model."""

from dataclasses import replace

import pytest
from sdram_device import Inputs, SdramDevice, SdramViolationError
from support import run_cocotb

from trilobit.hdl.sdram import ACTIVATE, MODE, PRECHARGE, REFRESH, SdramController
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core

MHZ, CAS, IO = 60.0, 3, 0
CHIP = replace(load_sdram_chip("ulx3s"), t_init=4000.0)  # so that the tests are short
READ = 0b010
# Rule of the model, field of the chip, and a value that no other time covers.
TIMES = [
    ("tRCD", "t_rcd", 60.0), ("tRP", "t_rp", 60.0), ("tRAS", "t_ras", 180.0), ("tRC", "t_rc", 240.0), ("tRRD", "t_rrd", 240.0),
    ("tRFC", "t_rfc", 150.0), ("tWR", "t_wr", 180.0), ("tMRD", "t_mrd", 60.0), ("tREFI", "t_refi", 3000.0), ("init", "t_init", 6000.0),
]  # fmt: skip


def run(chip, field, value, seed):
    controller = SdramController(load_core("tiny"), chip, clock_mhz=MHZ, cas_latency=CAS, io_latency=IO)
    env = {"PRESET": "tiny", "MHZ": MHZ, "CAS": CAS, "IO": IO, "INIT": 600, "FIELD": field, "VALUE": value}
    run_cocotb(controller, "sdram", "cocotb_sdram_times", env=env, simulators=("icarus",), seed=seed)


@pytest.mark.parametrize(("rule", "field", "value"), TIMES, ids=[rule for rule, _, _ in TIMES])
def test_controller_keeps_the_time_and_a_wrong_parameter_is_caught(rule, field, value, seed):
    run(replace(CHIP, **{field: value}), field, value, seed)
    with pytest.raises(AssertionError, match=rf"SdramViolationError: {rule}: edge \d+"):
        run(CHIP, field, value, seed)


@pytest.mark.parametrize(("code", "rule"), [("mode", "mode"), ("refreshes", "init"), ("one bank", "init")])
def test_a_wrong_initialisation_is_caught(code, rule, seed, monkeypatch):
    if code == "mode":
        monkeypatch.setattr("trilobit.hdl.sdram.BURST", 4)  # the mode register would say bursts of four
    elif code == "one bank":
        monkeypatch.setattr("trilobit.hdl.sdram.PRECHARGE_ALL", 0)
    else:
        monkeypatch.setattr("trilobit.hdl.sdram.INIT_REFRESHES", 1)
    with pytest.raises(AssertionError, match=rf"SdramViolationError: {rule}: edge \d+"):
        run(CHIP, "t_init", 4000.0, seed)


class Chip:
    """The chip model alone: commands as they come, each after some clocks."""

    def __init__(self):
        self.device = SdramDevice(CHIP, 2 * MHZ, cas_latency=CAS)

    def idle(self, clocks: int, clk_en: int = 1) -> None:
        for _ in range(clocks):
            self.device.edge(Inputs(cs=0, ras=0, cas=0, we=0, ba=0, a=0, dqm=0, clk_en=clk_en))

    def do(self, code: int, a: int = 0, then: int = 10) -> None:
        self.device.edge(Inputs(cs=1, ras=code >> 2, cas=code >> 1 & 1, we=code & 1, ba=0, a=a, dqm=0))
        self.idle(then)

    def initialise(self, refreshes: int = 8, then: int = 10) -> None:
        self.idle(round(2 * MHZ * CHIP.t_init / 1000) + 1)
        self.do(PRECHARGE, 1 << 10)
        for _ in range(refreshes):
            self.do(REFRESH)
        self.do(MODE, CAS << 4 | 1, then)


def test_the_chip_model_asks_for_all_of_the_initialisation_each_time():
    """What a first initialisation did counts nothing after a reset."""
    chip = Chip()
    chip.initialise(8)
    chip.idle(1, clk_en=0)
    chip.initialise(8)
    chip.idle(1, clk_en=0)
    with pytest.raises(SdramViolationError, match=r"init: edge \d+: the mode register after 7 refreshes"):
        chip.initialise(7)


@pytest.mark.parametrize(("rule", "before", "then", "clocks"), [
    ("tRFC", (REFRESH, 0), (ACTIVATE, 0), 9), ("tMRD", None, (ACTIVATE, 0), 2), ("tRP", (PRECHARGE, 1 << 10), (ACTIVATE, 0), 3),
    ("tRCD", (ACTIVATE, 0), (READ, 0), 3), ("tRAS", (ACTIVATE, 0), (PRECHARGE, 0), 6),
])  # fmt: skip
def test_the_chip_model_takes_a_command_at_its_time_and_not_a_clock_before(rule, before, then, clocks):
    for gap in (clocks, clocks - 1):
        chip = Chip()
        chip.initialise(then=10 if before else gap - 1)
        if before:
            chip.do(*before, then=gap - 1)
        if gap == clocks:
            chip.do(*then)
        else:
            with pytest.raises(SdramViolationError, match=f"^{rule}: "):
                chip.do(*then)
