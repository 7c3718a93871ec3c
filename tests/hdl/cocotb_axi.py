"""The core as IP on AXI memories: programs loaded and run over AXI4-Lite, with back-pressure, latency and errors."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiResp, AxiSlave, MemoryRegion
from support import random_numbers

from trilobit.hdl.axi_map import AXI_MAP
from trilobit.hdl.interfaces import Fault
from trilobit.host.selftest import self_test_program
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

CONFIG = load_core(os.environ["PRESET"])
BASE = 0x3_0000  # of the window: 4 KiB pages that the RAM has
SIZE = 1 << 18
SETTINGS = HostSettings(seed=9, temperature=0.8, limit=1)


class Host:
    """The driver's side: registers by name."""

    def __init__(self, dut):
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, reset_active_level=False)

    async def write(self, name: str, value: int) -> AxiResp:
        register = AXI_MAP[name]
        value &= (1 << register.width) - 1
        response = await self.bus.write(register.offset, (value & 0xFFFFFFFF).to_bytes(4, "little"))
        if register.width > 32:
            high = await self.bus.write(register.offset + 4, (value >> 32).to_bytes(4, "little"))
            assert high.resp == response.resp
        return response.resp

    async def read(self, name: str) -> int:
        register = AXI_MAP[name]
        data = await self.bus.read(register.offset, 4 if register.width <= 32 else 8)
        assert data.resp == AxiResp.OKAY
        return int.from_bytes(data.data, "little")

    async def load(self, code: list[int], **settings: int) -> None:
        assert await self.write("program_address", 0) == AxiResp.OKAY
        for word in code:
            for k in range(4):
                assert await self.write(f"program_data_{k}", word >> 32 * k & 0xFFFFFFFF) == AxiResp.OKAY
        for name, value in {"program_length": len(code), "window_base": BASE, **settings}.items():
            assert await self.write(name, value) == AxiResp.OKAY, name

    async def run(self) -> tuple[list[int], int]:
        assert await self.write("control", 1) == AxiResp.OKAY
        tokens = []
        for _ in range(2000):
            status = await self.read("status")
            while (token := await self.read("pop_token")) >> 31:
                tokens.append(token & 0xFFFFFF)
            if status & 2 or status >> 8 & 0xF:  # between running and halted, what was fetched ahead still comes in
                return tokens, status
        raise AssertionError("the core did not stop")


class Region(MemoryRegion):
    """Words that may come late, or not at all: ``latency`` clocks at most, as often as one in eight; ``errors`` is a probability."""

    latency, errors, failed = 0, 0.0, 0

    def __init__(self, clock):
        super().__init__(SIZE)
        self.clock, self.rng = clock, random_numbers()

    async def _disturb(self):
        if self.latency and self.rng.random() < 1 / 8:
            await ClockCycles(self.clock, int(self.rng.integers(1, self.latency + 1)))
        if self.errors and self.rng.random() < self.errors:
            self.failed += 1
            raise ValueError("as the test wants it")

    async def read(self, address, length, **keywords):
        await self._disturb()
        return await super().read(address, length, **keywords)

    async def write(self, address, data, **keywords):
        await self._disturb()
        await super().write(address, data, **keywords)


class Ram(AxiSlave):
    """A memory; what lies behind its end answers with an error."""

    def __init__(self, dut):
        self.region = Region(dut.aclk)
        super().__init__(AxiBus.from_prefix(dut, "m_axi"), dut.aclk, dut.aresetn, target=self.region, reset_active_level=False)

    def write(self, addr: int, data: bytes) -> None:
        self.region.mem[addr : addr + len(data)] = data

    def read(self, addr: int, size: int) -> bytes:
        return self.region.mem[addr : addr + size]


def pauses(rng, probability: float):
    while True:
        yield bool(rng.random() < probability)


async def boot(dut, busy: float = 0.0):
    rng = random_numbers()
    cocotb.start_soon(Clock(dut.aclk, 10, "ns").start())
    dut.aresetn.value = 0
    host = Host(dut)
    ram = Ram(dut)
    if busy:
        for channel in (
            ram.read_if.ar_channel,
            ram.read_if.r_channel,
            ram.write_if.aw_channel,
            ram.write_if.w_channel,
            ram.write_if.b_channel,
        ):
            channel.set_pause_generator(pauses(rng, busy))
        for channel in (host.bus.write_if.aw_channel, host.bus.write_if.w_channel, host.bus.write_if.b_channel, host.bus.read_if.r_channel):
            channel.set_pause_generator(pauses(rng, busy))
    await ClockCycles(dut.aclk, 4)
    dut.aresetn.value = 1
    await RisingEdge(dut.aclk)
    return host, ram, rng


async def attempt(host: Host, ram: Ram) -> tuple[int, list[int], bool]:
    """A program with every unit: status, the tokens if there are fewer than expected or others, whether memory is as expected."""
    program = self_test_program(CONFIG)
    simulator = FunctionalSimulator(CONFIG, program, settings=SETTINGS)
    simulator.push([2])
    expected = simulator.run()
    image = program.memory()
    guard = bytes([0xA5]) * 64
    ram.write(BASE, image.tobytes() + guard)
    temperature = SETTINGS.temperature_scalar()
    await host.load(program.code, window_size=program.window_size, write_start=program.write_start, seed=SETTINGS.seed, limit=1,
                    temperature_m=temperature.mantissa, temperature_e=temperature.exponent, eos=0xFFFFFF)  # fmt: skip
    assert await host.write("push_token", 2) == AxiResp.OKAY
    tokens, status = await host.run()
    assert ram.read(BASE + len(image), len(guard)) == guard
    wrong = [] if tokens == expected.tokens else [*tokens, -1]
    return status, wrong, ram.read(BASE, len(image)) == simulator.memory.tobytes()


async def self_test(host: Host, ram: Ram) -> None:
    """Memory and tokens as the functional simulator has them."""
    status, wrong, equal = await attempt(host, ram)
    assert not wrong and equal and status & 7 == 2 and status >> 8 & 0xF == 0


@cocotb.test()
async def says_what_it_is(dut):
    host, _, _ = await boot(dut)
    assert (await host.read("id")).to_bytes(4, "little") == b"TRLB"
    assert await host.read("version") >> 16 == (CONFIG.beat_bytes - 1) | (CONFIG.lanes - 1) << 8
    assert await host.read("program_words") == CONFIG.program_words and await host.read("max_length") == CONFIG.max_length


@cocotb.test()
async def every_register_holds_its_bits_and_no_more(dut):
    host, _, rng = await boot(dut)
    for name, register in AXI_MAP.items():
        if register.access in ("rw", "any"):
            value = int.from_bytes(rng.bytes(8), "little") & (1 << register.width) - 1
            assert await host.write(name, value) == AxiResp.OKAY
            assert await host.read(name) == value, name
            if register.width % 32:
                high = register.offset + 4 * (register.width > 32)
                response = await host.bus.write(high, (1 << register.width % 32).to_bytes(4, "little"))
                assert response.resp == AxiResp.SLVERR and await host.read(name) == value, name
        elif register.access == "ro":
            assert (await host.bus.write(register.offset, bytes(4))).resp == AxiResp.SLVERR, name
    for nowhere in (0x03C, 0x0F8, 0x3FC):
        assert (await host.bus.write(nowhere, bytes(4))).resp == AxiResp.SLVERR
        assert (await host.bus.read(nowhere, 4)).resp == AxiResp.SLVERR
    assert (await host.bus.write(AXI_MAP["seed"].offset + 1, b"\x01")).resp == AxiResp.SLVERR, "bytes of a register"


@cocotb.test()
async def runs_a_program_with_every_unit(dut):
    host, ram, _ = await boot(dut)
    await self_test(host, ram)
    assert await host.read("counter") > 0
    assert dut.irq.value == 1


@cocotb.test()
async def random_back_pressure_changes_nothing(dut):
    host, ram, _ = await boot(dut, busy=0.4)
    await self_test(host, ram)


@cocotb.test()
async def random_latency_changes_nothing(dut):
    host, ram, _ = await boot(dut, busy=0.2)
    ram.region.latency = 100
    await self_test(host, ram)


@cocotb.test()
async def random_error_responses_are_faults_and_never_data(dut):
    """Somewhere in weights, vectors, tables or stores: a memory fault, or it was of what nobody used and all is right."""
    host, ram, _ = await boot(dut, busy=0.1)
    faults = 0
    ram.region.latency, ram.region.errors = 20, 0.003
    for _ in range(12):
        status, wrong, equal = await attempt(host, ram)
        fault = status >> 8 & 0xF
        assert fault in (0, Fault.MEMORY)
        assert fault or (not wrong and equal)
        assert wrong in ([], [-1]), "no token, or the right one"
        faults += fault != 0
        assert await host.write("control", 2) == AxiResp.OKAY
        while await host.read("status") & 0x40:
            pass
        while await host.read("pop_token") >> 31:
            pass
    assert 0 < faults <= ram.region.failed, (faults, ram.region.failed)
    ram.region.errors = 0.0
    await self_test(host, ram)


@cocotb.test()
async def nothing_disturbs_a_running_program(dut):
    """A program that waits for a token: settings, program and start are refused, the token ends it."""
    host, _, _ = await boot(dut)
    code = [ISA.encode("wait"), ISA.encode("emit"), ISA.encode("halt")]
    await host.load(code, window_size=4096, write_start=0, limit=1, eos=0xFFFFFF)
    assert await host.write("control", 1) == AxiResp.OKAY
    for name in ("seed", "window_base", "program_address", "program_data_3", "control"):
        assert await host.write(name, 1) == AxiResp.SLVERR, name
    assert await host.read("status") & 5 == 5
    assert await host.write("push_token", 77) == AxiResp.OKAY
    while await host.read("status") & 1:
        pass
    assert await host.read("pop_token") == 1 << 31 | 77
    assert await host.read("pop_token") >> 31 == 0


@cocotb.test()
async def error_responses_are_faults(dut):
    """Reads and writes behind the RAM's end are answered with an error; after a reset of the core it runs again."""
    for op, fields in (("ldv", {"vd": 1}), ("sv", {"va": 1})):
        host, ram, _ = await boot(dut)
        far = -(-(SIZE - BASE) // 4096) * 4096
        await host.load([ISA.encode(op, addr=far, len=8, **fields), ISA.encode("halt")], window_size=2 * far, write_start=0)
        tokens, status = await host.run()
        assert not tokens and status >> 8 & 0xF == Fault.MEMORY, op
        assert await host.write("control", 2) == AxiResp.OKAY
        while await host.read("status") & 0x40:
            pass
        await self_test(host, ram)
