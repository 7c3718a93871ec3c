"""Packed rows from the middle of a matrix, in pieces of any size: the same bytes as packing those rows."""

import numpy as np
import pytest

from trilobit.assembler.compiler import tensors
from trilobit.isa import trits


@pytest.mark.parametrize("chunk", [1, 64, 1 << 22])
def test_packed_rows_are_those_of_the_whole_matrix(monkeypatch, chunk):
    monkeypatch.setattr(tensors, "_CHUNK", chunk)
    rng = np.random.default_rng(4)
    for rows in (1, 4, 5, 23, 40):
        matrix = rng.integers(-1, 2, (rows, 7))
        stored = tensors.Stored({"w": trits.pack(matrix)})
        for start in range(rows):
            for stop in range(start + 1, rows + 1):
                out = np.full((-(-(stop - start) // 5), 9), 255, dtype=np.uint8)
                stored.packed("w", start, stop, out[:, :7])
                assert np.array_equal(out[:, :7], trits.pack(matrix[start:stop])), (rows, start, stop)
                assert (out[:, 7:] == 255).all()


def test_the_peak_of_a_table_is_found_in_every_piece(monkeypatch):
    monkeypatch.setattr(tensors, "_CHUNK", 6)
    table = np.zeros((10, 4), dtype=np.float32)
    for row in range(10):
        table[:] = 0
        table[row, 2] = -3
        assert tensors.Stored({"t": table}).peak("t") == 3
