"""The RMSNorm unit among registers, gains and buffers that may keep it waiting, against trilobit.isa.semantics."""

import json
import os
from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import Timer
from support import PERIOD_NS, random_numbers, signed, start, step

from trilobit.hdl.interfaces import of_slot
from trilobit.hdl.rmsnorm import norm_clocks, normq_clocks, rms_clocks
from trilobit.isa.core import load_core
from trilobit.isa.fixed import ACT_ZERO, Scalar
from trilobit.isa.semantics import norm, normq, rms
from trilobit.isa.spec import ISA

CONFIG = load_core(os.environ["PRESET"]).replace(**json.loads(os.environ.get("CHANGES", "{}")))
BATCH, LANES, LENGTH = CONFIG.batch, CONFIG.lanes, CONFIG.max_length
OPTIONS = {"rms": ("sha", "shb", "sho", "eps_m", "eps_e", "k_m", "k_e"),
           "norm": ("sha", "sho", "c_m", "k_m", "k_e", "wide"), "normq": ("sha",)}  # fmt: skip


def words(length: int) -> int:
    return -(-length // LANES)


class Machine:
    """What surrounds the unit, a cycle at a time, and what the semantics say should come out.

    ``registers`` are [batch, 8, max_length]; scalars and activations have a list by slot.

    Args:
        patience: chance that a waiting thing becomes possible in a cycle; 1: nobody ever waits.
    """

    def __init__(self, dut, rng: np.random.Generator, patience: float = 1.0):
        self.dut, self.rng, self.patience = dut, rng, patience
        self.registers = np.zeros((BATCH, 8, LENGTH), dtype=np.int64)
        self.scalars = [[ACT_ZERO] * 4 for _ in range(BATCH)]
        self.commands: deque = deque()
        self.segments: deque = deque()
        self.expected: deque = deque()
        self.now = 0
        self.taken: list[int] = []
        self.retired: list[int] = []
        self.reads: list[tuple[int, int]] = []
        self.faults = 0
        self._allowed = {"a": 0, "b": 0, "write": 0}
        self._act_ok = False
        self._gain_words: deque = deque()
        self._gain_offered = self._segment_offered = False
        self._data = {"a": 0, "b": 0}
        self._act = None
        self._saturated = 0
        self._started = False

    # ---- what is asked for ----

    def issue(self, name: str, gains=None, segment=None, **values: int) -> None:
        """Queue an instruction; its result is worked out when it is taken. ``segment``: the gains that are really sent."""
        word = ISA.encode(name, gain=int(gains is not None), **values)
        self.commands.append((name, word, gains, values))
        if gains is not None:
            self.segments.append(np.asarray(gains if segment is None else segment))

    def _expect(self, name, gains, v):
        gains = None if gains is None else np.asarray(gains)
        slots = [self._expect_slot(slot, name, gains, v) for slot in range(BATCH)]
        return {key: [slot[key] for slot in slots] for key in slots[0]}

    def _expect_slot(self, slot, name, gains, v):
        n = v["len"]
        options = {k: v[k] for k in OPTIONS[name] if k in v}
        registers, scalars = self.registers[slot], self.scalars[slot]
        a = registers[v["va"], :n]
        if name == "rms":
            scalars[v["sc"]], saturated = rms(a, registers[v["vb"], :n], gains, **options)
            return {"saturated": saturated}
        if name == "norm":
            result = norm(a, gains, **options)
            register = registers[v["vd"]].copy()
            register[:n] = result.value
            return {"saturated": result.saturated, "register": register}
        square = scalars[v["sc"]] if v.get("scaled") else None
        result = normq(a, gains, square, **options)
        return {"saturated": result.saturated, "act": result.value, "scale": result.scale}

    # ---- a cycle ----

    def _maybe(self) -> bool:
        return self.patience >= 1 or self.rng.random() < self.patience

    async def cycle(self) -> None:
        dut = self.dut
        dut.cmd__valid.value = int(bool(self.commands))
        if self.commands:
            dut.cmd__word.value, dut.cmd__pc.value = self.commands[0][1], len(self.taken)
        for port in ("a", "b"):
            getattr(dut, f"{port}__data").value = self._data[port]
        self._segment_offered |= bool(self.segments) and not self._gain_words and self._maybe()
        dut.gain__segment_valid.value = int(self._segment_offered)
        if self._segment_offered:
            dut.gain__length.value = len(self.segments[0])
        self._gain_offered |= bool(self._gain_words) and self._maybe()
        dut.gain__valid.value = int(self._gain_offered)
        dut.gain__data.value = self._gain_words[0] if self._gain_offered else int(self.rng.integers(1 << 16))
        for port in self._allowed:
            self._allowed[port] += self._maybe()
        self._act_ok |= self._maybe()
        await Timer(1, "ns")
        for port, address in (("a", dut.a__addr), ("b", dut.b__addr), ("write", dut.write__chk_addr)):
            ok = self.patience >= 1 or int(address.value) < self._allowed[port]
            getattr(dut, f"{port}__ok").value = int(ok)
        dut.act__ok.value = int(self._act_ok)
        await Timer(PERIOD_NS - 2, "ns")
        self._sample()
        self.now += 1
        await step(dut)

    def _sample(self) -> None:
        dut = self.dut
        engines = [getattr(dut, of_slot("engine", slot)) for slot in range(BATCH)]
        states = {(int(engine.fsm_state.value), int(engine.count.value)) for engine in engines}
        assert len(states) == 1, f"the slots' engines are out of step in cycle {self.now}: {states}"
        if dut.fault.value:
            self.faults += 1
        asked = set()
        for port in ("a", "b"):
            if getattr(dut, f"{port}__en").value:
                assert getattr(dut, f"{port}__ok").value
                register, address = int(getattr(dut, f"{port}__reg").value), int(getattr(dut, f"{port}__addr").value)
                values = self.registers[:, register, address * LANES : (address + 1) * LANES].reshape(-1)
                self._data[port] = sum((int(x) & 0xFFFFFFFF) << (32 * i) for i, x in enumerate(values))
                asked.add((register, address))
        self.reads += sorted(asked)  # the same word on both ports is one read
        if dut.gain__segment_ready.value and self._segment_offered:
            gains = self.segments.popleft()
            padded = np.concatenate([gains, self.rng.integers(-32768, 32768, -len(gains) % LANES)])
            self._gain_words.extend(sum((int(g) & 0xFFFF) << (16 * i) for i, g in enumerate(chunk)) for chunk in padded.reshape(-1, LANES))
            self._segment_offered = False
        if dut.gain__ready.value and self._gain_offered:
            self._gain_words.popleft()
            self._gain_offered = False
        saturated = int(dut.saturated.value)
        if saturated and not dut.retire__valid.value:
            self._saturated += saturated
        self._results(saturated)
        if dut.cmd__valid.value and dut.cmd__ready.value:
            name, _, gains, values = self.commands.popleft()
            self.expected.append((len(self.taken), name, values, self._expect(name, gains, values)))
            self.taken.append(self.now)
            self._allowed = dict.fromkeys(self._allowed, 0)
            self._act_ok, self._started = self.patience >= 1, False
        busy = dut.active.value
        assert busy or len(self.taken) == len(self.retired) or (self.expected and self.now == self.taken[-1])

    def _results(self, saturated: int) -> None:
        dut = self.dut
        if dut.act__start.value:
            assert dut.act__ok.value and not self._started
            self._started = True
            bits = int(dut.act__scale.value)
            scales = [Scalar(bits >> 28 * slot & 0x3FFFF, signed(bits >> 28 * slot + 18, 10)) for slot in range(BATCH)]
            self._act = ([[] for _ in range(BATCH)], int(dut.act__buf.value), scales, int(dut.act__length.value))
        if dut.act__en.value:
            assert self._started, "a result came before the scale"
            data = int(dut.act__data.value)
            for slot, values in enumerate(self._act[0]):
                assert int(dut.act__addr.value) * LANES == len(values)
                values.extend(signed(data >> 8 * (slot * LANES + i), 8) for i in range(LANES))
        if dut.write__en.value:
            address, data = int(dut.write__addr.value), int(dut.write__data.value)
            assert self.patience >= 1 or address < self._allowed["write"]
            for slot in range(BATCH):
                for i in range(LANES):
                    if int(dut.write__mask.value) >> i & 1:
                        value = signed(data >> 32 * (slot * LANES + i), 32)
                        self.registers[slot, int(dut.write__reg.value), address * LANES + i] = value
        if dut.retire__valid.value:
            number, name, values, want = self.expected.popleft()
            what = f"instruction {number}: {name} {values}"
            assert int(dut.retire__pc.value) == number, what
            total, self._saturated = self._saturated + saturated, 0
            assert total == sum(want["saturated"]), f"{what}: {total} saturated, expected {want['saturated']}"
            if "register" in want:
                assert np.array_equal(self.registers[:, values["vd"]], want["register"]), what
            if "act" in want:
                result, buffer, scale, length = self._act
                assert (buffer, scale, length) == (values["act"], want["scale"], values["len"]), f"{what}: {scale}, {want['scale']}"
                got = np.array(result)
                assert np.array_equal(got[:, :length], want["act"]), f"{what}: {got[:, :length]}, expected {want['act']}"
                assert got.shape[1] == words(length) * LANES and not got[:, length:].any(), what
            self.retired.append(self.now)

    async def run(self) -> None:
        """Until everything issued has retired and the unit is inactive."""
        limit = self.now + 3000 * (1 + len(self.commands))
        while self.commands or self.expected or self.dut.active.value:
            await self.cycle()
            assert self.now < limit, "the unit hangs"


def documented(name: str, values: dict, gain: bool) -> int:
    """Cycles from taking to retiring when nobody waits."""
    n = words(values["len"])
    if name == "rms":
        return rms_clocks(CONFIG, n, gain)
    if name == "norm":
        return norm_clocks(CONFIG, n, gain)
    return normq_clocks(CONFIG, n, gain, bool(values.get("scaled")))


def random_instruction(rng, length: int) -> tuple[str, np.ndarray | None, dict]:
    """Any instruction with any options that it may have."""
    name = str(rng.choice(["rms", "norm", "normq"]))
    op = ISA.by_name[name]
    values = {}
    for key, option in op.options.items():
        if rng.random() < 0.7 or option.default is None:
            values[key] = int(rng.integers(option.low, option.high + 1))
    values["len"] = length
    values.pop("gain", None)
    for field in op.operands:
        values[field.name] = int(rng.integers(field.lowest, field.highest + 1))
    if name == "rms" and rng.random() < 0.5:
        values["vb"] = values["va"]
    if "sha" in values and rng.random() < 0.7:
        values["sha"] = int(rng.integers(-4, 16))
    if "shb" in values and rng.random() < 0.7:
        values["shb"] = int(rng.integers(-4, 16))
    if name == "norm" and rng.random() < 0.9:
        values["sho"] = int(rng.integers(-20, 30))
    if name == "rms" and rng.random() < 0.7:
        values["sho"] = int(rng.integers(0, 20))
    gains = None
    if rng.random() < 0.6:
        gains = (rng.integers(-32768, 32768, length) >> rng.integers(0, 15)) if rng.random() < 0.9 else np.full(length, -32768)
    return name, gains, values


def random_vector(rng, length: int) -> np.ndarray:
    """Values of any size from a few bits to all 32, at times with an outlier, at times zero or extreme."""
    kind = rng.random()
    if kind < 0.06:
        return np.zeros(length, dtype=np.int64)
    if kind < 0.12:
        return rng.choice([-(1 << 31), (1 << 31) - 1, -32768, 32767], length)
    vector = rng.integers(-(1 << 31), 1 << 31, length) >> rng.integers(0, 31)
    if kind < 0.3:
        vector >>= 9
        vector[rng.integers(length)] *= 300
    return vector


def random_length(rng) -> int:
    return int(rng.choice([1, 2, 3, LANES, LENGTH - 1, LENGTH, rng.integers(1, LENGTH + 1)]).clip(1, LENGTH))


@cocotb.test()
async def instructions_give_the_semantics_in_the_documented_time(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng)
    for case in range(int(os.environ.get("CASES", "60"))):
        for register in range(8):
            machine.registers[:, register] = [random_vector(rng, LENGTH) for _ in range(BATCH)]
        name, gains, values = random_instruction(rng, random_length(rng))
        machine.issue(name, gains, **values)
        await machine.run()
        spent = machine.retired[-1] - machine.taken[-1]
        assert spent == documented(name, values, gains is not None), f"case {case}: {name} {values} took {spent} cycles"
    assert dut.active.value == 0


@cocotb.test()
async def values_stay_right_while_everyone_makes_the_unit_wait(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng, patience=0.4)
    for _ in range(8):
        for register in range(8):
            machine.registers[:, register] = [random_vector(rng, LENGTH) for _ in range(BATCH)]
        for _ in range(5):
            name, gains, values = random_instruction(rng, random_length(rng))
            machine.issue(name, gains, **values)
        await machine.run()
    assert len(machine.retired) == 40


@cocotb.test()
async def every_length_is_right(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng)
    for length in range(1, LENGTH + 1):
        machine.registers[:, :3] = rng.integers(-30000, 30000, (BATCH, 3, LENGTH))
        gains = rng.integers(-32768, 32768, length)
        machine.issue("rms", gains, sc=length % 4, va=0, vb=1, len=length, sho=15, eps_m=3, eps_e=2)
        machine.issue("normq", gains, act=length % 2, va=0, sc=length % 4, len=length, scaled=1)
        machine.issue("norm", None, vd=2, va=1, len=length, sho=-14)
        await machine.run()


@cocotb.test()
async def amplitudes_from_one_lsb_to_saturation_are_right(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng)
    length = min(LENGTH, 17)
    for bit in range(32):
        for one_hot in (False, True):
            vector = np.zeros(LENGTH, dtype=np.int64)
            vector[:length] = (-1) ** np.arange(length) * min(1 << bit, (1 << 31) - 1)
            if one_hot:
                vector[1:] = 0
            for slot in range(BATCH):
                machine.registers[slot, :2] = vector >> 2 * slot
            for k_m, k_e in ((0, 0), (1, 0), (65535, 31)):
                machine.issue("rms", None, sc=bit % 4, va=0, vb=0, len=length, eps_m=32767, eps_e=63 - bit, k_m=k_m, k_e=k_e)
            machine.issue("normq", None, act=0, va=0, sc=bit % 4, len=length, scaled=1)
            machine.issue("norm", None, vd=2, va=0, len=length, sho=-12, k_m=1, k_e=bit % 32)
            machine.issue("norm", rng.integers(-9, 9, length), vd=3, va=0, len=length, sho=-29, wide=1)
            await machine.run()


@cocotb.test()
async def what_rounding_brings_back_into_range_is_not_counted(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng)
    for sha in range(-2, 14):
        edge, half = (1 << 17 + sha, 1 << sha - 1) if sha > 0 else (1 << 17 + sha, 1)
        near = [sign * edge + offset for sign in (-1, 1) for offset in (-half - 1, -half, -half + 1, -1, 0, 1, half - 1, half, half + 1)]
        near = np.clip(near, -(1 << 31), (1 << 31) - 1)
        machine.registers[:, :2, : len(near)] = [[rng.permutation(near), rng.permutation(near)] for _ in range(BATCH)]
        machine.issue("normq", None, act=0, va=0, sc=0, len=len(near), sha=sha)
        machine.issue("rms", None, sc=0, va=0, vb=1, len=len(near), sha=sha, shb=sha)
        await machine.run()


@cocotb.test()
async def one_channel_three_hundred_times_the_others_keeps_its_scale(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng)
    for position in (0, LENGTH // 2, LENGTH - 1):
        vector = rng.integers(-100, 101, LENGTH)
        vector[position] = -30000
        for slot in range(BATCH):
            machine.registers[slot, 0] = vector // (slot + 1)
        gains = rng.integers(10000, 20000, LENGTH)
        machine.issue("rms", gains, sc=0, va=0, vb=0, len=LENGTH, sho=14, eps_m=77, eps_e=9, k_m=5, k_e=3)
        machine.issue("normq", gains, act=1, va=0, sc=0, len=LENGTH, scaled=1)
        await machine.run()
        for values in machine._act[0]:
            assert min(values) == values[position] == -127


@cocotb.test()
async def an_rms_lets_the_next_quantisation_begin(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng)
    machine.registers[:] = rng.integers(-30000, 30000, (BATCH, 8, LENGTH))
    count = words(LENGTH)
    machine.issue("rms", None, sc=1, va=0, vb=0, len=LENGTH)
    machine.issue("normq", None, act=0, va=0, sc=1, len=LENGTH, scaled=1)
    machine.issue("rms", None, sc=1, va=2, vb=3, len=LENGTH)
    await machine.run()
    assert machine.taken[1] - machine.taken[0] == count + 9
    assert machine.retired[0] - machine.taken[0] == rms_clocks(CONFIG, count)
    assert machine.taken[1] < machine.retired[0]
    # The inverse starts when the rms has retired, and the quantisation follows it or the largest.
    inverse = machine.retired[0] + 1 - machine.taken[1]
    assert machine.retired[1] - machine.taken[1] == normq_clocks(CONFIG, count, scaled=True, engine_free=inverse)
    assert machine.taken[2] - machine.retired[1] == 0
    assert len([r for r in machine.reads if r[0] == 0]) == 2 * count, "one broadcast read serves both sources"


@cocotb.test()
async def gains_of_another_length_are_a_fault(dut):
    rng = random_numbers()
    await start(dut)
    machine = Machine(dut, rng)
    machine.issue("normq", np.ones(5, dtype=np.int64), segment=np.ones(6, dtype=np.int64), act=0, va=0, sc=0, len=5)
    for _ in range(200):
        await machine.cycle()
    assert machine.faults > 100 and not machine.retired and machine._act is None and not machine.reads
