"""The lean core's cycle model against its RTL: the cycle in which every instruction retires, all cycles, every counter.

``TRILOBIT_SEED`` repeats a run (it is printed).
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cycles_programs import Case, random_case, random_memory
from functional_support import WINDOW, WRITE_START, code, machine
from test_cycles_rtl import compare, compare_faults, echo_case, run
from test_functional_rtl import FAULTING

from trilobit.assembler import assemble
from trilobit.assembler.compiler import compile_model
from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program
from trilobit.isa.segments import matrix_segment, parse_segment, scalar_of
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles import CycleModel
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.lean import microcode_hazards
from trilobit.sim.memory import memories
from trilobit.sim.rtl import RtlSimulator

LEAN = load_core("tiny").replace(name="lean4", machine="lean", lanes=1)
CORES = {  # as in test_lean_rtl.py, so that they are built once
    "n4": LEAN,
    "n16": LEAN.replace(name="lean16", beat_bytes=16, weight_fifo_beats=16, max_length=100),
    "n32": LEAN.replace(name="lean32", beat_bytes=32, burst_beats=4),
}
# The queue of the stream small and large, bursts short and long, the widest beats.
MORE = {
    "n8": LEAN.replace(name="lean8", beat_bytes=8, weight_fifo_beats=32, burst_beats=16, load_fifo_beats=32, max_length=48),
    "n64": LEAN.replace(
        name="lean64", beat_bytes=64, weight_fifo_beats=256, burst_beats=64, load_fifo_beats=128, max_length=200, gain_buffer_elements=256
    ),
    "n16-long": LEAN.replace(name="lean16l", beat_bytes=16, weight_fifo_beats=512, max_length=1100, gain_buffer_elements=2048),
}


def run_cases(config: CoreConfig, seed: int, numbers: range) -> None:
    """Random programs on a core, each with a random memory."""
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        case = random_case(rng, config, int(rng.integers(4, 60)))
        memory = random_memory(rng, memories())
        print(f"core {config.name}, TRILOBIT_SEED={seed}, number {number}, {len(case.program.code)} instructions, memory {memory}")
        compare(config, case, memory)


@pytest.mark.parametrize("name", ["n4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("n16", "n32"))])
def test_random_programs_take_the_same_cycles_on_a_lean_core(name, seed):
    run_cases(CORES[name], seed, range(40))


@pytest.mark.slow
@pytest.mark.parametrize("name", CORES | MORE)
def test_many_random_programs_take_the_same_cycles_on_a_lean_core(name, seed):
    run_cases((CORES | MORE)[name], seed, range(40, 40 + (150 if name in CORES else 80)))


def test_more_prompt_tokens_than_the_queue_holds_take_the_same_cycles_on_a_lean_core():
    compare(LEAN, echo_case(), "ideal")


@pytest.mark.parametrize("name", FAULTING)
def test_faults_come_in_the_same_cycle_on_a_lean_core(name):
    compare_faults(LEAN, name)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_sampling_takes_the_same_cycles_whatever_the_host_asks(temperature, seed):
    """Branches on temperature, seed and index bits are scalars that the model computes."""
    encode = ISA.encode
    rng = np.random.default_rng(seed)
    base = int(rng.choice([0, 100, (1 << 18) - 20, (1 << 24) - 30]))  # the low half of the index overflows in some
    words = [encode("argmax", va=0, len=30, base=base, first=1, last=0, noise=1, sha=int(rng.integers(0, 20))),
             encode("argmax", va=1, len=9, base=base + 30 & 0xFFFFFF, first=0, last=1, noise=1, sha=10), encode("emit"),
             encode("bdone", target=5), encode("jump", target=0), encode("halt")]  # fmt: skip
    settings = HostSettings(seed=int(rng.integers(0, 1 << 32)), temperature=temperature, limit=5)
    compare(LEAN, Case(Program("sample", words, 512, 0), settings, [[[]]], [True] * 5), "ideal")


@pytest.mark.parametrize("mantissa", [0.0, 0.37])
def test_headers_known_from_segments_alone_take_the_cycles_of_those_in_an_image(mantissa):
    """A scale of zero is another way through the microcode."""
    rows, columns = 7, 10
    trits = np.ones((rows, columns), dtype=np.int8)
    data = matrix_segment(pack(trits), rows, scalar_of(mantissa), LEAN.beat_bytes)
    instructions = [("stream", {"addr": 0, "beats": len(data) // LEAN.beat_bytes}), ("normq", {"act": 0, "va": 0, "sc": 0, "len": columns}),
                    ("tmatmul", {"vd": 1, "act": 0, "addr": 0, "len": rows, "bp": 3}), "halt"]  # fmt: skip
    window = machine(*instructions, data=data).memory.copy()
    program = Program("product", code(*instructions), WINDOW, WRITE_START)
    segment = parse_segment(window, 0, LEAN.beat_bytes)
    with CycleModel(program, LEAN, image=window) as whole, CycleModel(program, LEAN, segments=[segment]) as known:
        first, second = whole.run(max_cycles=50_000), known.run(max_cycles=50_000)
    assert first.halted and (first.cycles, first.counters, first.weights) == (second.cycles, second.counters, second.weights)
    with RtlSimulator(LEAN, program, window.copy()) as rtl:
        assert rtl.run(max_cycles=50_000).cycles == first.cycles


@pytest.mark.parametrize("number", range(20))
def test_microcode_reads_nothing_before_it_is_there(number, seed):
    """Between passes only the time that each waits for the one before; a scalar that another element wrote may need more."""
    rng = np.random.default_rng([seed, number])
    config = LEAN.replace(max_length=int(rng.choice([8, 16, 64])))
    case = random_case(rng, config, 50)
    with CycleModel(case.program, config, "ideal", case.settings) as model:
        assert run(model, case).halted
        hazards, place = microcode_hazards(model)
    assert not hazards, f"{hazards} reads, the last by microinstruction {place}"


def test_tokens_end_a_run_and_a_step_is_an_instruction():
    words = [ISA.encode("wait"), ISA.encode("emit"), ISA.encode("bdone", target=4), ISA.encode("jump", target=0), ISA.encode("halt")]
    program = Program("echo", words, 512, 0)
    with (
        CycleModel(program, LEAN, settings=HostSettings(limit=3)) as whole,
        CycleModel(program, LEAN, settings=HostSettings(limit=3)) as parts,
    ):
        whole.record_retires = parts.record_retires = True
        for model in (whole, parts):
            model.push([3, 5, 7])
        result = whole.run()
        assert parts.run_to_token() and parts.result().tokens == [3]
        assert parts.run_to_token() and parts.result().tokens == [3, 5]
        retired = len(parts.retires)
        assert [parts.step() for _ in range(retired + 1)][-1] == whole.retires[retired]
        parts.run(max_cycles=7)
        assert parts.run().cycles == result.cycles and parts.retires == whole.retires
        assert result.tokens == [3, 5, 7] and result.halted


def test_the_page_has_the_clocks_of_row_wise_instructions():
    config = load_core("lean16")

    def clocks(text, length):
        with CycleModel(assemble(f"nop\nnop\n{text}, len={length}\nhalt\n"), config, settings=HostSettings(temperature=1.0)) as model:
            model.record_retires = True
            model.run()
            return model.retires[2].cycle - model.retires[1].cycle

    def other(text, passes):
        short, long = clocks(text, 100), clocks(text, 1000)
        assert long - short == 900 * passes, text
        return short - 100 * passes

    page = (Path(__file__).resolve().parents[2] / "docs" / "decisions" / "0008-lean.md").read_text()
    search, plain = "argmax v0, first, last", "argmax v0"
    for row in (
        f"| `mov` | 1 | {other('mov v1, v0', 1)} |",
        f"| `mul`, `muli` | 2 | {other('mul v1, v0, v2', 2)}, {other('muli v1, v0, imm=3', 2)} |",
        f"| `add`, `sub`, `addi`, `onem` | 3 | {other('add v1, v0, v2', 3)}, {other('sub v1, v0, v2', 3)}, "
        f"{other('addi v1, v0, imm=3', 3)}, {other('onem v1, v0, sha=3', 3)} |",
        f"| `max`, `exp`, `lerp` | 4 | {other('max v1, v0, v2', 4)} |",
        f"| `div` | 8 | {other('div v1, v0, v2', 8)} |",
        f"| `argmax` | 1 | {other(plain, 1)}; the first and last of a search {other(search, 1)} |",
        f" | {other(f'{plain}, noise', 20)}; the first and last of a search {other(f'{search}, noise', 20)} |",
    ):
        assert row in page


def test_a_timeline_is_that_of_the_rtl(seed):
    rng = np.random.default_rng(seed)
    case = random_case(rng, LEAN, 30)
    with FunctionalSimulator(LEAN, case.program, settings=case.settings) as values:
        run(values, case)
        committed = values.committed
    records = []
    for backend in (RtlSimulator(LEAN, case.program, settings=case.settings, memory_model="latency:9"),
                    CycleModel(case.program, LEAN, "latency:9", case.settings, generated=committed)):  # fmt: skip
        with backend:
            backend.trace()
            run(backend, case)
            records.append([tuple(record) for record in backend.trace_records()])
    assert records[0] == records[1] and len(records[0]) > 60


def test_the_model_needs_no_amaranth():
    script = ("import sys; sys.modules['amaranth'] = None; from trilobit.isa.core import load_core;"
        "from trilobit.isa.program import Program;"
              "from trilobit.isa.spec import ISA; from trilobit.sim.cycles import CycleModel;"
              "config = load_core('tiny').replace(machine='lean', lanes=1);"
              "print(CycleModel(Program('nothing', [ISA.encode('halt')], 512, 0), config).run().halted)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_a_memory_that_does_not_exist_is_told_for_a_lean_core():
    with pytest.raises(ConfigError, match="expected a memory as ideal"):
        CycleModel(Program("nothing", [ISA.encode("halt")], 512, 0), LEAN, "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["ideal", "sdram"])
def test_whole_tokens_of_a_shipped_model_take_the_same_cycles_on_a_lean_core(memory):
    core = load_core("ulx3s").replace(name="lean", machine="lean", lanes=1)
    compiled = compile_model("tales", core)
    settings = HostSettings(limit=2)
    with RtlSimulator(core, compiled.program, compiled.memory(), settings, memory_model=memory) as rtl:
        rtl.record_retires = True
        rtl.push([1, 5])
        expected, theirs = rtl.run(), rtl.retires
    with CycleModel(compiled.program, core, memory, settings, segments=compiled.layout.stream, generated=expected.tokens) as model:
        model.record_retires = True
        model.push([1, 5])
        result, ours = model.run(), model.retires
    assert ours == theirs
    assert result.counters | {"saturated": expected.counters["saturated"]} == expected.counters
    assert (result.tokens, result.weights) == (expected.tokens, expected.weights)
