"""A long file assembles in the time that the project promises."""

import random
import time

from trilobit.assembler import assemble

LINES = 100_000
SECONDS = 5
STATEMENTS = [
    "add v1, v2, v3, shb=2, sho=S1, wide",
    "tmatmul v1, a0, [X + 64], bp=8",
    "ldv v0, [X]",
    "sv [Y + 2 * 64], v2, wide",
    "sig v4, v5, sho=20, neg   ; a comment",
    "rms s0, v1, v1, eps_m=12, eps_e=4, gain",
    "normq a1, v2, s0, gain, scaled  # another",
    "loop x1, l0",
]


def source() -> str:
    """A file of constants, comments, labels, and as many instructions as a program can have."""
    chosen = random.Random(1)
    lines = [".len 512", ".region X, readonly, i16", ".zero 65536", ".region Y, writable, i16", ".zero 65536"]
    lines += [f".equ S{i}, {i % 7} + {i % 5}" for i in range(10_000)]
    for i in range(1 << 16):
        lines.append((f"l{i}: " if i % 5 == 0 else "    ") + chosen.choice(STATEMENTS))
        if i % 3 == 0:
            lines.append("; a line of its own")
    return "\n".join(lines + ["# filler"] * (LINES - len(lines)))


def test_100000_lines_assemble_in_under_five_seconds():
    text = source()
    assert text.count("\n") + 1 == LINES
    times = []
    for _ in range(2):  # the better of two: other work on the machine is no fault of the assembler
        start = time.process_time()
        program = assemble(text)
        times.append(time.process_time() - start)
        if times[-1] < SECONDS:
            break
    print(f"{LINES} lines, {len(program.code)} instructions: {min(times):.2f} s")
    assert len(program.code) == 1 << 16
    assert min(times) < SECONDS
