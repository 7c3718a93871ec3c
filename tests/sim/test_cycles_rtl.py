"""The cycle model against the RTL: the cycle in which every instruction retires, all cycles, every counter.

``TRILOBIT_SEED`` repeats a run (it is printed), ``TRILOBIT_CYCLES_CASE=number`` only that program of it.
"""

import os
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from cycles_programs import HAZARDS, Case, hazards, random_case, random_memory
from functional_support import WINDOW, WRITE_START, code, machine
from test_functional_rtl import FAULTING

from trilobit.assembler.compiler import compile_model
from trilobit.assembler.disasm import instruction_text
from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import Backend, HostSettings, Retire, RunResult
from trilobit.sim.cycles import CycleModel
from trilobit.sim.cycles_backend import CycleBackend
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.memory import memories
from trilobit.sim.rtl import RtlSimulator

TINY = load_core("tiny")
# Bytes a beat, lanes: beats that hold several words, words of several beats, and both equal; queues of other sizes.
CORES = {
    "tiny": TINY,
    "n1-1lane": replace(TINY, name="n1", beat_bytes=1, lanes=1, burst_beats=16, load_fifo_beats=32, weight_fifo_beats=64),
    "n16-4lanes": replace(TINY, name="n16", beat_bytes=16, lanes=4),
    "n4-4lanes": replace(TINY, name="n4", lanes=4, burst_beats=4, load_fifo_beats=8),
    "n16-1lane": replace(TINY, name="n16l1", beat_bytes=16, lanes=1, weight_fifo_beats=16, max_length=100),
}
BATCHES = {
    "tiny-batch2": TINY.replace(batch=2),
    "tiny-batch4": TINY.replace(batch=4),
    "tiny-batch8": TINY.replace(batch=8),
    "n16-4lanes-batch2": CORES["n16-4lanes"].replace(batch=2),
    "n4-4lanes-batch4": CORES["n4-4lanes"].replace(batch=4),
    "n1-1lane-batch2": CORES["n1-1lane"].replace(batch=2),
    "n16-1lane-batch8": CORES["n16-1lane"].replace(batch=8),
}
AROUND = 4  # instructions shown on either side of a difference
SDRAM_BYTES = 4  # the SDRAM's controller moves no fewer at once
MOST_CYCLES = 2_000_000


def timeline(case: Case, retires: list[Retire], cycle: int) -> str:
    """The retirements around a cycle, with their instructions."""
    at = next((i for i, r in enumerate(retires) if r.cycle >= cycle), len(retires))
    rows = retires[max(at - AROUND, 0) : at + AROUND]
    return "\n".join(f"{r.cycle:>10} {r.unit:<8} pc {r.pc:<4} {instruction_text(ISA.decode(case.program.code[r.pc]))}" for r in rows)


def run(backend: Backend, case: Case) -> RunResult:
    """To the end, with the host's tokens when the program waits for them."""
    limit = {} if isinstance(backend, FunctionalSimulator) else {"max_cycles": MOST_CYCLES}
    for parts in case.prompts:
        for slot, tokens in enumerate(parts):
            backend.push(tokens, slot)
        result = backend.run(**limit)
        if not result.waiting:
            break
    return result


def compare(config: CoreConfig, case: Case, memory: str) -> list[Retire]:
    """Run a program on both and compare; on a difference, fail with the first instruction and both timelines around it.

    Of a batch the values are compared with the functional simulator's too.
    """
    with RtlSimulator(config, case.program, settings=case.settings, memory_model=memory) as rtl:
        rtl.record_retires = True
        expected = run(rtl, case)
        theirs = rtl.retires
        generated = [token for token, found in zip(expected.tokens, case.argmaxes, strict=True) if found] if config.batch == 1 else []
        if config.batch > 1:
            generated = compare_values(config, case, rtl, expected)
    assert expected.halted, f"expected a program that halts, got fault {expected.fault} at {expected.fault_pc}"
    with CycleModel(case.program, config, memory, case.settings, generated=generated) as model:
        model.record_retires = True
        result = run(model, case)
        ours = model.retires
    if ours != theirs:
        pairs = zip_longest(ours, theirs)
        mine, other = next((a, b) for a, b in pairs if a != b)
        cycle = min(r.cycle for r in (mine, other) if r)
        pytest.fail(f"first difference: model {mine}, RTL {other}\nmodel:\n{timeline(case, ours, cycle)}\n"
                    f"RTL:\n{timeline(case, theirs, cycle)}")  # fmt: skip
    counters = {name: (result.counters.get(name), count) for name, count in expected.counters.items() if name != "saturated"}
    assert all(mine == other for mine, other in counters.values()), f"counters, model and RTL: {counters}"
    for name in ("cycles", "retired", "tokens", "slots", "weights", "halted", "fault"):
        assert getattr(result, name) == getattr(expected, name), name
    return ours


def compare_values(config: CoreConfig, case: Case, rtl: RtlSimulator, result: RunResult) -> list[int]:
    """Compare what the RTL left with the functional simulator's values; the tokens that argmax found whenever it committed."""
    with FunctionalSimulator(config, case.program, settings=case.settings) as functional:
        expected = run(functional, case)
        assert (result.tokens, result.slots, result.retired) == (expected.tokens, expected.slots, expected.retired)
        for index in range(8):
            np.testing.assert_array_equal(rtl.register(index), functional.register(index), err_msg=f"v{index}")
        np.testing.assert_array_equal(np.asarray(rtl.memory), functional.memory)
        assert result.counters["saturated"] == sum(expected.saturated.values())
        return functional.committed


def run_cases(name: str, seed: int, count: int) -> None:
    """``count`` random programs on a core, each with a random memory."""
    config = (CORES | BATCHES)[name]
    only = os.environ.get("TRILOBIT_CYCLES_CASE")
    with_hazards = dict.fromkeys(HAZARDS, 0)
    numbers = range(count) if only is None else [int(only)]
    usable = [memory for memory in memories() if config.beat_bytes >= SDRAM_BYTES or "sdram" not in memory]
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        case = random_case(rng, config, int(rng.integers(4, 60)))
        memory = random_memory(rng, usable)
        print(f"core {name}, TRILOBIT_SEED={seed} TRILOBIT_CYCLES_CASE={number}, {len(case.program.code)} instructions, memory {memory}")
        compare(config, case, memory)
        for hazard, pairs in hazards(case.program).items():
            with_hazards[hazard] += pairs > 0
    if only is None:
        for hazard, programs in with_hazards.items():
            assert programs >= 0.3 * count, f"{hazard.upper()} chains in only {programs} of {count} programs"


@pytest.mark.parametrize("name", ["tiny", "n16-4lanes"])
def test_random_programs_take_the_same_cycles(name, seed):
    run_cases(name, seed, 120)


def echo_case() -> Case:
    """A program that sends back more tokens than the host's queue holds."""
    encode = ISA.encode
    program = Program("echo", [encode("seti", cnt=1, imm=150), encode("wait"), encode("emit"), encode("loop", cnt=1, target=1),
                               encode("halt")])  # fmt: skip
    tokens = list(range(150))
    return Case(program, HostSettings(), [[tokens[:90]], [tokens[90:93]], [tokens[93:]]], [False] * len(tokens))


def test_more_prompt_tokens_than_the_queue_holds_take_the_same_cycles():
    compare(TINY, echo_case(), "ideal")


def test_slots_of_a_batch_take_the_same_cycles(seed):
    run_cases("tiny-batch2", seed, 40)


def test_a_slot_whose_queue_is_full_does_not_keep_tokens_from_the_others():
    encode = ISA.encode
    program = Program("echo", [encode("seti", cnt=1, imm=100), encode("wait"), encode("emit"), encode("loop", cnt=1, target=1),
                               encode("halt")])  # fmt: skip
    tokens = list(range(200))
    case = Case(program, HostSettings(), [[tokens[:90], tokens[100:101]], [tokens[90:99], tokens[101:180]], [tokens[99:100], []],
                                          [[], tokens[180:]]], [])  # fmt: skip
    compare(BATCHES["tiny-batch2"], case, "ideal")


def test_a_memory_that_is_none_or_does_not_fit_the_core_is_told():
    program = Program("nothing", [ISA.encode("halt")], 512, 0)
    with pytest.raises(ConfigError, match="at least 4 bytes a beat, got 1"):
        CycleModel(program, CORES["n1-1lane"], "sdram")
    with pytest.raises(ConfigError, match="expected a memory as ideal"):
        CycleModel(program, TINY, "nothing")


def compare_faults(config: CoreConfig, name: str) -> None:
    """A program of FAULTING on the RTL and on the model: the fault, its pc, its cycle, all counters."""
    instructions, data = FAULTING[name]
    window = machine(*instructions, data=data).memory.copy()
    program = Program("fault", code(*instructions), WINDOW, WRITE_START)
    results = []
    for backend in (RtlSimulator(config, program, window.copy()), CycleModel(program, config, image=window.copy())):
        with backend:
            backend.push([4])
            result = backend.run(max_cycles=50_000)
            counters = {name: count for name, count in result.counters.items() if name != "saturated"}
            results.append((result.fault, result.fault_pc, result.cycles, result.halted, counters))
    assert results[0] == results[1] and results[0][0]


@pytest.mark.parametrize("name", FAULTING)
def test_faults_come_in_the_same_cycle(name):
    compare_faults(TINY, name)


@pytest.mark.parametrize("rows", [5, 4])
def test_a_bad_token_of_the_last_slot_alone_faults_in_the_same_cycle(rows):
    """Its row leaves the window, or the table has none."""
    config = BATCHES["tiny-batch2"]
    emb = ("emb", {"vd": 0, "addr": WINDOW - 64, "len": 8, "pitch": 16, "rows": rows})
    program = Program("fault", code("wait", ("emb", emb[1] | {"addr": 0}) if rows == 5 else "nop", emb, "halt"), WINDOW, WRITE_START)
    results = []
    for backend in (RtlSimulator(config, program), CycleModel(program, config)):
        with backend:
            for slot in range(2):
                backend.push([3 + slot], slot)
            result = backend.run(max_cycles=50_000)
            results.append((result.fault, result.fault_pc, result.cycles))
    assert results[0] == results[1] and results[0][:2] == (3 if rows == 5 else 7, 2)


@pytest.mark.parametrize("memory", ["ideal", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sdram", "ddr3-667"))])
def test_whole_tokens_of_a_shipped_model_take_the_same_cycles(memory):
    compiled = compile_model("tales", "ulx3s")
    program, image = compiled.program, compiled.memory()
    settings = HostSettings(limit=2)
    with RtlSimulator(compiled.core, program, image.copy(), settings, memory_model=memory) as rtl:
        rtl.record_retires = True
        rtl.push([1, 5])
        expected, theirs = rtl.run(), rtl.retires
    segments = compiled.layout.stream
    with CycleModel(program, compiled.core, memory, settings, segments=segments, generated=expected.tokens) as model:
        model.record_retires = True
        model.push([1, 5])
        result, ours = model.run(), model.retires
    assert ours == theirs
    assert result.counters | {"saturated": expected.counters["saturated"]} == expected.counters
    assert (result.tokens, result.weights) == (expected.tokens, expected.weights)


@pytest.mark.slow
def test_whole_tokens_of_a_shipped_model_of_a_batch_have_the_same_values_and_cycles():
    compiled = compile_model("tales", load_core("ulx3s", 2))
    settings, prompts = HostSettings(limit=2, temperature=0.8, seed=7), [[1, 5, 9], [1]]
    results, retires = [], []
    for backend in (RtlSimulator, CycleBackend):
        with backend(compiled.core, compiled.program, compiled.memory(), settings) as machine:
            machine.record_retires = True
            for slot, tokens in enumerate(prompts):
                machine.push(tokens, slot)
            results.append(machine.run())
            retires.append(machine.retires)
    rtl, model = results
    assert rtl.halted and retires[0] == retires[1]
    assert (rtl.tokens, rtl.slots, rtl.weights, rtl.counters) == (model.tokens, model.slots, model.weights, model.counters)
    assert [len(rtl.tokens_of(slot)) for slot in range(2)] == [2, 2] and rtl.slots != [0, 1, 0, 1], "the second slot begins first"


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHES)
def test_many_random_programs_of_a_batch_take_the_same_cycles(name, seed):
    run_cases(name, seed, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORES)
def test_many_random_programs_take_the_same_cycles(name, seed):
    run_cases(name, seed, 150)
