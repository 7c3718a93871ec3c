"""A core with its host link and SDRAM: everything of a board but clocks and pins."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from trilobit.hdl.hosting import attach_serial_host
from trilobit.hdl.sdram import SdramController, SdramPins
from trilobit.hdl.sdram_chip import SdramChip
from trilobit.isa.core import CoreConfig

__all__ = ["HostedCore"]


class HostedCore(wiring.Component):
    """UART, host link, core and SDRAM controller on one clock; the SDRAM has twice of it.

    The host's reset takes the core alone: its memory traffic is drained first, settings and program stay.

    Parameters
    ----------
    config : CoreConfig
    chip : SdramChip
    clock_mhz : float
    divisor : int
        Clocks a bit of the UART.
    cas_latency, io_latency, init_clocks
        As :class:`trilobit.hdl.sdram.SdramController` has them.

    Members
    -------
    rx : In(1), tx : Out(1)
        The UART's lines.
    sdram : Out(SdramPins())
    running, waiting, halted, fault, memory_ready : Out(1)
        For lamps.
    """

    def __init__(self, config: CoreConfig, chip: SdramChip, *, clock_mhz: float, divisor: int, cas_latency: int = 3, io_latency: int = 0,
                 init_clocks: int | None = None):  # fmt: skip
        config.require_one_slot("a board's host link")
        self._config, self._chip, self._divisor, self._clock_mhz = config, chip, divisor, clock_mhz
        self._controller = SdramController(config, chip, clock_mhz=clock_mhz, cas_latency=cas_latency, io_latency=io_latency,
                                           init_clocks=init_clocks)  # fmt: skip
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "sdram": Out(SdramPins()),
            "running": Out(1), "waiting": Out(1), "halted": Out(1), "fault": Out(1), "memory_ready": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        controller = self._controller
        core = attach_serial_host(m, self._config, controller, rx=self.rx, tx=self.tx, memory_size=self._chip.size,
                                  memory_ready=controller.ready, divisor=self._divisor, clock_hz=round(self._clock_mhz * 1e6))  # fmt: skip
        m.submodules.controller = controller
        connect(m, controller.pins, flipped(self.sdram))
        m.d.comb += [
            self.running.eq(core.running), self.waiting.eq(core.waiting), self.halted.eq(core.halted), self.fault.eq(core.fault != 0),
            self.memory_ready.eq(controller.ready),
        ]  # fmt: skip
        return m
