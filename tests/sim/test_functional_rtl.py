"""The functional simulator and the RTL on the same programs: registers, memory, tokens, saturations, faults."""

import sys
from pathlib import Path

import numpy as np
import pytest
from functional_support import TINY, WINDOW, WRITE_START, code, gains, machine
from test_functional_faults import MATRIX, NORMQ, NORMQ_GAIN, PRODUCT, STATIC, STEP

from trilobit.isa.program import Program
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.rtl import RtlSimulator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from random_program import random_program

GAINS = gains(np.ones(8, int))


def streamed(data, *instructions):
    return [("stream", {"addr": 0, "beats": len(data) // STEP}), *instructions, "halt"], data


def damaged(byte):
    data = bytearray(MATRIX)
    data[byte] ^= 0x40
    return bytes(data)


def embedding(rows):
    return ["wait", ("emb", {"vd": 0, "addr": WINDOW - 64, "len": 8, "pitch": 16, "rows": rows}), "halt"], b""


FAULTING = {
    **{f"word{i}-cause{cause}": (["nop", word, "halt"], b"") for i, (word, cause) in enumerate(STATIC)},
    "behind-the-end": (["nop", "nop"], b""),
    "jump-outside": ([("jump", {"target": 77})], b""),
    "token": embedding(4),
    "row-outside": embedding(5),
    "other-address": streamed(MATRIX, NORMQ, ("tmatmul", PRODUCT[1] | {"addr": 1 << 39})),
    "more-rows": streamed(MATRIX, NORMQ, ("tmatmul", PRODUCT[1] | {"len": 6})),
    "fewer-rows": streamed(MATRIX, NORMQ, ("tmatmul", PRODUCT[1] | {"len": 4})),
    "other-columns": streamed(MATRIX, ("normq", NORMQ[1] | {"len": 7}), PRODUCT),
    "no-activations": streamed(MATRIX, PRODUCT),
    "gains-of-normq": streamed(GAINS, ("normq", {"act": 0, "va": 0, "sc": 0, "len": 7, "gain": 1})),
    "gains-of-norm": streamed(GAINS, ("norm", {"vd": 0, "va": 0, "len": 9, "sho": 0, "gain": 1})),
    "gains-of-rms": streamed(GAINS, ("rms", {"sc": 0, "va": 0, "vb": 0, "len": 9, "gain": 1})),
    "no-gains": (["nop", NORMQ_GAIN, "halt"], b""),
    "no-matrix": (["nop", PRODUCT, "halt"], b""),
    # Nothing stands between the header's fetch and its use here, so that both backends name the product.
    **{f"header{byte}": streamed(damaged(byte), NORMQ, PRODUCT) for byte in (0, 1, 2, 4, 9, 14)},
}


@pytest.mark.parametrize("name", FAULTING)
def test_both_backends_report_the_same_fault(name):
    instructions, data = FAULTING[name]
    functional = machine(*instructions, data=data)
    program = Program("fault", code(*instructions), WINDOW, WRITE_START)
    with RtlSimulator(TINY, program, functional.memory.copy(), HostSettings()) as rtl:
        for sim in (functional, rtl):
            sim.push([4])
        expected, result = functional.run(), rtl.run(max_cycles=50_000)
        assert expected.fault
        assert (result.fault, result.fault_pc) == (expected.fault, expected.fault_pc)
        assert not result.halted
        assert (np.asarray(rtl.memory) == functional.memory).all()


@pytest.mark.parametrize("number", range(10))
def test_random_programs_end_with_the_same_state(number, seed):
    program, registers = random_program(np.random.default_rng([seed, number]), TINY)
    functional = FunctionalSimulator(TINY, program)
    with RtlSimulator(TINY, program) as rtl:
        for sim in (functional, rtl):
            for index in range(8):
                sim.set_register(index, registers[index])
        expected, result = functional.run(), rtl.run(max_cycles=200_000)
        assert expected.halted and result.halted
        for index in range(8):
            np.testing.assert_array_equal(rtl.register(index), functional.register(index), err_msg=f"v{index}")
        np.testing.assert_array_equal(np.asarray(rtl.memory), functional.memory)
        assert (result.retired, result.weights) == (expected.retired, expected.weights)
        assert result.counters["saturated"] == sum(expected.saturated.values())
