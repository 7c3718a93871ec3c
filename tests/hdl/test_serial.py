"""Serial root and division (cocotb_serial.py), for all widths that matter and the smallest."""

import pytest
from support import run_cocotb

from trilobit.hdl.serial import SerialDivide, SerialRoot


@pytest.mark.parametrize("width", [2, 36])
def test_root_is_exact_in_half_as_many_cycles_as_bits(width, seed):
    run_cocotb(SerialRoot(width), "serial_root", "cocotb_serial", testcase="root_is_exact", env={"WIDTH": width}, seed=seed)


@pytest.mark.parametrize(("width", "steps"), [(2, 3), (21, 19)])
def test_quotient_is_exact_in_a_cycle_a_bit(width, steps, seed):
    run_cocotb(SerialDivide(width, steps), "serial_divide", "cocotb_serial", testcase="quotient_is_exact",
               env={"WIDTH": width, "STEPS": steps}, seed=seed)  # fmt: skip


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="expected an even width of at least 2, got 5"):
        SerialRoot(5)
    with pytest.raises(ValueError, match="expected a width and steps of at least 1, got 4 and 0"):
        SerialDivide(4, 0)
