"""The core as IP with AXI ports, on AXI memories."""

from pathlib import Path

import pytest
from support import run_cocotb

import trilobit
from trilobit.errors import ConfigError
from trilobit.hdl.axi import AxiMaster
from trilobit.hdl.axi_core import AxiCore
from trilobit.hdl.axi_hosted import AxiHosted
from trilobit.hdl.axi_map import AXI_MAP, COUNTER_CLOCKS, LITE_ADDRESS_BITS
from trilobit.hdl.counters import READ_CLOCKS
from trilobit.isa.core import load_core

TOY = Path(__file__).resolve().parents[1] / "model" / "data" / "toy"


@pytest.mark.parametrize("preset", ["tiny", pytest.param("ddr128", marks=pytest.mark.slow)])
def test_the_core_runs_on_axi_memories(preset, seed):
    run_cocotb(AxiCore(load_core(preset)), "trilobit_axi", "cocotb_axi", env={"PRESET": preset}, simulators=("verilator",), seed=seed)


def test_the_driver_runs_a_bundle_over_the_bus(tmp_path, seed):
    core = load_core("tiny")
    trilobit.compile(TOY, core, tmp_path / "bundle")
    run_cocotb(AxiCore(core), "trilobit_axi", "cocotb_axi_driver", env={"PRESET": "tiny", "BUNDLE": tmp_path / "bundle"},
               simulators=("verilator",), seed=seed)  # fmt: skip


@pytest.mark.slow  # a build of its own
def test_a_board_without_a_processor_has_its_host_at_a_serial_line(seed):
    memory, divisor = 1 << 18, 4
    component = AxiHosted(load_core("tiny"), memory_size=memory, divisor=divisor)
    run_cocotb(component, "trilobit_hosted", "cocotb_axi_hosted", env={"PRESET": "tiny", "DIVISOR": divisor, "MEMORY": memory},
               simulators=("verilator",), seed=seed)  # fmt: skip


def test_registers_do_not_overlap_and_fit_the_address():
    taken = [register.offset + 4 * k for register in AXI_MAP.values() for k in range(1 + (register.width > 32))]
    assert len(taken) == len(set(taken)) and max(taken) < 1 << LITE_ADDRESS_BITS
    assert all(offset % 4 == 0 for offset in taken)


def test_the_driver_waits_long_enough_for_a_counter():
    assert COUNTER_CLOCKS == READ_CLOCKS


def test_widths_that_axi_ports_do_not_have_are_refused():
    with pytest.raises(ConfigError, match="expected a core of 4, 8, 16, 32, 64 bytes a beat for AXI, got 'paper8' with 1"):
        AxiMaster(load_core("paper8"))
