"""The functional simulator and the RTL on the same programs: registers, memory, tokens, saturations, faults."""

import sys
from pathlib import Path

import numpy as np
import pytest
from batch_programs import VOCABULARY, push_all, run_to_end, sampling_program
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


def compare_fault(config, name):
    """A program of FAULTING: the fault, its pc, and the memory."""
    instructions, data = FAULTING[name]
    functional = machine(*instructions, data=data)
    program = Program("fault", code(*instructions), WINDOW, WRITE_START)
    with RtlSimulator(config, program, functional.memory.copy(), HostSettings()) as rtl:
        for sim in (functional, rtl):
            sim.push([4])
        expected, result = functional.run(), rtl.run(max_cycles=50_000)
        assert expected.fault
        assert (result.fault, result.fault_pc) == (expected.fault, expected.fault_pc)
        assert not result.halted
        assert (np.asarray(rtl.memory) == functional.memory).all()


@pytest.mark.parametrize("name", FAULTING)
def test_both_backends_report_the_same_fault(name):
    compare_fault(TINY, name)


@pytest.mark.parametrize("number", range(10))
def test_random_programs_end_with_the_same_state(number, seed):
    compare_states(TINY, number, seed)


@pytest.mark.parametrize("batch", [2, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (4, 8))])
@pytest.mark.parametrize("number", range(6))
def test_random_programs_end_with_the_same_state_of_every_slot(batch, number, seed):
    compare_states(TINY.replace(batch=batch), number, seed)


def compare_states(config, number, seed):
    program, registers = random_program(np.random.default_rng([seed, number]), config)
    functional = FunctionalSimulator(config, program)
    with RtlSimulator(config, program) as rtl:
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


@pytest.mark.parametrize("batch", [2, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (4, 8))])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_each_slot_of_the_rtl_emits_the_tokens_of_a_run_alone(batch, temperature, seed):
    """Prompts of different lengths, and sequences that end at different tokens."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, VOCABULARY, int(rng.integers(1, 9))).tolist() for _ in range(batch)]
    prompts[1] *= 3
    first_seed = (1 << 32) - 2
    options = {"temperature": temperature, "limit": 6, "eos": int(rng.integers(0, VOCABULARY))}
    alone = []
    for slot, prompt in enumerate(prompts):
        settings = HostSettings(seed=(first_seed + slot) % (1 << 32), **options)
        functional = FunctionalSimulator(TINY, sampling_program(TINY, np.random.default_rng([seed, 1])), settings=settings)
        alone.append(run_to_end(functional, [prompt]).tokens)
    config = TINY.replace(batch=batch)
    program = sampling_program(config, np.random.default_rng([seed, 1]))
    with RtlSimulator(config, program, settings=HostSettings(seed=first_seed, **options)) as rtl:
        streamed: list[tuple[int, int]] = []
        push_all(rtl, prompts)
        result = rtl.run(on_slot_token=lambda token, slot: streamed.append((token, slot)))
    assert result.halted, result
    assert [result.tokens_of(slot) for slot in range(batch)] == alone
    assert streamed == list(zip(result.tokens, result.slots, strict=True))


@pytest.mark.parametrize(
    "instruction, cause",
    [
        (("ldv", {"vd": 0, "addr": WINDOW - 128, "len": 33}), 3),  # 34 elements of either slot
        (("sv", {"va": 0, "addr": WINDOW - 128, "len": 33}), 3),
        (("sv", {"va": 0, "addr": WINDOW - 128, "len": 31}), 0),
        (("emb", {"vd": 0, "addr": WINDOW - 64, "len": 8, "pitch": 16, "rows": 5}), 3),  # the last slot's row alone
        (("emb", {"vd": 0, "addr": WINDOW - 64, "len": 8, "pitch": 16, "rows": 4}), 7),
    ],
)
def test_slots_fault_as_in_the_functional_simulator(instruction, cause):
    config = TINY.replace(batch=2)
    program = Program("fault", code("wait", instruction, "halt"), WINDOW, WRITE_START)
    results = []
    with RtlSimulator(config, program) as rtl:
        for sim in (FunctionalSimulator(config, program), rtl):
            push_all(sim, [[3], [4]])
            result = sim.run()
            results.append((result.fault, result.fault_pc, result.halted))
            assert not sim.register(0).any()
    assert results[0] == results[1] == (cause, 1 if cause else 0, not cause)
