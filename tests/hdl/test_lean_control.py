"""The lean core's control microcode on the reference machine: whole programs, and the numbers that it rests on."""

import sys
from pathlib import Path

import numpy as np
import pytest

from trilobit.hdl.lean.code_stream import FIFTH, FIFTH_SHIFT
from trilobit.hdl.lean.microprogram import microprogram
from trilobit.hdl.lean.reference import ReferenceMachine
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.segments import matrix_segment, scalar_of
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.rtl import RtlSimulator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from random_program import random_program

TINY = load_core("tiny").replace(name="lean4", machine="lean", lanes=1)  # as in tests/sim/test_lean_rtl.py
WINDOW, WRITE_START = 4096, 2048


def test_a_multiplication_divides_every_number_of_rows_by_five():
    rows = np.arange(1, 1 << 16, dtype=np.int64)
    np.testing.assert_array_equal((rows + 4) * FIFTH >> FIFTH_SHIFT, -(-rows // 5))


@pytest.mark.parametrize("beat_bytes", [4, 16, 64])
def test_random_programs_leave_what_the_functional_simulator_leaves(beat_bytes, seed):
    config = TINY.replace(beat_bytes=beat_bytes)
    micro = microprogram(config)
    for number in range(4):
        program, registers = random_program(np.random.default_rng([seed, number]), config)
        machine, functional = ReferenceMachine(micro, config, program), FunctionalSimulator(config, program)
        for index, values in enumerate(registers):
            machine.pages[index][: len(values)] = values.tolist()
            functional.set_register(index, values)
        machine.run()
        result = functional.run()
        assert machine.halted and result.halted
        assert (machine.retired, machine.saturated) == (result.retired, sum(result.saturated.values()))
        for index in range(8):
            assert machine.pages[index][: config.max_length] == functional.register(index).tolist(), f"v{index}"
        np.testing.assert_array_equal(np.asarray(machine.memory), functional.memory)


@pytest.mark.parametrize("beats", [1, 2, 3, 4, 5])
def test_a_region_that_ends_in_a_header_or_its_payload_is_a_fault(beats):
    segment = matrix_segment(pack(np.ones((5, 8), dtype=np.int8)), 5, scalar_of(1.0), TINY.beat_bytes)
    assert len(segment) > 5 * TINY.beat_bytes
    memory = np.zeros(WINDOW, dtype=np.uint8)
    memory[: len(segment)] = np.frombuffer(segment, dtype=np.uint8)
    code = [ISA.encode("stream", addr=0, beats=beats), ISA.encode("normq", act=0, va=0, sc=0, len=8),
            ISA.encode("tmatmul", vd=0, act=0, addr=0, len=5, bp=0), ISA.encode("halt")]  # fmt: skip
    program = Program("short", code, WINDOW, WRITE_START)
    with RtlSimulator(TINY, program, memory.copy()) as rtl:
        result, expected = rtl.run(max_cycles=50_000), FunctionalSimulator(TINY, program, memory.copy()).run()
    assert expected.fault
    assert (result.fault, result.fault_pc) == (expected.fault, expected.fault_pc)
