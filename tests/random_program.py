"""Random programs for the whole core: every unit, overlapping registers and lengths, chained and independent instructions.

Registers and shifts are drawn so that results keep moving (not all saturated, not all zero). The same generator serves the core's
cocotb test, the RTL simulator's and, later, the cycle model's.
"""

import numpy as np

from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program, Region
from trilobit.isa.segments import gains_segment, matrix_segment, scalar_of
from trilobit.isa.slots import stored_elements
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack

__all__ = ["random_program"]

BINARY = ("add", "sub", "mul", "div", "max")
UNARY = ("exp", "sig", "silu", "mov", "onem", "addi", "muli")


class _Writer:
    """Collects instructions and the stream that they consume."""

    def __init__(self, rng: np.random.Generator, config: CoreConfig, vectors: int):
        self.rng, self.config = rng, config
        self.align = max(config.beat_bytes, 16)
        self.code: list[int] = []
        self.stream = bytearray()
        self.slot = -(-4 * stored_elements(config, config.max_length) // self.align) * self.align
        self.vectors = vectors
        self.act: list[int | None] = [None, None]
        self.pending_gains = 0
        self.squares: set[int] = set()

    def emit(self, mnemonic: str, **values: int) -> None:
        self.code.append(ISA.encode(mnemonic, **values))

    def reg(self) -> int:
        # Few registers: most programs chain on them.
        return int(self.rng.integers(0, 8 if self.rng.random() < 0.3 else 4))

    def length(self) -> int:
        top = self.config.max_length
        return int(self.rng.choice([1, top, self.rng.integers(1, top + 1), self.rng.integers(1, top + 1)]))

    def gains(self, length: int) -> int:
        """Append gains to the stream (or not) and say so."""
        if self.rng.random() < 0.3:
            return 0
        gains = self.rng.integers(-30000, 30000, length).astype(np.int16)
        self.stream += gains_segment(gains, self.config.beat_bytes)
        return 1

    def rowwise(self) -> None:
        rng, n = self.rng, self.length()
        wide, shb = int(rng.random() < 0.5), int(rng.integers(-6, 10))
        kind = rng.random()
        if kind < 0.45:
            name = str(rng.choice(BINARY))
            sho = int({"mul": rng.integers(8, 24), "div": rng.integers(4, 28)}.get(name, rng.integers(0, 4)))
            self.emit(name, vd=self.reg(), va=self.reg(), vb=self.reg(), len=n, shb=shb, sho=sho, wide=wide)
        elif kind < 0.8:
            name = str(rng.choice(UNARY))
            extra = {
                "exp": {"sho": 28}, "sig": {"sho": 20, "neg": int(rng.random() < 0.5)}, "silu": {"sho": 22}, "mov": {},
                "onem": {"sha": 14, "sho": 1}, "addi": {"imm": int(rng.integers(-999, 999)), "sha": 3, "sho": 1},
                "muli": {"imm": int(rng.integers(-999, 999)), "sha": 1, "sho": 9},
            }[name]  # fmt: skip
            self.emit(name, vd=self.reg(), vb=self.reg(), len=n, shb=shb, wide=wide, **extra)
        elif kind < 0.95:
            self.emit("lerp", vd=self.reg(), va=self.reg(), vb=self.reg(), vc=self.reg(), len=n, shb=shb)
        else:
            self.emit(
                "argmax", va=self.reg(), len=n, base=int(rng.integers(0, 100)), first=1, last=1, noise=int(rng.random() < 0.5), sha=10
            )

    def norm_unit(self) -> None:
        rng, n = self.rng, self.length()
        sha = int(rng.integers(0, 12))
        kind = rng.random()
        if kind < 0.3:
            sc = int(rng.integers(0, 4))
            gain = self.gains(n)
            self.emit("rms", sc=sc, va=self.reg(), vb=self.reg(), len=n, sha=sha, shb=int(rng.integers(0, 12)),
                      sho=int(rng.integers(10, 18)),
                      eps_m=int(rng.integers(0, 1 << 15)), eps_e=int(rng.integers(10, 40)), k_m=77, k_e=4, gain=gain)  # fmt: skip
            self.squares.add(sc)
        elif kind < 0.55:
            gain = self.gains(n)
            self.emit("norm", vd=self.reg(), va=self.reg(), len=n, sha=sha, sho=int(rng.integers(-4, 20)), c_m=40000, k_m=5, gain=gain,
                      wide=int(rng.random() < 0.5))  # fmt: skip
        else:
            scaled = int(bool(self.squares) and rng.random() < 0.6)
            sc = int(rng.choice(sorted(self.squares))) if scaled else 0
            buffer = int(rng.integers(0, 2))
            self.act[buffer] = n
            self.emit("normq", act=buffer, va=self.reg(), sc=sc, len=n, sha=sha, gain=self.gains(n), scaled=scaled)

    def product(self) -> None:
        ready = [b for b in (0, 1) if self.act[b]]
        if not ready:
            return self.norm_unit()
        rng = self.rng
        buffer = int(rng.choice(ready))
        columns, rows = self.act[buffer], self.length()
        trits = rng.integers(-1, 2, (rows, columns)).astype(np.int8)
        addr = len(self.stream)
        self.stream += matrix_segment(pack(trits), rows, scalar_of(float(2.0 ** rng.uniform(-12, 2))), self.config.beat_bytes)
        self.emit("tmatmul", vd=self.reg(), act=buffer, addr=addr, len=rows, bp=int(rng.integers(-2, 14)), wide=int(rng.random() < 0.5))

    def memory(self) -> None:
        rng, n = self.rng, self.length()
        slot, wide = int(rng.integers(0, self.vectors)), int(rng.random() < 0.5)
        if rng.random() < 0.1:
            self.emit("clr", addr=self.base + slot * self.slot, beats=int(rng.integers(1, self.slot // self.config.beat_bytes + 1)))
        elif rng.random() < 0.5:
            self.emit("ldv", vd=self.reg(), addr=self.base + slot * self.slot, len=n, wide=wide)
        else:
            self.emit("sv", va=self.reg(), addr=self.base + slot * self.slot, len=n, wide=wide)


def random_program(rng: np.random.Generator, config: CoreConfig, *, instructions: int = 40, vectors: int = 6) -> tuple[Program, np.ndarray]:
    """A random program that halts, and the registers' first values [8, max_length], or [8, batch, max_length] for a batch above 1.

    The stream comes first in the window, then ``vectors`` writable slots of random words that ldv, sv and clr work on.
    """
    writer = _Writer(rng, config, vectors)
    # Addresses of the slots depend on the stream's size: reserve a window for it that is large enough, and check at the end.
    largest = config.header_beats * config.beat_bytes + -(-config.max_length // 5) * (config.max_length + config.beat_bytes)
    writer.base = -(-instructions * largest // 4096) * 4096
    writer.emit("stream", addr=0, beats=1)  # its length is known at the end
    kinds = (writer.rowwise, writer.norm_unit, writer.product, writer.memory)
    while len(writer.code) < instructions:
        kinds[int(rng.choice(4, p=(0.4, 0.25, 0.2, 0.15)))]()
    writer.emit("halt")
    if writer.stream:
        writer.code[0] = ISA.encode("stream", addr=0, beats=len(writer.stream) // config.beat_bytes)
    else:
        writer.code[0] = ISA.encode("nop")
    assert len(writer.stream) <= writer.base
    stored = rng.integers(-(1 << 20), 1 << 20, vectors * writer.slot // 4).astype("<i4").tobytes()
    regions = {
        "stream": Region(name="stream", addr=0, size=len(writer.stream), data=bytes(writer.stream)),
        "slots": Region(name="slots", addr=writer.base, size=len(stored), data=stored, element="<i4", writable=True),
    }
    program = Program("random", writer.code, writer.base + len(stored), writer.base, regions)
    slots = () if config.batch == 1 else (config.batch,)
    registers = rng.integers(-(1 << 15), 1 << 15, (8, *slots, config.max_length))
    registers[::2] <<= rng.integers(0, 12, (4, *slots, 1))
    return program, registers
