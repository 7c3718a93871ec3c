"""Queues: a short one in distributed memory, a deep one in block memory."""

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["BLOCK_FIFO_LATENCY", "BlockFifo", "SmallFifo"]

BLOCK_FIFO_LATENCY = 2
"""Cycles from an item's entry into an empty :class:`BlockFifo` to its offer."""


def _members(shape, depth: int) -> dict:
    if depth < 2 or depth & (depth - 1):
        raise ValueError(f"expected a depth that is a power of two, at least 2, got {depth!r}")
    return {
        "i_valid": In(1), "i_ready": Out(1), "i_data": In(shape), "o_valid": Out(1), "o_ready": In(1), "o_data": Out(shape),
        "flush": In(1), "level": Out(range(depth + 2)),
    }  # fmt: skip


class SmallFifo(wiring.Component):
    """A queue of ``depth`` items with an asynchronous read. An item is offered in the cycle after it entered.

    ``i_ready`` does not depend on ``o_ready``: a full queue takes nothing in the cycle in which it gives.

    Members
    -------
    i_valid, i_ready, i_data, o_valid, o_ready, o_data
    flush : In(1)
        Empties the queue.
    level : Out
        Items in the queue.
    """

    def __init__(self, shape, depth: int):
        self._shape, self._depth = shape, depth
        super().__init__(_members(shape, depth))

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = storage = memory.Memory(shape=self._shape, depth=self._depth, init=[])
        wport, rport = storage.write_port(), storage.read_port(domain="comb")
        m.d.comb += [
            self.i_ready.eq(~self.level[ceil_log2(self._depth)]),  # never more than depth
            self.o_valid.eq(self.level != 0),
            self.o_data.eq(rport.data),
            wport.data.eq(self.i_data),
            wport.en.eq(self.i_valid & self.i_ready),
        ]
        put, got = self.i_valid & self.i_ready, self.o_valid & self.o_ready
        m.d.sync += self.level.eq(self.level + put - got)
        with m.If(put):
            m.d.sync += wport.addr.eq(wport.addr + 1)
        with m.If(got):
            m.d.sync += rport.addr.eq(rport.addr + 1)
        with m.If(self.flush):
            m.d.sync += [self.level.eq(0), rport.addr.eq(wport.addr + put)]
        return m


class BlockFifo(wiring.Component):
    """A queue in block memory, an item a clock: ``depth`` items in the memory and one in its output register.

    Latency :data:`BLOCK_FIFO_LATENCY` through an empty queue. ``i_ready`` does not depend on ``o_ready``.

    Members
    -------
    i_valid, i_ready, i_data, o_valid, o_ready, o_data
    flush : In(1)
        Empties the queue.
    level : Out
        Items in the queue.
    empty : Out(1)
        There are none.
    """

    def __init__(self, shape, depth: int):
        self._shape, self._depth = Shape.cast(shape), depth
        super().__init__(_members(shape, depth) | {"empty": Out(1)})

    def elaborate(self, platform):
        m = Module()
        # What is fetched was put in an earlier cycle, and a full memory takes nothing: an item is never read while it is written.
        m.submodules.memory = storage = memory.Memory(
            shape=self._shape, depth=self._depth, init=[], attrs={"no_rw_check": 1, "ram_style": "block"}
        )
        wport, rport = storage.write_port(), storage.read_port()
        stored = Signal(range(self._depth + 1))  # items in the memory that the output register hasn't
        some = Signal()  # stored isn't zero
        offered = Signal()
        put, fetch = self.i_valid & self.i_ready, Signal()
        m.d.comb += [
            self.i_ready.eq(~stored[-1]),
            fetch.eq(some & (~offered | self.o_ready)),
            wport.data.eq(self.i_data),
            wport.en.eq(put),
            rport.en.eq(fetch),
            self.o_valid.eq(offered),
            self.o_data.eq(rport.data),
            self.level.eq(stored + offered),
            self.empty.eq(~some & ~offered),
        ]
        m.d.sync += [
            stored.eq(stored + put - fetch),
            some.eq(put | (some & ~(fetch & (stored == 1)))),
            offered.eq(fetch | (offered & ~self.o_ready)),
        ]
        with m.If(put):
            m.d.sync += wport.addr.eq(wport.addr + 1)
        with m.If(fetch):
            m.d.sync += rport.addr.eq(rport.addr + 1)
        with m.If(self.flush):
            m.d.sync += [stored.eq(0), some.eq(0), offered.eq(0), rport.addr.eq(wport.addr + put)]
        return m
