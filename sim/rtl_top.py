"""The top of the simulated design: the core with every input behind a register."""

from amaranth.hdl import ClockDomain, DomainRenamer, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow, In

from trilobit.hdl.machine import build_core
from trilobit.isa.core import CoreConfig

__all__ = ["SimulationTop"]


class SimulationTop(wiring.Component):
    """The core as the compiled harness drives it.

    An input that is set before a clock edge reaches the core in the cycle after that edge. So everything the core sees
    comes from registers, and one evaluation a cycle settles it; with bare inputs, logic behind them is evaluated twice.

    Parameters
    ----------
    config, gated_clocks: as for Core.

    Members
    -------
    All of Core's. Clocks (``clk_*``) pass straight through. clk_host: clock of the register behind ``counter_select``, so that
    counters can be read without a cycle of the core.
    """

    def __init__(self, config: CoreConfig, *, gated_clocks: bool):
        self.core = build_core(config, gated_clocks=gated_clocks)
        super().__init__({**dict(self.core.signature.members.items()), "clk": In(1), "clk_host": In(1)})

    def elaborate(self, platform):
        m = Module()
        core = self.core
        m.submodules.core = DomainRenamer("core")(core)
        m.domains.sync = sync = ClockDomain(reset_less=True)
        m.domains.core = inner = ClockDomain()
        m.domains.host = host = ClockDomain(reset_less=True)
        m.d.comb += [sync.clk.eq(self.clk), inner.clk.eq(self.clk), inner.rst.eq(0), host.clk.eq(self.clk_host)]
        for path, member, value in core.signature.flatten(core):
            outer = self
            for name in path:
                outer = getattr(outer, name)
            if member.flow == Flow.Out:
                m.d.comb += outer.eq(value)
            elif str(path[0]).startswith("clk_"):
                m.d.comb += value.eq(outer)
            else:
                taken = Signal(value.shape(), name="in_" + "_".join(map(str, path)), reset_less=True)
                m.d["sync" if path[0] == "mem" else "host"] += taken.eq(outer)
                m.d.comb += value.eq(taken)
        return m
