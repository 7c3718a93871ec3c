"""The memory port, shared by the core and the host link."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import MemorySignature
from trilobit.hdl.memarb import ReadArbiter
from trilobit.isa.core import CoreConfig

__all__ = ["MemoryShare"]


class MemoryShare(wiring.Component):
    """Two initiators on one memory; requests and answers pass in the same cycle.

    The host goes first: its link is slow, so that the core hardly notices. Reads and writes are independent of each other; one write at a
    time has the port, from its request to its response.

    ``core_flush`` takes a core that is being reset off the memory without leaving half a request there: no request of its is taken any
    more, what it had read comes and is lost, and a write that it had begun goes on with no byte strobed. It must stay high until
    ``core_busy`` is low.

    Members
    -------
    core, host : In(MemorySignature(config))
    mem : Out(MemorySignature(config))
    core_flush : In(1), core_busy : Out(1)
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        port = MemorySignature(config)
        super().__init__({"core": In(port), "host": In(port), "mem": Out(port), "core_flush": In(1), "core_busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        core, host, mem, flush = self.core, self.host, self.mem, self.core_flush
        m.submodules.reads = reads = ReadArbiter(beat_bytes=self.config.beat_bytes)
        m.d.comb += [
            reads.stream_valid.eq(core.rd_valid & ~flush), core.rd_ready.eq(reads.stream_ready & ~flush),
            reads.stream_addr.eq(core.rd_addr), reads.stream_len.eq(core.rd_len),
            reads.ldst_valid.eq(host.rd_valid), host.rd_ready.eq(reads.ldst_ready),
            reads.ldst_addr.eq(host.rd_addr), reads.ldst_len.eq(host.rd_len),
            mem.rd_valid.eq(reads.rd_valid), reads.rd_ready.eq(mem.rd_ready), mem.rd_addr.eq(reads.rd_addr), mem.rd_len.eq(reads.rd_len),
            reads.rdata_valid.eq(mem.rdata_valid), reads.rdata_error_in.eq(mem.rdata_error),
            core.rdata_valid.eq(reads.stream_rdata_valid), core.rdata.eq(mem.rdata), core.rdata_error.eq(mem.rdata_error),
            host.rdata_valid.eq(reads.ldst_rdata_valid), host.rdata.eq(mem.rdata), host.rdata_error.eq(mem.rdata_error),
        ]  # fmt: skip

        # ``owned``: a write is between its request and its response; ``owner``: whose (1 the host's).
        owned, owner, beats = Signal(), Signal(), Signal(9)
        request = Signal()
        m.d.comb += [
            request.eq(host.wr_valid | (core.wr_valid & ~flush)),
            mem.wr_valid.eq(request & ~owned),
            mem.wr_addr.eq(Mux(host.wr_valid, host.wr_addr, core.wr_addr)),
            mem.wr_len.eq(Mux(host.wr_valid, host.wr_len, core.wr_len)),
            host.wr_ready.eq(mem.wr_ready & ~owned),
            core.wr_ready.eq(mem.wr_ready & ~owned & ~host.wr_valid & ~flush),
            mem.wdata_valid.eq(owned & (beats != 0) & Mux(owner, host.wdata_valid, core.wdata_valid | flush)),
            mem.wdata.eq(Mux(owner, host.wdata, core.wdata)),
            mem.wdata_strobe.eq(Mux(owner, host.wdata_strobe, Mux(flush, 0, core.wdata_strobe))),
            host.wdata_ready.eq(mem.wdata_ready & owned & owner),
            core.wdata_ready.eq(mem.wdata_ready & owned & ~owner),
            host.wresp_valid.eq(mem.wresp_valid & owner), host.wresp_error.eq(mem.wresp_error),
            core.wresp_valid.eq(mem.wresp_valid & ~owner), core.wresp_error.eq(mem.wresp_error),
        ]  # fmt: skip
        with m.If(mem.wr_valid & mem.wr_ready):
            m.d.sync += [owned.eq(1), owner.eq(host.wr_valid), beats.eq(mem.wr_len + 1)]
        with m.If(mem.wdata_valid & mem.wdata_ready):
            m.d.sync += beats.eq(beats - 1)
        with m.If(mem.wresp_valid):
            m.d.sync += owned.eq(0)

        # Beats that the core has asked for. What a request adds is kept a clock: its path through the core is long.
        outstanding, added = Signal(16), Signal(9)
        asked = core.rd_valid & core.rd_ready
        m.d.sync += [added.eq(Mux(asked, core.rd_len + 1, 0)), outstanding.eq(outstanding + added - core.rdata_valid)]
        m.d.comb += self.core_busy.eq((outstanding != 0) | (added != 0) | (owned & ~owner))
        return m
