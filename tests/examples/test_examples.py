"""Every example on the functional simulator against floating-point mathematics done here."""

import numpy as np
import pytest
from examples_support import EXAMPLES, FOLDER, example, initial, run_functional, values

from trilobit.assembler import assemble_file
from trilobit.isa.core import load_core
from trilobit.isa.segments import parse_segment, segment_gains, segment_trits
from trilobit.isa.spec import ISA
from trilobit.sim.functional import FunctionalSimulator


def segments(sim, region):
    """The segments of a stream region in order: gains as vectors, matrices as real numbers (trits x scale)."""
    program, step = sim.program, sim.config.beat_bytes
    memory, addr = program.memory(), program.regions[region].addr
    found = []
    while addr < program.regions[region].end:
        segment = parse_segment(memory, addr, step)
        if segment.kind == "gains":
            found.append(segment_gains(memory, segment).astype(float))
        else:
            found.append(segment_trits(memory, segment, step) * (segment.scale.mantissa * 2.0**segment.scale.exponent))
        addr = segment.payload + segment.beats * step
    return found


def quantise(x):
    """int8 as the reference model does it, half away from zero."""
    return np.sign(x) * np.floor(np.abs(x) * 127 / np.abs(x).max() + 0.5)


def test_there_are_examples_for_the_tiny_core_and_each_explains_itself():
    assert len(EXAMPLES) >= 5
    for name in EXAMPLES:
        _, config = example(name)
        assert config.name == "tiny"
        text = (FOLDER / f"{name}.s").read_text()
        assert text.startswith("; ") and f"trilobit run examples/{name}.s" in text


def test_add_vectors():
    sim = run_functional("add_vectors")
    expected = np.clip(initial(sim, "left") + initial(sim, "right"), -32768, 32767)
    assert (values(sim, "sum") == expected).all()
    assert (sim.register(2)[:16] == expected).all()


def test_norm():
    sim = run_functional("norm")
    x, gain = initial(sim, "x") / 2**10, segments(sim, "gains")[0] / 2**14
    expected = x * gain / np.sqrt((x * x).mean() + 1e-6)
    assert values(sim, "y") / 2**12 == pytest.approx(expected, abs=2.0**-12, rel=2.0**-14)


def test_ternary_product():
    sim = run_functional("ternary_product")
    x, (matrix,) = initial(sim, "x"), segments(sim, "weights")
    q = quantise(x)
    expected = matrix @ q * np.abs(x).max()
    assert expected == pytest.approx(matrix @ x * 127, abs=8 * 0.5 * np.abs(x).max() / 127)
    assert values(sim, "y") == pytest.approx(expected, abs=0.6)
    assert sim.result().saturated == {}


def test_overlap():
    sim = run_functional("overlap")
    x, (matrix,) = initial(sim, "x"), segments(sim, "weights")
    product = matrix @ quantise(x) * np.abs(x).max() / 8
    assert values(sim, "y")[:60] == pytest.approx(product + 2 * x[:60], abs=0.6)
    assert sim.result().saturated == {}


def test_recurrence_follows_its_closed_form():
    sim = run_functional("recurrence")
    x, c = initial(sim, "input") / 2**8, initial(sim, "c") / 2**24
    expected = x * (1 - (1 - c) ** 24)
    error = np.abs(values(sim, "state") / 2**20 - expected)
    assert (error <= 24 * 2.0**-20).all(), "half a unit a step at most"
    assert sim.result().saturated == {}


def test_argmax_walks_through_the_vocabulary():
    token, expected = 3, []
    for _ in range(8):
        token = (3 * token + 1) % 8
        expected.append(token)
    assert run_functional("argmax").result().tokens == expected


def test_mixer_is_29_instructions_with_three_products():
    program, _ = example("mixer29")
    names = [ISA.decode(word).name for word in program.code]
    assert len(names) == 29
    assert names.count("tmatmul") == 3 and names.count("exp") == 2 and names.count("div") == 1


@pytest.mark.parametrize(("d", "core", "tokens"), [(32, "tiny", 40), (512, "paper8", 10)])
def test_mixer_follows_the_recurrence_over_many_steps(rng, d, core, tokens):
    """Tokens through the machine's memory, against float64 in the form without the running maximum."""
    config = load_core(core)
    program = assemble_file(FOLDER / "mixer29.s", config, defines={"D": str(d), "SCALE": f"{1.1 / d**0.5:.3f}"})
    sim = FunctionalSimulator(config, program)
    memory = program.memory()
    matrices, w = segments(sim, "weights"), initial(sim, "w") / 2**10
    assert [matrix.shape for matrix in matrices] == [(d, d)] * 3
    numerator = denominator = np.zeros(d)
    region = program.regions["x"]
    for _ in range(tokens):
        x = rng.integers(-8000, 8000, d)
        memory[region.addr : region.end] = np.frombuffer(x.astype("<i2").tobytes(), np.uint8)
        sim = FunctionalSimulator(config, program, memory)
        assert sim.run().halted
        k, v, r = (m @ quantise(x) * np.abs(x).max() for m in matrices)
        numerator = np.exp(w) * numerator + np.exp(k) * v
        denominator = np.exp(w) * denominator + np.exp(k)
        expected = numerator / denominator / (1 + np.exp(-r))
        # k has a rounding error of 2^-11 a step in the exponent, v of 2^-11; the largest |v| is about 5.
        assert values(sim, "out") / 2**12 == pytest.approx(expected, abs=0.01)
        assert sim.result().saturated == {}
