"""Programs and images of a geometry alone: the same program as a model's, and random weights that behave like a model's."""

import time

import numpy as np
import pytest

from trilobit.assembler.bundle import teacher_forced
from trilobit.assembler.compiler import compile_graph, resolve
from trilobit.assembler.geometry import compile_geometry, random_memory
from trilobit.errors import CompileError, ConfigError
from trilobit.isa import trits
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.segments import Segment, parse_segment, segment_gains, segment_trits
from trilobit.isa.spec import ISA
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.geometry import Geometry

TALES = Geometry(H=256, L=8, I=768, V=2048)
SHIFTS = {"sha", "shb", "sho", "bp", "eps_m", "eps_e", "k_m", "k_e", "addr"}  # follow from ranges and from where regions lie


def shape(program: Program, word: int) -> tuple:
    """An instruction without what follows from ranges and from where regions lie: shifts, scales, addresses, widths.

    The width of a register's content costs no time. A constant's in memory does: a trained lower bound close to one needs
    32 bits, those of the random models 16. That is the one thing in which their traffic may differ.
    """
    decoded = ISA.decode(word)
    fields = {name: value for name, value in decoded.values.items() if name not in SHIFTS}
    constants = program.regions["constants"]
    if decoded.opcode.unit != "ldst" or constants.addr <= decoded.get("addr") < constants.end:
        fields.pop("wide", None)
    if decoded.name in ("add", "mul"):  # which operand is shifted follows from their points
        fields["va"], fields["vb"] = sorted((fields["va"], fields["vb"]))
    return decoded.name, fields


@pytest.mark.parametrize("core", ["ulx3s", "axi512"])
def test_program_is_that_of_a_trained_model_of_the_same_geometry(core):
    model, random = compile_graph(resolve("tales"), core), compile_geometry(TALES, core)
    ours, theirs = ([shape(p, word) for word in p.code] for p in (random.program, model.program))
    for pc, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a == b, f"instruction {pc}: {a} for the geometry, {b} for the model"
    sizes = [(s.kind, s.rows, s.columns, s.beats, s.addr) for s in random.layout.stream]
    assert sizes == [(s.kind, s.rows, s.columns, s.beats, s.addr) for s in model.layout.stream]
    assert random.program.regions.keys() == model.program.regions.keys()
    for name, region in random.program.regions.items():
        if name not in ("constants", "state", "embedding"):  # constants may need 32 bits in a model; what follows moves
            assert (region.addr, region.size) == (model.program.regions[name].addr, model.program.regions[name].size)


def test_weights_of_the_program_are_those_of_the_geometry():
    for geometry in (TALES, Geometry(H=64, L=3, I=96, V=101)):
        assert compile_geometry(geometry, "axi512").weights() == geometry.ternary_weights


@pytest.mark.parametrize(("geometry", "core"), [("64/3/96/101", "axi512"), ("36/2/52/47", "tiny")])
def test_random_weights_run_without_saturation_fault_or_vectors_of_zeros(geometry, core):
    compiled = compile_geometry(geometry, core, seed=3, store_logits=True)
    vocabulary = int(geometry.rsplit("/", 1)[1])
    simulator = FunctionalSimulator(compiled.core, teacher_forced(compiled.program), random_memory(compiled))
    start = compiled.logits.addr
    logits = []
    for token in np.random.default_rng(1).integers(0, vocabulary, 20):
        simulator.push([int(token)])
        result = simulator.run()
        assert not result.fault, f"fault {result.fault} at {result.fault_pc}: {simulator.fault_detail}"
        logits.append(np.array(simulator.memory[start : start + 4 * vocabulary]).view("<i4") * 2.0**-compiled.logits.point)
    assert result.saturated == {}
    assert len(set(result.tokens)) > 3, "the tokens that argmax chose hardly differ"
    rms = np.sqrt(np.mean(np.square(logits), axis=1))
    assert (rms > 0.3).all() and (rms < 3).all(), rms  # products are scaled to one
    state = compiled.program.regions["state"]
    assert np.count_nonzero(simulator.memory[state.addr : state.end].view("<i4")) > 0.9 * state.size / 4


def test_memory_is_the_seed_s_and_every_segment_in_it_is_well_formed(tmp_path):
    core = load_core("tiny")
    compiled = compile_geometry("36/2/52/47", core, seed=5)
    memory = random_memory(compiled)
    mapped = random_memory(compile_geometry("36/2/52/47", core, seed=5), tmp_path / "image")
    assert np.array_equal(memory, mapped) and isinstance(mapped, np.memmap)
    assert np.array_equal(memory[: compiled.program.write_start], compiled.image)
    assert not memory[compiled.program.write_start :].any()
    assert not np.array_equal(memory, random_memory(compile_geometry("36/2/52/47", core, seed=6)))
    nonzero = []
    for segment in compiled.layout.stream:
        found = parse_segment(memory, segment.addr, core.beat_bytes)
        assert found == segment and isinstance(segment, Segment)
        if segment.kind == "gains":
            gains = segment_gains(memory, segment)
            assert (gains > 0).all() and gains.max() < 1 << 15
        else:
            matrix = segment_trits(memory, segment, core.beat_bytes)
            nonzero.append(np.count_nonzero(matrix) / matrix.size)
            payload = memory[segment.payload : segment.payload + segment.beats * core.beat_bytes]
            packed = payload.reshape(-1, -(-segment.columns // core.beat_bytes) * core.beat_bytes)[:, : segment.columns]
            assert np.array_equal(packed, trits.pack(matrix)), "bytes that no packer writes, or padding rows that are not zero"
    assert 0.6 < np.mean(nonzero) < 0.73


def test_largest_published_geometry_takes_seconds_and_no_weights():
    start = time.process_time()
    compiled = compile_geometry("2.7b", "axi512")
    seconds = time.process_time() - start
    assert seconds < 5, f"{seconds:.1f} s"  # about 0.3 s on an idle machine
    assert compiled.weights() == 2_619_473_920
    assert compiled.program.window_size > 650_000_000


def test_what_does_not_fit_is_refused_with_numbers(tmp_path):
    with pytest.raises(CompileError, match="vector of length 2816 does not fit core 'ulx3s', whose registers hold 1024"):
        compile_geometry("370m", "ulx3s")
    with pytest.raises(ConfigError, match=r"expected a geometry .*got '5b'"):
        compile_geometry("5b", "axi512")
    with pytest.raises(ConfigError, match="expected to write"):
        random_memory(compile_geometry("36/2/52/47", "tiny"), tmp_path / "no" / "image")
