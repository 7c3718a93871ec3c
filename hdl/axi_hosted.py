"""The core with its host link on a serial line and AXI4 for its memory: boards with a vendor's memory controller and no processor."""

from amaranth.hdl import ClockDomain, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Flow, In, Out, connect

from trilobit.hdl.axi import AxiMaster, AxiSignature
from trilobit.hdl.axi_core import HOST_INPUTS, HOST_OUTPUTS
from trilobit.hdl.core import Core
from trilobit.hdl.hostlink import HostLink
from trilobit.hdl.memshare import MemoryShare
from trilobit.hdl.uart import UartReceiver, UartTransmitter
from trilobit.isa.core import CoreConfig

__all__ = ["AxiHosted"]

FRAME_TIMEOUT_BYTES = 64
RECEIVE_BYTES = 512


class AxiHosted(wiring.Component):
    """UART, host link and core on one clock, in front of an AXI4 memory whose first byte has address 0.

    To a host it is a board as any with a serial line (docs/reference/host-link.md). The host's reset takes the core alone: its memory
    traffic ends first, settings and program stay.

    Parameters
    ----------
    config : CoreConfig
        beat_bytes from 4 to 64.
    memory_size : int
        Bytes of the memory.
    divisor : int
        Clocks a bit of the UART after reset.

    Members
    -------
    aclk : In(1), aresetn : In(1)
        Clock, and reset, low when asserted, synchronous to it.
    m_axi_* : AXI4 manager (:class:`~trilobit.hdl.axi.AxiSignature`)
    rx : In(1), tx : Out(1)
        The UART's lines.
    memory_ready : In(1)
        The memory can be used; of any clock.
    running, waiting, halted, fault : Out(1)
        For lamps.
    """

    def __init__(self, config: CoreConfig, *, memory_size: int, divisor: int):
        self._config, self._memory_size, self._divisor, self._master = config, memory_size, divisor, AxiMaster(config)
        manager = {f"m_axi_{name}": member for name, member in AxiSignature(config.beat_bytes).members.items()}
        lamps = {name: Out(1) for name in ("running", "waiting", "halted", "fault")}
        super().__init__(
            {"aclk": In(1), "aresetn": In(1), **manager, "rx": In(1, init=1), "tx": Out(1, init=1), "memory_ready": In(1), **lamps}
        )

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        resetting, drained, ready = Signal(), Signal(), Signal()
        m.submodules.ready = FFSynchronizer(self.memory_ready, ready)
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self._divisor)
        core = Core(self._config, debug=False)
        m.submodules.core = ResetInserter(resetting)(core)
        m.submodules.link = link = HostLink(self._config, memory_size=self._memory_size, timeout=FRAME_TIMEOUT_BYTES * 10 * self._divisor,
                                            divisor=self._divisor, clock_hz=round(self._config.clock_mhz * 1e6))  # fmt: skip
        m.submodules.received = received = SyncFIFOBuffered(width=8, depth=RECEIVE_BYTES)
        m.submodules.share = share = MemoryShare(self._config)
        m.submodules.master = master = self._master
        m.d.comb += [
            received.w_en.eq(receiver.o.valid), received.w_data.eq(receiver.o.payload), receiver.o.ready.eq(received.w_rdy),
            link.i.valid.eq(received.r_rdy), link.i.payload.eq(received.r_data), received.r_en.eq(link.i.ready),
            receiver.divisor.eq(link.divisor), transmitter.divisor.eq(link.divisor),
            link.line_idle.eq(transmitter.idle), link.line_break.eq(receiver.line_break),
        ]  # fmt: skip
        connect(m, link.o, transmitter.i)
        connect(m, core.mem, share.core)
        connect(m, link.mem, share.host)
        connect(m, share.mem, master.mem)
        for name, member in master.axi.signature.members.items():
            inner, outer = getattr(master.axi, name), getattr(self, f"m_axi_{name}")
            m.d.comb += outer.eq(inner) if member.flow == Flow.Out else inner.eq(outer)
        for name in HOST_OUTPUTS:
            m.d.comb += getattr(core, name).eq(getattr(link, name))
        for name in HOST_INPUTS:
            m.d.comb += getattr(link, name).eq(getattr(core, name))
        m.d.sync += drained.eq(resetting & ~share.core_busy)
        with m.If(link.core_reset):
            m.d.sync += resetting.eq(1)
        with m.Elif(drained & ~share.core_busy):
            m.d.sync += resetting.eq(0)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx),
            share.core_flush.eq(resetting), link.in_reset.eq(resetting), link.memory_ready.eq(ready),
            self.running.eq(core.running), self.waiting.eq(core.waiting), self.halted.eq(core.halted), self.fault.eq(core.fault != 0),
        ]  # fmt: skip
        return m
