"""The whole core: random programs against the functional simulator, stalls, overlap, faults."""

import os
from itertools import pairwise

import cocotb
import numpy as np
from memory_model import Memory
from random_program import random_program
from support import cycle, random_numbers, start, step

from trilobit.hdl.counters import COUNTERS, READ_CLOCKS, STALLS
from trilobit.hdl.interfaces import Fault
from trilobit.isa.core import load_core
from trilobit.isa.program import Program, Region
from trilobit.isa.segments import matrix_segment, scalar_of
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack
from trilobit.sim.cycles import CycleModel
from trilobit.sim.functional import FunctionalSimulator

CONFIG = load_core(os.environ.get("PRESET", "tiny"), int(os.environ.get("BATCH", "1")))
UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise", "control")


def assemble(*instructions: tuple[str, dict]) -> list[int]:
    return [ISA.encode(name, **fields) for name, fields in instructions]


class Machine:
    """The core in a testbench: loads a program, runs it, records issues and retirements with their cycles."""

    def __init__(self, dut, program: Program, memory: Memory):
        self.dut, self.program, self.memory = dut, program, memory
        self.retired: list[tuple[int, str, int]] = []  # pc, unit, cycle
        self.issued: list[tuple[int, int]] = []  # pc, cycle
        self.now = 0

    memory: Memory | None = None

    @classmethod
    async def boot(cls, dut, program: Program, *, rng=None, latency=1, busy=0.0, error_at=frozenset(), registers=None, memory=None):
        if cls.memory is not None:
            cls.memory.close()
        await start(dut, window_size=program.window_size, write_start=program.write_start, eos=0xFFFFFF, limit=0xFFFFFFFF,
                    program_length=len(program.code), out_ready=1)  # fmt: skip
        memory = cls.memory = Memory(
            dut, program.memory() if memory is None else memory, CONFIG.beat_bytes, latency=latency, busy=busy, rng=rng, error_at=error_at
        )
        for address, word in enumerate(program.code):
            dut.prog_en.value, dut.prog_addr.value, dut.prog_data.value = 1, address, word
            await step(dut)
        dut.prog_en.value = 0
        machine = cls(dut, program, memory)
        if registers is not None:
            for r in range(8):
                machine.set_register(r, registers[r])
        return machine

    def _sram(self, register: int):
        return getattr(self.dut.regfile, f"v{register}")

    def set_register(self, register: int, values: np.ndarray) -> None:
        """Write a register's SRAM through the simulator's back door."""
        words = values.astype("<i4").reshape(CONFIG.batch, -1, CONFIG.lanes).transpose(1, 0, 2)
        for k, word in enumerate(words):
            self._sram(register)[k].value = int.from_bytes(word.tobytes(), "little")

    def register(self, register: int) -> np.ndarray:
        words = [self._sram(register)[k].value.to_unsigned().to_bytes(4 * CONFIG.word_elements, "little") for k in range(CONFIG.words)]
        elements = np.frombuffer(b"".join(words), dtype="<i4").reshape(CONFIG.words, CONFIG.batch, CONFIG.lanes).astype(np.int64)
        slots = elements.transpose(1, 0, 2).reshape(CONFIG.batch, CONFIG.max_length)
        return slots[0] if CONFIG.batch == 1 else slots

    async def run(self, *, limit=200_000, on_retire=None, after=0) -> None:
        """From the start pulse until the core stops running, and ``after`` cycles more."""
        dut = self.dut
        dut.start.value = 1
        await step(dut)
        dut.start.value = 0
        written: list[int] = []  # retired in the cycle before: what they wrote has reached the SRAM now, and no later write has
        for _ in range(limit):
            await cycle(dut)
            if on_retire:
                for pc in written:
                    on_retire(pc)
            written = []
            if dut.issue_valid.value == 1:
                self.issued.append((dut.issue_pc.value.to_unsigned(), self.now))
            valid = dut.retire_valid.value.to_unsigned()
            for k, unit in enumerate(UNITS):
                if valid >> k & 1:
                    pc = dut.retire_pc.value.to_unsigned() >> (16 * k) & 0xFFFF
                    self.retired.append((pc, unit, self.now))
                    written.append(pc)
            stopped = dut.halted.value == 1 or dut.fault.value.to_unsigned() != 0
            await step(dut)
            self.now += 1
            if stopped and not written:
                if not after:
                    return
                after -= 1
        raise AssertionError(f"the core did not stop within {limit} cycles; retired {self.retired[-5:]}")

    async def until_waiting(self, limit=100_000) -> None:
        """Until the program waits for a token from the host."""
        for _ in range(limit):
            await cycle(self.dut)
            waiting, fault = self.dut.waiting.value == 1, self.dut.fault.value.to_unsigned()
            await step(self.dut)
            assert not fault, f"fault {fault} at pc {self.dut.fault_pc.value.to_unsigned()}"
            if waiting:
                return
        raise AssertionError(f"the program did not come to its next token within {limit} cycles")

    async def counter(self, name: str) -> int:
        self.dut.counter_select.value = COUNTERS.index(name)
        for _ in range(READ_CLOCKS):
            await step(self.dut)
        await cycle(self.dut)
        value = self.dut.counter_value.value.to_unsigned()
        await step(self.dut)
        return value


def reference(program: Program, registers: np.ndarray | None = None):
    """The functional simulator's run, and what each instruction left in its destination register."""
    simulator = FunctionalSimulator(CONFIG, program)
    if registers is not None:
        for r in range(8):
            simulator.set_register(r, registers[r])
    after: dict[int, np.ndarray] = {}
    while (retire := simulator.step()) is not None:
        instruction = ISA.decode(program.code[retire.pc])
        if "vd" in instruction.values:
            after[retire.pc] = simulator.register(instruction["vd"])
    return simulator, after


async def compare(dut, program, registers, rng, *, latency, busy):
    """Run a straight-line program on both; every destination register at every retirement, and memory at the end."""
    simulator, after = reference(program, registers)
    machine = await Machine.boot(dut, program, rng=rng, latency=latency, busy=busy, registers=registers)

    def check(pc):
        instruction = ISA.decode(program.code[pc])
        if "vd" not in instruction.values:
            return
        got, expected = machine.register(instruction["vd"]), after[pc]
        wrong = np.argwhere(got != expected)
        assert not len(wrong), (
            f"pc {pc} {instruction.name} {instruction.values}: element {wrong[0]} of v{instruction['vd']} is {got[tuple(wrong[0])]}, "
            f"expected {expected[tuple(wrong[0])]}; {len(wrong)} differ"
        )

    await machine.run(on_retire=check)
    assert dut.fault.value.to_unsigned() == simulator.result().fault
    assert len(machine.retired) == len(program.code)
    wrong = np.flatnonzero(machine.memory.data != simulator.memory)
    assert not len(wrong), f"memory differs at {wrong[0]:#x}"
    for r in range(8):
        assert (machine.register(r) == simulator.register(r)).all(), f"v{r} differs at the end"
    assert await machine.counter("saturated") == sum(simulator.result().saturated.values())
    return machine


def compare_cycles(machine: Machine) -> None:
    """Every instruction retires in the cycle that the cycle model says; for ideal memory, which this testbench's then is."""
    with CycleModel(machine.program, CONFIG) as model:
        model.record_retires = True
        model.run()
        expected = [(retire.pc, retire.unit, retire.cycle) for retire in model.retires]
    wrong = next((k for k, pair in enumerate(zip(machine.retired, expected, strict=True)) if pair[0] != pair[1]), None)
    assert wrong is None, f"retirement {wrong} (pc, unit, cycle) is {machine.retired[wrong]}, the cycle model says {expected[wrong]}"


@cocotb.test()
async def random_programs(dut):
    """Overlapping hazards on all units: values at every retirement equal the functional simulator's, whatever memory does; and cycles
    equal the cycle model's with ideal memory.
    """
    rng = random_numbers()
    for round in range(int(os.environ.get("PROGRAMS", "6"))):
        program, registers = random_program(rng, CONFIG, instructions=int(rng.integers(10, 40)))
        latency, busy = [(1, 0.0), (5, 0.0), (12, 0.3)][round % 3]
        machine = await compare(dut, program, registers, rng, latency=latency, busy=busy)
        if (latency, busy) == (1, 0.0):
            compare_cycles(machine)
        order = [pc for pc, _, _ in machine.retired]
        swapped = sum(a > b for a, b in pairwise(order))
        dut._log.info(f"program {round}: {len(order)} instructions in {machine.now} cycles, {swapped} out of order")


ADD = {"vd": 1, "va": 0, "vb": 0, "len": CONFIG.max_length}
HALT = ("halt", {})


def program_of(*instructions, window=4096, write_start=0) -> Program:
    return Program("test", assemble(*instructions), window, write_start)


@cocotb.test()
async def later_independent_instruction_retires_first(dut):
    """A short addition behind a long load finishes before it."""
    program = program_of(("ldv", {"vd": 2, "addr": 0, "len": CONFIG.max_length, "wide": 1}), ("add", ADD | {"len": 1}), HALT)
    machine = await Machine.boot(dut, program, latency=20)
    await machine.run()
    cycle_of = {pc: now for pc, _, now in machine.retired}
    assert cycle_of[1] < cycle_of[0], machine.retired


async def stalls_of(dut, *instructions) -> dict[str, int]:
    machine = await Machine.boot(dut, program_of(*instructions, HALT))
    await machine.run()
    return {cause: await machine.counter(f"stall_{cause}") for cause in STALLS}


@cocotb.test()
async def stalls_on_a_busy_unit(dut):
    """Two loads: the second waits for the load/store unit."""
    load = {"addr": 0, "len": CONFIG.max_length}
    stalls = await stalls_of(dut, ("ldv", load | {"vd": 1}), ("ldv", load | {"vd": 2}))
    assert stalls["unit_ldst"] > CONFIG.words // 2, stalls


@cocotb.test()
async def stalls_on_a_busy_register(dut):
    """Two units want the read port of v0, then the write port of v1: the program counter waits, and says for which."""
    store = ("sv", {"va": 0, "addr": 0, "len": CONFIG.max_length, "wide": 1})
    stalls = await stalls_of(dut, store, ("add", ADD))
    assert stalls["read_port"] > 0 and stalls["write_port"] == 0, stalls
    load = ("ldv", {"vd": 1, "addr": 0, "len": CONFIG.max_length, "wide": 1})
    stalls = await stalls_of(dut, load, ("add", ADD))
    assert stalls["write_port"] > 0 and stalls["read_port"] == 0, stalls


@cocotb.test()
async def chains_on_a_register_that_is_being_written(dut):
    """An addition on the result of an addition starts before the first has finished."""
    machine = await Machine.boot(dut, program_of(("add", ADD), ("sv", {"va": 1, "addr": 0, "len": CONFIG.max_length}), HALT))
    await machine.run()
    issue, retire = dict(machine.issued), {pc: now for pc, _, now in machine.retired}
    assert issue[1] < retire[0], "the store did not even issue before the addition retired"
    assert retire[1] - retire[0] < CONFIG.words, "the store waited for the whole vector"


FAULTS = {
    Fault.LENGTH: [("add", ADD | {"len": CONFIG.max_length + 1})],
    Fault.ADDRESS: [("ldv", {"vd": 0, "addr": 4096, "len": 4})],
    Fault.READ_ONLY: [("sv", {"va": 0, "addr": 64, "len": 4})],
    Fault.TOKEN: [("emb", {"vd": 0, "addr": 0, "len": 4, "pitch": 16, "rows": 1})],
    Fault.SEGMENT: [("stream", {"addr": 0, "beats": 64}), ("normq", {"act": 0, "va": 0, "sc": 0, "len": 4, "gain": 1})],
    Fault.PROGRAM_COUNTER: [("jump", {"target": 99})],
}


@cocotb.test()
async def faults_stop_the_core(dut):
    """Each fault names its cause and pc, older instructions finish, and nothing is stored afterwards."""
    for cause, instructions in FAULTS.items():
        before = [("nop", {}), ("add", ADD)]
        after = [("sv", {"va": 1, "addr": 2048, "len": 8}), HALT]
        prompt = [("wait", {})] if cause == Fault.TOKEN else []
        program = program_of(*before, *prompt, *instructions, *after, write_start=1024)
        machine = await Machine.boot(dut, program)
        if cause == Fault.TOKEN:
            dut.prompt_valid.value, dut.prompt_token.value = 1, 5
            await step(dut)
            dut.prompt_valid.value = 0
        await machine.run(after=200)
        assert dut.fault.value.to_unsigned() == cause, f"expected {cause!r}, got {dut.fault.value}"
        expected_pc = 99 if cause == Fault.PROGRAM_COUNTER else len(before) + len(prompt) + len(instructions) - 1
        assert dut.fault_pc.value.to_unsigned() == expected_pc, cause
        assert 1 in [pc for pc, _, _ in machine.retired], "the older addition did not finish"
        assert dut.running.value == 0 and not machine.memory.writes, cause


@cocotb.test()
async def a_region_that_ends_inside_a_segment_faults(dut):
    """Weights that never come are a fault of the product that waits for them, not silence."""
    rng = random_numbers()
    segment = matrix_segment(pack(rng.integers(-1, 2, (20, 16)).astype(np.int8)), 20, scalar_of(0.5), CONFIG.beat_bytes)
    beats = len(segment) // CONFIG.beat_bytes - 3
    code = assemble(
        ("stream", {"addr": 0, "beats": beats}), ("normq", {"act": 0, "va": 0, "sc": 0, "len": 16}),
        ("tmatmul", {"vd": 1, "act": 0, "addr": 0, "len": 20, "bp": 4}), HALT,
    )  # fmt: skip
    program = Program("test", code, 4096, 4096, {"w": Region(name="w", addr=0, size=len(segment), data=segment)})
    machine = await Machine.boot(dut, program)
    await machine.run()
    assert dut.fault.value.to_unsigned() == Fault.SEGMENT and dut.fault_pc.value.to_unsigned() == 2


@cocotb.test()
async def undefined_opcode_faults(dut):
    program = Program("test", [*assemble(("add", ADD)), 0xEE], 4096, 0)
    machine = await Machine.boot(dut, program)
    await machine.run()
    assert dut.fault.value.to_unsigned() == Fault.BAD_OPCODE and dut.fault_pc.value.to_unsigned() == 1
    assert machine.retired[0][0] == 0


@cocotb.test()
async def memory_error_faults(dut):
    program = program_of(("ldv", {"vd": 0, "addr": 0, "len": 16}), HALT)
    machine = await Machine.boot(dut, program, error_at=frozenset({8}))
    await machine.run()
    assert dut.fault.value.to_unsigned() == Fault.MEMORY


@cocotb.test()
async def tokens_prompts_and_loops(dut):
    """wait, poll, bprompt, loop, emit and bdone against the functional simulator."""
    code = assemble(
        ("seti", {"cnt": 2, "imm": 3}), ("wait", {}), ("emit", {}), ("poll", {}), ("bprompt", {"target": 2}),
        ("addi", {"vd": 0, "vb": 0, "len": 4, "imm": 5}), ("loop", {"cnt": 2, "target": 5}),
        ("argmax", {"va": 0, "len": 8, "base": 40, "first": 1, "last": 1}), ("emit", {}), ("bdone", {"target": 11}),
        ("nop", {}), ("halt", {}),
    )  # fmt: skip
    program = Program("test", code, 4096, 0)
    simulator = FunctionalSimulator(CONFIG, program)
    simulator.push([7, 8, 9])
    expected = simulator.run()
    machine = await Machine.boot(dut, program, registers=np.zeros((8, CONFIG.max_length), dtype=np.int64))
    for token in (7, 8, 9):
        dut.prompt_valid.value, dut.prompt_token.value = 1, token
        await step(dut)
    dut.prompt_valid.value = 0
    tokens = []

    async def listen():
        while True:
            await cycle(dut)
            if dut.out_valid.value == 1:
                tokens.append(dut.out_token.value.to_unsigned())
            await step(dut)

    cocotb.start_soon(listen())
    await machine.run()
    assert expected.halted and tokens == expected.tokens == [7, 8, 9, 40]
    assert (machine.register(0) == simulator.register(0)).all()
