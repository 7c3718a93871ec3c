"""The queues on Icarus, one of each kind on Verilator as well."""

import pytest
from support import run_cocotb

from trilobit.hdl.fifo import BlockFifo, SmallFifo


@pytest.mark.parametrize("depth", [4, 32])
@pytest.mark.parametrize(("kind", "queue"), [("small", SmallFifo), ("block", BlockFifo)])
def test_queue_keeps_order_and_latency(kind, queue, depth, seed):
    simulators = ("verilator", "icarus") if depth == 4 else ("icarus",)
    run_cocotb(queue(16, depth), "fifo", "cocotb_fifo", env={"KIND": kind, "DEPTH": depth}, simulators=simulators, seed=seed)
