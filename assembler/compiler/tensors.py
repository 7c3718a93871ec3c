"""What the compiler asks of a model's tensors: vectors as they are, tables and packed matrices piece by piece.

:class:`Stored` reads them from arrays; :mod:`trilobit.assembler.geometry` makes random ones up, so that a geometry goes
through the same passes as a model.
"""

from typing import Protocol

import numpy as np

from trilobit.isa import trits

__all__ = ["Stored", "Tensors"]

_CHUNK = 1 << 22  # elements of a table that are looked at at once


class Tensors(Protocol):
    """The tensors of one model, by name."""

    def vector(self, name: str) -> np.ndarray:
        """A vector [length], float64."""

    def peak(self, name: str) -> float:
        """The largest absolute value of a table."""

    def table(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows ``start..stop`` of a table [stop - start, columns]."""

    def packed(self, name: str, start: int, stop: int, out: np.ndarray) -> None:
        """Write rows ``start..stop`` of a ternary matrix, packed from ``start`` on (:func:`trilobit.isa.trits.pack`).

        Args:
            out: [ceil((stop - start) / 5), columns] of uint8.
        """


class Stored:
    """Tensors from arrays: vectors [n], tables [rows, columns], packed matrices [ceil(rows / 5), columns] of uint8."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays

    def vector(self, name: str) -> np.ndarray:
        """A vector [length], float64."""
        return self.arrays[name].astype(np.float64)

    def peak(self, name: str) -> float:
        """The largest absolute value of a table; a piece at a time, for tables may be large."""
        array = self.arrays[name]
        step = max(_CHUNK // array.shape[-1], 1)
        return max(float(np.abs(array[n : n + step]).max()) for n in range(0, len(array), step))

    def table(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a table."""
        return self.arrays[name][start:stop]

    def packed(self, name: str, start: int, stop: int, out: np.ndarray) -> None:
        """Rows of a packed matrix: its groups as they are where they start at one, else packed anew, some at a time."""
        size = trits.ROWS_PER_BYTE
        first, offset = divmod(start, size)
        source = self.arrays[name]
        if offset == 0:
            out[:] = source[first : first + len(out)]
            if left := (stop - start) % size:
                out[-1:] = trits.pack(trits.unpack(out[-1:], size)[:left])
            return
        step = max(_CHUNK // (size * out.shape[1]), 1)
        for n in range(0, len(out), step):
            many = min(step, len(out) - n)
            groups = source[first + n : first + n + many + 1]  # the last one may be that of the chunk's last rows already
            rows = trits.unpack(groups, len(groups) * size)
            out[n : n + many] = trits.pack(rows[offset : offset + min(many * size, stop - start - n * size)])
