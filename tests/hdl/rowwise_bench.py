"""A register file with a scoreboard around the row-wise unit, in the simulator's process, and instructions to try on it."""

from dataclasses import dataclass, field

import numpy as np
from cocotb.triggers import Timer
from support import signed

from trilobit.hdl.rowwise import RETIRE_LATENCY, ROWWISE_LATENCY
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import ACT_ZERO, Scalar
from trilobit.isa.semantics import ROWWISE, argmax_scores
from trilobit.isa.spec import ISA, VECTOR_REGISTERS

__all__ = ["Bench", "Command", "operands", "random_command"]


@dataclass
class Command:
    """An instruction and what became of it; cycles are the bench's."""

    name: str
    values: dict[str, int]
    pc: int = 0
    accepted: int = -1
    retired: int = -1
    entered: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    saturated: int = 0

    @property
    def word(self) -> int:
        return ISA.encode(self.name, **self.values)

    @property
    def sources(self) -> dict[str, int]:
        return {name: self.values[name] for name in ISA.by_name[self.name].reads}

    def __str__(self) -> str:
        return f"{self.name} {self.values}"


class Bench:
    """Feeds commands to the unit and plays registers and scoreboard; checks every promise of the unit on the way.

    ``registers`` are [batch, 8, max_length].

    Args:
        stall: probability that a word isn't ready in a cycle, for reads and for the write.
        gated: stop the clock whenever the unit says that it needs none.
        position: of slot 0; the other slots have other positions.
    """

    def __init__(self, dut, config: CoreConfig, rng, *, stall: float = 0.0, gated: bool = False,
                 temperature: Scalar = ACT_ZERO, seed: int = 0, position: int = 0):  # fmt: skip
        self.dut, self.config, self.rng, self.stall, self.gated = dut, config, rng, stall, gated
        self.temperature, self.seed = temperature, seed
        self.positions = [position, *rng.integers(0, 1 << 32, config.batch - 1).tolist()]
        self.registers = np.zeros((config.batch, VECTOR_REGISTERS, config.max_length), dtype=np.int64)
        self.cycle = 0
        self.tokens: list[tuple[int, int]] = []
        self.slot_tokens: list[list[int]] = []
        self.largest, self.best = [0] * config.batch, [0] * config.batch  # as after reset: what an argmax without ``first`` goes on from

    async def reset(self):
        d = self.dut
        for port in "abc":
            getattr(d, f"{port}__ok").value = 0
            getattr(d, f"{port}__data").value = 0
        d.write__ok.value = 0
        d.cmd__valid.value = 0
        d.cmd__word.value = 0
        d.cmd__pc.value = 0
        d.seed.value = self.seed
        d.position.value = sum(position << 32 * slot for slot, position in enumerate(self.positions))
        d.temperature_m.value = self.temperature.mantissa
        d.temperature_e.value = self.temperature.exponent & 0x3FF
        d.rst.value = 1
        for _ in range(2):
            await self._edge()
        d.rst.value = 0

    async def _edge(self):
        self.dut.clk.value = 0
        await Timer(2, "ns")
        self.dut.clk.value = 1
        await Timer(1, "ns")

    def _pack(self, register: int, word: int) -> int:
        n = self.config.lanes
        lanes = self.registers[:, register, word * n : (word + 1) * n].reshape(-1)
        return sum((int(v) & 0xFFFFFFFF) << 32 * i for i, v in enumerate(lanes))

    def expect(self, command: Command, slot: int) -> tuple[np.ndarray, int]:
        """What the instruction leaves in a slot's vd (argmax: scores) from the registers as they will be when it runs."""
        v, n = command.values, command.values["len"]
        if command.name == "argmax":
            options = {k: v[k] for k in ("sha", "base", "noise") if k in v}
            return argmax_scores(self.model[slot, v["va"], :n], temperature=self.temperature, seed=(self.seed + slot) & 0xFFFFFFFF,
                                 position=self.positions[slot], **options), 0  # fmt: skip
        sources = [self.model[slot, r, :n] for r in command.sources.values()]
        options = {k: x for k, x in v.items() if k not in ("vd", "va", "vb", "vc", "len")}
        return ROWWISE[command.name](*sources, **options)

    async def run(self, commands: list[Command]) -> None:
        """Run the commands to the last retirement; every value, count, token and latency is checked."""
        d, n = self.dut, self.config.lanes
        self.model = self.registers.copy()
        queue, active = list(commands), []
        for pc, command in enumerate(commands):
            command.pc = pc
        data = {}
        entering = None  # the command whose words enter
        while queue or active:
            assert self.cycle < 200_000
            # Inputs of this cycle: the data of words read in the cycle before stand for one cycle only.
            for port in "abc":
                getattr(d, f"{port}__data").value = data.get(port, int(self.rng.integers(0, 1 << 62)) & ((1 << 32 * n) - 1))
            data = {}
            offer = bool(queue) and (self.stall == 0 or self.rng.random() > self.stall / 2)
            d.cmd__valid.value = offer
            if offer:
                d.cmd__word.value, d.cmd__pc.value = queue[0].word, queue[0].pc
            await Timer(1, "ns")
            oks = {}
            for port in "abc":
                register, k = getattr(d, f"{port}__reg").value, getattr(d, f"{port}__addr").value
                oks[port] = False
                if register.is_resolvable and k.is_resolvable:
                    writers = [c for c in active if c is not entering and c.values.get("vd") == int(register)]
                    oks[port] = all(len(c.written) > int(k) for c in writers) and self.rng.random() >= self.stall
                getattr(d, f"{port}__ok").value = oks[port]
            write_ok = self.rng.random() >= self.stall
            d.write__ok.value = write_ok
            await Timer(1, "ns")

            # Results: a retirement means that the registers hold them now, a write that they will in the next cycle.
            active_now = d.active.value == 1
            token = int(d.token.value) if d.token_valid.value == 1 else None
            if d.retire__valid.value == 1:
                command = active.pop(0)
                assert int(d.retire__pc.value) == command.pc, f"{command}: retires in order"
                command.retired = self.cycle
                assert self.cycle == command.entered[-1] + RETIRE_LATENCY, command
                self._check(command, token)
            else:
                assert token is None, "a token comes with a retirement"
            if d.write__en.value == 1:
                command = next(c for c in active if c.name != "argmax" and len(c.written) < -(-c.values["len"] // n))
                k = int(d.write__addr.value)
                assert int(d.write__reg.value) == command.values["vd"], command
                assert k == len(command.written), f"{command}: words are written in order"
                assert self.cycle - command.entered[k] == ROWWISE_LATENCY, command
                mask, value = int(d.write__mask.value), int(d.write__data.value)
                assert mask == (1 << min(n, command.values["len"] - k * n)) - 1, command
                for slot, registers in enumerate(self.registers):
                    for i in range(n):
                        if mask >> i & 1:
                            registers[command.values["vd"], k * n + i] = signed(value >> 32 * (slot * n + i), 32)
                command.written.append(self.cycle)
                command.saturated += int(d.saturated.value)
            else:
                assert int(d.saturated.value) == 0

            # What enters, and the next command.
            enables = {port: getattr(d, f"{port}__en").value == 1 for port in "abc"}
            for port in "abc":
                if enables[port]:
                    assert oks[port], f"{entering}: read without ok"
                    data[port] = self._pack(int(getattr(d, f"{port}__reg").value), int(getattr(d, f"{port}__addr").value))
            if any(enables.values()):
                self._enter(entering, enables, write_ok)
            elif entering is not None and entering.name == "argmax" and len(entering.entered) % n:
                entering.entered.append(self.cycle)
            if d.cmd__ready.value == 1:
                if entering is not None:
                    assert len(entering.entered) == self._entries(entering), f"{entering}: ready with its last word"
                entering = None
                if offer:
                    entering = queue.pop(0)
                    entering.accepted = self.cycle
                    active.append(entering)
            assert active_now or not active or active == [entering], "an instruction in flight needs the clock"
            if active_now or offer or not self.gated:
                await self._edge()
            else:
                await Timer(3, "ns")
            self.cycle += 1
        d.cmd__valid.value = 0
        for _ in range(2):
            await self._edge()
        assert d.active.value == 0, "idle after the last retirement"

    def _entries(self, command: Command) -> int:
        length = command.values["len"]
        return length if command.name == "argmax" else -(-length // self.config.lanes)

    def _enter(self, command: Command, enables: dict[str, bool], write_ok: bool) -> None:
        for port, source in (("a", "va"), ("b", "vb"), ("c", "vc")):
            used = source in command.sources
            assert enables[port] == used, f"{command}: port {port}"
            if used:
                k = len(command.entered) // (self.config.lanes if command.name == "argmax" else 1)
                assert int(getattr(self.dut, f"{port}__reg").value) == command.sources[source], command
                assert int(getattr(self.dut, f"{port}__addr").value) == k, f"{command}: words are read in order"
        if command.name != "argmax":
            assert write_ok, f"{command}: a word enters only if its result may be written"
            assert int(self.dut.write__chk_reg.value) == command.values["vd"], command
            assert int(self.dut.write__chk_addr.value) == len(command.entered), command
        command.entered.append(self.cycle)

    def _check(self, command: Command, token: int | None) -> None:
        """Compare every slot; ``token``: those of all slots, if some were announced."""
        if command.name == "argmax":
            self._check_tokens(command, token)
            return
        assert token is None, command
        saturated = sum(self._check_register(command, slot) for slot in range(self.config.batch))
        assert command.saturated == saturated, f"{command}: {saturated} elements saturate, counted {command.saturated}"

    def _check_tokens(self, command: Command, token: int | None) -> None:
        v = command.values
        for slot in range(self.config.batch):
            value, _ = self.expect(command, slot)
            where = int(np.argmax(value))
            if v.get("first") or value[where] > self.largest[slot]:
                self.largest[slot], self.best[slot] = int(value[where]), (v.get("base", 0) + where) & 0xFFFFFF
        assert (token is not None) == bool(v.get("last")), f"{command}: a token comes with the last tile"
        if token is not None:
            got = [token >> 24 * slot & 0xFFFFFF for slot in range(self.config.batch)]
            assert got == self.best, f"{command}: expected {self.best}, got {got}"
            self.tokens.append((self.cycle, got[0]))
            self.slot_tokens.append(got)

    def _check_register(self, command: Command, slot: int) -> int:
        v = command.values
        value, saturated = self.expect(command, slot)
        expected = self.model[slot, v["vd"]].copy()
        expected[: v["len"]] = value
        sources = [self.model[slot, r, : v["len"]] for r in command.sources.values()]
        wrong = np.flatnonzero(expected != self.registers[slot, v["vd"]])
        later = {}
        if len(wrong):
            j = int(wrong[0])
            later = {"element": j, "sources": [int(s[j]) for s in sources if j < len(s)],
                     "expected": int(expected[j]), "got": int(self.registers[slot, v["vd"], j])}  # fmt: skip
        assert not later, f"{command}, slot {slot}: {len(wrong)} wrong, {later}"
        self.model[slot, v["vd"]] = expected
        return saturated


def operands(rng, length: int) -> np.ndarray:
    """32-bit numbers of every size: few bits, 16 bits, all bits, and the extremes."""
    bits = rng.integers(1, 33, length)
    bits = np.where(rng.random(length) < 0.3, 16, bits)
    values = rng.integers(-(1 << 31), 1 << 31, length) >> (32 - bits)
    special = rng.choice([0, 1, -1, (1 << 31) - 1, -(1 << 31), 32767, -32768, 1 << 23, -(1 << 23), 1 << 24, -(1 << 24)], length)
    return np.where(rng.random(length) < 0.15, special, values)


def random_command(rng, name: str, max_length: int) -> Command:
    """An instruction with random registers, length and options; shifts are sensible or anything in range."""
    op = ISA.by_name[name]
    values = {f.name: int(rng.integers(0, VECTOR_REGISTERS)) for f in op.operands}
    for key, option in op.options.items():
        values[key] = int(rng.integers(option.low, option.high + 1))
    values["len"] = int(rng.integers(1, max_length + 1))
    if rng.random() < 0.7:
        sensible = {"shb": (-4, 12), "sho": (0, 40) if name in ("exp", "sig", "silu", "lerp", "mul", "muli", "div") else (0, 4)}
        values |= {key: int(rng.integers(low, high)) for key, (low, high) in sensible.items() if key in values}
    return Command(name, values)
