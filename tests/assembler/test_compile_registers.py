"""Order of instructions, registers and spilling, and the stream's gains."""

import numpy as np
import pytest
from assembler_graphs import TOY, TOY2, GraphMaker, compare, run_logits

from trilobit.assembler.compiler import compile_graph
from trilobit.errors import CompileError
from trilobit.hdl import stream as hdl_stream
from trilobit.isa.core import load_core
from trilobit.isa.segments import parse_segment
from trilobit.isa.spec import ISA


def dense_graph(folder, width=11, seed=22):
    """Vectors that are all used twice, far apart: each of a level depends on all of the level before."""
    g = GraphMaker(seed=seed)
    x = g.embedding()
    level = [g.bitlinear(g.rmsnorm(x)) for _ in range(width)]
    for depth in range(3):
        total = level[0]
        for v in level[1:]:
            total = g.node("add", total, v)
        level = [g.node("mul", v, g.node("sigmoid", total)) for v in level] if depth < 2 else [total]
    return g.save(folder, g.bitlinear(total, rows=g.vocabulary))


def spills(compiled):
    return sum(i is not None and i.op == "sv" and i.place.region == "scratch" for i in (x.instr for x in compiled.lines))


def test_spilling_gives_the_same_logits(tmp_path):
    folder = dense_graph(tmp_path / "dense")
    tokens = np.arange(20)
    compiled = compile_graph(folder, "tiny", store_logits=True)
    assert spills(compiled) > 0  # eleven vectors don't fit eight registers in any order
    assert compiled.report()["spills"] == spills(compiled)
    assert compare(compiled, folder) > 0.999
    expected, _ = run_logits(compiled, tokens)
    for registers in (7, 5, 4):
        fewer = compile_graph(folder, "tiny", store_logits=True, registers=registers)
        used = {n for line in fewer.lines for key, n in line.values.items() if key in ("vd", "va", "vb", "vc")}
        assert max(used) < registers
        assert spills(fewer) > spills(compiled) and "scratch" in fewer.program.regions
        assert np.array_equal(run_logits(fewer, tokens)[0], expected)


def test_order_is_chosen_so_that_six_vectors_do_not_spill(tmp_path):
    assert spills(compile_graph(dense_graph(tmp_path / "dense", width=6), "tiny")) == 0


def test_models_of_the_usual_shape_do_not_spill():
    assert spills(compile_graph(TOY2, "tiny")) == 0
    assert spills(compile_graph(TOY2, "tiny", registers=6)) == 0


@pytest.mark.parametrize("registers", [3, 9])
def test_number_of_registers_is_checked(registers):
    with pytest.raises(CompileError, match=f"4 to 8 vector registers, got {registers}"):
        compile_graph(TOY, "tiny", registers=registers)


def test_constants_and_state_are_dropped_and_loaded_again(tmp_path):
    """A vector that came from memory needs no store when it must make room."""
    g = GraphMaker(seed=23)
    x = g.embedding()
    k = g.constant(g.rng.uniform(-1, 1, g.width))
    h = g.node("mul", x, k)
    a = g.rmsnorm(h)
    parts = [g.bitlinear(a) for _ in range(6)]
    for p in parts:
        h = g.node("add", h, g.node("mul", g.node("silu", p), parts[0]))
    folder = g.save(tmp_path / "model", g.bitlinear(g.node("mul", h, k), rows=g.vocabulary))
    compiled = compile_graph(folder, "tiny", store_logits=True, registers=4)
    loads = [x.values["addr"] for x in compiled.lines if x.op == "ldv"]
    assert loads.count(compiled.program.regions["constants"].addr) >= 2
    assert compare(compiled, folder) > 0.999


@pytest.mark.parametrize("core", ["tiny", "ulx3s", "axi512"])
def test_next_norm_is_issued_before_the_epilogue_of_the_running_product(core):
    """While one product runs, the activations of the next are made: the product unit finds them ready."""
    lines = [x for x in compile_graph(TOY2, core).lines if x.instr is not None]
    mixers = 0
    for n, line in enumerate(lines):
        if line.op != "tmatmul" or ".attn.f_proj" not in line.instr.value.module:
            continue
        following = [x.op for x in lines[n + 1 :]]
        assert following.index("normq") < following.index("tmatmul")  # i's activations before its product
        assert following.index("tmatmul") < following.index("lerp")  # the state update overlaps the products that follow
        mixers += 1
    assert mixers == 2


def test_stream_holds_segments_in_the_order_of_their_instructions():
    compiled = compile_graph(TOY2, "tiny")
    memory, beat = compiled.memory(), compiled.core.beat_bytes
    found = {"gains": [], "ternary": []}
    for name in ("body", "head"):
        region = compiled.program.regions[name]
        addr = region.addr
        while addr < region.end:
            segment = parse_segment(memory, addr, beat)
            found[segment.kind].append(segment)
            addr = segment.payload + segment.beats * beat
        assert addr == region.end
    matrices = [x.values["addr"] for x in compiled.lines if x.op == "tmatmul"]
    assert [s.addr for s in found["ternary"]] == matrices
    takers = [x for x in compiled.lines if x.instr is not None and x.instr.gains is not None]
    assert [s.columns for s in found["gains"]] == [x.values["len"] for x in takers]
    # At least one product ahead: before the matrix of the last product that was issued before the taker.
    body = [x for x in compiled.lines if x.instr is not None and not x.instr.head]
    gains = iter(found["gains"])
    last = None
    for line in body:
        if line.op == "tmatmul":
            last = line.values["addr"]
        elif line.instr.gains is not None:
            segment = next(gains)
            assert last is None or segment.addr < last


def test_gains_beyond_the_buffer_are_refused(tmp_path):
    """Six products share one running product's time: their gains all travel ahead of it."""
    g = GraphMaker(seed=24, width=64)
    x = g.embedding()
    h = g.rmsnorm(x)
    first = g.bitlinear(h)
    normed = [g.rmsnorm(first) for _ in range(6)]
    total = normed[0]
    for n in normed[1:]:
        total = g.node("add", g.node("mul", total, n), total)
    folder = g.save(tmp_path / "model", g.bitlinear(total, rows=g.vocabulary))
    core = load_core("tiny")
    assert compile_graph(folder, core.replace(name="large", gain_buffer_elements=512)).program.code
    with pytest.raises(CompileError, match=r"320 gains in 5 vectors would wait at once, core 'tiny' holds 256"):
        compile_graph(folder, core)


def test_gain_segments_agree_with_the_hardware():
    from trilobit.assembler.compiler import stream

    assert stream._GAIN_SEGMENTS == hdl_stream.GAIN_SEGMENTS


def test_activation_buffers_are_never_overwritten_before_their_products():
    for core in ("tiny", "axi512"):
        owner = {}
        for line in compile_graph(TOY2, core).lines:
            if line.op == "normq":
                owner[line.values["act"]] = line.instr.writes
            elif line.op == "tmatmul":
                assert owner[line.values["act"]] is line.instr.act


def test_program_too_long_for_the_core():
    core = load_core("tiny").replace(name="short", program_words=32)
    with pytest.raises(CompileError, match=r"the program has \d+ instructions, core 'short' holds 32"):
        compile_graph(TOY, core)


def test_every_word_decodes():
    for word in compile_graph(TOY2, "axi512").program.code:
        ISA.decode(word)
