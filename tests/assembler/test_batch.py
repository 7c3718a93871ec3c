"""Models compiled for several sequences a pass: each gets the tokens, the logits and the state that it would get alone."""

import json

import numpy as np
import pytest
from assembler_graphs import TOY, TOY2, GraphMaker, run_logits

from trilobit.assembler import assemble
from trilobit.assembler.bundle import load_bundle, logit_places, teacher_forced
from trilobit.assembler.compiler import compile_graph
from trilobit.assembler.compiler.saturation import count_saturations
from trilobit.errors import CompileError, ProgramError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.slots import element_places
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

PROMPTS = [[3, 17, 42, 5], [8], [1, 2], [60, 7, 7, 31, 2, 9], [9, 9], [4], [33, 21, 5], [40]]


def core_of(batch: int, **changes) -> CoreConfig:
    return load_core("tiny").replace(batch=batch, **changes)


def run_alone(compiled, slot: int, settings: HostSettings) -> FunctionalSimulator:
    """A batch-1 program with the prompt and the seed of a slot."""
    changed = HostSettings(seed=(settings.seed + slot) % 2**32, temperature=settings.temperature, eos=settings.eos, limit=settings.limit)
    machine = FunctionalSimulator(compiled.core, compiled.program, compiled.memory(), changed)
    machine.push(PROMPTS[slot])
    assert machine.run().halted
    return machine


def run_together(compiled, settings: HostSettings) -> FunctionalSimulator:
    machine = FunctionalSimulator(compiled.core, compiled.program, compiled.memory(), settings)
    for slot in range(compiled.core.batch):
        machine.push(PROMPTS[slot], slot=slot)
    result = machine.run()
    assert result.halted and not result.fault, machine.fault_detail
    return machine


def stored(machine, region: str, places: np.ndarray) -> np.ndarray:
    """32-bit elements [batch, ...] of a region."""
    where = machine.program.regions[region]
    return np.array(machine.memory[where.addr : where.end]).view("<i4")[places]


@pytest.mark.parametrize("batch", [2, 4, 8])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("folder", [TOY, TOY2], ids=lambda f: f.name)
def test_every_sequence_emits_what_it_would_alone(folder, batch, temperature):
    one, many = compile_graph(folder, core_of(1)), compile_graph(folder, core_of(batch))
    settings = HostSettings(seed=0xFFFFFFFE, temperature=temperature, limit=12)
    result = run_together(many, settings).result()
    for slot in range(batch):
        assert result.tokens_of(slot) == run_alone(one, slot, settings).result().tokens, f"slot {slot}"
    # As many passes as the sequence with the longest prompt has tokens, the last not fed back; logits from when the first has read its own.
    lengths = [len(prompt) for prompt in PROMPTS[:batch]]
    passes, heads = max(lengths) + 12 - 1, max(lengths) + 12 - min(lengths)
    assert len(result.tokens) == 12 * batch
    assert result.weights == passes * many.weights(head=False) + heads * (many.weights() - many.weights(head=False))


def test_an_end_of_sequence_token_ends_one_and_the_others_go_on():
    one, many = compile_graph(TOY2, core_of(1)), compile_graph(TOY2, core_of(4))
    free = run_together(many, HostSettings(limit=20)).result()
    eos = free.tokens_of(1)[4]
    settings = HostSettings(limit=20, eos=eos)
    result = run_together(many, settings).result()
    lengths = []
    for slot in range(4):
        assert result.tokens_of(slot) == run_alone(one, slot, settings).result().tokens
        lengths.append(len(result.tokens_of(slot)))
    assert lengths[1] <= 5 and max(lengths) > min(lengths), "expected sequences of different lengths"


@pytest.mark.parametrize("lanes", [1, 4])
def test_the_state_of_every_sequence_is_in_its_own_words(lanes):
    one, many = compile_graph(TOY2, core_of(1, lanes=lanes)), compile_graph(TOY2, core_of(2, lanes=lanes))
    settings = HostSettings(limit=5)
    together, alone = run_together(many, settings), run_alone(one, 0, settings)
    region, n = many.program.regions["state"], one.graph.config["hidden_size"]
    assert region.size == 2 * one.program.regions["state"].size
    state = stored(together, "state", element_places(many.core, n))
    assert np.array_equal(state[0], stored(alone, "state", np.arange(n)))  # its prompt is the longest, so it ends last


@pytest.mark.parametrize("vocabulary", [40, 203])
def test_logits_are_stored_for_every_sequence(tmp_path, vocabulary):
    """In one tile, and in three whose length is no multiple of the lanes."""
    g = GraphMaker(seed=9, vocabulary=vocabulary)
    x = g.embedding()
    folder = g.save(tmp_path / "m", g.bitlinear(g.rmsnorm(g.node("add", x, g.bitlinear(g.rmsnorm(x)))), rows=vocabulary))
    changes = {"max_length": 80, "gain_buffer_elements": 256, "lanes": 4}
    one = compile_graph(folder, core_of(1, **changes), store_logits=True)
    many = load_bundle(compile_graph(folder, core_of(4, **changes), store_logits=True).save(tmp_path / "b"))
    assert many.core.batch == 4 and many.manifest.logits.tile == (None if vocabulary == 40 else 70)
    tokens = np.random.default_rng(3).integers(0, vocabulary, (4, 10))
    expected = np.stack([run_logits(one, row)[0] for row in tokens])
    places = logit_places(many.manifest.logits, many.core) + many.manifest.logits.addr // 4
    machine = FunctionalSimulator(many.core, teacher_forced(many.program), many.memory())
    for position in range(10):
        for slot in range(4):
            machine.push([int(tokens[slot, position])], slot=slot)
        result = machine.run()
        assert result.waiting and not result.fault, machine.fault_detail
        assert np.array_equal(machine.memory.view("<i4")[places] * 2.0**-many.manifest.logits.point, expected[:, position])


def spilling(folder):
    """Eleven vectors that are all used twice, far apart."""
    g = GraphMaker(seed=21, vocabulary=64)
    x = g.embedding()
    level = [g.bitlinear(g.rmsnorm(x)) for _ in range(11)]
    total = level[0]
    for v in level[1:]:
        total = g.node("add", total, v)
    gated = [g.node("mul", v, g.node("sigmoid", total)) for v in level]
    total = gated[0]
    for v in gated[1:]:
        total = g.node("add", total, v)
    return g.save(folder, g.bitlinear(total, rows=g.vocabulary))


@pytest.mark.parametrize("batch", [2, 4])
def test_spilled_vectors_of_every_sequence_come_back(tmp_path, batch):
    folder = spilling(tmp_path / "m")
    one = compile_graph(folder, core_of(1))
    many = compile_graph(folder, core_of(batch))
    assert many.report()["spills"] > 0
    assert many.program.regions["scratch"].size == batch * one.program.regions["scratch"].size
    settings = HostSettings(limit=6)
    result = run_together(many, settings).result()
    for slot in range(batch):
        assert result.tokens_of(slot) == run_alone(one, slot, settings).result().tokens


def test_slices_through_memory_start_at_whole_words(tmp_path):
    g = GraphMaker(seed=4, width=64, vocabulary=64)
    x = g.embedding()
    h = g.node("add", x, g.bitlinear(g.rmsnorm(x)))
    h = g.node("mul", g.node("sigmoid", g.slice(h, 0, 32)), g.slice(h, 28, 60))
    folder = g.save(tmp_path / "m", g.bitlinear(g.rmsnorm(h), rows=g.vocabulary))
    one, many = (compile_graph(folder, core_of(batch, lanes=4)) for batch in (1, 2))
    settings = HostSettings(limit=8)
    result = run_together(many, settings).result()
    for slot in range(2):
        assert result.tokens_of(slot) == run_alone(one, slot, settings).result().tokens
    wide = load_core("tiny").replace(beat_bytes=16, lanes=8, batch=8, gain_buffer_elements=256)
    with pytest.raises(CompileError, match="a slice from element 28 does not start at a whole memory beat; expected a multiple of 8"):
        compile_graph(folder, wide)


def test_saturations_are_those_of_one_sequence(tmp_path):
    g = GraphMaker(seed=1)
    y = g.node("silu", g.bitlinear(g.embedding()), name="silu")
    folder = g.save(tmp_path / "m", g.bitlinear(y, rows=g.vocabulary))
    values = json.loads((folder / "graph.json").read_text())
    next(n for n in values["nodes"] if n["name"] == "silu")["range"] = 0.01
    (folder / "graph.json").write_text(json.dumps(values))
    tokens = list(range(40))
    counts = [count_saturations(compile_graph(folder, core_of(batch)), tokens) for batch in (1, 4)]
    assert counts[0] == counts[1] and counts[0]["silu"] > 100


def test_a_manifest_of_an_older_release_means_one_sequence(tmp_path):
    folder = compile_graph(TOY, "tiny", store_logits=True).save(tmp_path / "b")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["core"].pop("batch") == 1 and manifest["logits"].pop("tile") is None
    (folder / "manifest.json").write_text(json.dumps(manifest))
    loaded = load_bundle(folder)
    assert loaded.core == load_core("tiny") and loaded.manifest.logits.tile is None


def test_the_assembler_knows_how_long_vectors_are_in_memory():
    source = ".region y, writable, i16, size=16\n    sv [y], v2, len=8\n    halt\n"
    assert assemble(source, core=core_of(1)).window_size == 16
    with pytest.raises(ProgramError, match="expected an address inside the window of 16 bytes, got 32 bytes at 0x0"):
        assemble(source, core=core_of(2))


def test_a_program_may_size_its_vectors_by_the_batch():
    source = ".region y, writable, i16, size=2 * 8 * core.batch\n    sv [y], v2, len=8\n    halt\n"
    assert [assemble(source, core=core_of(batch)).regions["y"].size for batch in (1, 2, 8)] == [16, 32, 128]
