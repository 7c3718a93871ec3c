"""Random programs for comparing the cycle model with the RTL: everything that takes time, control and host included.

Beside what tests/random_program.py draws: regions of the stream of random sizes, pushed up to four ahead; loops, jumps,
branches on tokens and on prompts; prompt tokens, argmax, embedding rows, emitted tokens.
"""

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program, Region
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from random_program import _Writer

PROMPTS = 20  # tokens are below this
SLOTS = 6
EMBEDDING_ROWS = 256
REGIONS = 4  # that wait in the core's queue
HAZARDS = ("raw", "war", "waw")
NEAR = 4  # instructions between which a hazard counts as a chain


@dataclass
class Case:
    """A program with what the host gives it.

    Attributes:
        prompts: tokens of each slot that the host pushes at the start, then those that it pushes each time when the program waits.
        argmaxes: of a batch of one, for each emitted token, whether an argmax found it (else the host sent it).
    """

    program: Program
    settings: HostSettings
    prompts: list[list[list[int]]]
    argmaxes: list[bool]


class _Programmer(_Writer):
    """Adds regions, control and tokens to the generator of straight programs."""

    def __init__(self, rng: np.random.Generator, config: CoreConfig):
        super().__init__(rng, config, SLOTS)
        self.align = max(config.beat_bytes, 16)
        self.used = 0  # bytes of the stream that instructions consume so far
        self.regions: list[tuple[int, int]] = []  # index of the first instruction that consumes it, first byte
        self.often = float(rng.choice([0.1, 0.5, 1]))  # a segment begins a region
        self.prompts: list[list[int]] = [[] for _ in range(config.batch)]
        self.polls = config.batch == 1 or rng.random() < 0.7
        self.short: set[int] | None = None  # slots that still get tokens, once not all do
        self.argmaxes: list[bool] = []

    def emit(self, mnemonic: str, **values: int) -> None:
        if len(self.stream) > self.used:
            if not self.regions or self.rng.random() < self.often:
                self.regions.append((len(self.code), self.used))
            self.used = len(self.stream)
        super().emit(mnemonic, **values)

    def finish(self) -> list[int]:
        """The code with its regions pushed, each ``ahead`` regions before its first segment is consumed.

        That is never a deadlock: what stands before that instruction consumes all but the last ``ahead`` of the earlier regions.
        """
        ahead = int(self.rng.integers(0, REGIONS + 1))
        starts = [start for _, start in self.regions] + [self.used]
        pushes: dict[int, list[int]] = {}
        for k in range(len(self.regions)):
            beats = (starts[k + 1] - starts[k]) // self.config.beat_bytes
            index = self.regions[max(k - ahead, 0)][0]
            pushes.setdefault(index, []).append(ISA.encode("stream", addr=starts[k], beats=beats))
        code: list[int] = []
        places = []
        for index, word in enumerate(self.code):
            places.append(len(code))
            code += [*pushes.get(index, []), word]
        target = ISA.fields["target"]
        for index, word in enumerate(code):
            if target in ISA.by_opcode[word & 0xFF].fields:
                code[index] = word & ~target.mask | places[target.get(word)] << target.lo
        return code

    def rowwise(self) -> None:
        super().rowwise()
        op = ISA.by_opcode[self.code[-1] & 0xFF]
        if op.name == "argmax":
            self.emit("emit")
            self.argmaxes.append(True)

    def control(self) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.35:
            count, body = int(rng.integers(0, 5)), int(rng.integers(1, 4))
            self.emit("seti", cnt=0, imm=count)
            start = len(self.code)
            for _ in range(body):
                super().rowwise() if rng.random() < 0.7 else self.memory()
                if self.code[-1] & 0xFF == ISA.by_name["argmax"].opcode:
                    self.code.pop()
                    self.emit("nop")
            self.emit("loop", cnt=0, target=start)
        elif kind < 0.5:
            self.emit("jump", target=len(self.code) + 1)
        elif kind < 0.75:
            self.token()
            self.emit("emit")
            self.argmaxes.append(False)
            if rng.random() < 0.5:
                self.emit("bdone", target=len(self.code) + 1)
        else:
            self.token()
            self.emit("emb", vd=self.reg(), addr=self.table, len=self.length(), pitch=self.align, rows=EMBEDDING_ROWS)

    def token(self) -> None:
        """Take a prompt token of each slot; of a batch, sooner or later of some only.

        A batch's programs either poll, and find all tokens there, or wait for tokens that come late: so a simulator without time agrees.
        """
        rng, slots = self.rng, set(range(self.config.batch))
        if self.config.batch > 1 and self.polls and (self.short is not None or rng.random() < 0.3):
            self.short = slots = {slot for slot in (slots if self.short is None else self.short) if rng.random() < 0.6}
        for slot in sorted(slots):
            self.prompts[slot].append(int(rng.integers(0, PROMPTS)))
        if not self.polls or (self.short is None and rng.random() < 0.5):
            self.emit("wait")
        else:
            self.emit("poll")
            self.emit("bprompt", target=len(self.code) + 1)


def random_case(rng: np.random.Generator, config: CoreConfig, instructions: int) -> Case:
    """A random program that halts, its host's settings and prompt tokens."""
    writer = _Programmer(rng, config)
    largest = config.header_beats * config.beat_bytes + -(-config.max_length // 5) * (config.max_length + config.beat_bytes)
    writer.base = -(-instructions * largest // 4096) * 4096
    table_bytes = EMBEDDING_ROWS * writer.align + -(-2 * config.max_length // writer.align) * writer.align
    writer.table = writer.base + SLOTS * writer.slot
    kinds = (writer.rowwise, writer.norm_unit, writer.product, writer.memory, writer.control)
    weights = rng.dirichlet((4, 3, 3, 2, 1))  # programs differ in what they are made of
    while len(writer.code) < instructions:
        kinds[int(rng.choice(len(kinds), p=weights))]()
    writer.emit("halt")
    code = writer.finish()
    assert len(writer.stream) <= writer.base
    regions = {
        "stream": Region(name="stream", addr=0, size=len(writer.stream), data=bytes(writer.stream)),
        "slots": Region(name="slots", addr=writer.base, size=SLOTS * writer.slot + table_bytes, writable=True),
    }
    program = Program("random", code, writer.base + regions["slots"].size, writer.base, regions)
    settings = HostSettings(eos=int(rng.integers(0, PROMPTS)), limit=int(rng.integers(1, 5)))
    count = int(rng.integers(0, 4)) if config.batch == 1 or not writer.polls else 0
    parts = []
    for tokens in writer.prompts:
        bounds = [0, *np.sort(rng.integers(0, len(tokens) + 1, count)).tolist(), len(tokens)]
        parts.append([tokens[a:b] for a, b in pairwise(bounds)])
    prompts = [list(part) for part in zip(*parts, strict=True)]
    return Case(program, settings, prompts, writer.argmaxes)


def random_memory(rng: np.random.Generator, memories: list[str]) -> str:
    """Ideal, a fixed latency of 1 to 64 cycles with 1 to 16 outstanding requests, or one of the given memories."""
    kind = rng.random()
    if kind < 0.25:
        return "ideal"
    if memories and kind < 0.5:
        return str(rng.choice(memories))
    return f"latency:{rng.integers(1, 65)},outstanding={rng.integers(1, 17)}"


def hazards(program: Program) -> dict[str, int]:
    """Pairs of near instructions that depend on each other through a register: read after write, write after read, write after write."""
    counts = dict.fromkeys(HAZARDS, 0)
    near: list[tuple[set[int], set[int]]] = []
    for word in program.code:
        op = ISA.by_opcode[word & 0xFF]
        reads, writes = (
            {ISA.fields[name].get(word) for name in names if ISA.fields[name].kind == "vreg"} for names in (op.reads, op.writes)
        )  # fmt: skip
        for old_reads, old_writes in near[-NEAR:]:
            counts["raw"] += bool(reads & old_writes)
            counts["war"] += bool(writes & old_reads)
            counts["waw"] += bool(writes & old_writes)
        near.append((reads, writes))
    return counts
