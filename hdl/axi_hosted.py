"""The core with its host link on a serial line and AXI4 for its memory: boards with a vendor's memory controller and no processor."""

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import Flow, In, Out

from trilobit.hdl.axi import AxiMaster, AxiSignature
from trilobit.hdl.hosting import attach_serial_host
from trilobit.isa.core import CoreConfig

__all__ = ["AxiHosted"]


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
        ready = Signal()
        m.submodules.ready = FFSynchronizer(self.memory_ready, ready)
        master = self._master
        core = attach_serial_host(m, self._config, master, rx=self.rx, tx=self.tx, memory_size=self._memory_size, memory_ready=ready,
                                  divisor=self._divisor, clock_hz=round(self._config.clock_mhz * 1e6))  # fmt: skip
        m.submodules.master = master
        for name, member in master.axi.signature.members.items():
            inner, outer = getattr(master.axi, name), getattr(self, f"m_axi_{name}")
            m.d.comb += outer.eq(inner) if member.flow == Flow.Out else inner.eq(outer)
        m.d.comb += [
            self.running.eq(core.running), self.waiting.eq(core.waiting), self.halted.eq(core.halted), self.fault.eq(core.fault != 0),
        ]  # fmt: skip
        return m
