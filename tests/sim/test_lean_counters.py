"""Counters of a core without gated clocks while it runs: those of gates answer late, so that the harness counts their events."""

import numpy as np
import pytest
from cycles_programs import random_case
from functional_support import TINY

from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles import CycleModel
from trilobit.sim.rtl import RtlSimulator

LEAN = TINY.replace(name="lean4", machine="lean", lanes=1)
SLICE = 97  # cycles


def without_saturated(counters):
    return {name: count for name, count in counters.items() if name != "saturated"}


@pytest.mark.parametrize("config", [LEAN, pytest.param(TINY, marks=pytest.mark.slow)], ids=["lean", "pipelined"])
def test_counters_in_the_middle_of_a_run_go_on_to_those_at_its_end(config, seed):
    case = random_case(np.random.default_rng(seed), config, 40)
    with RtlSimulator(config, case.program, settings=case.settings, gated_clocks=False) as rtl:
        for token in range(40):
            rtl.push([token])
        before = rtl.run(max_cycles=1).counters
        looks = 0
        while not (result := rtl.run(max_cycles=SLICE)).halted and not result.fault:
            assert result.cycles == rtl.cycles, "the program runs since its start"
            assert all(result.counters[name] >= count for name, count in before.items())
            before, looks = result.counters, looks + 1
        assert looks > 2
        # At the end the hardware's own counters are read.
        assert all(count <= result.counters[name] <= count + SLICE for name, count in before.items())


def test_a_lean_core_that_waits_for_a_prompt_has_the_cycle_models_counters():
    words = [ISA.encode("wait"), ISA.encode("emit"), ISA.encode("jump", target=0)]
    program = Program("echo", words, 512, 0)
    results = []
    for backend in (RtlSimulator(LEAN, program, settings=HostSettings(limit=3)), CycleModel(program, LEAN, settings=HostSettings(limit=3))):
        with backend:
            backend.push([3])
            results.append(backend.run())
    rtl, model = results
    assert rtl.waiting and model.waiting
    assert without_saturated(rtl.counters) == without_saturated(model.counters) and rtl.cycles == model.cycles
