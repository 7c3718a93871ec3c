"""The compiled ternary product against the unpacked one: every tail, the largest sums, and life without a compiler."""

import shutil

import numpy as np
import pytest

from trilobit.isa.trits import pack, unpack
from trilobit.sim import native, toolchain

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here; the simulator then decodes in NumPy")


@pytest.fixture
def product():
    found = native.ternary_product()
    assert found is not None
    return found


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 64, 100, 1024, 8191, 8192, 8225, 20000])
@pytest.mark.parametrize("groups", [1, 7])
def test_equals_the_unpacked_product(columns, groups, product, rng):
    """Any byte, also those that no packer writes, in rows that are longer than the matrix."""
    packed = rng.integers(0, 256, (groups, columns + int(rng.integers(0, 70)))).astype(np.uint8)[:, :columns]
    q = rng.integers(-127, 128, columns).astype(np.int8)
    expected = unpack(packed, 5 * groups).astype(np.int64) @ q.astype(np.int64)
    assert (product(packed, q) == expected).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_largest_sums_do_not_overflow(sign, product):
    columns = 40_000  # beyond the 16,384 that a lane of 16 bits could hold
    packed = pack(np.full((5, columns), sign, dtype=np.int8))
    for value in (-127, 127):
        assert (product(packed, np.full(columns, value, np.int8)) == sign * value * columns).all()


def test_wrong_arrays_are_refused(product):
    packed = np.zeros((2, 64), np.uint8)
    for bad in (packed.T, packed.astype(np.int8), packed[:, ::2]):
        with pytest.raises(ValueError, match="rows of uint8"):
            product(bad, np.zeros(bad.shape[1], np.int8))
    with pytest.raises(ValueError, match="as many int8"):
        product(packed, np.zeros(63, np.int8))


def test_without_a_compiler_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("TRILOBIT_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "GXX", toolchain.Tool("the C++ compiler", "no-such-compiler", "install one"))
    native.ternary_product.cache_clear()
    assert native.ternary_product() is None
    native.ternary_product.cache_clear()


def test_a_build_is_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TRILOBIT_CACHE", str(tmp_path))
    native.ternary_product.cache_clear()
    assert native.ternary_product() is not None
    native.ternary_product.cache_clear()
    assert native.ternary_product() is not None
    native.ternary_product.cache_clear()
    assert capsys.readouterr().err.count("Building the ternary product") == 1
    assert len(list(tmp_path.glob("ternary-*.so"))) == 1
