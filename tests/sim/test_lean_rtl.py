"""The lean core's RTL and the functional simulator on the same programs: registers, memory, tokens, saturations, faults."""

import numpy as np
import pytest
from cycles_programs import random_case, random_memory
from functional_support import TINY
from test_cycles_rtl import run
from test_functional_rtl import FAULTING, compare_fault, compare_states

from trilobit.errors import ProgramError
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import check_program
from trilobit.sim.cycles import CycleModel
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.memory import memories
from trilobit.sim.rtl import RtlSimulator

LEAN = TINY.replace(name="lean4", machine="lean", lanes=1)
CORES = {
    "n4": LEAN,
    "n16": LEAN.replace(name="lean16", beat_bytes=16, weight_fifo_beats=16, max_length=100),
    "n32": LEAN.replace(name="lean32", beat_bytes=32, burst_beats=4),
}


@pytest.mark.parametrize("name", FAULTING)
def test_a_lean_core_reports_the_same_fault(name):
    compare_fault(LEAN, name)


@pytest.mark.parametrize("simulator", [FunctionalSimulator, RtlSimulator, lambda config, program: CycleModel(program, config)])
@pytest.mark.parametrize(
    ("window", "write_start", "message"),
    [
        (40, 0, r"expected window_size as a multiple of beat_bytes=16 of the lean core 'lean16', got 40; round it up"),
        (64, 24, r"expected write_start as a multiple of beat_bytes=16 of the lean core 'lean16', got 24; round it up"),
        (1 << 36, 0, r"expected a window of less than 2\^32 beats for the lean core 'lean16', got 4294967296; take wider beats"),
    ],
)
def test_a_lean_core_refuses_a_window_that_it_can_not_count_in_beats(simulator, window, write_start, message):
    program = Program("small", [ISA.encode("halt")], window, write_start)
    check_program(program, CORES["n16"].replace(machine="pipelined"))
    with pytest.raises(ProgramError, match=message):
        simulator(CORES["n16"], program)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("core", ["n4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("n16", "n32"))])
def test_random_programs_end_with_the_same_state_on_a_lean_core(core, number, seed):
    compare_states(CORES[core], number, seed)


@pytest.mark.parametrize("number", range(8))
def test_control_prompts_and_tokens_are_the_same_on_a_lean_core(number, seed):
    config = CORES["n4"]
    rng = np.random.default_rng([seed, number])
    case = random_case(rng, config, int(rng.integers(4, 60)))
    memory = random_memory(rng, memories())
    with RtlSimulator(config, case.program, settings=case.settings, memory_model=memory) as rtl, \
            FunctionalSimulator(config, case.program, settings=case.settings) as functional:  # fmt: skip
        result, expected = run(rtl, case), run(functional, case)
        assert (result.tokens, result.retired, result.halted) == (expected.tokens, expected.retired, expected.halted)
        assert (np.asarray(rtl.memory) == functional.memory).all()
        for index in range(8):
            np.testing.assert_array_equal(rtl.register(index), functional.register(index), err_msg=f"v{index}")
        assert result.counters["saturated"] == sum(expected.saturated.values())
