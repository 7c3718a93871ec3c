"""The cocotb helpers: builds are cached, tests run on both simulators, failures are failures."""

import os

import pytest
import support
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from support import CACHE, run_cocotb

from trilobit.hdl.verilog import to_verilog
from trilobit.sim.toolchain import VERILATOR


class AddOne(wiring.Component):
    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload + 1)]
        return m


def test_passes_on_each_simulator(simulator, seed):
    run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=[simulator], seed=seed,
               testcase=["adds_one_after_a_cycle", "waits_for_a_slow_consumer"])  # fmt: skip


def test_failure_is_raised_with_log_and_seed(simulator):
    with pytest.raises(AssertionError, match=r"1 of 1 tests failed, TRILOBIT_SEED=5(.|\n)*expected {'payload': 1}, got {'payload': 2}"):
        run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=[simulator], testcase="fails", seed=5)


def test_no_matching_test_is_a_failure():
    with pytest.raises(AssertionError, match="0 of 0 tests"):
        run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=["verilator"], testcase="no_such_test")


def test_second_run_does_not_build():
    run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=["verilator"], testcase="adds_one_after_a_cycle")
    builds = {path: path.stat().st_mtime_ns for path in CACHE.glob("add_one-verilator-*/add_one")}
    assert builds
    run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=["verilator"], testcase="adds_one_after_a_cycle")
    assert {path: path.stat().st_mtime_ns for path in CACHE.glob("add_one-verilator-*/add_one")} == builds


def test_builds_need_no_program_called_python(tmp_path, monkeypatch):
    """Debian has python3 only, and the environment that runs need not be activated."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(support, "CACHE", tmp_path / "builds")
    run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=["verilator"], testcase="adds_one_after_a_cycle")


def test_a_failed_build_is_built_anew(monkeypatch, tmp_path):
    monkeypatch.setattr(support, "CACHE", tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(type(VERILATOR), "make_flags", ("PYTHON3=false",))
        with pytest.raises(AssertionError, match="verilator could not build add_one"):
            run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=["verilator"], testcase="adds_one_after_a_cycle")
    run_cocotb(AddOne(), "add_one", "cocotb_support", simulators=["verilator"], testcase="adds_one_after_a_cycle")


def test_verilog_is_reproducible_and_has_no_paths():
    text = to_verilog(AddOne(), "add_one")
    assert text == to_verilog(AddOne(), "add_one")
    assert "(* src" not in text and ".py" not in text
