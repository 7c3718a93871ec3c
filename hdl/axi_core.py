"""The core as IP: AXI4 for its memory, AXI4-Lite for its registers."""

from amaranth.hdl import ClockDomain, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow, In, Out, connect

from trilobit.hdl.axi import AxiMaster, AxiSignature
from trilobit.hdl.axi_registers import AxiLiteSignature, AxiRegisters
from trilobit.hdl.hosting import attach_host
from trilobit.hdl.interfaces import MemorySignature
from trilobit.hdl.machine import build_core
from trilobit.hdl.memshare import MemoryShare
from trilobit.isa.core import CoreConfig

__all__ = ["AxiCore"]


class AxiCore(wiring.Component):
    """A core between two AXI ports, all on one clock. Ports have the names that other tools infer interfaces from.

    ``irq`` is high while a token can be popped, or the core has stopped, or waits for a prompt token.
    The reset through the registers takes the core alone: its memory traffic ends first, settings and program stay.

    Parameters
    ----------
    config : CoreConfig
        beat_bytes from 4 to 64.

    Members
    -------
    aclk : In(1), aresetn : In(1)
        Clock, and reset, low when asserted, synchronous to it.
    m_axi_* : AXI4 manager (:class:`~trilobit.hdl.axi.AxiSignature`), s_axi_* : AXI4-Lite subordinate
    irq : Out(1)
    """

    def __init__(self, config: CoreConfig):
        self._config, self._master = config, AxiMaster(config)
        manager = {f"m_axi_{name}": member for name, member in AxiSignature(config.beat_bytes).members.items()}
        lite = {f"s_axi_{name}": member.flip() for name, member in AxiLiteSignature().members.items()}
        super().__init__({"aclk": In(1), "aresetn": In(1), **manager, **lite, "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        resetting = Signal()
        core = build_core(self._config, debug=False)
        m.submodules.core = ResetInserter(resetting)(core)
        m.submodules.registers = registers = AxiRegisters(self._config, clock_hz=round(self._config.clock_mhz * 1e6))
        m.submodules.share = share = MemoryShare(self._config)
        m.submodules.master = master = self._master
        unused = MemorySignature(self._config).create()  # the host's side of the memory: it has a way of its own
        connect(m, core.mem, share.core)
        connect(m, unused, share.host)
        connect(m, share.mem, master.mem)
        for prefix, port in (("m_axi_", master.axi), ("s_axi_", registers.axi)):
            for name, member in port.signature.members.items():
                inner, outer = getattr(port, name), getattr(self, prefix + name)
                m.d.comb += outer.eq(inner) if member.flow == Flow.Out else inner.eq(outer)
        attach_host(m, core, registers, share, resetting)
        m.d.comb += [
            master.base.eq(registers.window_base),
            self.irq.eq(core.out_valid | core.halted | (core.fault != 0) | core.waiting),
        ]  # fmt: skip
        return m
