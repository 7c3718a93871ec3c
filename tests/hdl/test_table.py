"""The elementary functions' tables in hardware, on both simulators."""

import pytest
from support import run_cocotb

from trilobit.hdl.table import TableFunction
from trilobit.isa import tables


@pytest.mark.parametrize("name", ["EXP2", "RECIP"])
def test_table(name, simulator, seed):
    count = 4000 if simulator == "verilator" else 500
    run_cocotb(TableFunction(getattr(tables, name)), name.lower(), "cocotb_table", simulators=[simulator], seed=seed,
               env={"TABLE": name, "COUNT": count})  # fmt: skip
