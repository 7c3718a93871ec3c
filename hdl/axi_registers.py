"""The register block behind AXI4-Lite: the hardware of :mod:`trilobit.hdl.axi_map`."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.axi import ADDRESS_BITS
from trilobit.hdl.axi_map import AXI_MAP, LINK_ONLY, LITE_ADDRESS_BITS, AxiRegister
from trilobit.hdl.interfaces import EXPONENT_BITS
from trilobit.hdl.link import PROTOCOL_VERSION, REGISTERS
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA

__all__ = ["AxiLiteSignature", "AxiRegisters"]

OKAY, SLVERR = 0b00, 0b10


_SETTINGS = tuple(r.name for r in REGISTERS.values() if r.access in ("rw", "any") and r.name not in LINK_ONLY)


class AxiLiteSignature(wiring.Signature):
    """AXI4-Lite with 32 data bits, seen from the manager."""

    def __init__(self):
        super().__init__({
            "awaddr": Out(LITE_ADDRESS_BITS), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(LITE_ADDRESS_BITS), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })  # fmt: skip


class AxiRegisters(wiring.Component):
    """The registers of :data:`AXI_MAP`. A write takes two clocks, a read three; one of each at a time.

    Refused with SLVERR, and nothing done: what the map does not have, writes of read-only registers or with byte strobes, "rw" registers
    while the core runs, a start while it runs, a token without room, and a value beyond the register's width (of a register of two words:
    of the high one).

    Parameters
    ----------
    config : CoreConfig
    memory_size : int
        What ``memory_size`` reads as; 0: the host knows better.

    Members
    -------
    axi : In(AxiLiteSignature())
    window_base : Out(64)
    core_reset : Out(1)
        A cycle: reset the core. in_reset : In(1), it is not yet back.
    prog_*, prompt_*, out_*, start, running, halted, waiting, fault, fault_pc, counter_*, and the settings
        The ports of :class:`trilobit.hdl.core.Core` of the same names, seen from the other side.
    """

    def __init__(self, config: CoreConfig, *, memory_size: int = 0, clock_hz: int = 0):
        config.require_one_slot("the AXI registers")
        self.config = config
        self._constants = {"memory_size": memory_size, "program_words": config.program_words, "max_length": config.max_length,
                           "clock_hz": clock_hz}  # fmt: skip
        settings = {name: Out(REGISTERS[name].width) for name in _SETTINGS} | {"temperature_e": Out(signed(EXPONENT_BITS))}
        super().__init__(settings | {
            "axi": In(AxiLiteSignature()), "window_base": Out(ADDRESS_BITS), "core_reset": Out(1), "in_reset": In(1),
            "prog_en": Out(1), "prog_addr": Out(16), "prog_data": Out(ISA.word_bits), "start": Out(1),
            "prompt_valid": Out(1), "prompt_ready": In(1), "prompt_token": Out(24),
            "out_valid": In(1), "out_ready": Out(1), "out_token": In(24),
            "running": In(1), "halted": In(1), "waiting": In(1), "fault": In(4), "fault_pc": In(16), "counter_value": In(48),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m):
        axi = self.axi
        busy = self.running | self.in_reset
        addr, value, whole = Signal(LITE_ADDRESS_BITS), Signal(32), Signal()
        got_addr, got_data, answered, bad, act = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [axi.awready.eq(~got_addr), axi.wready.eq(~got_data), axi.bvalid.eq(answered)]
        m.d.comb += [self.prompt_token.eq(value), self.prog_data[96:].eq(value)]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [addr.eq(axi.awaddr), got_addr.eq(1)]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [value.eq(axi.wdata), whole.eq(axi.wstrb.all()), got_data.eq(1)]
        m.d.comb += act.eq(got_addr & got_data & ~answered)
        with m.If(act):
            m.d.sync += [answered.eq(1), axi.bresp.eq(Mux(bad, SLVERR, OKAY))]
        with m.If(axi.bvalid & axi.bready):
            m.d.sync += [answered.eq(0), got_addr.eq(0), got_data.eq(0)]

        ok = act & whole

        def word(register: AxiRegister, high: bool, refuse, *assignments, also=()):
            """One word of a register that can be written."""
            width = min(32, register.width - 32) if high else min(32, register.width)
            fits = value[width:] == 0 if width < 32 else C(1)
            with m.Case(register.offset // 4 + high):
                with m.If(whole & fits & ~refuse):
                    m.d.comb += bad.eq(0)
                    with m.If(ok):
                        m.d.comb += list(also)
                        m.d.sync += list(assignments)

        m.d.comb += bad.eq(1)
        with m.Switch(addr[2:]):
            for name in ("window_base", *_SETTINGS):
                register, target = AXI_MAP[name], getattr(self, name)
                refuse = C(0) if register.access == "any" else busy
                word(register, False, refuse, (target[:32] if register.width > 32 else target).eq(value))
                if register.width > 32:
                    word(register, True, refuse, target[32:].eq(value))
            word(AXI_MAP["program_address"], False, busy, self.prog_addr.eq(value))
            for k in range(3):
                word(AXI_MAP[f"program_data_{k}"], False, busy, self.prog_data.word_select(k, 32).eq(value))
            beyond = busy | (self.prog_addr >= self.config.program_words)
            word(AXI_MAP["program_data_3"], False, beyond, self.prog_addr.eq(self.prog_addr + 1), also=[self.prog_en.eq(1)])
            word(AXI_MAP["push_token"], False, ~self.prompt_ready | self.in_reset, also=[self.prompt_valid.eq(1)])
            word(AXI_MAP["control"], False, value[0] & (busy | value[1]), also=[self.start.eq(value[0]), self.core_reset.eq(value[1])])

    def _read(self, m):
        axi = self.axi
        addr, busy, ready = Signal(LITE_ADDRESS_BITS), Signal(), Signal()
        status = Cat(self.running, self.halted, self.waiting, self.out_valid, self.prompt_ready, C(1, 1), self.in_reset, C(0, 1),
                     self.fault, C(0, 4), self.fault_pc)  # fmt: skip
        identity = int.from_bytes(b"TRLB", "little")
        version = PROTOCOL_VERSION | ISA.version << 8 | (self.config.beat_bytes - 1) << 16 | (self.config.lanes - 1) << 24
        m.d.comb += [axi.arready.eq(~busy), axi.rvalid.eq(ready)]
        with m.If(axi.arvalid & axi.arready):
            m.d.sync += [addr.eq(axi.araddr), busy.eq(1)]
        with m.If(busy & ~ready):
            m.d.sync += [ready.eq(1), axi.rdata.eq(0), axi.rresp.eq(SLVERR)]
            with m.Switch(addr[2:]):
                for register in AXI_MAP.values():
                    special = {"id": C(identity, 32), "version": C(version, 32), "status": status, "counter": self.counter_value,
                               "program_address": self.prog_addr, "pop_token": Cat(self.out_token, C(0, 7), self.out_valid)}  # fmt: skip
                    special |= {name: C(value, 64) for name, value in self._constants.items()}
                    if register.access == "wo":
                        source = C(0, 64)
                    else:
                        source = special[register.name] if register.name in special else getattr(self, register.name).as_unsigned()
                    for high in range(1 + (register.width > 32)):
                        with m.Case(register.offset // 4 + high):
                            m.d.sync += [axi.rdata.eq(source[32 * high : 32 * high + 32]), axi.rresp.eq(OKAY)]
                            if register.name == "pop_token":
                                m.d.comb += self.out_ready.eq(self.out_valid)
        with m.If(axi.rvalid & axi.rready):
            m.d.sync += [busy.eq(0), ready.eq(0)]
