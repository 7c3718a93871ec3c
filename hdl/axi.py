"""The core's memory port as an AXI4 master. Signals and rules: AMBA AXI and ACE protocol specification (ARM IHI 0022)."""

from amaranth.hdl import C, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.errors import ConfigError
from trilobit.hdl.interfaces import MemorySignature
from trilobit.isa.core import CoreConfig

__all__ = ["ADDRESS_BITS", "AxiMaster", "AxiSignature"]

ADDRESS_BITS = 64
INCR = 0b01
BUFFERABLE = 0b0011  # normal, non-cacheable, bufferable
WIDTHS = (4, 8, 16, 32, 64)
PAGE = 4096


class AxiSignature(wiring.Signature):
    """AXI4 with one ID (0), without locks, regions and user signals; names are the specification's in lower case."""

    def __init__(self, data_bytes: int):
        request = {"id": Out(1), "addr": Out(ADDRESS_BITS), "len": Out(8), "size": Out(3), "burst": Out(2), "cache": Out(4), "prot": Out(3),
                   "valid": Out(1), "ready": In(1)}  # fmt: skip
        super().__init__({
            **{f"ar{name}": member for name, member in request.items()}, **{f"aw{name}": member for name, member in request.items()},
            "rid": In(1), "rdata": In(8 * data_bytes), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
            "wdata": Out(8 * data_bytes), "wstrb": Out(data_bytes), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
            "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
        })  # fmt: skip


class AxiMaster(wiring.Component):
    """Turns requests of the memory port into INCR bursts of whole beats, all with one ID, so that answers come in order.

    Requests pass a register (one clock); data pass in the same cycle. A burst never crosses 4 KiB, because the port's requests do not and
    ``base`` is a multiple of it. SLVERR and DECERR become the port's errors. Read data are always taken; one write is under way at a time.

    Parameters
    ----------
    config : CoreConfig
        beat_bytes from 4 to 64 (32 to 512 bits).

    Members
    -------
    mem : In(MemorySignature(config))
    base : In(64)
        Address of the window's first byte; its low 12 bits count as zero. Stable while requests are under way.
    axi : Out(AxiSignature(beat_bytes))

    Raises
    ------
    ConfigError: a width that AXI4 ports of FPGAs don't have.
    """

    def __init__(self, config: CoreConfig):
        n = config.beat_bytes
        if n not in WIDTHS:
            raise ConfigError(f"expected a core of {', '.join(map(str, WIDTHS))} bytes a beat for AXI, got {config.name!r} with {n}")
        self.config = config
        super().__init__({"mem": In(MemorySignature(config)), "base": In(ADDRESS_BITS), "axi": Out(AxiSignature(n))})

    def elaborate(self, platform):
        m = Module()
        mem, axi = self.mem, self.axi
        base = self.base & ~C(PAGE - 1, ADDRESS_BITS)
        for kind, prefix in (("rd", "ar"), ("wr", "aw")):
            valid, addr, length = (
                Signal.like(getattr(axi, f"{prefix}{name}"), name=f"{prefix}_{name}") for name in ("valid", "addr", "len")
            )
            taken = Signal(name=f"{prefix}_taken")
            m.d.comb += [
                getattr(mem, f"{kind}_ready").eq(~valid | getattr(axi, f"{prefix}ready")),
                taken.eq(getattr(mem, f"{kind}_valid") & getattr(mem, f"{kind}_ready")),
                getattr(axi, f"{prefix}valid").eq(valid), getattr(axi, f"{prefix}addr").eq(addr), getattr(axi, f"{prefix}len").eq(length),
                getattr(axi, f"{prefix}size").eq(Const(self.config.beat_bytes.bit_length() - 1, 3)),
                getattr(axi, f"{prefix}burst").eq(INCR), getattr(axi, f"{prefix}cache").eq(BUFFERABLE),
            ]  # fmt: skip
            with m.If(taken):
                m.d.sync += [
                    valid.eq(1), addr.eq(base + getattr(mem, f"{kind}_addr")), length.eq(getattr(mem, f"{kind}_len")),
                ]  # fmt: skip
            with m.Elif(getattr(axi, f"{prefix}ready")):
                m.d.sync += valid.eq(0)

        left = Signal(8)  # beats of the write that follow
        with m.If(mem.wr_valid & mem.wr_ready):
            m.d.sync += left.eq(mem.wr_len)
        with m.Elif(axi.wvalid & axi.wready):
            m.d.sync += left.eq(left - 1)
        m.d.comb += [
            mem.rdata_valid.eq(axi.rvalid), mem.rdata.eq(axi.rdata), mem.rdata_error.eq(axi.rresp[1]), axi.rready.eq(1),
            axi.wvalid.eq(mem.wdata_valid), mem.wdata_ready.eq(axi.wready), axi.wdata.eq(mem.wdata), axi.wstrb.eq(mem.wdata_strobe),
            axi.wlast.eq(left == 0), mem.wresp_valid.eq(axi.bvalid), mem.wresp_error.eq(axi.bresp[1]), axi.bready.eq(1),
        ]  # fmt: skip
        return m
