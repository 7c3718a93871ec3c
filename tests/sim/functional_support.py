"""Small programs for the tests of the functional simulator."""

import numpy as np

from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.segments import gains_segment, matrix_segment
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

__all__ = ["TINY", "WINDOW", "WRITE_START", "code", "gains", "machine", "matrix"]

TINY = load_core("tiny")
WINDOW, WRITE_START = 8192, 4096


def code(*instructions) -> list[int]:
    """Words of ``("mnemonic", {fields})`` pairs or bare mnemonics; whole numbers pass as they are."""
    words = []
    for item in instructions:
        if isinstance(item, int):
            words.append(item)
        elif isinstance(item, str):
            words.append(ISA.encode(item))
        else:
            words.append(ISA.encode(item[0], **item[1]))
    return words


def machine(*instructions, data: bytes = b"", settings: HostSettings | None = None, **options) -> FunctionalSimulator:
    """A ``tiny`` machine with a program, and ``data`` at address 0 of a window of 8 KiB whose upper half is writable."""
    memory = np.zeros(WINDOW, dtype=np.uint8)
    memory[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    program = Program("test", code(*instructions), WINDOW, WRITE_START)
    return FunctionalSimulator(TINY, program, memory, settings, **options)


def matrix(trits, scale) -> bytes:
    """A ternary segment."""
    trits = np.asarray(trits)
    return matrix_segment(pack(trits), len(trits), scale, TINY.beat_bytes)


def gains(values) -> bytes:
    """A gains segment."""
    return gains_segment(np.asarray(values), TINY.beat_bytes)
