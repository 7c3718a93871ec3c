"""Everything of a board but its pins: a program over the line's bits, on the SDRAM model, against the functional simulator."""

from support import run_cocotb

from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.hdl.system import HostedCore
from trilobit.isa.core import load_core

DIVISOR = 4


def test_programs_run_over_the_uart_and_sdram(seed):
    system = HostedCore(load_core("tiny"), load_sdram_chip("ulx3s"), clock_mhz=60.0, divisor=DIVISOR, cas_latency=3, io_latency=10,
                        init_clocks=300)  # fmt: skip
    env = {"PRESET": "tiny", "DIVISOR": DIVISOR, "MHZ": 60.0, "CAS": 3, "IO": 10}
    run_cocotb(system, "trilobit_system", "cocotb_system", env=env, simulators=("verilator",), seed=seed)
