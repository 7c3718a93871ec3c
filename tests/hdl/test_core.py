"""The whole core on both simulators."""

import json
from dataclasses import asdict

import pytest
from support import run_cocotb

from trilobit.errors import ConfigError
from trilobit.hdl.axi_registers import AxiRegisters
from trilobit.hdl.core import Core
from trilobit.hdl.hostlink import HostLink
from trilobit.hdl.lean.core import LeanCore
from trilobit.isa.core import load_core


def test_core_runs_programs_as_the_functional_simulator_does(seed):
    run_cocotb(Core(load_core("tiny")), "trilobit_core", "cocotb_core", seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, 4])
def test_every_slot_of_a_batch_has_the_functional_simulators_values_at_every_retirement(batch, seed):
    run_cocotb(Core(load_core("tiny", batch)), "trilobit_core", "cocotb_core", testcase="random_programs", env={"BATCH": batch},
               simulators=("verilator",), seed=seed)  # fmt: skip


@pytest.mark.slow  # tests/sim/test_lean_rtl.py runs random programs always
@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
def test_a_lean_core_runs_programs_as_the_functional_simulator_does(simulator, seed):
    config = load_core("lean16").replace(name="small", beat_bytes=4, max_length=64, gain_buffer_elements=256, weight_fifo_beats=64,
                                         burst_beats=8, load_fifo_beats=32, program_words=256)  # fmt: skip
    run_cocotb(LeanCore(config), "trilobit_core", "cocotb_lean", simulators=(simulator,), env={"CORE": json.dumps(asdict(config))},
               seed=seed)  # fmt: skip


def test_hosts_with_one_queue_of_tokens_refuse_a_batch():
    with pytest.raises(ConfigError, match="'tiny': expected a batch of 1 for the UART host link, which has one queue of tokens, got 2"):
        HostLink(load_core("tiny", 2), memory_size=1536, timeout=300)
    with pytest.raises(ConfigError, match="expected a batch of 1 for the AXI registers"):
        AxiRegisters(load_core("tiny", 4))
