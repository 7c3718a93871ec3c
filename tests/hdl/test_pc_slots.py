"""Control instructions of several slots on the program counter, with a host that is slow to take tokens."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from trilobit.hdl.counters import STALLS
from trilobit.hdl.pc import ProgramCounter
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

TOKENS = 6  # few: slots end at the same token now and then


def random_control(rng: np.random.Generator, batch: int) -> tuple[Program, list[list[int]]]:
    """A program of ``poll``, ``emit``, ``bdone`` and their kind, and prompt tokens of each slot, which run out one slot after the other."""
    code = [ISA.encode("wait")]
    for _ in range(30):
        name = str(rng.choice(["poll", "emit", "bdone", "bprompt", "wait"], p=[0.3, 0.35, 0.2, 0.1, 0.05]))
        # A branch taken leaves an emit out.
        code += [ISA.encode(name, target=len(code) + 2), ISA.encode("emit")] if name.startswith("b") else [ISA.encode(name)]
    polls = sum(word & 0xFF == ISA.by_name["poll"].opcode for word in code)
    prompts = [rng.integers(0, TOKENS, int(rng.integers(1, polls + 2))).tolist() for _ in range(batch)]
    return Program("control", [*code, ISA.encode("halt")], 4096, 0), prompts


def run(config, program, prompts, settings, ready: np.ndarray):
    """The program on the program counter: emitted tokens, their slots, stalls of output, whether it waits at the end."""
    pc = ProgramCounter(config)
    queues = [list(tokens) for tokens in prompts]
    sent: list[tuple[int, int]] = []
    stalls = 0
    ended: list[bool] = []

    async def bench(ctx):
        nonlocal stalls
        ctx.set(pc.prog_en, 1)
        for address, word in enumerate(program.code):
            ctx.set(pc.prog_addr, address)
            ctx.set(pc.prog_data, word)
            await ctx.tick()
        ctx.set(pc.prog_en, 0)
        for name, value in (("program_length", len(program.code)), ("window_size", 4096), ("eos", settings.eos),
                            ("limit", settings.limit), ("stream_idle", 1), ("start", 1)):  # fmt: skip
            ctx.set(getattr(pc, name), value)
        await ctx.tick()
        ctx.set(pc.start, 0)
        for now in ready.tolist():
            ctx.set(pc.out_ready, now)
            ctx.set(pc.prompt_valid, sum(bool(queue) << slot for slot, queue in enumerate(queues)))
            ctx.set(pc.prompt_token, sum(queue[0] << 24 * slot for slot, queue in enumerate(queues) if queue))
            stalls += ctx.get(pc.stall) >> STALLS.index("output") & 1
            if ctx.get(pc.out_valid) and now:
                sent.append((ctx.get(pc.out_token), ctx.get(pc.out_slot)))
            taken = ctx.get(pc.prompt_ready)
            if ctx.get(pc.waiting) or ctx.get(pc.halted):
                ended.append(bool(ctx.get(pc.waiting)))
                return
            for slot, queue in enumerate(queues):
                if queue and taken >> slot & 1:
                    queue.pop(0)
            await ctx.tick()

    simulator = Simulator(pc)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert ended, "the program neither halted nor waited"
    return sent, stalls, ended[0]


@pytest.mark.parametrize("batch", [2, 4])
def test_slots_emit_as_in_the_functional_simulator_however_slow_the_host_is(batch, rng):
    config = load_core("tiny", batch)
    emitted = 0
    for number in range(4):
        program, prompts = random_control(rng, batch)
        settings = HostSettings(eos=int(rng.integers(0, TOKENS)), limit=int(rng.integers(3, 9)))
        with FunctionalSimulator(config, program, settings=settings) as functional:
            functional.record_retires = True
            for slot, tokens in enumerate(prompts):
                functional.push(tokens, slot)
            expected = functional.run()
            emits = sum(program.code[retire.pc] == ISA.encode("emit") for retire in functional.retires)
        slow = number % 2
        sent, stalls, waits = run(config, program, prompts, settings, rng.random(4000) < (0.4 if slow else 1))
        assert (sent, waits) == (list(zip(expected.tokens, expected.slots, strict=True)), expected.waiting)
        # A cycle a slot, the last of which is no stall.
        assert stalls == emits * (batch - 1) or (slow and stalls > emits * (batch - 1))
        emitted += len(sent)
    assert emitted
