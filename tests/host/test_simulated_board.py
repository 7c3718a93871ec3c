"""The driver against the whole board in simulation: UART bits, host link, core, SDRAM controller and chip."""

import numpy as np
import pytest

from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler.pipeline import compile_model
from trilobit.host.backend import BoardBackend
from trilobit.host.board import Board
from trilobit.host.selftest import self_test
from trilobit.host.simulated import SimulatedTransport
from trilobit.sim.backend import HostSettings
from trilobit.sim.board import BoardSimulator
from trilobit.sim.cycles_backend import CycleBackend
from trilobit.sim.functional import FunctionalSimulator


@pytest.mark.slow
def test_the_shipped_model_writes_over_the_serial_line_what_the_functional_simulator_writes(tmp_path, rng):
    """Self-test, a faster rate, some of the memory over the line and verified, then tokens. The image itself comes by the back door."""
    simulator = BoardSimulator("ulx3s_85f", divisor=24)
    line = SimulatedTransport(simulator)
    line.rates = (simulator.clock_hz // 8,)
    board = Board(line)
    assert board.negotiate() == f"{simulator.clock_hz // 8:,} baud"
    assert self_test(board, simulator.config, measure_clock=False).compared > 1000
    data = np.frombuffer(rng.bytes(3000), np.uint8)
    assert board.load(data) == 3000
    assert (simulator.memory[:3000] == data).all()
    compile_model("tales", simulator.config, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    settings = HostSettings(seed=5, temperature=0.7, limit=3)
    functional = FunctionalSimulator(bundle.core, bundle.program, bundle.memory(), settings)
    functional.push([1, 48])
    expected = functional.run()
    line.preload(bundle.memory())
    seen: list[int] = []
    with BoardBackend(board, bundle.core, bundle.program, bundle.memory(), settings) as machine:
        machine.push([1, 48])
        result = machine.run(seen.append)
    assert result.halted and result.tokens == seen == expected.tokens and len(seen) == 3
    assert result.counters["cycles"] == result.cycles > 0
    timed = CycleBackend(bundle.core, bundle.program, bundle.memory(), settings)
    timed.push([1, 48])
    counters = timed.run().counters  # with another memory: what does not depend on its time is the same
    same = ("issued", "matmul_beats", "ldst_read_beats", "write_beats", "saturated")
    assert {name: result.counters[name] for name in same} == {name: counters[name] for name in same}
    assert sum(n for name, n in result.counters.items() if name.startswith("stall_")) + counters["issued"] == result.cycles
