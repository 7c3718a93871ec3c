"""A core with its program and weights in the FPGA's own memory, and text on a serial line: no memory and no host outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from trilobit.hdl.machine import build_core
from trilobit.hdl.onchip_memory import OnChipMemory
from trilobit.hdl.onchip_text import TextPort
from trilobit.hdl.uart import UartReceiver, UartTransmitter
from trilobit.isa.core import CoreConfig

__all__ = ["BakedModel", "OnChipCore"]


@dataclass(frozen=True, kw_only=True)
class BakedModel:
    """Everything that is built into the hardware.

    Attributes:
        name: the model's.
        config: the core that it was compiled for.
        program: instruction words.
        image: the memory from address 0; window_size: bytes of it that the program sees; write_start: those it may write begin here.
        encode: byte -> token; unknown: token of every other byte; first: token in front of a prompt, or None.
        eos: token that ends an answer; limit: characters at which an answer ends.
        seed: of the first answer after power-on. temperature_m, temperature_e: as the core has them, 0 for the likeliest token.
    """

    name: str
    config: CoreConfig
    program: Sequence[int] = field(repr=False)
    image: bytes = field(repr=False)
    window_size: int
    write_start: int
    encode: Mapping[int, int] = field(repr=False)
    unknown: int
    first: int | None
    eos: int
    limit: int
    seed: int = 0
    temperature_m: int = 0
    temperature_e: int = 0


class OnChipCore(wiring.Component):
    """UART, text port, core and block RAM on one clock. What is sent and received: :class:`trilobit.hdl.onchip_text.TextPort`.

    The counters and the register read-out of the core are not connected, so that synthesis drops them.

    Parameters
    ----------
    model : BakedModel
    divisor : int
        Clocks a bit of the UART.

    Members
    -------
    rx : In(1), tx : Out(1)
        The UART's lines.
    running, waiting, halted, fault : Out(1)
        For lamps.
    """

    def __init__(self, model: BakedModel, *, divisor: int):
        model.config.require_one_slot("a text port")
        if len(model.program) > model.config.program_words:
            raise ValueError(f"expected at most {model.config.program_words} instructions, got {len(model.program)}")
        self._model, self._divisor = model, divisor
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "running": Out(1), "waiting": Out(1), "halted": Out(1), "fault": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        model = self._model
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self._divisor)
        m.submodules.text = text = TextPort(encode=model.encode, unknown=model.unknown, first=model.first, seed=model.seed)
        core = build_core(model.config, debug=False, program=model.program)
        memory = OnChipMemory(model.config, model.image, size=model.window_size, write_start=model.write_start)
        m.submodules.core = ResetInserter(text.core_reset)(core)
        m.submodules.memory = ResetInserter(text.core_reset)(memory)
        connect(m, receiver.o, text.i)
        connect(m, text.o, transmitter.i)
        connect(m, core.mem, memory.mem)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx),
            core.program_length.eq(len(model.program)), core.window_size.eq(model.window_size), core.write_start.eq(model.write_start),
            core.eos.eq(model.eos), core.limit.eq(model.limit), core.seed.eq(text.seed),
            core.temperature_m.eq(model.temperature_m), core.temperature_e.eq(model.temperature_e),
            core.start.eq(text.start), core.prompt_valid.eq(text.prompt_valid), text.prompt_ready.eq(core.prompt_ready),
            core.prompt_token.eq(text.prompt_token), text.out_valid.eq(core.out_valid), core.out_ready.eq(text.out_ready),
            text.out_token.eq(core.out_token), text.halted.eq(core.halted),
            text.fault.eq(core.fault != 0),
            self.running.eq(core.running), self.waiting.eq(core.waiting), self.halted.eq(core.halted), self.fault.eq(core.fault != 0),
        ]  # fmt: skip
        return m
