"""What a core needs of any host: its signals, its reset, and, for a host on a serial line, UART, link and a share of the memory."""

from amaranth.hdl import ResetInserter, Signal
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import connect

from trilobit.hdl.core import Core
from trilobit.hdl.hostlink import HostLink
from trilobit.hdl.lean.core import LeanCore
from trilobit.hdl.machine import build_core
from trilobit.hdl.memshare import MemoryShare
from trilobit.hdl.uart import UartReceiver, UartTransmitter
from trilobit.isa.core import CoreConfig

__all__ = ["attach_host", "attach_serial_host"]

FRAME_TIMEOUT_BYTES = 64
RECEIVE_BYTES = 512
_HOST_OUTPUTS = ("prog_en", "prog_addr", "prog_data", "program_length", "start", "window_size", "write_start", "eos", "limit", "seed",
                 "temperature_m", "temperature_e", "prompt_valid", "prompt_token", "out_ready", "counter_select")  # fmt: skip
_HOST_INPUTS = ("prompt_ready", "out_valid", "out_token", "running", "halted", "waiting", "fault", "fault_pc", "counter_value")


def attach_host(m, core: Core | LeanCore, host, share: MemoryShare, resetting) -> None:
    """Connect a core's host signals, and let the host reset the core alone, once its memory traffic has been drained.

    Args:
        m: the module that has all of them.
        host: HostLink or AxiRegisters.
        share: between the core and the memory.
        resetting: the signal that resets the core.
    """
    for name in _HOST_OUTPUTS:
        m.d.comb += getattr(core, name).eq(getattr(host, name))
    for name in _HOST_INPUTS:
        m.d.comb += getattr(host, name).eq(getattr(core, name))
    drained = Signal()  # the reset lasts two clocks at least, and until nothing of the core's is left in the memory
    m.d.sync += drained.eq(resetting & ~share.core_busy)
    with m.If(host.core_reset):
        m.d.sync += resetting.eq(1)
    with m.Elif(drained & ~share.core_busy):
        m.d.sync += resetting.eq(0)
    m.d.comb += [share.core_flush.eq(resetting), host.in_reset.eq(resetting)]


def attach_serial_host(m, config: CoreConfig, memory, *, rx, tx, memory_size: int, memory_ready, divisor: int,
                       clock_hz: int) -> Core | LeanCore:  # fmt: skip
    """Add a core and its host on a serial line to a module; returns the core.

    Args:
        memory: what serves both, a component with ``mem``; it is the caller's submodule.
        rx, tx: the UART's lines. memory_ready: whether the memory can be used.
        memory_size: bytes. divisor: clocks a bit of the UART after reset.
    """
    resetting = Signal()
    m.submodules.receiver = receiver = UartReceiver(divisor)
    m.submodules.transmitter = transmitter = UartTransmitter(divisor)
    core = build_core(config, debug=False)
    m.submodules.core = ResetInserter(resetting)(core)
    m.submodules.link = link = HostLink(config, memory_size=memory_size, timeout=FRAME_TIMEOUT_BYTES * 10 * divisor, divisor=divisor,
                                        clock_hz=clock_hz)  # fmt: skip
    # Requests that follow each other wait here while the one before is done.
    m.submodules.received = received = SyncFIFOBuffered(width=8, depth=RECEIVE_BYTES)
    m.submodules.share = share = MemoryShare(config)
    m.d.comb += [
        received.w_en.eq(receiver.o.valid), received.w_data.eq(receiver.o.payload), receiver.o.ready.eq(received.w_rdy),
        link.i.valid.eq(received.r_rdy), link.i.payload.eq(received.r_data), received.r_en.eq(link.i.ready),
        receiver.divisor.eq(link.divisor), transmitter.divisor.eq(link.divisor),
        link.line_idle.eq(transmitter.idle), link.line_break.eq(receiver.line_break),
        receiver.rx.eq(rx), tx.eq(transmitter.tx), link.memory_ready.eq(memory_ready),
    ]  # fmt: skip
    connect(m, link.o, transmitter.i)
    connect(m, core.mem, share.core)
    connect(m, link.mem, share.host)
    connect(m, share.mem, memory.mem)
    attach_host(m, core, link, share, resetting)
    return core
