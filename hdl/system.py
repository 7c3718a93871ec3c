"""A core with its host link and SDRAM: everything of a board but clocks and pins."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from trilobit.hdl.core import Core
from trilobit.hdl.hostlink import HostLink
from trilobit.hdl.memshare import MemoryShare
from trilobit.hdl.sdram import SdramController, SdramPins
from trilobit.hdl.sdram_chip import SdramChip
from trilobit.hdl.uart import UartReceiver, UartTransmitter
from trilobit.isa.core import CoreConfig

__all__ = ["HostedCore"]

FRAME_TIMEOUT_BYTES = 64
RECEIVE_BYTES = 512
_HOST_OUTPUTS = ("prog_en", "prog_addr", "prog_data", "program_length", "start", "window_size", "write_start", "eos", "limit", "seed",
                 "temperature_m", "temperature_e", "prompt_valid", "prompt_token", "out_ready", "counter_select")  # fmt: skip
_HOST_INPUTS = ("prompt_ready", "out_valid", "out_token", "running", "halted", "waiting", "fault", "fault_pc", "counter_value")


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
        resetting = Signal()
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self._divisor)
        core = Core(self._config)
        m.submodules.core = ResetInserter(resetting)(core)
        m.submodules.link = link = HostLink(self._config, memory_size=self._chip.size, timeout=FRAME_TIMEOUT_BYTES * 10 * self._divisor,
                                            divisor=self._divisor, clock_hz=round(self._clock_mhz * 1e6))  # fmt: skip
        # Requests that follow each other wait here while the one before is done.
        m.submodules.received = received = SyncFIFOBuffered(width=8, depth=RECEIVE_BYTES)
        m.submodules.share = share = MemoryShare(self._config)
        m.submodules.controller = controller = self._controller
        m.d.comb += [
            received.w_en.eq(receiver.o.valid), received.w_data.eq(receiver.o.payload), receiver.o.ready.eq(received.w_rdy),
            link.i.valid.eq(received.r_rdy), link.i.payload.eq(received.r_data), received.r_en.eq(link.i.ready),
            receiver.divisor.eq(link.divisor), transmitter.divisor.eq(link.divisor),
            link.line_idle.eq(transmitter.idle), link.line_break.eq(receiver.line_break),
        ]  # fmt: skip
        connect(m, link.o, transmitter.i)
        connect(m, core.mem, share.core)
        connect(m, link.mem, share.host)
        connect(m, share.mem, controller.mem)
        connect(m, controller.pins, flipped(self.sdram))
        for name in _HOST_OUTPUTS:
            m.d.comb += getattr(core, name).eq(getattr(link, name))
        for name in _HOST_INPUTS:
            m.d.comb += getattr(link, name).eq(getattr(core, name))

        drained = Signal()  # the reset lasts two clocks at least, and until nothing of the core's is left in the memory
        m.d.sync += drained.eq(resetting & ~share.core_busy)
        with m.If(link.core_reset):
            m.d.sync += resetting.eq(1)
        with m.Elif(drained & ~share.core_busy):
            m.d.sync += resetting.eq(0)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx),
            share.core_flush.eq(resetting), link.in_reset.eq(resetting), link.memory_ready.eq(controller.ready),
            self.running.eq(core.running), self.waiting.eq(core.waiting), self.halted.eq(core.halted), self.fault.eq(core.fault != 0),
            self.memory_ready.eq(controller.ready),
        ]  # fmt: skip
        return m
