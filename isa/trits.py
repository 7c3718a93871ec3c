"""Packing ternary weights: five output rows of one input column in a byte.

A byte holds the trits of rows 5g..5g+4 for one column (base 3, 1.6 bits a weight). The byte is the base-3 number scaled
up to eight bits, ``ceil(value * 256 / 243)``, so that a trit leaves by a multiplication: ``3 * byte`` has the next digit
in bits 8-9 and the rest in bits 0-7. The same five steps are the hardware's decoder (``trilobit.hdl.trit``). Row 5g is
the first digit to leave. Digits are trit + 1; padding is the trit zero.
"""

import numpy as np

__all__ = ["ROWS_PER_BYTE", "ZERO_BYTE", "pack", "unpack"]

ROWS_PER_BYTE = 5
_PLACES = np.array([81, 27, 9, 3, 1], dtype=np.int64)

# All 256 bytes decoded: [256, 5] of -1, 0, +1. The 13 bytes that no packer writes decode as the steps below say, too.
_rest = np.arange(256, dtype=np.int64)
_digits = []
for _ in range(ROWS_PER_BYTE):
    _rest = _rest * 3
    _digits.append((_rest >> 8) - 1)
    _rest &= 0xFF
_DECODED = np.stack(_digits, axis=1).astype(np.int8)


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
    digits = np.ones((groups * ROWS_PER_BYTE, columns), dtype=np.int64)
    digits[:rows] += trits
    value = np.einsum("grc,r->gc", digits.reshape(groups, ROWS_PER_BYTE, columns), _PLACES)
    return ((value * 256 + 242) // 243).astype(np.uint8)


def unpack(packed: np.ndarray, rows: int) -> np.ndarray:
    """The inverse of :func:`pack`: [ceil(rows / 5), columns] of uint8 to [rows, columns] of int8."""
    groups, columns = packed.shape
    if groups != -(-rows // ROWS_PER_BYTE):
        raise ValueError(f"expected {-(-rows // ROWS_PER_BYTE)} groups of five for {rows} rows, got {groups}")
    return _DECODED[packed].transpose(0, 2, 1).reshape(groups * ROWS_PER_BYTE, columns)[:rows]


ZERO_BYTE = int(pack(np.zeros((5, 1), dtype=np.int8))[0, 0])
