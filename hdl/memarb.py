"""The read side of the memory port, shared by the weight stream and the load/store unit."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

__all__ = ["ReadArbiter"]

OUTSTANDING = 16


class ReadArbiter(wiring.Component):
    """Two readers on one memory port; answers come back in request order and are routed by a queue of owners.

    The load/store unit goes first: its vectors are short and someone waits for them, while the stream is fetched ahead. At most 16 requests
    are outstanding. Requests pass through in the same cycle; answers as well.

    Members
    -------
    stream_*, ldst_*: the readers' requests (byte address, beats minus one) and answers.
    rd_*, rdata_*: the memory port's read side.
    busy: an answer is outstanding.
    """

    def __init__(self, *, beat_bytes: int):
        request = {"valid": Out(1), "ready": In(1), "addr": Out(40), "len": Out(8)}
        members = {f"{who}_{k}": (In if v.flow == Out else Out)(v.shape) for who in ("stream", "ldst") for k, v in request.items()}
        super().__init__(members | {
            "stream_rdata_valid": Out(1), "ldst_rdata_valid": Out(1), "rdata_error": Out(1), "busy": Out(1),
            "rd_valid": Out(1), "rd_ready": In(1), "rd_addr": Out(40), "rd_len": Out(8),
            "rdata_valid": In(1), "rdata_error_in": In(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.owners = owners = SyncFIFO(width=9, depth=OUTSTANDING)
        left = Signal(8)
        room = owners.w_rdy
        m.d.comb += [
            self.rd_valid.eq((self.ldst_valid | self.stream_valid) & room),
            self.rd_addr.eq(Mux(self.ldst_valid, self.ldst_addr, self.stream_addr)),
            self.rd_len.eq(Mux(self.ldst_valid, self.ldst_len, self.stream_len)),
            self.ldst_ready.eq(self.rd_ready & room),
            self.stream_ready.eq(self.rd_ready & room & ~self.ldst_valid),
            owners.w_en.eq(self.rd_valid & self.rd_ready),
            owners.w_data.eq(Cat(self.rd_len, self.ldst_valid)),
            self.ldst_rdata_valid.eq(self.rdata_valid & owners.r_data[8]),
            self.stream_rdata_valid.eq(self.rdata_valid & ~owners.r_data[8]),
            self.rdata_error.eq(self.rdata_valid & self.rdata_error_in),
            self.busy.eq(owners.r_rdy),
        ]
        # ``left`` counts the beats of the oldest request that have come.
        with m.If(self.rdata_valid):
            m.d.sync += left.eq(left + 1)
            with m.If(left == owners.r_data[:8]):
                m.d.sync += left.eq(0)
                m.d.comb += owners.r_en.eq(1)
        return m
