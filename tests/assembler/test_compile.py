"""The compiler's programs compute what the graph says."""

import numpy as np
import pytest
from assembler_graphs import TOY, TOY2, GraphMaker, compare, run_logits

from trilobit.assembler import assemble
from trilobit.assembler.compiler import Policy, compile_graph
from trilobit.errors import CompileError
from trilobit.isa.core import load_core
from trilobit.model.evaluator import evaluate_float
from trilobit.model.graph import load_tensors
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator


@pytest.mark.parametrize("folder", [TOY, TOY2], ids=lambda f: f.name)
@pytest.mark.parametrize("core", ["tiny", "paper8", "axi512"])
def test_toy_models_agree_with_the_float_graph(folder, core):
    compiled = compile_graph(folder, core, store_logits=True)
    assert compare(compiled, folder) > 0.9995


def test_wide_policy_is_no_worse():
    narrow = compare(compile_graph(TOY2, "tiny", store_logits=True), TOY2, count=200)
    wide = compare(compile_graph(TOY2, "tiny", store_logits=True, policy=Policy(wide=True)), TOY2, count=200)
    assert wide > narrow - 1e-5


def test_prompt_tokens_skip_the_head_and_generation_feeds_back():
    """The program proper: prompt, then greedy tokens, equal to the teacher-forced argmax on the same tokens."""
    compiled = compile_graph(TOY2, "tiny", store_logits=True)
    prompt, count = [3, 17, 42, 5], 12
    simulator = FunctionalSimulator(compiled.core, compiled.program, compiled.memory(), HostSettings(limit=count))
    simulator.push(prompt)
    result = simulator.run()
    assert result.halted and not result.fault and len(result.tokens) == count
    logits, _ = run_logits(compiled, np.array(prompt + result.tokens[:-1]))
    assert logits[len(prompt) - 1 :].argmax(1).tolist() == result.tokens
    tokens = len(prompt) + count - 1
    assert result.weights == tokens * compiled.weights(head=False) + count * (compiled.weights() - compiled.weights(head=False))


def test_assembly_text_gives_the_same_program():
    for folder, core in ((TOY, "tiny"), (TOY2, "axi512")):
        compiled = compile_graph(folder, core, store_logits=True)
        assembled = assemble(compiled.source)
        assert assembled.code == compiled.program.code
        assert assembled.regions == compiled.program.regions
        assert (assembled.window_size, assembled.write_start) == (compiled.program.window_size, compiled.program.write_start)
        assert (assembled.name, assembled.core) == (compiled.name, compiled.core.name)


def test_assembly_text_names_modules():
    assert "; ---- model.layers.0.attn.g_proj" in compile_graph(TOY, "tiny").source


def mlgru(g: GraphMaker, x: str, order: str = "fig", bound: float = 0.0) -> str:
    """A token mixer; ``order`` is that in which its projections are written down."""
    a = g.rmsnorm(x)
    products = {name: g.bitlinear(a) for name in order}
    f = g.node("sigmoid", products["f"])
    if bound:
        lower = g.rng.uniform(0, bound, g.width)
        f = g.node("add", g.node("mul", f, g.constant(1 - lower)), g.constant(lower))
    state = g.node("recurrence", g.node("silu", products["i"]), f)
    gated = g.node("mul", g.node("silu", state), g.rmsnorm(products["g"]))
    return g.bitlinear(gated)


def glu(g: GraphMaker, x: str, inner: int = 50) -> str:
    both = g.bitlinear(g.rmsnorm(x), rows=2 * inner)
    gate, y = g.slice(both, 0, inner), g.slice(both, inner, 2 * inner)
    return g.bitlinear(g.node("mul", g.node("silu", gate), y))


def logits(g: GraphMaker, x: str) -> str:
    return g.bitlinear(g.rmsnorm(x), rows=g.vocabulary)


def test_unseen_module_other_gate_order_and_an_extra_residual_branch(tmp_path):
    g = GraphMaker(seed=1)
    x = g.embedding()
    h = g.node("add", x, mlgru(g, x, order="gif", bound=0.9))
    h = g.node("add", g.node("add", glu(g, h), h), x)  # the embedding once more
    h = g.node("add", mlgru(g, h, order="ifg"), h)
    folder = g.save(tmp_path / "model", logits(g, h))
    assert compare(compile_graph(folder, "axi512", store_logits=True), folder) > 0.999


def test_slices_that_do_not_start_at_a_group_of_five(tmp_path):
    g = GraphMaker(seed=2)
    x = g.embedding()
    both = g.bitlinear(g.rmsnorm(x), rows=71)
    a, b, c = g.slice(both, 0, 33), g.slice(both, 33, 66), g.slice(both, 38, 71)
    h = g.node("mul", g.node("sigmoid", a), g.node("add", b, c))
    folder = g.save(tmp_path / "model", logits(g, h))
    compiled = compile_graph(folder, "paper8", store_logits=True)
    assert compare(compiled, folder) > 0.999


def test_every_elementwise_operation(tmp_path):
    g = GraphMaker(seed=3)
    x = g.embedding()
    p, q = g.bitlinear(g.rmsnorm(x)), g.bitlinear(x, gain=False)
    positive = g.scalar("add", g.node("exp", p), 0.5)
    h = g.node("div", q, positive)
    h = g.node("add", h, g.scalar("sub", g.node("sigmoid", q), 1.0, side="left"))
    h = g.node("max", h, g.node("neg", p))
    h = g.node("sub", h, g.scalar("mul", g.node("silu", q), -0.37))
    h = g.node("add", h, g.scalar("div", positive, 2.0, side="left"))
    h = g.node("sub", g.scalar("max", h, -0.8), g.scalar("sub", g.scalar("div", p, 3.0), 2.5, side="left"))
    h = g.node("mul", h, g.constant(g.rng.standard_normal(g.width)))
    h = g.node("add", h, g.rmsnorm(p, gain=False))  # a norm used as a vector
    folder = g.save(tmp_path / "model", logits(g, h))
    compiled = compile_graph(folder, "axi512", store_logits=True)
    used = {line.op for line in compiled.lines}
    assert {"add", "sub", "mul", "div", "max", "exp", "sig", "silu", "onem", "addi", "muli", "norm"} <= used
    assert compare(compiled, folder) > 0.999


def test_slice_of_a_sum_goes_through_memory(tmp_path):
    g = GraphMaker(seed=4, width=64)
    x = g.embedding()
    h = g.node("add", x, g.bitlinear(g.rmsnorm(x)))
    h = g.node("mul", g.node("sigmoid", g.slice(h, 0, 32)), g.slice(h, 32, 64))
    folder = g.save(tmp_path / "model", logits(g, h))
    compiled = compile_graph(folder, "tiny", store_logits=True)
    assert "scratch" in compiled.program.regions
    assert compare(compiled, folder) > 0.999
    with pytest.raises(CompileError, match=r"a slice from element 32 does not start at a whole memory beat"):
        compile_graph(folder, load_core("axi512").replace(name="wide", beat_bytes=256, gain_buffer_elements=16384))


def test_common_subexpressions_and_constants_cost_nothing(tmp_path):
    g = GraphMaker(seed=5)
    x = g.embedding()
    a = g.rmsnorm(x)
    p = g.bitlinear(a)
    twice = g.node("add", g.node("silu", p), g.node("silu", p))
    unused = g.bitlinear(a)
    folded = g.node("mul", g.constant(np.full(g.width, 0.5)), g.constant(np.full(g.width, 3.0)))
    h = g.node("mul", twice, g.node("add", folded, g.constant(np.zeros(g.width))))
    folder = g.save(tmp_path / "model", logits(g, h))
    compiled = compile_graph(folder, "tiny", store_logits=True)
    ops = [line.op for line in compiled.lines]
    assert (ops.count("silu"), ops.count("tmatmul"), ops.count("ldv")) == (1, 2, 1)
    assert not any(unused in v.name for v in compiled.values)
    assert compare(compiled, folder) > 0.999


@pytest.mark.parametrize("gate", ["sigmoid", "bounded", "scaled", "negated", "complement", "generic", "constant"])
def test_recurrence_with_every_form_of_gate(tmp_path, gate):
    g = GraphMaker(seed=6)
    x = g.embedding()
    a = g.rmsnorm(x)
    y = g.bitlinear(a)
    s = g.node("sigmoid", y)
    lower = g.rng.uniform(0.5, 0.99, g.width)
    match gate:
        case "sigmoid":
            f = s
        case "bounded":
            f = g.node("add", g.constant(lower), g.node("mul", g.constant(1 - lower), s))
        case "scaled":
            f = g.scalar("mul", s, 0.75)
        case "negated":
            f = g.scalar("sub", g.scalar("mul", s, 0.25), 1.0, side="left")
        case "complement":
            f = g.scalar("sub", s, 1.0, side="left")
        case "generic":
            f = g.node("mul", s, s)
        case _:
            f = g.constant(lower)
    state = g.node("recurrence", g.bitlinear(a), f)
    folder = g.save(tmp_path / "model", logits(g, g.node("add", x, state)))
    compiled = compile_graph(folder, "tiny", store_logits=True)
    assert ("onem" in [line.op for line in compiled.lines]) == (gate == "generic")
    assert compare(compiled, folder) > 0.9995


def test_slow_state_keeps_its_memory(tmp_path):
    """1 - f near 2^-11: the state after many tokens agrees with the float graph's within 1e-3 relative RMS."""
    g = GraphMaker(seed=7, vocabulary=30)
    x = g.embedding()
    a = g.rmsnorm(x)
    lower = np.full(g.width, 1 - 2.0**-10)
    f = g.node("add", g.constant(lower), g.node("mul", g.constant(1 - lower), g.node("sigmoid", g.bitlinear(a))))
    state = g.node("recurrence", g.node("silu", g.bitlinear(a)), f)
    folder = g.save(tmp_path / "model", logits(g, state), calibration=1500)
    compiled = compile_graph(folder, "tiny")
    tokens = np.random.default_rng(8).integers(0, g.vocabulary, 1500)
    simulator = FunctionalSimulator(compiled.core, compiled.program, compiled.memory(), HostSettings(limit=1))
    simulator.push(tokens.tolist())
    assert simulator.run().halted
    region = compiled.program.regions["state"]
    value = next(v for v in compiled.values if v.name == state)
    got = np.array(simulator.memory[region.addr : region.addr + 4 * g.width]).view("<i4") * 2.0**-value.point
    graph = compiled.graph
    graph.outputs = [state]
    expected = evaluate_float(graph, load_tensors(graph, folder), tokens)[-1]
    error = np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2))
    print(f"relative RMS error of the state {error:.2e}")
    assert error < 1e-3


def test_logits_longer_than_a_register_are_tiled(tmp_path):
    g = GraphMaker(seed=9, vocabulary=203)
    x = g.embedding()
    folder = g.save(tmp_path / "model", logits(g, g.node("add", x, glu(g, x, inner=40))))
    core = load_core("tiny")
    compiled = compile_graph(folder, core.replace(max_length=80, gain_buffer_elements=256), store_logits=True)
    tiles = [line.values for line in compiled.lines if line.op == "argmax"]
    assert [t["base"] for t in tiles] == [0, 70, 140] and tiles[-1]["len"] == 63
    assert [(t["first"], t["last"]) for t in tiles] == [(1, 0), (0, 0), (0, 1)]
    stores = [line.values["addr"] for line in compiled.lines if line.op == "sv" and line.instr.place.region == "logits"]
    assert sorted(addr - compiled.logits.addr for addr in stores) == [0, 288, 576]  # 280 bytes each, from whole 16 bytes on
    assert assemble(compiled.source).code == compiled.program.code  # which looks at the alignment of every address
    assert compare(compiled, folder) > 0.999


def test_eps_matters_and_is_exact(tmp_path):
    """Tiny inputs, so that both eps terms of a folded norm weigh in; and of a single norm."""
    g = GraphMaker(seed=10)
    x = g.scalar("mul", g.embedding(), 3e-3)
    a = g.bitlinear(g.rmsnorm(x, eps=1e-5), eps=0.3)
    b = g.bitlinear(x, eps=1e-5)
    out = g.bitlinear(g.node("mul", g.rmsnorm(g.scalar("mul", a, 0.01), eps=1e-4), g.node("silu", b)), rows=g.vocabulary, eps=1e-2)
    folder = g.save(tmp_path / "model", out)
    compiled = compile_graph(folder, "tiny", store_logits=True)
    tokens = np.random.default_rng(11).integers(0, g.vocabulary, 50)
    expected = evaluate_float(compiled.graph, load_tensors(compiled.graph, folder), tokens)
    got, _ = run_logits(compiled, tokens)
    size = np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)  # the scale is where eps shows
    assert np.abs(size - 1).max() < 0.01
    assert compare(compiled, folder) > 0.999


def test_channel_far_above_the_others(tmp_path):
    g = GraphMaker(seed=12)
    x = g.embedding()
    scale = np.ones(g.width)
    scale[3] = 300.0
    h = g.node("mul", x, g.constant(scale))
    h = g.node("add", h, mlgru(g, h))
    gain = np.ones(g.width, dtype=np.float32)
    gain[3] = 1 / 300
    normed = g.node("rmsnorm", h, weight=g.tensor(gain), eps=1e-6)
    folder = g.save(tmp_path / "model", g.bitlinear(normed, rows=g.vocabulary))
    assert compare(compile_graph(folder, "tiny", store_logits=True), folder) > 0.999


def test_peaked_vectors_reach_the_largest_scale_without_saturating(tmp_path):
    """All of a vector in one channel: the activation scale is sqrt(N) times the usual, and so is the product's."""
    g = GraphMaker(seed=13)
    table = g.rng.standard_normal((g.vocabulary, g.width)) * 0.3
    table[::4] *= 1e-3
    table[::4, 7] = 2.0
    x = g.node("embedding", "token", length=g.width, weight=g.tensor(table.astype(np.float32)))
    h = g.node("add", x, g.bitlinear(g.rmsnorm(x)))
    folder = g.save(tmp_path / "model", logits(g, h))
    for policy in (Policy(), Policy(wide=True)):
        compiled = compile_graph(folder, "tiny", store_logits=True, policy=policy)
        assert compare(compiled, folder) > 0.999
        assert run_logits(compiled, np.arange(g.vocabulary))[1] == {}
