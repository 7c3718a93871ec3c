"""How ``ldv`` and ``sv`` lay the vectors of all slots out in memory: word by word, every slot's part of a word after the other's.

With batch B, word k of a register holds elements ``k*lanes .. (k+1)*lanes - 1`` of slot 0, then those of slot 1, and so on, and
memory holds the words in their order. Only whole words move, so the elements of a stored vector are a multiple of ``B*lanes``; with
batch 1 they are exactly its length.
"""

import numpy as np

from trilobit.isa.core import CoreConfig

__all__ = ["element_places", "interleave", "stored_elements"]


def stored_elements(core: CoreConfig, length: int) -> int:
    """Elements in memory of a vector of ``length`` elements a slot."""
    return length if core.batch == 1 else core.word_elements * -(-length // core.lanes)


def element_places(core: CoreConfig, length: int) -> np.ndarray:
    """Where each element of each slot stands among the stored ones: [batch, length] of int64."""
    element = np.arange(length)
    inside = element // core.lanes * core.word_elements + element % core.lanes
    return inside + core.lanes * np.arange(core.batch)[:, None]


def interleave(core: CoreConfig, values: np.ndarray) -> np.ndarray:
    """Vectors as they are stored.

    Args:
        values: [batch, length], or [length] for the same vector in every slot.

    Returns:
        [stored_elements] of the same type; lanes beyond the length are zero.
    """
    length = values.shape[-1]
    stored = np.zeros(stored_elements(core, length), dtype=values.dtype)
    stored[element_places(core, length)] = values
    return stored
