"""Ternary quantisation of a weight matrix, packed as it goes, in NumPy: the same values as the PyTorch reference.

``scale = max(mean |W|, 1e-5)``, trits ``clamp(round(W / scale), -1, 1)``; see ``trilobit.model.reference.BitLinear``.
"""

from typing import NamedTuple

import numpy as np

from trilobit.isa.trits import ROWS_PER_BYTE, pack, unpack
from trilobit.model.tensorfile import float32_of

__all__ = ["Counts", "Packed", "count_trits", "quantise"]

SCALE_FLOOR = 1e-5  # smallest mean|W| that a scale is made from
_BLOCK = 1 << 18  # elements worked on at once: they stay in the cache

# The byte of each base-3 number of five trits, and per byte how many of its trits are -1, 0, +1.
_NUMBERS = np.stack([np.arange(243) // place % 3 for place in (81, 27, 9, 3, 1)]).astype(np.int8) - 1
_BYTES = np.array([pack(_NUMBERS[:, n : n + 1])[0, 0] for n in range(243)], dtype=np.uint8)
_OF_BYTE = np.stack([(unpack(np.arange(256, dtype=np.uint8)[None], ROWS_PER_BYTE) == t).sum(axis=0) for t in (-1, 0, 1)], axis=1)


class Counts(NamedTuple):
    """Trits of a matrix by value, the padding left out."""

    minus: int
    zero: int
    plus: int

    @property
    def share_of_zeros(self) -> float:
        """Zeros over all trits."""
        return self.zero / max(sum(self), 1)


class Packed(NamedTuple):
    """A quantised matrix: uint8 [ceil(rows / 5), columns], fp32 scale (mean |W|)."""

    weight: np.ndarray
    scale: np.float32


def _blocks(rows: int, columns: int) -> list[slice]:
    """Slices of rows, whole groups of five each."""
    step = max(_BLOCK // max(columns, 1) // ROWS_PER_BYTE, 1) * ROWS_PER_BYTE
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def quantise(raw: np.ndarray, dtype: str) -> Packed:
    """Quantise a matrix and pack it.

    Args:
        raw: [rows, columns] as ``TensorReader.read`` gives it.
        dtype: its type by safetensors' name.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    rows, columns = raw.shape
    blocks = _blocks(rows, columns)
    total = 0.0
    for block in blocks:
        total += float(np.abs(float32_of(raw[block], dtype)).sum(dtype=np.float64))
    if not np.isfinite(total):  # a sum of finite fp32 magnitudes is finite in fp64
        raise ValueError("holds NaN or infinity")
    scale = np.float32(max(total / max(raw.size, 1), SCALE_FLOOR))
    inverse = np.float32(1) / scale
    packed = np.empty((-(-rows // ROWS_PER_BYTE), columns), dtype=np.uint8)
    for block in blocks:
        value = float32_of(raw[block], dtype) * inverse
        # Half rounds to even: only what is beyond a half is a trit.
        digits = (value > 0.5).view(np.uint8) + np.uint8(1) - (value < -0.5).view(np.uint8)
        if len(digits) % ROWS_PER_BYTE:
            padding = np.ones((-len(digits) % ROWS_PER_BYTE, columns), dtype=np.uint8)
            digits = np.concatenate([digits, padding])
        groups = digits.reshape(-1, ROWS_PER_BYTE, columns)
        number = groups[:, 0]
        for row in range(1, ROWS_PER_BYTE):
            number = number * np.uint8(3) + groups[:, row]
        first = block.start // ROWS_PER_BYTE
        np.take(_BYTES, number, out=packed[first : first + len(groups)], mode="clip")  # a number is below 243: no buffer
    return Packed(packed, scale)


def count_trits(packed: np.ndarray, rows: int) -> Counts:
    """How many trits of each value a packed matrix [ceil(rows / 5), columns] holds."""
    flat = packed.reshape(-1)
    bins = np.zeros(256, dtype=np.int64)
    for start in range(0, len(flat), 1 << 20):
        bins += np.bincount(flat[start : start + (1 << 20)], minlength=256)
    minus, zero, plus = (int(n) for n in bins @ _OF_BYTE)
    return Counts(minus, zero - (len(packed) * ROWS_PER_BYTE - rows) * packed.shape[1], plus)
