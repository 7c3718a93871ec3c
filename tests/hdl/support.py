"""Build and run cocotb tests on a component, and the coroutines that they share.

In the pytest file::

    def test_unit(seed):
        run_cocotb(Unit(load_core("tiny")), "unit", "cocotb_unit", env={"PRESET": "tiny"}, seed=seed)

and in ``cocotb_unit.py`` beside it::

    @cocotb.test()
    async def adds(dut):
        await start(dut)
        rng = random_numbers()
        await put(dut.i, data=3)
        assert (await get(dut, "o"))["data"] == 3
"""

import fcntl
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cocotb
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotb_tools.runner import get_runner

from trilobit.hdl.verilog import to_verilog
from trilobit.sim.toolchain import ICARUS, VERILATOR

__all__ = ["PERIOD_NS", "assert_stream", "cycle", "get", "put", "random_numbers", "run_cocotb", "signed", "start", "step"]

PERIOD_NS = 10
HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "cocotb"
LOG_TAIL = 60

# ---- building and running, in the pytest process ------------------------------------------------------------------------


def run_cocotb(component, name: str, module: str, *, testcase: str | Sequence[str] | None = None,
               simulators: Sequence[str] = ("verilator", "icarus"), env: Mapping[str, Any] | None = None,
               seed: int | None = None, waves: bool = False) -> None:  # fmt: skip
    """Run the cocotb tests of a module on a component, on each simulator.

    Builds are kept under ``.cache/cocotb`` by content (Verilog and the simulator's version), so a second run only simulates.

    Args:
        component: an Amaranth component, freshly made, or its Verilog text.
        name: name of the top module.
        module: Python module with the cocotb tests, in this folder (``cocotb_unit``).
        testcase: names of the tests to run; all by default.
        simulators: ``verilator`` and ``icarus``.
        env: variables that the tests read from ``os.environ``; values are turned into text.
        seed: what :func:`random_numbers` starts from (``TRILOBIT_SEED``); without it, a variable of that name, else a fresh one.
        waves: write an FST (Icarus) or VCD (Verilator) into the run's folder, which is then kept.

    Raises:
        AssertionError: a test failed or the simulation ended early; the message has the end of its log.
    """
    verilog = component if isinstance(component, str) else to_verilog(component, name)
    if seed is None:
        seed = int(os.environ.get("TRILOBIT_SEED") or int.from_bytes(os.urandom(4), "little") >> 1)
        print(f"TRILOBIT_SEED={seed}")
    missing = []
    for simulator in simulators:
        tool = {"verilator": VERILATOR, "icarus": ICARUS}[simulator]
        if tool.available:
            _run(verilog, name, module, testcase, simulator, {**(env or {}), "TRILOBIT_SEED": seed}, waves)
        else:
            missing.append(tool.name)
    if missing:
        done = len(simulators) - len(missing)
        pytest.skip(f"{' and '.join(missing)} not installed" + (f" (passed on {done} other simulator)" if done else ""))


def _run(verilog: str, name: str, module: str, testcase, simulator: str, env: Mapping[str, Any], waves: bool) -> None:
    build_dir = _build(verilog, name, simulator, waves)
    runs = build_dir / "runs"
    runs.mkdir(exist_ok=True)
    run_dir = Path(tempfile.mkdtemp(prefix=f"{module}-", dir=runs))
    log = run_dir / "log.txt"
    results = run_dir / "results.xml"
    runner = _runner(simulator, name)
    variables = {key: str(value) for key, value in env.items()}
    variables |= {"COCOTB_ANSI_OUTPUT": "0", "TRILOBIT_INPUTS": " ".join(_inputs(verilog, name))}
    with _environment(PYTHONPATH=os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])), _search_path(HERE):
        try:
            runner.test(test_module=module, hdl_toplevel=name, build_dir=build_dir, test_dir=run_dir, testcase=testcase,
                        seed=env["TRILOBIT_SEED"], extra_env=variables, log_file=log, results_xml=str(results), waves=waves,
                        timescale=("1ns", "1ps"), hdl_toplevel_lang="verilog")  # fmt: skip
        except (SystemExit, RuntimeError):
            failed = True
        else:
            failed = False
    ran, failures = _results(results)
    if failed or failures or not ran:
        text = log.read_text(errors="replace").splitlines() if log.exists() else ["no log was written"]
        tail = "\n".join(text[-LOG_TAIL:])
        raise AssertionError(f"{module} on {simulator}: {failures} of {ran} tests failed, TRILOBIT_SEED={env['TRILOBIT_SEED']}; "
                             f"the whole log is {log}; its end:\n{tail}")  # fmt: skip
    if not waves:
        shutil.rmtree(run_dir)


def _build(verilog: str, name: str, simulator: str, waves: bool) -> Path:
    tool = {"verilator": VERILATOR, "icarus": ICARUS}[simulator]
    key = hashlib.sha256("\0".join([verilog, name, tool.version, sys.version, str(waves), "1"]).encode()).hexdigest()[:20]
    folder = CACHE / f"{name}-{simulator}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers may want the same build
        done = folder / "done"
        if done.exists():
            return folder
        for leftover in folder.iterdir():  # of a build that failed: Verilator would not write again what it has written
            if leftover.name != "lock":
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        source = folder / f"{name}.v"
        source.write_text(verilog)
        arguments = []
        if simulator == "verilator":
            # The precompiled header of bigger designs is built with other flags than it is used with; include it as text.
            # The runner starts make itself, so the setting travels in the environment.
            arguments = ["-Wno-lint", "--x-initial", "unique"]
        log = folder / "build.log"
        flags = " ".join(["CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O1", *VERILATOR.make_flags])
        with _environment(**tool.environment, MAKEFLAGS=flags):
            try:
                _runner(simulator, name).build(sources=[source], hdl_toplevel=name, build_dir=folder, build_args=arguments,
                                               timescale=("1ns", "1ps"), always=True, waves=waves, log_file=log)  # fmt: skip
            except (SystemExit, RuntimeError) as error:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL:]) if log.exists() else ""
                raise AssertionError(f"{simulator} could not build {name}: {error}\n{tail}") from error
        done.touch()
    return folder


def _inputs(verilog: str, name: str) -> list[str]:
    """Names of the top module's inputs."""
    top = re.search(rf"^module {name}\b.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    if top is None:
        raise ValueError(f"expected a module {name!r} in the Verilog text")
    return re.findall(r"^  input (?:\[[0-9:]+\] )?(\w+);", top[0], re.MULTILINE)


def _runner(simulator: str, name: str):
    runner = get_runner(simulator)
    runner.log.setLevel("ERROR")
    runner.hdl_toplevel = name
    return runner


def _results(path: Path) -> tuple[int, int]:
    """Tests that ran and tests that failed, from cocotb's results file."""
    if not path.is_file():
        return 0, 0
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    run = [case for case in cases if case.find("skipped") is None]
    return len(run), sum(case.find("failure") is not None or case.find("error") is not None for case in run)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextmanager
def _search_path(folder: Path) -> Iterator[None]:
    """cocotb's runner hands sys.path to the simulator as PYTHONPATH."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


# ---- coroutines, in the simulator's process -----------------------------------------------------------------------------
#
# Between helpers, time stands at a rising edge: inputs that are set there count for the cycle that begins. ``cycle`` goes to
# the end of that cycle, where outputs are read; ``step`` goes to the next edge.


def random_numbers() -> np.random.Generator:
    """Random numbers from the seed that pytest printed."""
    return np.random.default_rng(int(os.environ["TRILOBIT_SEED"]))


async def start(dut, **inputs: int) -> None:
    """Start the clock, set every other input to zero (or to the value given), and reset for two cycles.

    A component without clocked logic has no ``clk``; then only the inputs are set.
    """
    for name in os.environ["TRILOBIT_INPUTS"].split():
        if name not in ("clk", "rst"):
            getattr(dut, name).value = inputs.get(name, 0)
    if not hasattr(dut, "clk"):
        await Timer(PERIOD_NS, "ns")
        return
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, "ns").start())
    await step(dut, 2)
    dut.rst.value = 0
    await step(dut)


async def step(dut, cycles: int = 1) -> None:
    """To just after the next rising edge (or the one ``cycles`` later)."""
    for _ in range(cycles):
        await RisingEdge(dut.clk)


async def cycle(dut) -> None:
    """From the start of this cycle to its end, where every output has settled; follow with :func:`step`."""
    await Timer(PERIOD_NS - 1, "ns")


async def _until(dut, condition: Callable[[], bool], what: str, limit: int) -> int:
    """Go to the end of each cycle until the condition holds there; the number of cycles it did not."""
    for waited in range(limit):
        await cycle(dut)
        if condition():
            return waited
        await step(dut)
    raise AssertionError(f"expected {what} within {limit} cycles")


async def put(dut, stream: str, *, limit: int = 1000, valid: str = "valid", ready: str = "ready", **payload: int) -> int:
    """Offer one item on a stream and wait until it is taken.

    ``put(dut, "cmd", word=w, pc=3)`` drives ``cmd__word``, ``cmd__pc`` and ``cmd__valid`` until ``cmd__ready``
    (a port named ``cmd_valid`` is found as well).
    Ends just after the edge that took it, with valid low again; returns the cycles it waited.
    """
    for key, value in payload.items():
        _signal(dut, stream, key).value = int(value)
    offer, taken = _signal(dut, stream, valid), _signal(dut, stream, ready)
    offer.value = 1
    waited = await _until(dut, lambda: taken.value == 1, f"{stream} to be taken", limit)
    await step(dut)
    offer.value = 0
    return waited


async def get(dut, stream: str, *fields: str, limit: int = 1000, valid: str = "valid", ready: str | None = "ready") -> tuple[int, ...]:
    """Take one item from a stream: the values of its fields (unsigned), in order. Ends just after the edge that took it."""
    if ready is not None:
        _signal(dut, stream, ready).value = 1
    offered = _signal(dut, stream, valid)
    await _until(dut, lambda: offered.value == 1, f"an item on {stream}", limit)
    values = tuple(_signal(dut, stream, field).value.to_unsigned() for field in fields)
    await step(dut)
    if ready is not None:
        _signal(dut, stream, ready).value = 0
    return values


async def assert_stream(dut, stream: str, *, limit: int = 1000, **expected: int) -> None:
    """Take one item from a stream and compare its fields (unsigned)."""
    values = await get(dut, stream, *expected, limit=limit)
    got = dict(zip(expected, values, strict=True))
    assert got == expected, f"{stream}: expected {expected}, got {got}"


def _signal(dut, stream: str, member: str):
    for name in (f"{stream}__{member}", f"{stream}_{member}"):
        if hasattr(dut, name):
            return getattr(dut, name)
    raise AttributeError(f"no signal {stream}__{member} or {stream}_{member} on {dut._name}")


def signed(value: int, bits: int) -> int:
    """The two's complement reading of an unsigned value."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
