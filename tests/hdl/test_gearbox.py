"""The gearbox at every kind of ratio on Icarus (quick to build), at one of them on Verilator as well."""

import gc
import warnings

import pytest
from amaranth.hdl import UnusedElaboratable
from support import run_cocotb

from trilobit.hdl.gearbox import Packer, Unpacker

# Beats much shorter than words, shorter, as long, longer, much longer.
SHAPES = [(1, 1), (2, 2), (4, 2), (8, 2), (64, 4)]


def _run(component, kind, beat_bytes, lanes, element, seed):
    env = {"KIND": kind, "BEAT_BYTES": beat_bytes, "LANES": lanes, "ELEMENT": element}
    simulators = ("verilator", "icarus") if (beat_bytes, lanes) == (8, 2) else ("icarus",)
    run_cocotb(component, kind, "cocotb_gearbox", env=env, simulators=simulators, seed=seed)


@pytest.mark.parametrize(("beat_bytes", "lanes"), SHAPES)
def test_unpacks_beats_into_words(beat_bytes, lanes, seed):
    _run(Unpacker(beat_bytes, lanes, 64), "unpacker", beat_bytes, lanes, 32, seed)


@pytest.mark.parametrize(("beat_bytes", "lanes"), [(4, 4), (16, 2)])
def test_unpacks_gains(beat_bytes, lanes, seed):
    _run(Unpacker(beat_bytes, lanes, 64, 16), "unpacker", beat_bytes, lanes, 16, seed)


@pytest.mark.parametrize(("beat_bytes", "lanes"), SHAPES)
def test_packs_words_into_beats(beat_bytes, lanes, seed):
    _run(Packer(beat_bytes, lanes, 64), "packer", beat_bytes, lanes, 32, seed)


@pytest.mark.parametrize("arguments", [(3, 1, 8), (4, 6, 8), (4, 2, 8, 24)])
def test_rejects_shapes_it_cannot_build(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)  # what could not be made is not used either
        with pytest.raises(ValueError, match=r"expected (beat_bytes|lanes|element_bits)"):
            Unpacker(*arguments)
        gc.collect()
