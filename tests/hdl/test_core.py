"""The whole core on both simulators."""

from support import run_cocotb

from trilobit.hdl.core import Core
from trilobit.isa.core import load_core


def test_core_runs_programs_as_the_functional_simulator_does(seed):
    run_cocotb(Core(load_core("tiny")), "trilobit_core", "cocotb_core", seed=seed)
