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
    for tokens in case.prompts:
        backend.push(tokens)
        result = backend.run(max_cycles=MOST_CYCLES)
        if not result.waiting:
            break
    return result


def compare(config: CoreConfig, case: Case, memory: str) -> list[Retire]:
    """Run a program on both and compare; on a difference, fail with the first instruction and both timelines around it."""
    with RtlSimulator(config, case.program, settings=case.settings, memory_model=memory) as rtl:
        rtl.record_retires = True
        expected = run(rtl, case)
        theirs = rtl.retires
    assert expected.halted, f"expected a program that halts, got fault {expected.fault} at {expected.fault_pc}"
    generated = [token for token, found in zip(expected.tokens, case.argmaxes, strict=True) if found]
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
    for name in ("cycles", "retired", "tokens", "weights", "halted", "fault"):
        assert getattr(result, name) == getattr(expected, name), name
    return ours


def run_cases(name: str, seed: int, count: int) -> None:
    """``count`` random programs on a core, each with a random memory."""
    only = os.environ.get("TRILOBIT_CYCLES_CASE")
    with_hazards = dict.fromkeys(HAZARDS, 0)
    numbers = range(count) if only is None else [int(only)]
    usable = [memory for memory in memories() if CORES[name].beat_bytes >= SDRAM_BYTES or "sdram" not in memory]
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        case = random_case(rng, CORES[name], int(rng.integers(4, 60)))
        memory = random_memory(rng, usable)
        print(f"core {name}, TRILOBIT_SEED={seed} TRILOBIT_CYCLES_CASE={number}, {len(case.program.code)} instructions, memory {memory}")
        compare(CORES[name], case, memory)
        for hazard, pairs in hazards(case.program).items():
            with_hazards[hazard] += pairs > 0
    if only is None:
        for hazard, programs in with_hazards.items():
            assert programs >= 0.3 * count, f"{hazard.upper()} chains in only {programs} of {count} programs"


@pytest.mark.parametrize("name", ["tiny", "n16-4lanes"])
def test_random_programs_take_the_same_cycles(name, seed):
    run_cases(name, seed, 25)


def test_more_prompt_tokens_than_the_queue_holds_take_the_same_cycles():
    encode = ISA.encode
    program = Program("echo", [encode("seti", cnt=1, imm=150), encode("wait"), encode("emit"), encode("loop", cnt=1, target=1),
                               encode("halt")])  # fmt: skip
    tokens = list(range(150))
    case = Case(program, HostSettings(), [tokens[:90], tokens[90:93], tokens[93:]], [False] * len(tokens))
    compare(TINY, case, "ideal")


def test_a_memory_that_is_none_or_does_not_fit_the_core_is_told():
    program = Program("nothing", [ISA.encode("halt")], 512, 0)
    with pytest.raises(ConfigError, match="at least 4 bytes a beat, got 1"):
        CycleModel(program, CORES["n1-1lane"], "sdram")
    with pytest.raises(ConfigError, match="expected a memory as ideal"):
        CycleModel(program, TINY, "nothing")


@pytest.mark.parametrize("name", FAULTING)
def test_faults_come_in_the_same_cycle(name):
    instructions, data = FAULTING[name]
    window = machine(*instructions, data=data).memory.copy()
    program = Program("fault", code(*instructions), WINDOW, WRITE_START)
    results = []
    for backend in (RtlSimulator(TINY, program, window.copy()), CycleModel(program, TINY, image=window.copy())):
        with backend:
            backend.push([4])
            result = backend.run(max_cycles=50_000)
            results.append((result.fault, result.fault_pc, result.cycles, result.halted))
    assert results[0] == results[1] and results[0][0]


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
@pytest.mark.parametrize("name", CORES)
def test_many_random_programs_take_the_same_cycles(name, seed):
    run_cases(name, seed, 150)
