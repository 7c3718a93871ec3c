"""Bits of a core's block memories, by what they hold."""

import numpy as np

from trilobit.hdl.lean.micro import TARGET_BITS, WORD_BITS
from trilobit.hdl.lean.microprogram import microprogram
from trilobit.isa.core import CoreConfig
from trilobit.isa.noise import NOISE_BITS, NOISE_TABLE, SLOPE_BITS
from trilobit.isa.spec import UNITS
from trilobit.isa.tables import EXP2, RECIP, Table

__all__ = ["on_chip_memories"]

PAGES, TEMPORARY_PAGES = 16, 8  # of a lean core's engine
# Of its words the copies for x and y hold 34 bits, that for z 36 and that for n 8, of the temporary pages alone; an element more has
# half a hash, a flag and a condition.
PAGE_BITS = PAGES * (34 + 34 + 36) + TEMPORARY_PAGES * 8 + 18 + 1 + 1
ARITHMETIC_TABLES = 117_760
"""Bits of the tables that spare a lean core's arithmetic gates: leading zeros, shifts, limits (hdl/lean/datapath.py)."""


def on_chip_memories(core: CoreConfig) -> dict[str, int]:
    """Bits of the core's block memories, as hdl/ declares them; queues of tokens and delays, of 64 words at most, are left out."""
    if core.machine == "lean":
        return _lean(core)
    word = 8 * core.beat_bytes
    act_beats = -(-core.max_length // core.beat_bytes)
    rows = {"embedding rows": (core.batch - 1) * 16 * core.max_length} if core.batch > 1 else {}  # of all slots but the last
    noise = NOISE_TABLE[0].size * (NOISE_BITS + SLOPE_BITS)
    return {
        "vector registers": core.batch * 8 * 32 * core.max_length,
        "activation buffers": core.batch * 2 * max(_power(act_beats), 2) * word,
        "norm buffer": core.batch * 35 * core.max_length,
        "function tables": core.batch * (core.lanes * sum(map(_table_bits, (EXP2, RECIP))) + noise),
        "weight queue": core.weight_fifo_beats * word,
        "gain buffer": _power(core.gain_buffer_elements * 2 // core.beat_bytes) * word,
        "stream landing queue": max(4 * core.burst_block, 64) * word,
        "load queue": core.load_fifo_beats * word,
        **rows,
        "instruction memory": 128 * core.program_words,
    }


def _power(value: int) -> int:
    return 1 << (value - 1).bit_length()


def _table_bits(table: Table) -> int:
    """Of a lane's memory for one function."""
    slope = int(np.abs(table.slope).max()).bit_length() + bool((table.slope < 0).any())
    return table.base.size * (int(table.base.max()).bit_length() + slope)


def _lean(core: CoreConfig) -> dict[str, int]:
    """Of a lean core."""
    beat = 8 * core.beat_bytes
    vector_beats = max(_power(-(-core.max_length * 4 // core.beat_bytes)), 2)
    opcode = TARGET_BITS + (len(UNITS) - 1).bit_length()
    return {
        "vectors, scalars and function tables": PAGE_BITS * max(1024, _power(core.max_length)),
        "activation buffers": 2 * _power(-(-core.max_length // core.beat_bytes)) * beat,
        "arithmetic tables": ARITHMETIC_TABLES,
        "weight and load queues": 2 * max(core.weight_fifo_beats, vector_beats) * beat,
        "store buffer": core.beat_bytes // 2 * 17 * 2 * vector_beats,  # 16 bits and a flag
        "gain queue": 16 * _power(core.gain_buffer_elements + 17),
        "instruction memory": 128 * core.program_words,
        "microprogram": WORD_BITS * _power(len(microprogram(core).words())) + 256 * opcode,
    }
