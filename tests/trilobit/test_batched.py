"""Many streams at once give the functional simulator's integers."""

import numpy as np
import pytest

from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler.pipeline import compile_model
from trilobit.batched import BatchedSimulator, _bits, _normalise, _rsqrt, _square_norm
from trilobit.errors import BundleError
from trilobit.evaluation import Text, batched_logits, functional_logits, score
from trilobit.isa.fixed import normalise, rsqrt, square_norm


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    compile_model("shakespeare-tiny", "ulx3s", folder, store_logits=True)
    return load_bundle(folder)


def test_scalars_of_many_streams_are_those_of_one(rng):
    values = np.concatenate([rng.integers(0, 1 << int(b), 50) for b in rng.integers(1, 61, 40)] + [[0, 1, (1 << 36) - 1, 1 << 36]])
    assert _bits(values).tolist() == [int(v).bit_length() for v in values]
    exponents = np.full(len(values), 3)
    assert list(zip(*(x.tolist() for x in _normalise(values, exponents)), strict=True)) == [
        normalise(int(v), 3) if v else (0, 0) for v in values
    ]
    squares = _square_norm(values)
    assert list(zip(*(x.tolist() for x in squares), strict=True)) == [square_norm(int(v)) for v in values]
    assert list(zip(*(x.tolist() for x in _rsqrt(squares)), strict=True)) == [rsqrt(square_norm(int(v))) for v in values]


def test_each_stream_has_the_functional_simulators_logits(bundle, rng):
    inputs = rng.integers(0, bundle.manifest.logits.length, (3, 7))
    got = np.empty((3, 7, bundle.manifest.logits.length))
    batched_logits(bundle, inputs, lambda t, logits: got.__setitem__((slice(None), t), logits))
    for stream, tokens in enumerate(inputs):
        expected = []
        functional_logits(bundle, tokens[None], lambda _, logits: expected.append(logits[0]))  # noqa: B023
        assert np.array_equal(got[stream], expected)


def test_score_over_streams_is_the_sum_of_its_parts(bundle, rng):
    inputs, targets = rng.integers(0, 60, (2, 12))
    whole, cost = score(bundle, Text(inputs, targets, 12), None, streams=3)
    parts = [score(bundle, Text(inputs[k : k + 4], targets[k : k + 4], 4), None)[0] for k in (0, 4, 8)]
    assert whole.loss == pytest.approx(np.mean([part.loss for part in parts]), rel=1e-12)
    assert (whole.tokens, cost.saturated) == (12, 0)


def test_logits_must_be_stored(tmp_path):
    compile_model("shakespeare-tiny", "ulx3s", tmp_path / "plain")
    plain = load_bundle(tmp_path / "plain")
    with pytest.raises(BundleError, match="--store-logits"):
        BatchedSimulator(plain.core, plain.program, plain.memory(), plain.manifest.logits, 2)
    with pytest.raises(BundleError, match="--store-logits"):
        batched_logits(plain, np.zeros((2, 2), np.int64), lambda *_: None)
