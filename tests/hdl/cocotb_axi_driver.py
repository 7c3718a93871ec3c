"""The host's driver on the core as IP: the driver's own code reads and writes the simulated bus, one word at a time."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time
from cocotb_axi import BASE, CONFIG, SIZE, Host, Ram, pauses
from cocotbext.axi import AxiResp
from support import random_numbers

from trilobit.assembler.bundle import load_bundle
from trilobit.errors import ConfigError, HostError
from trilobit.hdl.link import Cause
from trilobit.host import selftest
from trilobit.host.axi import AxiAccess
from trilobit.host.backend import BoardBackend
from trilobit.host.board import Board
from trilobit.host.link import RefusedError
from trilobit.isa.counters import STALLS
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles_backend import CycleBackend
from trilobit.sim.functional import FunctionalSimulator

TIMELESS = ("issued", "matmul_beats", "ldst_read_beats", "write_beats", "saturated")  # counters that no memory's timing changes


class BusRegisters:
    """Words over the simulated AXI4-Lite. A bus error would end a real driver's process: here it ends the test."""

    description = "the simulated bus"

    def __init__(self, host: Host, shift: int = 0):
        self.bus, self.shift = host.bus, shift

    def read(self, offset: int) -> int:
        async def transfer():
            answer = await self.bus.read(offset + self.shift, 4)
            assert answer.resp == AxiResp.OKAY, f"read of {offset:#x}"
            return int.from_bytes(answer.data, "little")

        return resume(transfer)()

    def write(self, offset: int, value: int) -> None:
        async def transfer():
            answer = await self.bus.write(offset + self.shift, value.to_bytes(4, "little"))
            assert answer.resp == AxiResp.OKAY, f"write of {offset:#x}"

        resume(transfer)()

    def close(self) -> None:
        pass


class RamMemory:
    """The memory as the processor sees it."""

    def __init__(self, ram: Ram, base: int = BASE):
        self.ram, self.base, self.size = ram, base, SIZE - BASE

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.ram.read(self.base + offset, size))

    def write(self, offset: int, data: bytes) -> None:
        self.ram.write(self.base + offset, data)

    def close(self) -> None:
        pass


class SimulatedAccess(AxiAccess):
    """The driver's way, with the simulation's time."""

    def now(self) -> float:
        async def time():
            return get_sim_time("sec")

        return resume(time)()


async def boot(dut, busy: float = 0.0) -> tuple[Host, Ram]:
    """At the clock that the core says it has."""
    rng = random_numbers()
    cocotb.start_soon(Clock(dut.aclk, 2 * round(0.5e6 / CONFIG.clock_mhz), "ps").start())
    dut.aresetn.value = 0
    host, ram = Host(dut), Ram(dut)
    for part in (ram.read_if.r_channel, ram.write_if.w_channel, host.bus.read_if.r_channel, host.bus.write_if.b_channel) if busy else ():
        part.set_pause_generator(pauses(rng, busy))
    await ClockCycles(dut.aclk, 4)
    dut.aresetn.value = 1
    await RisingEdge(dut.aclk)
    return host, ram


@cocotb.test()
async def a_bundle_runs_as_on_the_functional_simulator(dut):
    """Self-test with the clock measured, then a compiled model: image, program, prompt and tokens, as ``trilobit run`` does it."""
    host, ram = await boot(dut, busy=0.2)
    bundle = load_bundle(os.environ["BUNDLE"])
    settings = HostSettings(seed=5, temperature=0.7, limit=4)
    simulator = FunctionalSimulator(bundle.core, bundle.program, bundle.memory(), settings)
    simulator.push([1, 7])
    expected = simulator.run()
    selftest.CLOCK_SECONDS = 5e-5  # 3,000 clocks: the read-out of a counter is renewed every 32, which is 1.1% of them

    @bridge
    def drive():
        board = Board(SimulatedAccess(BusRegisters(host), RamMemory(ram)))
        assert board.identity.memory_size == SIZE - BASE and board.identity.clock_hz == round(CONFIG.clock_mhz * 1e6)
        assert board.negotiate() == "", "a bus has no rate"
        tested = selftest.self_test(board, bundle.core)
        assert tested.compared > 1000 and abs(tested.clock_hz / board.identity.clock_hz - 1) < 0.02
        seen: list[int] = []
        with BoardBackend(board, bundle.core, bundle.program, bundle.memory(), settings) as machine:
            machine.push([1, 7])
            result = machine.run(seen.append)
            assert (machine.memory == simulator.memory).all()
        return result, seen

    result, seen = await drive()
    assert result.halted and result.tokens == seen == expected.tokens and len(seen) == 4
    assert result.counters["cycles"] == result.cycles > 0 and result.retired == expected.retired
    timed = CycleBackend(bundle.core, bundle.program, bundle.memory(), settings)
    timed.push([1, 7])
    counters = timed.run().counters  # with another memory: what does not depend on its time is the same
    assert {name: result.counters[name] for name in TIMELESS} == {name: counters[name] for name in TIMELESS}
    assert all(counters[name] for name in TIMELESS if name != "saturated")
    assert sum(result.counters[f"stall_{cause}"] for cause in STALLS) + result.counters["issued"] == result.cycles


@cocotb.test()
async def what_the_core_would_refuse_never_reaches_the_bus(dut):
    """While a program waits for a token: the driver's own refusals, with the causes that the serial link has."""
    host, ram = await boot(dut)

    @bridge
    def drive():
        board = Board(SimulatedAccess(BusRegisters(host), RamMemory(ram)))
        access = board.access
        code = [ISA.encode("wait"), ISA.encode("emit"), ISA.encode("jump", target=0)]
        board.prepare(code, window_size=4096, write_start=0, settings=HostSettings())
        board.start()
        while not board.status().waiting:
            pass

        def refused(cause: Cause, function, *arguments):
            try:
                function(*arguments)
            except RefusedError as error:
                assert error.cause == cause, error
            else:
                raise AssertionError(f"{cause} was expected of {function.__name__}{arguments}")

        refused(Cause.BUSY, board.write_register, "seed", 1)
        refused(Cause.BUSY, board.start)
        refused(Cause.BUSY, access.write_program, code)
        refused(Cause.VALUE, access.write_register, "control", 3)
        refused(Cause.VALUE, access.write_register, "temperature_e", 1 << 10)
        refused(Cause.VALUE, board.push, 1 << 24)
        refused(Cause.ADDRESS, board.write_register, "baud_divisor", 4)
        refused(Cause.ADDRESS, board.read_register, "baud_divisor")
        refused(Cause.ADDRESS, board.write_register, "status", 0)
        refused(Cause.ADDRESS, board.read_memory, SIZE - BASE, 4)
        refused(Cause.ADDRESS, board.write_memory, 2, bytes(4))
        board.reset()
        refused(Cause.ADDRESS, access.write_program, code * CONFIG.program_words)
        pushed = 0
        while board.push(pushed):
            pushed += 1
        assert 32 <= pushed <= 128
        # They come out again in order: 64 in the output's queue, the others as there is room.
        board.start()
        tokens: list[int] = []
        while len(tokens) < pushed:
            tokens += board.pop()
        assert tokens == list(range(pushed))

    await drive()


@cocotb.test()
async def something_else_at_the_address_is_told(dut):
    host, ram = await boot(dut)

    @bridge
    def drive():
        try:
            Board(SimulatedAccess(BusRegisters(host, shift=4), RamMemory(ram)))
        except HostError as error:
            assert "expected 0x424c5254 (TRLB) in the first register of the simulated bus, got 0x" in str(error)
        else:
            raise AssertionError("the version register was taken for the identity")
        try:
            SimulatedAccess(BusRegisters(host), RamMemory(ram, base=BASE + 64))
        except ConfigError as error:
            assert "memory that begins at a multiple of 4096, got 0x30040" in str(error)
        else:
            raise AssertionError("memory off a page was taken")

    await drive()
