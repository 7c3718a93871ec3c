"""Every example on the RTL: registers, memory, tokens and faults equal to the functional simulator's."""

import numpy as np
import pytest
from examples_support import EXAMPLES, HOST, example, run_functional

from trilobit.sim.backend import HostSettings
from trilobit.sim.rtl import RtlSimulator


def run_rtl(name):
    program, config = example(name)
    prompt, settings = HOST.get(name, ([], HostSettings()))
    sim = RtlSimulator(config, program, None, settings)
    sim.record_retires = True
    sim.push(prompt)
    return sim, sim.run(max_cycles=100_000)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_leaves_the_same_registers_and_memory_on_the_rtl(name):
    reference = run_functional(name)
    sim, result = run_rtl(name)
    with sim:
        expected = reference.result()
        assert (result.fault, result.halted, result.tokens) == (0, True, expected.tokens)
        assert result.retired == expected.retired
        for index in range(8):
            np.testing.assert_array_equal(sim.register(index), reference.register(index), err_msg=f"v{index}")
        np.testing.assert_array_equal(np.asarray(sim.memory), reference.memory)


def test_the_independent_sum_of_the_overlap_example_retires_before_the_older_product():
    sim, _ = run_rtl("overlap")
    with sim:
        cycle = {retire.pc: retire.cycle for retire in sim.retires}
        assert cycle[4] < cycle[3], "pc 4 is the sum, pc 3 the product"
        assert cycle[5] > cycle[3] > cycle[2]
