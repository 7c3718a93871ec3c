"""What the driver needs of whatever lies between it and a board: registers, memory, program and tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

__all__ = ["BoardAccess"]


class BoardAccess(ABC):
    """A way to a board: frames over a line, or registers and memory that are mapped into this process.

    Operations that the board, or the access itself, does not do raise :class:`~trilobit.host.link.RefusedError`.

    Attributes:
        description: for people.
        clock_hz: the board's clock; set by the driver when it knows it (0: unknown).
        rate: how fast it is, for people; empty if there is nothing to say.
    """

    description: str
    clock_hz: int = 0

    @property
    def rate(self) -> str:
        return ""

    @abstractmethod
    def identify(self) -> bytes:
        """8 bytes, from any state: ``TRLB``, protocol version, ISA version, beat_bytes - 1, lanes - 1.

        Raises:
            HostError: nothing there, or something else.
        """

    @abstractmethod
    def read_register(self, name: str) -> int:
        """A register of :data:`trilobit.hdl.link.REGISTERS`."""

    @abstractmethod
    def write_register(self, name: str, value: int) -> None:
        """Write a register; the value has no more bits than it."""

    @abstractmethod
    def read_memory(self, addr: int, size: int) -> bytes:
        """Bytes of the memory; address and size in whole beats."""

    @abstractmethod
    def write_memory(self, addr: int, data: bytes) -> None:
        """Write memory; address and size in whole beats."""

    @abstractmethod
    def checksums(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """CRC-32 of spans (address, size) of the memory."""

    @abstractmethod
    def write_program(self, code: Sequence[int]) -> None:
        """Write instruction words from the first on; the core does not run."""

    @abstractmethod
    def push_token(self, token: int) -> bool:
        """Queue a prompt token; False if there is no room."""

    @abstractmethod
    def pop_tokens(self) -> list[int]:
        """Tokens that were emitted since, at most 64."""

    @abstractmethod
    def now(self) -> float:
        """Seconds: real ones, or those of a simulated board."""

    @abstractmethod
    def close(self) -> None:
        """Give it back. Idempotent."""

    def settle_counter(self) -> None:  # noqa: B027 - an empty default is meant, here and below
        """Wait until the counter that was selected can be read. A serial line is slower than that anyway."""

    def negotiate(self) -> None:  # noqa: B027
        """Go as fast as both sides can; :meth:`rate` is what came of it."""

    def recover(self) -> None:  # noqa: B027
        """Take a lost line up again, as it is after :meth:`identify`; only those that can be lost have something to do."""

    def load_seconds(self, size: int) -> float:
        """About how long ``size`` bytes of memory take; 0 where that is no time."""
        return 0.0
