"""A simulated board as a transport: the driver's bytes go over the bits of the simulated serial line."""

import numpy as np

from trilobit.hdl.link import BREAK_BITS
from trilobit.host.transport import LineLostError, Transport
from trilobit.sim.board import BoardSimulator

__all__ = ["SimulatedTransport"]

DIVISOR = 8  # clocks a bit: the line is not what is to be waited for
BREAK_MARGIN = 2


class SimulatedTransport(Transport):
    """The line of a :class:`~trilobit.sim.board.BoardSimulator`; seconds are the simulated board's.

    Args:
        simulator: closed with the transport.
    """

    quiet = 1e-4

    def __init__(self, simulator: BoardSimulator):
        self.simulator = simulator
        self.baud = self.first_baud = round(simulator.clock_hz / simulator.divisor)
        self.description = f"the simulated {simulator.name}"

    def preload(self, memory: np.ndarray) -> None:
        """Put an image into the memory through the back door; the driver then finds it there."""
        self.simulator.memory[: len(memory)] = memory

    def write(self, data: bytes) -> None:
        self.simulator.send(data)

    def read(self, timeout: float) -> bytes:
        return self.simulator.receive(max(1, round(timeout * self.simulator.clock_hz)))

    def send_break(self) -> None:
        self.simulator.send_break(BREAK_MARGIN * BREAK_BITS * self.simulator.divisor)

    def set_baud(self, baud: int) -> None:
        self.simulator.receive(1)
        self.baud = baud
        self.simulator.set_divisor(round(self.simulator.clock_hz / baud))

    def now(self) -> float:
        return self.simulator.now / self.simulator.clock_hz

    def reopen(self, seconds: float) -> None:
        raise LineLostError("a simulated line does not come back")

    def close(self) -> None:
        self.simulator.close()
