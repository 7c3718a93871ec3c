"""The timing of the memory `sdram` against the constants of its controller, which the RTL is tested against."""

import sys
from pathlib import Path

import numpy as np
import pytest

from trilobit.hdl.boards import find_board
from trilobit.hdl.sdram import SdramController
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core
from trilobit.sim.memory import parse_memory

sys.path.insert(0, str(Path(__file__).resolve().parent))
from memory_support import Request, drive, sequential

BOARD = find_board("ulx3s_85f")
CONFIG = load_core(BOARD.core)
CHIP = load_sdram_chip(BOARD.chip)
SLOTS = CHIP.slots(BOARD.clock_mhz, BOARD.cas_latency)
LATENCY = SdramController.read_latency(CONFIG, BOARD.cas_latency, BOARD.io_latency)
MEMORY = parse_memory("sdram")


def run(requests):
    return drive(MEMORY, requests, beat_bytes=CONFIG.beat_bytes, clock_mhz=BOARD.clock_mhz)


def test_latency_of_open_closed_and_other_rows():
    row = CHIP.row_bytes
    requests = [Request(addr, alone=True, at=at) for addr, at in ((0, 20), (4, 60), (row, 100), (4 * row, 140))]
    result = run(requests)
    closed, opened, bank, other = (result.done - result.taken).tolist()
    assert opened == LATENCY
    assert closed == bank == LATENCY + SLOTS.activate_column - 1
    assert other == LATENCY + SLOTS.precharge + SLOTS.activate_column - 1


def test_sequential_reads_and_refreshes():
    """The same rate within a tenth of a percent; bank changes cost nothing, a refresh what the slots say."""
    done = run(sequential(1 << 20, beat_bytes=CONFIG.beat_bytes, burst=CONFIG.burst_beats)).done
    assert len(done) / (done[-1] - done[0] + 1) == pytest.approx(SLOTS.sequential_rate, abs=1e-3)
    gaps = np.diff(done) - 1
    refreshes, others = gaps[gaps > 4], gaps[(gaps > 0) & (gaps <= 4)]
    assert set(refreshes.tolist()) <= {SLOTS.refresh_cost - 1, SLOTS.refresh_cost, SLOTS.refresh_cost + 1}
    assert len(refreshes) == pytest.approx((done[-1] - done[0]) / SLOTS.refresh_interval, abs=2)
    # A refresh splits requests here, so that sometimes a bank changes right behind it; the controller waits for a request's end.
    assert len(others) <= 0.1 * len(refreshes)


@pytest.mark.parametrize("beats", [1, 4, 16])
def test_a_write_is_answered_when_its_last_word_has_left(beats):
    """As the controller: gathered, prepared, then a word a clock."""
    result = run([Request(0, alone=True, at=20), Request(0, beats=beats, write=True, alone=True, at=60)])
    assert result.done[1] - result.taken[1] == 2 * beats + 3
