"""Packing ternary weights: five output rows of one input column in a byte.

A byte holds the trits of rows 5g..5g+4 for one column (base 3, 1.6 bits a weight). The byte is the base-3 number scaled
up to eight bits, ``ceil(value * 256 / 243)``, so that a trit leaves by a multiplication: ``3 * byte`` has the next digit
in bits 8-9 and the rest in bits 0-7. The same five steps are the hardware's decoder (``trilobit.hdl.trit``). Row 5g is
the first digit to leave. Digits are trit + 1; padding is the trit zero.
"""

import numpy as np

__all__ = ["ROWS_PER_BYTE", "ZERO_BYTE", "pack", "unpack"]

ROWS_PER_BYTE = 5
_PLACES = (81, 27, 9, 3, 1)
# The byte of each base-3 number of five digits. The 13 bytes that are none of them decode as the steps above say, too.
_BYTES = ((np.arange(243) * 256 + 242) // 243).astype(np.uint8)


def pack(trits: np.ndarray) -> np.ndarray:
    """Pack a ternary matrix.

    Args:
        trits: [rows, columns] of -1, 0, +1 (any integer type).

    Returns:
        [ceil(rows / 5), columns] of uint8; missing rows are zero trits.

    Raises:
        ValueError: not two-dimensional, or a value outside -1..1.
    """
    trits = np.asarray(trits)
    if trits.ndim != 2:
        raise ValueError(f"expected a matrix [rows, columns], got shape {trits.shape!r}")
    if trits.size and (trits.min() < -1 or trits.max() > 1):
        raise ValueError(f"expected trits -1, 0, +1, got values from {trits.min()} to {trits.max()}")
    rows, columns = trits.shape
    groups = -(-rows // ROWS_PER_BYTE)
    digits = np.ones((groups * ROWS_PER_BYTE, columns), dtype=np.uint8)
    np.add(trits, 1, out=digits[:rows], casting="unsafe")
    digits = digits.reshape(groups, ROWS_PER_BYTE, columns)
    number = np.zeros((groups, columns), dtype=np.uint8)
    for row, place in enumerate(_PLACES):
        number += digits[:, row] * np.uint8(place)
    return np.take(_BYTES, number)


def unpack(packed: np.ndarray, rows: int) -> np.ndarray:
    """The inverse of :func:`pack`: [ceil(rows / 5), columns] of uint8 to [rows, columns] of int8."""
    groups, columns = packed.shape
    if groups != -(-rows // ROWS_PER_BYTE):
        raise ValueError(f"expected {-(-rows // ROWS_PER_BYTE)} groups of five for {rows} rows, got {groups}")
    trits = np.empty((groups, ROWS_PER_BYTE, columns), dtype=np.int8)
    rest = packed.astype(np.uint8)
    for row in range(ROWS_PER_BYTE):
        # 3 * rest >> 8 is 2 from 171 on, and 0 up to 85; the trit is one less.
        np.subtract((rest > 85).view(np.int8), (rest < 171).view(np.int8), out=trits[:, row])
        rest *= 3  # the low byte
    return trits.reshape(groups * ROWS_PER_BYTE, columns)[:rows]


ZERO_BYTE = int(pack(np.zeros((5, 1), dtype=np.int8))[0, 0])
