"""The study of fixed point: its machine is the functional simulator, what it varies varies, and an outlier channel does no harm."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from trilobit.assembler.bundle import teacher_forced
from trilobit.assembler.compiler.pipeline import resolve
from trilobit.isa import semantics
from trilobit.sim.functional import FunctionalSimulator

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from fixed_point_machine import Arithmetic, Machine, half_even, table, truncated
from fixed_point_state import recurrence

TINY = Path(resolve("shakespeare-tiny"))


def test_default_machine_gives_the_functional_simulators_logits(rng):
    compiled = Arithmetic().compile(TINY)
    ids = rng.integers(0, compiled.graph.vocab_size, (6, 3))
    machine = Machine(compiled, 3)
    got = np.stack([machine.step(row) for row in ids])
    where = compiled.logits
    for stream in range(3):
        simulator = FunctionalSimulator(compiled.core, teacher_forced(compiled.program), compiled.memory())
        for row, token in zip(got, ids[:, stream].tolist(), strict=True):
            simulator.push([token])
            simulator.run()
            logits = np.asarray(simulator.memory)[where.addr : where.addr + 4 * where.length].view("<i4")
            assert np.array_equal(row[stream], logits * 2.0**-where.point)
    assert machine.saturated == 0


@pytest.mark.parametrize(("kind", "product"), [("exp2", semantics.EXP2), ("recip", semantics.RECIP)])
def test_table_is_the_products_at_its_size_and_errs_less_with_more_entries(kind, product):
    u = np.arange(1 << 17)
    assert np.array_equal(table(kind, 8)(u), product(u))
    exact = {"exp2": np.exp2(u / 2**17) * 2**17, "recip": 2**18 / (1 + u / 2**17)}[kind]
    errors = [np.abs(table(kind, bits)(u) - exact).max() for bits in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 100 * errors[-1]
    assert np.abs(table(kind, 8, interpolate=False)(u) - exact).max() > 50 * errors[-1]


def test_roundings_against_fractions(rng):
    for x in [*rng.integers(-(1 << 40), 1 << 40, 200).tolist(), 5, -5, 6, -6, 2, -2]:
        for shift in (1, 2, 7):
            exact = Fraction(x, 1 << shift)
            assert half_even(np.int64(x), shift) == round(exact)
            assert truncated(np.int64(x), shift) == exact.__floor__()


def test_widths_change_the_program_and_leave_the_product_alone():
    before = (semantics.rs, semantics.EXP2, semantics._Saturation.finish)
    chosen, narrow = Arithmetic().compile(TINY), Arithmetic(narrow_bits=12).compile(TINY)
    points = [(a.point, b.point) for a, b in zip(chosen.values, narrow.values, strict=True) if a.op == "mul" and not a.wide]
    assert points and all(a - b == 4 for a, b in points)
    logits = [Machine(c, 1, a).step(np.array([5])) for c, a in ((chosen, Arithmetic()), (narrow, Arithmetic(narrow_bits=12)))]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 2.0
    assert before == (semantics.rs, semantics.EXP2, semantics._Saturation.finish)


def test_state_error_over_2000_tokens_is_below_a_thousandth_for_gates_down_to_2_to_minus_13(seed):
    assert recurrence(Arithmetic(), seed=seed).max() < 1e-3


def test_a_state_of_24_bits_or_a_truncated_one_misses_that_bound(seed):
    for worse in (Arithmetic(state_bits=24), Arithmetic(state="truncate")):
        assert recurrence(worse, steps=1500, seed=seed)[:, -1].max() > 1e-3


def test_a_channel_300_times_the_median_saturates_nothing_and_stays_faithful(tmp_path):
    """One channel of the residual stream scaled to 300 times the median; the norms' gains undo it, so the model still predicts."""
    torch = pytest.importorskip("torch", reason="the reference needs PyTorch")
    from fixed_point import compare, reference, row_of
    from fixed_point_outlier import with_outlier

    from trilobit.evaluation import Tally
    from trilobit.model import load_pretrained

    model, channel = load_pretrained(TINY), 5
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        ids, state = [torch.zeros(16, dtype=torch.long)], model.init_state(16)
        for _ in range(64):  # a text of the model's own
            logits, state = model.step(ids[-1], state)
            ids.append(torch.multinomial(torch.softmax(logits, -1), 1, generator=generator)[:, 0])
    stream = torch.stack(ids).numpy()  # [65, 16]
    with_outlier(TINY, tmp_path / "model", 300, stream[:, 8:].T.ravel().tolist(), channel)
    sizes = load_pretrained(tmp_path / "model").model.embeddings.weight.detach().square().mean(0).sqrt()
    assert float(sizes[channel] / sizes.median()) == pytest.approx(300, rel=5e-3)

    exact, _ = reference(tmp_path / "model", stream[:-1])
    machine, tally = Machine(Arithmetic().compile(tmp_path / "model"), 16), Tally()
    for tokens, logits, targets in zip(stream[:-1], exact, stream[1:], strict=True):
        compare(machine.step(tokens), logits, targets, tally)
    row = row_of(tally)
    print(row)
    assert machine.saturated == 0
    assert row["kl"] < 2e-3 and abs(row["loss_change"]) < 5e-3 and row["top1_agreement"] > 0.97
