"""A board as a backend: what runs on a simulator runs on it."""

from collections.abc import Callable, Sequence

import numpy as np

from trilobit.errors import ConfigError, HostError
from trilobit.host.board import Board
from trilobit.isa.core import CoreConfig
from trilobit.isa.counters import COUNTERS
from trilobit.isa.program import Program
from trilobit.sim.backend import Backend, HostSettings, Retire, RunResult, check_prompt, initial_memory, report_tokens

__all__ = ["BoardBackend"]

IDLE_READS = 1000  # a status read takes longer than a core needs to drain what it had asked for

STALL_SECONDS = 2.0  # no instruction takes as long at any clock


class BoardBackend(Backend):
    """A program on a board.

    Tokens come out as they are emitted; counters are the hardware's. What a board can't do (registers, single steps) is an error that
    says so.

    Args:
        board: connected; closed with the backend.
        config, program, memory, settings: as :class:`~trilobit.sim.backend.Backend`. ``memory`` isn't changed by the run.
        on_progress: called with bytes that are right and the size while the image is loaded.

    Raises:
        ConfigError: the board's core is another one, or image or program are too large for it.
    """

    def __init__(self, board: Board, config: CoreConfig, program: Program, memory: np.ndarray | None = None,
                 settings: HostSettings | None = None, *, on_progress: Callable[[int, int], None] | None = None):  # fmt: skip
        self.board, self.config, self.program = board, config, program
        self.settings = settings or HostSettings()
        board.check_core(config)
        self._image = initial_memory(program, memory)
        board.load(self._image, on_progress)
        board.prepare(program.code, window_size=program.window_size, write_start=program.write_start, settings=self.settings)
        self._waiting: list[int] = []
        self._tokens: list[int] = []
        self._started = False
        self._status = board.status()

    def push(self, tokens: Sequence[int], slot: int = 0) -> None:
        """Queue prompt tokens; they go to the board as it has room. Boards have one slot."""
        check_prompt(self.config, tokens, slot)
        self._waiting += [int(token) for token in tokens]

    def _feed(self) -> None:
        while self._waiting and self.board.push(self._waiting[0]):
            del self._waiting[0]

    def run(self, on_token: Callable[[int], None] | None = None, *, on_slot_token: Callable[[int, int], None] | None = None,
            max_instructions: int | None = None, max_cycles: int | None = None) -> RunResult:  # fmt: skip
        """Run until the program halts, faults or waits; a board takes no limits."""
        if max_instructions is not None or max_cycles is not None:
            raise ConfigError("expected no limit of instructions or cycles: a board runs until its program stops")
        self._feed()
        if not self._started:
            self.board.start()
            self._started = True
        idle, issued, since = 0, -1, self.board.now()
        while True:
            self._status = self.board.status()
            tokens = self.board.pop()
            # Between running and halted there are moments; a board that was reset, or lost its power, stays there.
            idle = 0 if self._status.running or self._status.done or tokens else idle + 1
            if idle > IDLE_READS:
                raise HostError("the board has forgotten its program: was it reset, or without power? Run it again")
            self._tokens += tokens
            report_tokens([(token, 0) for token in tokens], on_token, on_slot_token)
            self._feed()
            if tokens or not self._status.running:
                since = self.board.now()
            elif self.board.now() > since + STALL_SECONDS:
                issued, since = self._progress(issued), self.board.now()
            if not tokens and (self._status.done or (self._status.waiting and not self._waiting)):
                return self.result()

    def _progress(self, before: int) -> int:
        """Instructions issued so far; HostError if they are those of before."""
        self.board.select_counter(COUNTERS.index("issued"))
        issued = self.board.read_register("counter")
        if issued == before:
            raise HostError(
                f"the board has issued no instruction for {STALL_SECONDS:g} s, at {issued} in all: was the bundle compiled for the core "
                f"that this board has? Its own is {self.config.name!r}; buffers of a smaller one may be too short"
            )
        return issued

    def result(self) -> RunResult:
        s = self._status
        counters = self.board.counters() if self._started and s.done else {}
        return RunResult(
            tokens=list(self._tokens), slots=[0] * len(self._tokens), fault=s.fault, fault_pc=s.fault_pc, halted=s.halted,
            waiting=s.waiting and not self._waiting, retired=counters.get("issued", 0), cycles=counters.get("cycles"), counters=counters,
        )  # fmt: skip

    def step(self) -> Retire | None:
        raise ConfigError("expected a simulator for single steps: a board runs until its program stops")

    def set_register(self, index: int, values: np.ndarray) -> None:
        raise ConfigError("expected a simulator for setting registers: let the program load them from memory")

    def register(self, index: int) -> np.ndarray:
        raise ConfigError("expected a simulator for reading registers: let the program store them to memory")

    @property
    def memory(self) -> np.ndarray:
        """The window as the board has it now, read over the line: [window_size] of uint8."""
        n = self.config.beat_bytes
        size = -(-self.program.window_size // n) * n
        return np.frombuffer(self.board.read_memory(0, size), dtype=np.uint8)[: self.program.window_size]

    def close(self) -> None:
        self.board.close()
