"""Fixed point: rounding shifts, saturation, and numbers with an exponent.

Vectors are int64 arrays here so that every intermediate of the machine fits; registers hold 32 bits of them.
Shifts count to the right; a negative shift goes left, exactly.
"""

from math import isqrt
from typing import NamedTuple

import numpy as np

__all__ = ["ACT_ZERO", "MANTISSA_BITS", "Scalar", "bit_length", "normalise", "rs", "rs_away", "rsqrt", "sat", "square_norm"]

MANTISSA_BITS = 18


def rs(x, shift):
    """Shift right with rounding half up (towards plus infinity); exact to the left. Arrays or integers."""
    shift = np.asarray(shift, dtype=np.int64)
    right = np.maximum(shift, 0)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return ((np.asarray(x, dtype=np.int64) << np.maximum(-shift, 0)) + half) >> right


def rs_away(x, shift):
    """Shift right with rounding half away from zero, ``shift`` at least 0."""
    return np.sign(x) * rs(np.abs(x), shift)


def sat(x, bits: int):
    """Saturate to a signed number of ``bits`` bits."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def bit_length(x):
    """Number of significant bits of non-negative integers below 2^53; 0 for 0."""
    return np.frexp(np.asarray(x, dtype=np.float64))[1].astype(np.int64)


class Scalar(NamedTuple):
    """``mantissa * 2**exponent``; a mantissa has its top bit set, or is 0 for zero."""

    mantissa: int
    exponent: int


ACT_ZERO = Scalar(0, 0)


def normalise(value: int, exponent: int = 0, bits: int = MANTISSA_BITS) -> Scalar:
    """A non-negative integer times 2**exponent as a scalar of ``bits`` bits, truncated."""
    if value == 0:
        return ACT_ZERO
    shift = value.bit_length() - bits
    return Scalar(value >> shift if shift >= 0 else value << -shift, exponent + shift)


def square_norm(total: int) -> Scalar:
    """A sum of squares as a 36-bit mantissa (35 or 36 significant bits) with an even exponent, truncated."""
    if total == 0:
        return ACT_ZERO
    shift = total.bit_length() - 36
    shift += shift & 1
    return Scalar(total >> shift if shift >= 0 else total << -shift, shift)


def rsqrt(square: Scalar) -> Scalar:
    """1/sqrt of a :func:`square_norm`: an 18-bit root, then an 18-bit reciprocal, both truncated. 0 gives 0.

    The relative error is below 2^-16: at most 2^-17 from the root and 2^-17 from the reciprocal.
    """
    if square.mantissa == 0:
        return ACT_ZERO
    reciprocal = min((1 << 35) // isqrt(square.mantissa), (1 << MANTISSA_BITS) - 1)
    return Scalar(reciprocal, -35 - square.exponent // 2)
