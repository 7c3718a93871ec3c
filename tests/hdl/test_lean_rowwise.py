"""The lean core's microcode of the row-wise instructions, run in Python, computes what the semantics say, and counts as they do."""

import numpy as np
import pytest

from trilobit.hdl.lean.code_argmax import _gumbel
from trilobit.hdl.lean.code_control import control
from trilobit.hdl.lean.code_rowwise import rowwise
from trilobit.hdl.lean.idioms import T0, T2
from trilobit.hdl.lean.micro import Kind, Length, Micro, MicroProgram, Strobe
from trilobit.hdl.lean.reference import ReferenceMachine
from trilobit.isa import noise
from trilobit.isa.core import load_core
from trilobit.isa.fixed import Scalar
from trilobit.isa.program import Program
from trilobit.isa.semantics import ROWWISE, argmax_scores
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

CONFIG = load_core("tiny").replace(lanes=1)
EDGES = [0, 1, -1, 2, -2, 3, -3, 1 << 15, -(1 << 15), (1 << 15) - 1, 1 << 16, 1 << 17, -(1 << 17), 1 << 19, -(1 << 19), 3 << 18, 1 << 23,
         -(1 << 23), (1 << 23) - 1, 1 << 24, -(1 << 24), (1 << 24) - 1, 1 << 30, -(1 << 30), (1 << 31) - 1, -(1 << 31)]  # fmt: skip
PASSES = {"mov": 1, "mul": 2, "muli": 2, "add": 3, "sub": 3, "addi": 3, "onem": 3, "max": 4, "exp": 4, "lerp": 4, "div": 8, "sig": 8,
          "silu": 9}  # fmt: skip


class Bench(ReferenceMachine):
    """Runs single instructions on the microcode."""

    def __init__(self):
        micro = MicroProgram()
        micro.label("bad_length")
        micro.do(Strobe.FAULT, fault=3)
        micro.label("retire")
        micro.jump("retire")
        rowwise(micro)
        super().__init__(micro, CONFIG, Program("none", []), np.zeros(64, dtype=np.uint8))
        self.trail: list[Micro] = []
        self.tokens = []

    def step(self) -> None:
        micro = self.code[self.upc]
        self.trail.append(micro)
        super().step()
        if micro.strobe == Strobe.COMMIT:
            self.tokens.append(self["token"])

    def go(self, start: int) -> None:
        self.upc, self.trail = start, []
        while self.upc != self.labels["retire"] and not self.fault:
            self.step()

    def execute(self, name: str, **values) -> None:
        """An instruction from its entry to its end."""
        self.word = ISA.encode(name, **values)
        self.go(self.micro.entries[name])

    @property
    def vector_passes(self) -> int:
        return sum(micro.kind == Kind.PASS and micro.length == Length.LEN for micro in self.trail)

    def __getitem__(self, name: str) -> int:
        return self.scalars[self.micro.names[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self.scalars[self.micro.names[name]] = value

    def put(self, register: int, values) -> None:
        self.pages[register][: len(values)] = [int(value) for value in values]


def operands(rng, count: int) -> np.ndarray:
    """Numbers of every size, and edges."""
    sized = rng.integers(-(1 << 31), 1 << 31, count) >> rng.integers(0, 32, count)
    return np.where(rng.random(count) < 0.2, rng.choice(EDGES, count), sized)


def options(rng, name: str) -> dict[str, int]:
    """Any that the instruction may have; the result's shift mostly where the result is not all zero or all limits."""
    values = {}
    for option, (low, high) in ((key, (spec.low, spec.high)) for key, spec in ISA.by_name[name].options.items() if key != "len"):
        values[option] = int(rng.integers(low, high + 1))
        if option == "sho" and rng.random() < 0.6:
            values[option] = int(rng.integers(max(low, 0), 32))
        elif option == "shb" and rng.random() < 0.5:
            values[option] = int(rng.integers(-3, 4))
    return values


@pytest.mark.parametrize("name", ROWWISE)
def test_results_and_saturation_are_those_of_the_semantics(name):
    rng = np.random.default_rng(seed := 41)
    bench = Bench()
    some = limited = 0
    for trial in range(150):
        n = int(rng.integers(1, 65))
        for register in range(8):
            bench.put(register, operands(rng, n))
        chosen = options(rng, name)
        registers = {field.name: int(rng.integers(8)) for field in ISA.by_name[name].operands}
        before = [np.array(bench.pages[register][:n]) for register in range(8)]
        sources = [before[registers[field]] for field in ISA.by_name[name].reads]
        expected = ROWWISE[name](*sources, **chosen)
        bench.saturated = 0
        bench.execute(name, len=n, **registers, **chosen)
        after = np.array(bench.pages[registers["vd"]][:n])
        message = f"seed {seed}, trial {trial}: {registers} {chosen}"
        np.testing.assert_array_equal(after, expected.value, err_msg=message)
        assert bench.saturated == expected.saturated, message
        for register in set(range(8)) - {registers["vd"]}:
            np.testing.assert_array_equal(bench.pages[register][:n], before[register], err_msg=message)
        assert bench.vector_passes == PASSES[name] + chosen.get("neg", 0)
        some += int(len(set(after.tolist())) > 2)
        limited += int(0 < expected.saturated < n)
    assert some > 30 and limited > 3


def test_a_bad_length_is_a_fault_of_each():
    bench = Bench()
    for name in (*ROWWISE, "argmax"):
        for length in (CONFIG.max_length + 1, 65535):
            bench.fault, bench.passes = 0, 0
            needed = {option: 0 for option, spec in ISA.by_name[name].options.items() if spec.default is None}
            registers = {field.name: 0 for field in ISA.by_name[name].operands}
            bench.execute(name, **registers, **needed | {"len": length})
            assert bench.fault and not bench.passes, name


def temperature(rng) -> Scalar:
    return Scalar(int(rng.integers(1 << 15, 1 << 16)), int(rng.choice([-512, -40, -20, -17, -14, -3, 0, 40, 200, 511])))


@pytest.mark.parametrize("with_noise", [False, True])
def test_argmax_finds_the_token_over_several_instructions(with_noise):
    rng = np.random.default_rng(seed := 42)
    bench = Bench()
    best, position = (0, 0), 0
    tokens = []
    for trial in range(250):
        n = int(rng.integers(1, 65))
        values = operands(rng, n) if rng.random() < 0.5 else rng.integers(-3, 3, n)
        scale = Scalar(0, 0) if rng.random() < 0.1 else temperature(rng)
        base = int(
            rng.choice([0, 64, 5000, (1 << 18) - n, (1 << 18) - n + 1, (1 << 18) - 5, (1 << 24) - n, (1 << 24) - 7, rng.integers(1 << 32)])
        )
        key = int(rng.integers(1 << 32))
        if rng.random() < 0.2:
            position = int(rng.integers((1 << 32) - 1))
        chosen = {"sha": int(rng.integers(64)), "first": int(rng.random() < 0.4), "last": int(rng.random() < 0.4),
                  "noise": int(with_noise and rng.random() < 0.8), "base": base}  # fmt: skip
        bench["seed"], bench["position"], bench["temperature_m"], bench["temperature_e"] = (
            key,
            position,
            scale.mantissa,
            scale.exponent << 17,
        )
        scores = argmax_scores(values, sha=chosen["sha"], base=base, noise=chosen["noise"], temperature=scale, seed=key, position=position)
        found = int(scores.argmax())
        if chosen["first"] or scores[found] > best[0]:
            best = int(scores[found]), base + found
        register = int(rng.integers(8))
        bench.put(register, values)
        bench.execute("argmax", va=register, len=n, **chosen)
        message = f"seed {seed}, trial {trial}: {chosen} {scale}"
        assert (bench["best"], bench["best_index"]) == best, message
        assert not any(bench.hashes), message
        noisy = chosen["noise"] and scale.mantissa
        if noisy:
            np.testing.assert_array_equal(bench.pages[T2.index][:n], noise.gumbel(key, position, base + np.arange(n)), err_msg=message)
        overflows = (base & 0x3FFFF) + n > 1 << 18
        search = next(micro for micro in bench.trail if micro.max)
        assert search.drain, "the maximum is read before it is there"
        assert bench.vector_passes == (1 if not noisy else 24 if overflows else 20)
        if chosen["last"]:
            tokens.append(best[1] & 0xFFFFFF)
            position += 1
        assert bench.tokens == tokens and bench["position"] == position, message
    assert bench.saturated == 0 and len(set(tokens)) > 30


def test_noise_of_every_octave_is_that_of_the_word(monkeypatch):
    rng = np.random.default_rng(7)
    chances = [0, *(1 << bit for bit in range(21)), *((2 << bit) - 1 for bit in range(21))]
    chances += [int(rng.integers(1 << 21)) >> int(rng.integers(21)) for _ in range(100)]
    words = np.array([half << 35 | chance << 14 | int(place) for chance in chances for half in (0, 1)
                      for place in (0, (1 << 14) - 1, rng.integers(1 << 14))])  # fmt: skip
    monkeypatch.setattr(noise, "random_word", lambda *_: words)
    bench = Bench()
    start = len(bench.code)
    _gumbel(bench.micro)
    bench.micro.jump("retire")
    bench.code = bench.micro.code
    got = []
    for part in np.split(words, range(64, len(words), 64)):
        bench.word = ISA.encode("argmax", va=0, len=len(part))
        bench.pages[T0.index][: len(part)] = (part >> 18).tolist()
        bench.hashes[: len(part)] = (part & 0x3FFFF).tolist()
        bench.go(start)
        got += bench.pages[T2.index][: len(part)]
    np.testing.assert_array_equal(got, noise.gumbel(0, 0, 0))
    assert not any(bench.hashes)


def test_a_program_samples_the_tokens_of_the_simulator_whatever_a_reset_has_left():
    micro = MicroProgram()
    control(micro, CONFIG)
    rowwise(micro)
    size = 6 * 128
    code = []
    for k in range(6):
        code += [ISA.encode("ldv", vd=0, addr=128 * k, len=64), ISA.encode("silu", vd=1, vb=0, len=64, sho=24),
                 ISA.encode("argmax", va=0, len=64, base=64 * k + (1 << 18) - 100, sha=8, first=1, noise=1),
                 ISA.encode("argmax", va=1, len=50, base=7, sha=8, last=1, noise=1), ISA.encode("emit")]  # fmt: skip
    program = Program("sampling", [*code, ISA.encode("halt")], window_size=4096, write_start=2048)
    memory = np.zeros(4096, dtype=np.uint8)
    memory[:size] = np.random.default_rng(1).integers(-300, 300, size // 2).astype("<i2").view(np.uint8)
    settings = HostSettings(temperature=0.7, seed=123)
    machine = ReferenceMachine(micro, CONFIG, program, memory.copy(), settings)
    machine.hashes = [0x3FFFF] * len(machine.hashes)
    machine.run()
    simulator = FunctionalSimulator(CONFIG, program, memory.copy(), settings)
    assert machine.tokens == list(simulator.run().tokens)
    assert len(set(machine.tokens)) > 3


def test_the_microcode_fits_its_memory():
    micro = Bench().micro
    assert len(micro.words()) < 250
    print(len(micro.code), "microinstructions")
