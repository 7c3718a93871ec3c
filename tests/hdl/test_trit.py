"""The trit decoder on both simulators."""

from support import run_cocotb

from trilobit.hdl.trit import TritDecoder


def test_decodes_as_the_packer_says(simulator):
    run_cocotb(TritDecoder(), "trit_decoder", "cocotb_trit", simulators=[simulator], seed=0)
