"""Sampling right behind another instruction, on the RTL as in the functional simulator: the noise is there from the first element on, and
that of the position that the search before has counted."""

import pytest

from trilobit.assembler import assemble
from trilobit.isa.core import load_core
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.rtl import RtlSimulator

SOURCE = """.core tiny
    wait
again:
    {before}
    argmax v0, len=24, base=0, sha=0, noise, first, last
    emit
    bdone end
    jump again
end:
    halt
"""
BEFORE = ["add v3, v1, v2, len=2", "mul v3, v1, v2, len=24", "nop", "argmax v0, len=17, base=3, sha=0, noise, first, last"]


@pytest.mark.parametrize("gated", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["gated", "ungated"])
@pytest.mark.parametrize("before", BEFORE)
def test_the_first_element_is_drawn_as_often_as_the_others(before, gated):
    core = load_core("tiny")
    program, settings = assemble(SOURCE.format(before=before)), HostSettings(limit=240, seed=4, temperature=0.8)
    with (
        FunctionalSimulator(core, program, None, settings) as functional,
        RtlSimulator(core, program, None, settings, gated_clocks=gated) as rtl,
    ):
        for machine in (functional, rtl):
            machine.push([1])
        expected = functional.run().tokens
        assert expected.count(0) > 3
        assert rtl.run().tokens == expected
