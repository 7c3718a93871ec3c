"""Each time of the data sheet is kept, and a controller made with a wrong one is caught by the chip model."""

from dataclasses import replace

import pytest
from support import run_cocotb

from trilobit.hdl.sdram import SdramController
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core

MHZ, CAS, IO = 60.0, 3, 0
CHIP = replace(load_sdram_chip("ulx3s"), t_init=4000.0)  # so that the tests are short
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


@pytest.mark.parametrize(("code", "rule"), [("mode", "mode"), ("refreshes", "init")])
def test_a_wrong_initialisation_is_caught(code, rule, seed, monkeypatch):
    if code == "mode":
        monkeypatch.setattr("trilobit.hdl.sdram.BURST", 4)  # the mode register would say bursts of four
    else:
        monkeypatch.setattr("trilobit.hdl.sdram.INIT_REFRESHES", 1)
    with pytest.raises(AssertionError, match=rf"SdramViolationError: {rule}: edge \d+"):
        run(CHIP, "t_init", 4000.0, seed)
