"""Vectors of several slots in memory."""

import numpy as np
import pytest

from trilobit.isa.core import load_core
from trilobit.isa.slots import element_places, interleave, stored_elements

TINY = load_core("tiny").replace(lanes=2)


def test_one_slot_is_stored_as_it_is():
    values = np.arange(5)
    assert stored_elements(TINY, 5) == 5
    assert interleave(TINY, values).tolist() == values.tolist() == element_places(TINY, 5)[0].tolist()


def test_words_of_the_slots_alternate_and_the_last_is_filled_up():
    core = TINY.replace(batch=2)
    stored = interleave(core, np.array([[1, 2, 3, 4, 5], [11, 12, 13, 14, 15]], dtype=np.int16))
    assert stored.tolist() == [1, 2, 11, 12, 3, 4, 13, 14, 5, 0, 15, 0] and stored.dtype == np.int16


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
@pytest.mark.parametrize("length", [1, 7, 8, 64])
def test_every_element_has_a_place_of_its_own(batch, length):
    core = TINY.replace(batch=batch)
    places = element_places(core, length)
    assert places.shape == (batch, length) and len(np.unique(places)) == places.size
    assert places.max() < stored_elements(core, length) < places.size + 2 * batch
    one = np.arange(length)
    assert np.array_equal(interleave(core, one)[places], np.tile(one, (batch, 1)))
