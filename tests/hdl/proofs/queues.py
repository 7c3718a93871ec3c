"""What the queues of hdl/fifo.py promise, against a count and one item that the solver follows."""

from amaranth.hdl import Signal

from proofs.solver import Harness, opened
from trilobit.hdl import fifo

__all__ = ["BlockQueue", "SmallQueue"]


class _Queue(Harness):
    """The common part: any use of the queue, a count of its own, and an item chosen by the solver.

    ``pick`` marks an item in the cycle in which it enters; ``ahead`` then counts the items in front of it. So "the marked item comes out
    when none is ahead, unchanged" says of every item that it is neither lost, doubled, overtaken nor changed.
    """

    unit = ""

    def __init__(self, depth: int, *, width: int = 2, source=fifo):
        super().__init__()
        self.depth, self.width = depth, width
        self.dut = getattr(source, self.unit)(width, depth)

    def build(self) -> None:
        m, dut = self.m, self.dut
        m.submodules.dut, (inside,) = opened(dut)
        self.inputs += [dut.i_valid, dut.i_data, dut.o_ready, dut.flush]
        pick = self.free("pick")
        put, got = Signal(name="put"), Signal(name="got")
        count = Signal(range(2 * self.depth + 2), name="count")
        marked, ahead, item = Signal(name="marked"), Signal.like(count, name="ahead"), Signal(self.width, name="item")
        m.d.comb += [put.eq(dut.i_valid & dut.i_ready), got.eq(dut.o_valid & dut.o_ready)]
        m.d.sync += count.eq(count + put - got)
        with m.If(put & pick & ~marked):
            m.d.sync += [marked.eq(1), item.eq(dut.i_data), ahead.eq(count - got)]
        with m.If(got & marked):
            m.d.sync += [marked.eq(ahead != 0), ahead.eq(ahead - 1)]
        with m.If(dut.flush):
            m.d.sync += [count.eq(0), marked.eq(0)]
        # The cycle before, for what must stay.
        waited, data = Signal(name="waited"), Signal(self.width, name="data_before")
        m.d.sync += [waited.eq(dut.o_valid & ~dut.o_ready & ~dut.flush), data.eq(dut.o_data)]
        flushed = Signal(name="flushed")
        m.d.sync += flushed.eq(dut.flush)
        self.count, self.put, self.marked, self.ahead, self.item = count, put, marked, ahead, item
        self.properties |= {
            "level is the number of items": dut.level == count,
            "the marked item comes out unchanged in its turn": ~(marked & (ahead == 0) & dut.o_valid) | (dut.o_data == item),
            "no underflow": ~dut.o_valid | (count != 0),
            "an offer stays until it is taken": ~waited | (dut.o_valid & (dut.o_data == data)),
            "a flush leaves nothing": ~flushed | ((dut.level == 0) & ~dut.o_valid),
        }
        self.invariants["the marked item is in the queue"] = ~marked | (ahead < count)
        self.covers |= {
            "full": ~dut.i_ready,
            "the marked item comes out": marked & (ahead == 0) & got,
            "it has others ahead": marked & (ahead == self.depth - 1),
            "a flush of a full queue with an item offered to it": dut.flush & ~dut.i_ready & dut.i_valid,
        }
        self.shown |= {
            "i_valid": dut.i_valid, "i_ready": dut.i_ready, "i_data": dut.i_data, "o_valid": dut.o_valid, "o_ready": dut.o_ready,
            "o_data": dut.o_data, "flush": dut.flush, "level": dut.level, "true_count": count, "pick_item": pick, "is_marked": marked,
            "items_ahead": ahead, "marked_item": item,
        }  # fmt: skip
        self.inner(inside)

    def inner(self, inside: dict) -> None:
        raise NotImplementedError


class SmallQueue(_Queue):
    """:class:`trilobit.hdl.fifo.SmallFifo`."""

    unit = "SmallFifo"

    def inner(self, inside: dict) -> None:
        dut, depth, count = self.dut, self.depth, self.count
        storage, wport, rport = (inside[name] for name in ("storage", "wport", "rport"))
        probe = storage.read_port(domain="comb")  # where the marked item lies
        self.m.d.comb += probe.addr.eq(rport.addr + self.ahead)
        self.properties |= {
            "never more than depth items": count <= depth,
            "ready whenever there is room, whatever o_ready is": dut.i_ready == (count < depth),
            "an item is offered in the cycle after it entered": dut.o_valid == (count != 0),
        }
        self.invariants |= {
            "addresses are level apart": wport.addr == (rport.addr + count)[: len(wport.addr)],
            "the marked item is stored": ~self.marked | (probe.data == self.item),
        }


class BlockQueue(_Queue):
    """:class:`trilobit.hdl.fifo.BlockFifo`."""

    unit = "BlockFifo"

    def inner(self, inside: dict) -> None:
        m, dut, depth, count, marked = self.m, self.dut, self.depth, self.count, self.marked
        storage, wport, rport, fetch = (inside[name] for name in ("storage", "wport", "rport", "fetch"))
        stored, some, offered = (inside[name] for name in ("stored", "some", "offered"))
        probe = storage.read_port(domain="comb")
        m.d.comb += probe.addr.eq(rport.addr + self.ahead - offered)
        entered = Signal(name="entered")  # in the cycle before, and is still here
        m.d.sync += entered.eq(self.put & ~dut.flush)
        hungry = Signal(range(fifo.BLOCK_FIFO_LATENCY + 1), name="hungry")  # cycles with items but no offer, in front of this one
        m.d.sync += hungry.eq(0)
        with m.If((count != 0) & ~dut.o_valid & ~dut.flush):
            m.d.sync += hungry.eq(hungry + 1)
        self.properties |= {
            "never more than depth + 1 items": count <= depth + 1,
            "ready whenever there is room, whatever o_ready is": dut.i_ready == (count <= depth),
            "an offer two cycles after an item's entry, whatever o_ready is": dut.o_valid == (count > entered),
            "items wait at most BLOCK_FIFO_LATENCY - 1 cycles without an offer":
                (hungry < fifo.BLOCK_FIFO_LATENCY - 1) | dut.o_valid | (count == 0),
            "empty says so": dut.empty == (count == 0),
            "an item is never read while it is written": ~(fetch & self.put & (rport.addr == wport.addr)),
        }  # fmt: skip
        self.invariants |= {
            "stored, some and offered agree": (stored + offered == count) & (some == (stored != 0)),
            "addresses are stored apart": wport.addr == (rport.addr + stored)[: len(wport.addr)],
            "the marked item is stored or offered":
                ~marked | (probe.data == self.item) | (offered & (self.ahead == 0)),
        }  # fmt: skip
        self.covers["full behind an offer"] = (count == depth + 1) & dut.o_valid
        self.shown |= {"stored": stored, "some": some, "offered": offered, "fetch": fetch}
