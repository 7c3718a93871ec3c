"""The driver of a board over lines as they are: noisy, slow, unplugged. Nothing is lost and nothing wrong comes through."""

import numpy as np
import pytest
from emulated_board import EmulatedLine

from trilobit.errors import ConfigError, HostError
from trilobit.hdl.link import Operation
from trilobit.host.backend import BoardBackend
from trilobit.host.board import BLOCK_BYTES, Board
from trilobit.host.link import RefusedError, Request
from trilobit.host.selftest import self_test, self_test_program
from trilobit.host.transport import LineLostError, SerialTransport
from trilobit.isa.core import load_core
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

CORE = load_core("tiny")
SIZE = 1 << 18


def image(rng, size=5 * BLOCK_BYTES + 400):
    return np.frombuffer(rng.bytes(size), np.uint8)


def test_who_is_there():
    board = Board(EmulatedLine(CORE, SIZE))
    assert board.identity.beat_bytes == CORE.beat_bytes and board.identity.memory_size == SIZE
    board.check_core(CORE)
    with pytest.raises(ConfigError, match="4 bytes a beat and 2 lanes, as the board has, got core 'axi512' with 64"):
        board.check_core(load_core("axi512"))


def test_memory_comes_back(rng):
    line = EmulatedLine(CORE, SIZE)
    board = Board(line)
    data = rng.bytes(1000)
    board.write_memory(4096, data)
    assert board.read_memory(4096, 1000) == data
    assert line.memory[4096:5096].tobytes() == data


@pytest.mark.parametrize(("flips", "drops"), [(0, 0), (1e-3, 0), (0, 1e-3), (5e-4, 5e-4)])
def test_an_image_arrives_whole_over_a_noisy_line(flips, drops, rng):
    line = EmulatedLine(CORE, SIZE, rng=rng)
    board = Board(line)
    line.flips, line.drops = flips, drops
    data = image(rng)
    board.load(data)
    assert (line.memory[: len(data)] == data).all()
    assert (board.access.link.repeated > 0) == bool(flips or drops)


def test_noise_makes_no_token_wrong_or_twice(rng):
    """Prompt tokens are queued once each and every emitted one is seen once, in order, whatever the line loses."""
    program = self_test_program(CORE)
    for _ in range(30):
        line = EmulatedLine(CORE, SIZE, rng=rng)
        board = Board(line)
        board.prepare(program.code, window_size=program.window_size, write_start=0, settings=HostSettings())
        line.flips = line.drops = 1e-3
        pushed, line.outputs = rng.integers(0, 1000, 40).tolist(), rng.integers(0, 1000, 300).tolist()
        expected = list(line.outputs)
        for token in pushed:
            assert board.push(token)
        assert line.prompts == pushed
        popped = []
        while tokens := board.pop():
            popped += tokens
        assert popped == expected


class LosingLine(EmulatedLine):
    """Loses the bytes whose places in the next frame are listed."""

    lose: tuple[int, ...] = ()

    def write(self, data):
        data, self.lose = bytes(byte for place, byte in enumerate(data) if place not in self.lose), ()
        super().write(data)


def test_a_request_with_a_mark_within_is_heard_after_its_beginning_was_lost():
    """The board takes the byte that is like a mark for a beginning; without a pause the next frame would continue it, for ever."""
    board = Board(line := LosingLine(CORE, SIZE))
    for token in range(1024):
        for place in (0, 4):
            line.lose = (place,)
            assert board.push(token)
            assert line.prompts == [token]
            line.prompts.clear()


class StallingLine(EmulatedLine):
    """Until ``stalled_until`` nothing goes through, then all of it does, as with an adapter that hangs."""

    stalled_until, held = 0.0, b""

    def write(self, data):
        if self.time < self.stalled_until:
            self.time += 10 * len(data) / self.baud
            self.held += data
        else:
            super().write(data)

    def read(self, timeout):
        if self.time < self.stalled_until:
            self.time = min(self.time + timeout, self.stalled_until)
            return b""
        held, self.held = self.held, b""
        if held:
            super().write(held)
        return super().read(timeout)


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.1, 2.3])
@pytest.mark.parametrize("count", [40, 100, 127])
def test_replies_that_come_late_are_not_taken_for_those_of_other_requests(seconds, count, rng):
    """Requests are sent again under other numbers meanwhile, of which there are 256."""
    line = StallingLine(CORE, SIZE)
    board = Board(line)
    line.stalled_until = line.time + seconds
    found: dict[int, bytes] = {}
    requests = [Request(Operation.READ_MEMORY, 4 * k, (4).to_bytes(2, "little")) for k in range(count)]
    board.access.link.do_all(requests, lambda request, data: found.__setitem__(request.argument, data))
    assert found == {4 * k: line.memory[4 * k : 4 * k + 4].tobytes() for k in range(count)}


def test_an_interrupted_load_goes_on_where_it_was(rng):
    line = EmulatedLine(CORE, SIZE)
    board = Board(line)
    data = image(rng)
    line.unplugged_at = line.time + 0.7 * board.load_seconds(len(data))
    assert board.load(data) < 2 * len(data)
    assert (line.memory[: len(data)] == data).all()
    assert line.written < len(data) + 3 * BLOCK_BYTES, "what was there already was not sent again"
    written = line.written
    assert Board(line).load(data) == 0 and line.written == written, "a second load finds it all there"


def test_a_board_that_lost_its_power_with_the_cable_gets_all_of_the_image_again(rng, monkeypatch):
    line = EmulatedLine(CORE, SIZE)
    board = Board(line)
    data = image(rng)
    line.unplugged_at = line.time + 0.7 * board.load_seconds(len(data))
    reopen = line.reopen

    def without_power(seconds):
        line.memory[:] = np.frombuffer(rng.bytes(SIZE), np.uint8)
        reopen(seconds)

    monkeypatch.setattr(line, "reopen", without_power)
    board.load(data)
    assert (line.memory[: len(data)] == data).all()


def test_a_program_that_the_board_forgot_while_it_ran_is_an_error(monkeypatch):
    line = EmulatedLine(CORE, SIZE)
    with BoardBackend(Board(line), CORE, self_test_program(CORE)) as board:
        monkeypatch.setattr(line, "_start", lambda: None)  # as after a reset: neither running nor halted, ever
        with pytest.raises(HostError, match="the board has forgotten its program: was it reset"):
            board.run()


def test_a_board_that_makes_no_progress_is_an_error(monkeypatch):
    """As a bundle whose gains don't fit the buffer of the board's core."""
    line = EmulatedLine(CORE, SIZE)
    with BoardBackend(Board(line), CORE, self_test_program(CORE)) as board:
        read = line._read
        monkeypatch.setattr(line, "_read", lambda name: 0x31 if name == "status" else read(name))
        with pytest.raises(HostError, match="the board has issued no instruction for 2 s, at 0 in all: was the bundle compiled for"):
            board.run()


def test_a_cable_that_stays_away_is_an_error(rng):
    line = EmulatedLine(CORE, SIZE)
    board = Board(line, reconnect=5)
    line.unplugged_at, line.away = line.time, 60.0
    with pytest.raises(LineLostError, match="did not come back"):
        board.load(image(rng))


def test_memory_that_forgets_is_told(rng):
    line = EmulatedLine(CORE, SIZE)
    line.broken_cells = {BLOCK_BYTES + 5}
    data = image(rng).copy()
    data[BLOCK_BYTES + 5] = 0
    with pytest.raises(HostError, match="memory from 0x4000 to 0x8000 doesn't keep what is written"):
        Board(line).load(data)
    with pytest.raises(ConfigError, match=f"at most the board's {SIZE} bytes of memory, the image has {SIZE + 4}"):
        Board(EmulatedLine(CORE, SIZE)).load(np.zeros(SIZE + 4, np.uint8))


@pytest.mark.parametrize(("highest", "expected"), [(3_000_000, 3_000_000), (2_000_000, 2_000_000), (1_000_000, 1_000_000)])
def test_the_fastest_rate_that_works_is_taken(highest, expected, rng):
    line = EmulatedLine(CORE, SIZE, highest=highest)
    board = Board(line)
    assert board.negotiate() == f"{expected:,} baud" and line.baud == expected
    board.write_memory(0, rng.bytes(64))


def test_the_self_test_passes_on_a_board_that_computes_right():
    board = Board(EmulatedLine(CORE, SIZE))
    found = self_test(board, CORE)
    assert found.compared > 1000 and found.clock_hz == pytest.approx(60e6, rel=0.01)


def test_the_self_test_finds_a_wrong_clock_and_a_wrong_result(monkeypatch):
    with pytest.raises(HostError, match=r"runs at 5\d\.\d\d MHz, it was built for 60\.00 MHz"):
        self_test(Board(EmulatedLine(CORE, SIZE, clock_error=0.9)), CORE)
    line = EmulatedLine(CORE, SIZE)
    start = line._start

    def wrong():
        start()
        line.memory[self_test_program(CORE).write_start + 9] ^= 4

    monkeypatch.setattr(line, "_start", wrong)
    with pytest.raises(HostError, match="computes wrong: in the self-test 1 of"):
        self_test(Board(line), CORE)


def test_noise_makes_no_clock_look_wrong(rng):
    """A repeated read of the clock takes longer than the tolerance; counted, it would be an error on most lines like this."""
    repeated = 0
    for _ in range(30):
        line = EmulatedLine(CORE, SIZE, rng=rng)
        board = Board(line)
        line.flips = line.drops = 5e-4
        assert self_test(board, CORE).clock_hz == pytest.approx(60e6, rel=0.02)
        repeated += board.access.link.repeated
    assert repeated > 0


def test_the_self_test_covers_every_unit_and_nothing_saturates():
    program = self_test_program(CORE)
    machine = FunctionalSimulator(CORE, program, settings=HostSettings(seed=7, temperature=0.8, limit=1))
    machine.push([2])
    result = machine.run()
    assert result.halted and not result.saturated
    assert all(result.counters[f"retired_{unit}"] for unit in ("ldst", "rmsnorm", "tmatmul", "rowwise", "control"))


def test_a_program_runs_on_a_board_as_on_the_simulator():
    program, settings = self_test_program(CORE), HostSettings(seed=3, temperature=1.0, limit=1)
    simulator = FunctionalSimulator(CORE, program, settings=settings)
    simulator.push([1])
    expected = simulator.run()
    seen = []
    with BoardBackend(Board(EmulatedLine(CORE, SIZE)), CORE, program, settings=settings) as board:
        board.push([1])
        result = board.run(seen.append)
        assert result.halted and result.tokens == seen == expected.tokens
        assert (board.memory == simulator.memory).all()
        with pytest.raises(ConfigError, match="simulator for single steps"):
            board.step()


def test_silence_refusal_and_missing_port_are_named():
    line = EmulatedLine(CORE, SIZE)
    line.drops, line.rng = 1.0, np.random.default_rng(1)
    with pytest.raises(HostError, match="nothing answers at 1000000 baud: is the bitstream loaded"):
        Board(line)
    with pytest.raises(RefusedError, match="refuses write_memory 0x1: address"):
        Board(EmulatedLine(CORE, SIZE)).access.link.do(Operation.WRITE_MEMORY, 1, bytes(4))
    pytest.importorskip("serial", reason="pyserial is not installed")
    with pytest.raises(ConfigError, match="expected a serial port at /dev/does-not-exist"):
        SerialTransport("/dev/does-not-exist", 1_000_000)
