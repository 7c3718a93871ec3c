"""The RTL simulator as a backend: registers, memory, prompts, limits, waves, and its errors."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from trilobit.errors import ConfigError, ProgramError, ToolError
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim import rtl_build
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.memory import MemoryModel
from trilobit.sim.rtl import RtlSimulator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from random_program import random_program

TINY = load_core("tiny")
WINDOW, WRITE_START = 512, 256
e = ISA.encode


def program(*words):
    return Program("test", list(words), WINDOW, WRITE_START)


def vectors(length=40):
    """Load, two row-wise operations, a wide store, and a sum that does not depend on them."""
    return program(
        e("ldv", vd=2, addr=0, len=length), e("add", vd=3, va=2, vb=1, len=length, wide=1),
        e("sv", addr=WRITE_START, va=3, len=length, wide=1), e("mul", vd=4, va=3, vb=2, len=length), e("halt"),
    )  # fmt: skip


def memory(rng):
    values = np.zeros(WINDOW, dtype=np.uint8)
    values[:WRITE_START] = rng.integers(0, 256, WRITE_START)
    return values


@pytest.mark.parametrize("model", ["ideal", "latency:7,outstanding=1", "latency:30,outstanding=2"])
def test_registers_and_memory_equal_the_functional_simulator(rng, model):
    start, first = memory(rng), rng.integers(-(1 << 31), 1 << 31, 64)
    functional = FunctionalSimulator(TINY, vectors(), start.copy())
    functional.set_register(1, first)
    expected = functional.run()
    with RtlSimulator(TINY, vectors(), start.copy(), memory_model=model) as rtl:
        rtl.set_register(1, first)
        result = rtl.run()
        assert (result.halted, result.fault, result.retired) == (True, 0, expected.retired)
        for index in range(1, 5):
            np.testing.assert_array_equal(rtl.register(index), functional.register(index), err_msg=f"v{index}")
        np.testing.assert_array_equal(rtl.memory, functional.memory)


def test_memory_latency_costs_its_cycles(rng):
    cycles = {}
    for latency in (1, 2, 21):
        with RtlSimulator(TINY, program(e("ldv", vd=0, addr=0, len=4), e("halt")), memory(rng), memory_model=MemoryModel(latency)) as rtl:
            cycles[latency] = rtl.run().cycles
    assert cycles[2] - cycles[1] == 1
    assert cycles[21] - cycles[1] == 20


def test_a_limit_on_outstanding_requests_costs_cycles(rng):
    long_load = program(e("ldv", vd=0, addr=0, len=64, wide=1), e("halt"))  # 64 beats, eight bursts
    cycles = {}
    for outstanding in (1, 0):
        with RtlSimulator(TINY, long_load, memory(rng), memory_model=MemoryModel(20, outstanding)) as rtl:
            cycles[outstanding] = rtl.run().cycles
    assert cycles[1] > cycles[0]


@pytest.mark.parametrize("memory_model", ["ideal", "latency:30,outstanding=2", "latency:7,outstanding=1"])
def test_gated_clocks_are_the_same_machine(rng, memory_model):
    for _ in range(4):
        random, registers = random_program(rng, TINY)
        results = []
        for gated in (True, False):
            with RtlSimulator(TINY, random, memory_model=memory_model, gated_clocks=gated) as rtl:
                for index, values in enumerate(registers):
                    rtl.set_register(index, values)
                rtl.record_retires = True
                result = rtl.run(max_cycles=100_000)
                assert result.halted
                registers_after = [rtl.register(index).tolist() for index in range(8)]
                results.append((result.cycles, result.counters, rtl.retires, registers_after, rtl.memory.tolist()))
        assert results[0] == results[1]


def test_retires_come_with_unit_and_cycle(rng):
    with RtlSimulator(TINY, vectors(), memory(rng)) as rtl:
        steps = []
        while (step := rtl.step()) is not None:
            steps.append(step)
        assert sorted((s.pc, s.unit) for s in steps) == [(0, "ldst"), (1, "rowwise"), (2, "ldst"), (3, "rowwise"), (4, "control")]
        assert [s.cycle for s in steps] == sorted(s.cycle for s in steps)
        assert rtl.result().halted
        assert steps == rtl.retires
        assert steps[-1].cycle < rtl.result().cycles <= rtl.cycles


def echo():
    """Emits each prompt token and waits for the next."""
    return program(e("wait"), e("emit"), e("jump", target=0))


def test_prompt_tokens_go_in_and_tokens_come_out_and_waiting_is_seen():
    with RtlSimulator(TINY, echo()) as rtl:
        rtl.push(range(100, 230))  # more than the core's queue holds
        seen = []
        result = rtl.run(seen.append)
        assert result.waiting and not result.halted
        assert result.tokens == seen == list(range(100, 230))
        assert rtl.run().tokens == result.tokens, "still waiting"
        rtl.push([7, (1 << 24) - 1])
        assert rtl.run(seen.append).tokens == [*range(100, 230), 7, (1 << 24) - 1]
        assert seen == rtl.result().tokens


def test_max_cycles_stops_and_goes_on(rng):
    with RtlSimulator(TINY, vectors(), memory(rng)) as rtl:
        whole = rtl.run().cycles
    with RtlSimulator(TINY, vectors(), memory(rng)) as rtl:
        part = rtl.run(max_cycles=10)
        assert (part.halted, part.waiting, part.fault) == (False, False, 0)
        assert rtl.cycles == 10
        with pytest.raises(ConfigError, match="while it runs"):
            rtl.register(0)
        result = rtl.run()
        assert (result.halted, result.cycles) == (True, whole)


def test_max_instructions_stops_after_them(rng):
    with RtlSimulator(TINY, vectors(), memory(rng)) as rtl:
        assert rtl.run(max_instructions=2).retired == 2
        assert rtl.run().halted


@pytest.mark.parametrize(("word", "code"), [
    (e("ldv", vd=0, addr=WINDOW - 4, len=8), 3),
    (e("sv", addr=WRITE_START - 64, va=0, len=8), 4),
    (e("ldv", vd=0, addr=0, len=65), 2),
    (e("jump", target=200), 8),
])  # fmt: skip
def test_faults_stop_the_core_with_cause_and_pc(rng, word, code):
    start = memory(rng)
    words = program(e("nop"), word, e("sv", addr=WRITE_START, va=0, len=8), e("halt"))
    with RtlSimulator(TINY, words, start.copy()) as rtl, FunctionalSimulator(TINY, words, start.copy()) as functional:
        rtl.set_register(0, np.arange(1, 9))
        result, expected = rtl.run(), functional.run()
        assert (result.fault, result.fault_pc, result.halted) == (code, expected.fault_pc, False)
        assert expected.fault == code
        np.testing.assert_array_equal(rtl.memory, start)


def test_settings_reach_the_core():
    words = program(e("wait"), e("emit"), e("bdone", target=4), e("jump", target=0), e("halt"))
    for settings, expected in ((HostSettings(limit=3), [1, 2, 3]), (HostSettings(eos=2), [1, 2])):
        with RtlSimulator(TINY, words, settings=settings) as rtl:
            rtl.push([1, 2, 3, 4])
            result = rtl.run()
            assert result.halted and result.tokens == expected


def test_set_register_keeps_the_elements_behind():
    with RtlSimulator(TINY, program(e("halt"))) as rtl:
        rtl.set_register(5, np.arange(64))
        rtl.set_register(5, np.array([-1, -2, -3]))
        np.testing.assert_array_equal(rtl.register(5), [-1, -2, -3, *range(3, 64)])
        np.testing.assert_array_equal(rtl.memory, 0)


def test_wrong_use_is_told():
    with RtlSimulator(TINY, program(e("halt"))) as rtl:
        with pytest.raises(ConfigError, match="from 0 to 7, got 8"):
            rtl.register(8)
        with pytest.raises(ConfigError, match="max_length=64"):
            rtl.set_register(0, np.zeros(65, dtype=int))
        with pytest.raises(ConfigError, match="32-bit"):
            rtl.set_register(0, np.array([1 << 31]))
        with pytest.raises(ConfigError, match="expected prompt tokens from 0"):
            rtl.push([1 << 24])
        rtl.run()
        with pytest.raises(ConfigError, match="has started"):
            rtl.set_register(0, np.zeros(1, dtype=int))
    with pytest.raises(ConfigError, match="was closed"):
        rtl.run()
    with pytest.raises(ProgramError, match="at most 256 instructions for core 'tiny', got 257"):
        RtlSimulator(TINY, program(*[e("nop")] * 257))


@pytest.mark.slow
def test_waves_hold_what_changed_until_the_last_cycle(rng, tmp_path):
    """An FST file: blocks of a type (a byte), a length (8 bytes) and content; block 0 the header, 8 the changes in a span of time."""
    path = tmp_path / "waves.fst"
    with RtlSimulator(TINY, vectors(), memory(rng), waves=path) as rtl:
        assert rtl.run().halted
        cycles = rtl.cycles
    data = path.read_bytes()
    blocks, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + 9], "big")
        blocks.append((data[at], data[at + 9 : at + 1 + length]))
        at += 1 + length
    kind, header = blocks[0]
    start, end = (int.from_bytes(header[k : k + 8], "big") for k in (0, 8))
    assert kind == 0 and len(header) + 8 == 329 and (end - start) // 10 >= cycles
    assert sum(len(content) for kind, content in blocks if kind == 8) > 100 * cycles, "some dozens of signals change in a cycle"


@pytest.mark.slow
def test_switching_activity_counts_every_edge_of_the_clock_and_the_counter(rng, tmp_path, capfd):
    path = tmp_path / "activity.saif"
    with RtlSimulator(TINY, vectors(), memory(rng), waves=path) as rtl:
        assert rtl.run().halted
        cycles = rtl.cycles
    text = path.read_text()
    clock = int(re.search(r"\(clk \(T0 \d+\).*\(TC (\d+)\)\)", text)[1])
    duration = int(re.search(r"\(DURATION (\d+)\)", text)[1])
    assert clock == pytest.approx(duration / 5, abs=2) and clock / 2 > cycles
    assert "ignored" not in capfd.readouterr().out


def test_waves_need_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="expected a folder"):
        RtlSimulator(TINY, program(e("halt")), waves=tmp_path / "none" / "waves.fst")


def test_a_failed_build_says_why_and_leaves_no_library(tmp_path, monkeypatch):
    monkeypatch.setenv("TRILOBIT_CACHE", str(tmp_path))
    with pytest.raises(ToolError, match=r"Verilator failed(.|\n)*The whole log is"):
        rtl_build.simulator_library(TINY, "module trilobit_sim(; endmodule")
    assert not list(tmp_path.glob("*.so")) and not list(tmp_path.glob("build-*"))


def test_verilog_of_a_core_is_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("TRILOBIT_CACHE", str(tmp_path))
    first = rtl_build.core_verilog(TINY)
    (path,) = tmp_path.glob("verilog-*.v")
    path.write_text("cached")
    assert rtl_build.core_verilog(TINY) == "cached"
    assert "module trilobit_sim(" in first
    assert rtl_build.core_verilog(TINY, gated_clocks=False) != "cached"
