"""argmax in the row-wise unit on both simulators, and its random numbers against their integer functions."""

import pytest
from support import run_cocotb

from trilobit.hdl.rowwise import RowWise
from trilobit.hdl.rowwise_noise import GumbelNoise
from trilobit.isa.core import load_core


@pytest.mark.parametrize(("simulator", "count"), [("verilator", 12), ("icarus", 2)])
def test_argmax(simulator, count, seed):
    run_cocotb(RowWise(load_core("tiny")), "rowwise", "cocotb_argmax", simulators=[simulator], seed=seed,
               env={"PRESET": "tiny", "COUNT": count})  # fmt: skip


def test_one_lane(seed):
    run_cocotb(RowWise(load_core("paper8")), "rowwise", "cocotb_argmax", simulators=["verilator"], seed=seed,
               env={"PRESET": "paper8", "COUNT": 3})  # fmt: skip


@pytest.mark.parametrize(("preset", "batch"), [("tiny", 2), pytest.param("paper8", 4, marks=pytest.mark.slow)])
def test_every_slot_has_its_own_search_and_noise(preset, batch, seed):
    run_cocotb(RowWise(load_core(preset).replace(batch=batch)), "rowwise", "cocotb_argmax", simulators=["verilator"], seed=seed,
               env={"PRESET": preset, "BATCH": batch, "COUNT": 3})  # fmt: skip


@pytest.mark.parametrize(("simulator", "count"), [("verilator", 3000), ("icarus", 300)])
def test_noise(simulator, count, seed):
    run_cocotb(GumbelNoise(), "gumbel_noise", "cocotb_noise", simulators=[simulator], seed=seed, env={"COUNT": count})
