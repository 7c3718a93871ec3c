"""What the sharing of the memory port promises: load/store and stream (memarb.py), core and host (memshare.py)."""

from amaranth.hdl import Array, Cat, Mux, Signal

from proofs.solver import Harness, opened
from trilobit.hdl import memarb, memshare
from trilobit.isa.core import load_core

__all__ = ["Reads", "Share"]


class Reads(Harness):
    """:class:`trilobit.hdl.memarb.ReadArbiter` against a list of the requests that memory has still to answer."""

    def __init__(self, *, source=memarb):
        super().__init__()
        self.depth, self.dut = source.OUTSTANDING, source.ReadArbiter(beat_bytes=4)

    def build(self) -> None:
        m, dut, depth = self.m, self.dut, self.depth
        module, (inside,) = opened(dut)
        del module._named_submodules["owners"]
        queue, (queue_inside,) = opened(inside["owners"])
        m.submodules.dut, m.submodules.owners = module, queue
        self.inputs += [dut.stream_valid, dut.stream_addr, dut.stream_len, dut.ldst_valid, dut.ldst_addr, dut.ldst_len,
                        dut.rd_ready, dut.rdata_valid, dut.rdata_error_in]  # fmt: skip
        waiting = [Signal(9, name=f"waiting{k}") for k in range(depth)]  # requests, the oldest first: length, whether of load/store
        count, beats = Signal(range(depth + 2), name="requests"), Signal(9, name="beats_come")
        asked, ends = dut.rd_valid & dut.rd_ready, dut.rdata_valid & (beats == waiting[0][:8])
        stream, ldst = dut.stream_valid & dut.stream_ready, dut.ldst_valid & dut.ldst_ready
        after = [Mux(ends, following, each) for each, following in zip(waiting, [*waiting[1:], 0], strict=True)]
        m.d.sync += [count.eq(count + asked - ends), *(each.eq(value) for each, value in zip(waiting, after, strict=True))]
        with m.If(asked):
            m.d.sync += Array(waiting)[count - ends].eq(Cat(dut.rd_len, ldst))
        with m.If(dut.rdata_valid):
            m.d.sync += beats.eq(Mux(ends, 0, beats + 1))
        self.assumptions["memory answers what it was asked in an earlier cycle"] = ~dut.rdata_valid | (count != 0)
        room = count < depth
        self.properties |= {
            "no more requests are outstanding than the list of owners holds": count <= depth,
            "a request that memory takes is taken from one reader": (asked == (stream | ldst)) & ~(stream & ldst),
            "memory gets that reader's address and length": ~asked | (
                (dut.rd_addr == Mux(ldst, dut.ldst_addr, dut.stream_addr)) & (dut.rd_len == Mux(ldst, dut.ldst_len, dut.stream_len))),
            "load/store goes first": ~(stream & dut.ldst_valid),
            "no deadlock: a request is offered if there is one and room": dut.rd_valid == ((dut.stream_valid | dut.ldst_valid) & room),
            "each beat goes to the reader that asked for it, and to no other": (
                (dut.ldst_rdata_valid == (dut.rdata_valid & waiting[0][8]))
                & (dut.stream_rdata_valid == (dut.rdata_valid & ~waiting[0][8]))),
            "busy says whether answers are outstanding": dut.busy == (count != 0),
        }  # fmt: skip
        owners, produce, consume = inside["owners"], queue_inside["produce"], queue_inside["consume"]
        probes = [queue_inside["storage"].read_port(domain="comb") for _ in range(depth)]
        m.d.comb += [probe.addr.eq(consume + k) for k, probe in enumerate(probes)]
        self.invariants |= {
            "as many": (owners.level == count) & (produce == (consume + count)[: len(produce)]),
            "beats": (inside["left"] == beats) & ((count == 0) | (beats <= waiting[0][:8])) & ((count != 0) | (beats == 0)),
            "the same requests": Cat(
                (count <= k) | (probe.data == each) for k, (probe, each) in enumerate(zip(probes, waiting, strict=True))).all(),
        }  # fmt: skip
        self.covers |= {
            "the stream asks behind load/store": stream & ~dut.ldst_valid & (count == 2) & waiting[0][8],
            "a second beat comes": dut.rdata_valid & (beats == 1),
            "load/store is answered behind the stream": dut.ldst_rdata_valid & (count == 1) & (produce > 1),
        }
        self.shown |= {
            "asks_stream": dut.stream_valid, "asks_ldst": dut.ldst_valid, "taken_stream": stream, "taken_ldst": ldst,
            "memory_valid": dut.rd_valid, "memory_ready": dut.rd_ready, "memory_len": dut.rd_len, "data_valid": dut.rdata_valid,
            "to_stream": dut.stream_rdata_valid, "to_ldst": dut.ldst_rdata_valid, "true_requests": count, "true_beats": beats,
            "oldest": waiting[0],
        }  # fmt: skip


class Share(Harness):
    """:class:`trilobit.hdl.memshare.MemoryShare`. Its read arbiter is taken out: in its place stands what :class:`Reads` proves of it."""

    def __init__(self, *, source=memshare):
        super().__init__()
        self.dut = source.MemoryShare(load_core("tiny"))

    def build(self) -> None:
        m, dut = self.m, self.dut
        module, (inside,) = opened(dut)
        del module._named_submodules["reads"]
        m.submodules.dut = module
        core, host, mem, flush, reads = dut.core, dut.host, dut.mem, dut.core_flush, inside["reads"]
        self.inputs += [flush, mem.rd_ready, mem.rdata_valid, mem.wr_ready, mem.wdata_ready, mem.wresp_valid]
        for port in (core, host):
            self.inputs += [port.rd_valid, port.rd_len, port.wr_valid, port.wr_addr, port.wr_len]
            self.inputs += [port.wdata_valid, port.wdata, port.wdata_strobe]
        self.inputs += [reads.stream_ready, reads.ldst_ready, reads.stream_rdata_valid, reads.ldst_rdata_valid, reads.rd_valid]
        self.rest["core_flush"] = 1  # it may begin at any time, not end
        # A write at a time: whose, and its beats to come.
        busy, of_host, beats = Signal(name="write_in_flight"), Signal(name="write_of_host"), Signal(9, name="beats_left")
        asked, moved = mem.wr_valid & mem.wr_ready, mem.wdata_valid & mem.wdata_ready
        from_core, from_host = core.wr_valid & core.wr_ready, host.wr_valid & host.wr_ready
        core_beat, host_beat = core.wdata_valid & core.wdata_ready, host.wdata_valid & host.wdata_ready
        with m.If(moved):
            m.d.sync += beats.eq(beats - 1)
        with m.If(mem.wresp_valid):
            m.d.sync += busy.eq(0)
        with m.If(asked):
            m.d.sync += [busy.eq(1), of_host.eq(from_host), beats.eq(mem.wr_len + 1)]
        # Beats that the core has asked for and that haven't come.
        coming, core_reads = Signal(16, name="beats_coming"), core.rd_valid & core.rd_ready
        m.d.sync += coming.eq(coming + Mux(core_reads, core.rd_len + 1, 0) - core.rdata_valid)
        flush_before, core_busy_before = Signal(name="flush_before"), Signal(name="core_busy_before")
        m.d.sync += [flush_before.eq(flush), core_busy_before.eq(dut.core_busy)]
        self.assumptions |= {
            "memory responds once to a write, when it has all beats": ~mem.wresp_valid | (busy & (beats == 0)),
            "the host offers a write's beats and no more": ~host.wdata_valid | (busy & of_host & (beats != 0)),
            "the core offers a write's beats and no more": ~core.wdata_valid | (busy & ~of_host & (beats != 0)),
            "the arbiter answers the core with what it asked for": ~reads.stream_rdata_valid | (coming != 0),
            "the core asks for 16 requests at most": ~core_reads | (coming < 16 * 256),
            "core_flush stays until core_busy is low": ~(flush_before & core_busy_before) | flush,
        }  # fmt: skip
        self.properties |= {
            "mutual exclusion: one write is in flight, from its request to its response": ~(asked & busy),
            "a request that memory takes is taken from one side": (asked == (from_core | from_host)) & ~(from_core & from_host),
            "memory gets that side's address and length": ~asked | (
                (mem.wr_addr == Mux(from_host, host.wr_addr, core.wr_addr)) & (mem.wr_len == Mux(from_host, host.wr_len, core.wr_len))),
            "no deadlock: a request reaches a free memory in the same cycle":
                mem.wr_valid == (~busy & (host.wr_valid | (core.wr_valid & ~flush))),
            "the host goes first": ~(from_core & host.wr_valid),
            "memory gets as many beats as it was told": ~moved | (busy & (beats != 0)),
            "each beat is the owner's": ~moved | Mux(
                of_host, host_beat & ~core_beat & (mem.wdata == host.wdata) & (mem.wdata_strobe == host.wdata_strobe),
                ~host_beat & Mux(flush, mem.wdata_strobe == 0,
                                 core_beat & (mem.wdata == core.wdata) & (mem.wdata_strobe == core.wdata_strobe))),
            "no beat is lost": ~(core_beat | host_beat) | moved,
            "a response goes to the owner alone": (core.wresp_valid == (mem.wresp_valid & ~of_host))
                                                  & (host.wresp_valid == (mem.wresp_valid & of_host)),
            "a flushed core's request isn't taken": ~(flush & (from_core | core_reads)),
            "a flushed core's write goes on without it": ~(flush & busy & ~of_host & (beats != 0)) | mem.wdata_valid,
            "core_busy is high exactly while something of the core is in flight":
                dut.core_busy == ((coming != 0) | (busy & ~of_host)),
        }  # fmt: skip
        self.invariants |= {
            "owner": (inside["owned"] == busy) & (~busy | ((inside["owner"] == of_host) & (inside["beats"] == beats))),
            "coming": (inside["outstanding"] + inside["added"])[:16] == coming,
            "no more than were asked for": coming <= 17 * 256,
            "added counts once": inside["added"] <= coming,
        }
        self.covers |= {
            "a write of the core waits for the host's": core.wr_valid & busy & of_host,
            "the core gets its response": mem.wresp_valid & core.wresp_valid,
            "a flush with a write begun": flush & busy & ~of_host & moved,
        }
        self.shown |= {
            "core_wr": core.wr_valid, "core_taken": from_core, "host_wr": host.wr_valid, "host_taken": from_host, "mem_wr": mem.wr_valid,
            "mem_wr_ready": mem.wr_ready, "mem_wr_len": mem.wr_len, "mem_wdata": mem.wdata_valid, "mem_wdata_ready": mem.wdata_ready,
            "mem_strobe": mem.wdata_strobe, "mem_wresp": mem.wresp_valid, "to_core_wresp": core.wresp_valid,
            "to_host_wresp": host.wresp_valid, "core_read": core_reads, "core_rdata": core.rdata_valid, "flush_on": flush,
            "is_core_busy": dut.core_busy, "true_in_flight": busy, "true_of_host": of_host, "true_beats": beats, "true_coming": coming,
        }  # fmt: skip
