"""Proofs about a component with Yosys' own SAT solver: k-induction from reset, bounded refutations, readable counterexamples.

A harness is an Amaranth elaboratable around the unit under proof (:class:`Harness`). Amaranth writes it as RTLIL, Yosys flattens it,
turns memories into registers, drops what no property depends on, and its ``sat`` command (MiniSat, built in) does the rest. It runs in a
process of its own, so that an end of the library is a failed test and not the end of pytest.
"""

import importlib.util
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, Const, Module, Signal, Value

__all__ = ["Harness", "Proof", "RefutedError", "can_always_rest", "driven", "mutated", "opened", "prove", "reachable", "refute"]

RUN = "import sys; from pyosys import libyosys as y; d = y.Design(); [y.run_pass(p, d) for p in sys.argv[1:]]"
# Every register as a plain one, every memory as registers, one cell a bit: what no property depends on goes, bit by bit.
PREPARE = ("read_rtlil top.il", "hierarchy -top top", "proc -norom", "flatten", "opt_clean", "memory -nomap", "memory_map", "opt_expr",
           "opt_clean -purge", "dffunmap", "simplemap", "opt -full", "opt_clean -purge", "check -assert")  # fmt: skip
ROW = re.compile(r"^\s+(\d+|init) \\(\S+)\s+(\S+)\s+(\S+)\s+([01x]+)\s*$", re.MULTILINE)
TIMEOUT_S = 600


class Harness:
    """A unit, what its surroundings promise, and what it must hold; built in :meth:`build`, which subclasses write.

    Attributes:
        m: the module that the harness' own logic goes to; its clock domain has no reset, registers begin with their initial values.
        inputs: signals that the solver may choose anew in each cycle.
        assumptions, properties: name -> condition that holds in every cycle.
        invariants: the same, about registers inside; they help the induction, are proved with the properties, and promise nothing.
        covers: name -> condition that is met in some cycle, so that no proof is empty.
        rest: signal's name -> value of an input at rest, where that isn't 0.
        shown: name -> value, in counterexamples.
    """

    def __init__(self) -> None:
        self.m = Module()
        self.inputs: list[Signal] = []
        self.assumptions: dict[str, Value] = {}
        self.properties: dict[str, Value] = {}
        self.invariants: dict[str, Value] = {}
        self.covers: dict[str, Value] = {}
        self.shown: dict[str, Value] = {}
        self.rest: dict[str, int] = {}
        self.constants: list[Signal] = []

    def build(self) -> None:
        raise NotImplementedError

    def free(self, name: str, shape=1) -> Signal:
        """A signal that the solver chooses in each cycle."""
        signal = Signal(shape, name=name)
        self.inputs.append(signal)
        return signal

    def constant(self, name: str, below: int) -> Signal:
        """A number from 0 that the solver chooses once: a proof with it holds for each of its values."""
        signal = self.free(name, range(below))
        self.constants.append(signal)
        first, before = Signal(init=1, name=f"{name}_first"), Signal.like(signal, name=f"{name}_before")
        self.m.d.sync += [first.eq(0), before.eq(signal)]
        self.assumptions[f"constant {name}"] = (signal < below) & (first | (signal == before))
        return signal

    def rtlil(self, goal: str = "") -> str:
        """The harness as RTLIL, its conditions as outputs.

        Args:
            goal: ``cover`` for the covers as ``cover_N``; ``rest`` for the assumptions alone, with inputs at rest. Else the properties and
                invariants, numbered on, as ``property_N``, all of them as ``proved``, and the ``shown`` values; with a part of a property's
                name only this one, so that the rest costs nothing.
        """
        m = self.m
        m.domains.sync = domain = ClockDomain(reset_less=True)
        self.build()
        ports: list[Signal] = [domain.clk, *self.inputs]

        def output(name: str, value) -> None:
            signal = Signal.like(Value.cast(value), name=name)
            m.d.comb += signal.eq(value)
            ports.append(signal)

        def all_of(conditions: Iterable[Value]) -> Value:
            return Cat(Const(1, 1), *(Value.cast(condition).bool() for condition in conditions)).all()

        output("assumed", all_of(c for name, c in self.assumptions.items() if goal != "rest" or not name.startswith("constant ")))
        if goal == "rest":
            moving = [signal for signal in self.inputs if all(signal is not each for each in self.constants)]
            output("resting", all_of(signal == self.rest.get(signal.name, 0) for signal in moving))
        elif goal == "cover":
            for k, condition in enumerate(self.covers.values()):
                output(f"cover_{k}", Value.cast(condition).bool())
        else:
            everything = self.properties | self.invariants
            chosen = {name: condition for name, condition in self.properties.items() if goal in name} if goal else everything
            assert len(chosen) == 1 or not goal, f"expected one property with {goal!r} in its name, found {list(chosen)}"
            output("proved", all_of(chosen.values()))
            for k, (name, condition) in enumerate(everything.items()):
                if name in chosen:
                    output(f"property_{k}", Value.cast(condition).bool())
            for name, value in self.shown.items():
                output(name, value)
        return rtlil.convert(m, name="top", ports=ports, emit_src=False)


@dataclass(frozen=True)
class Proof:
    """What the solver found.

    Attributes:
        proved: by induction, for all time. steps: length of the induction, or cycles of the counterexample, or cycles searched.
        broken: the properties that fail in the counterexample's last cycle.
        trace: a cycle each, signal -> value; empty if there is no counterexample.
        from_reset: the trace begins at reset; else it is where an induction step failed.
    """

    proved: bool
    steps: int
    broken: tuple[str, ...] = ()
    trace: tuple[Mapping[str, int], ...] = field(default=(), repr=False)
    from_reset: bool = False

    def table(self) -> str:
        """The counterexample, a line a signal and a column a cycle (hexadecimal; ``.`` as in the cycle before)."""
        lines = []
        for name in self.trace[0] if self.trace else ():
            values = [f"{row[name]:x}" for row in self.trace]
            cells = [value if k == 0 or value != values[k - 1] else "." for k, value in enumerate(values)]
            lines.append(f"  {name:<24}" + "".join(f"{cell:>5}" for cell in cells))
        head = "  cycle" + " " * 19 + "".join(f"{k:>5}" for k in range(len(self.trace)))
        return "\n".join([head, *lines])


class RefutedError(AssertionError):
    """A property has a counterexample, which the message shows cycle by cycle."""


def prove(harness: Harness, *, steps: int) -> Proof:
    """Prove every property for all time by induction over at most ``steps`` cycles.

    Raises:
        RefutedError: there is a counterexample from reset.
        AssertionError: none within ``steps`` cycles, but no proof either.
    """
    proof = _solve(harness, "", f"-tempinduct -maxsteps {steps}")
    what = f"{type(harness).__name__}: {'; '.join(proof.broken)}"
    if not proof.proved and proof.from_reset:
        raise RefutedError(f"{what}: fails in the last cycle of\n{proof.table()}")
    assert proof.proved, (
        f"{what}: neither proved nor refuted in {steps} cycles. The last step of the induction fails from this state, which may not be "
        f"reachable (then an invariant excludes it):\n{proof.table()}"
    )
    return proof


def refute(harness: Harness, name: str, *, steps: int) -> Proof:
    """Search a counterexample of at most ``steps`` cycles from reset to one property, the one whose name has ``name`` in it.

    Returns:
        a proof that isn't ``proved``: with a trace, or with none if the property holds that long.
    """
    return _solve(harness, name, f"-tempinduct -tempinduct-baseonly -maxsteps {steps}")


def reachable(harness: Harness, *, steps: int) -> dict[str, int]:
    """In which cycle each cover can be reached first, 0 the first after reset; one that can't in ``steps`` cycles is missing."""
    text = harness.rtlil("cover")
    names = list(harness.covers)
    runs = [f"tee -q -o out{k}.txt sat -tempinduct -tempinduct-baseonly -maxsteps {steps} -set assumed 1 -prove cover_{k} 0 -show cover_{k}"
            for k in range(len(names))]  # fmt: skip
    outs = _yosys(text, runs, len(names))
    times = [[int(time) for time, *_ in ROW.findall(out) if time != "init"] for out in outs]
    return {name: max(found) - 1 for name, found in zip(names, times, strict=True) if found}


def can_always_rest(harness: Harness) -> bool:
    """Whether inputs at rest satisfy every assumption in any state: then assumptions end no sequence of inputs early."""
    text = harness.rtlil("rest")
    commands = [
        "setattr -unset init w:*",
        "tee -q -o out0.txt sat -tempinduct -tempinduct-baseonly -maxsteps 1 -set resting 1 -prove assumed 1",
    ]
    (out,) = _yosys(text, commands, 1)
    return "proved base case for 1 steps: SUCCESS" in out


def _solve(harness: Harness, goal: str, mode: str) -> Proof:
    text = harness.rtlil(goal)
    conditions = {name: f"property_{k}" for k, name in enumerate([*harness.properties, *harness.invariants])}
    conditions = {name: signal for name, signal in conditions.items() if goal in name and (name in harness.properties or not goal)}
    show = " ".join(f"-show {name}" for name in (*harness.shown, *conditions.values()))
    (out,) = _yosys(text, [f"tee -q -o out0.txt sat {mode} -set assumed 1 -prove proved 1 {show}"], 1)
    rounds = re.split(r"^\*\* Trying induction with length (\d+) \*\*$", out, flags=re.MULTILINE)
    assert len(rounds) > 2, f"Yosys ended early:\n{out[-2000:]}"
    steps, last_round = int(rounds[-2]), rounds[-1]
    if "Induction step proven: SUCCESS" in last_round:
        return Proof(True, steps)
    cycles: dict[int, dict[str, int]] = {}
    for time, name, _, _, bits in ROW.findall(last_round):
        if time != "init":
            cycles.setdefault(int(time), {})[name] = int(bits.replace("x", "0"), 2)
    last = cycles[max(cycles)] if cycles else {}
    broken = tuple(name for name, signal in conditions.items() if not last.get(signal, 1))
    trace = tuple({name: cycles[t].get(name, 0) for name in harness.shown} for t in sorted(cycles))
    return Proof(False, steps, broken, trace, "[induction step" not in last_round and bool(cycles))


def _yosys(text: str, commands: Sequence[str], outputs: int) -> list[str]:
    if importlib.util.find_spec("pyosys") is None:
        pytest.skip('pyosys is not installed; pip install "trilobit[boards]" brings it')
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "top.il").write_text(text)
        done = subprocess.run([sys.executable, "-c", RUN, *PREPARE, *commands], cwd=work, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, f"Yosys failed: {(done.stdout + done.stderr)[-2000:]}"
        return [(work / f"out{k}.txt").read_text() for k in range(outputs)]


def opened(component, *functions: types.FunctionType) -> tuple[Module, list[dict]]:
    """Elaborate a component and see its local variables: invariants need registers that are no members.

    Args:
        component: a fresh instance.
        functions: further functions whose local variables are wanted.

    Returns:
        the elaborated module; local variables at each return, in the order of the returns (``elaborate``'s last).
    """
    codes = {function.__code__ for function in (type(component).elaborate, *functions)}
    found: list[dict] = []

    def watch(frame, event, argument):
        if event == "return" and frame.f_code in codes:
            found.append(dict(frame.f_locals))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        module = component.elaborate(None)
    finally:
        sys.setprofile(before)
    return module, found


def driven(module: Module) -> dict[str, Signal]:
    """The signals that a module drives itself, by name."""
    return {signal.name: signal for signal in module._driving}


def mutated(module: types.ModuleType, *changes: tuple[str, str]) -> types.ModuleType:
    """A copy of a module of the hardware with pieces of its text replaced; each must stand there once, so mutants don't go stale."""
    text = inspect.getsource(module)
    for old, new in changes:
        assert text.count(old) == 1, f"expected {old!r} once in {module.__name__}, found it {text.count(old)} times"
        text = text.replace(old, new)
    copy = types.ModuleType(f"{module.__name__}_mutant")
    exec(compile(text, f"{module.__file__} (mutant)", "exec"), copy.__dict__)
    return copy
