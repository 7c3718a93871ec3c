"""Tables of the elementary functions: 256 points and linear interpolation over 9 further bits.

A table function takes a 17-bit fraction ``u`` of [0, 1): the top 8 bits choose the entry, the lower 9 interpolate, rounded
half up. The hardware holds the same entries (``trilobit.hdl.table``). Bounds on the error hold for every one of the 2^17
inputs and are tested so.

=========  =============================  ==================  ==============
table      function                       result              largest error
=========  =============================  ==================  ==============
EXP2       2^u                            18 bits, 17 frac.   2^-16 absolute
RECIP      1 / (1 + u)                    18 bits, 18 frac.   2^-17 absolute
=========  =============================  ==================  ==============
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["EXP2", "FRACTION_BITS", "INDEX_BITS", "RECIP", "REST_BITS", "Table"]

INDEX_BITS = 8
REST_BITS = 9
FRACTION_BITS = INDEX_BITS + REST_BITS


@dataclass(frozen=True)
class Table:
    """``base`` and ``slope`` for each of the 256 intervals; results are limited to ``limit``."""

    name: str
    base: np.ndarray
    slope: np.ndarray
    limit: int

    def __call__(self, u):
        """The function at a 17-bit fraction (array or integer)."""
        u = np.asarray(u, dtype=np.int64)
        index, rest = u >> REST_BITS, u & ((1 << REST_BITS) - 1)
        step = (self.slope[index] * rest + (1 << (REST_BITS - 1))) >> REST_BITS
        return np.minimum(self.base[index] + step, self.limit)


def _table(name: str, function, fraction_bits: int, limit: int) -> Table:
    points = np.arange((1 << INDEX_BITS) + 1) / (1 << INDEX_BITS)
    values = np.floor(function(points) * (1 << fraction_bits) + 0.5).astype(np.int64)
    return Table(name, values[:-1], np.diff(values), limit)


EXP2 = _table("exp2", np.exp2, 17, (1 << 18) - 1)
RECIP = _table("recip", lambda u: 1.0 / (1.0 + u), 18, (1 << 18) - 1)
