"""A board behind a line of bytes: the host link's operations. Protocol: docs/reference/host-link.md."""

from collections.abc import Sequence

from trilobit.errors import HostError
from trilobit.hdl.link import LOWEST_DIVISOR, MAX_DATA, REGISTERS, Cause, Operation
from trilobit.host.access import BoardAccess
from trilobit.host.link import LinkClient, RefusedError, Request
from trilobit.host.transport import LineLostError, Transport
from trilobit.isa.spec import WORD_BYTES

__all__ = ["LineAccess"]

CHECKSUM_CLOCKS_A_BYTE = 40  # at most: a beat is read at a time, refreshes in between


class LineAccess(BoardAccess):
    """The host link over a transport.

    Args:
        transport: closed with the access.
        reconnect: seconds to wait for a lost line to come back.
    """

    def __init__(self, transport: Transport, *, reconnect: float):
        self.transport, self._reconnect = transport, reconnect
        self.link = LinkClient(transport)
        self._first_baud = transport.first_baud
        self.description = transport.description

    @property
    def rate(self) -> str:
        return f"{self.transport.baud:,} baud" if self.transport.baud else ""

    # ---- the session -------------------------------------------------------------------------------------------------------

    def identify(self) -> bytes:
        """From any state of the line: a break, the first rate, and who is there?"""
        self.transport.send_break()
        if self._first_baud:
            self.transport.set_baud(self._first_baud)
        self.link.drop_input(self.transport.quiet)
        try:
            return self.link.do(Operation.IDENTIFY)
        except HostError as error:
            if isinstance(error, LineLostError):
                raise
            raise HostError(
                f"expected a Trilobit board on {self.transport.description}, nothing answers at {self.transport.baud} baud: is the "
                "bitstream loaded (trilobit flash), and does nobody else use the port?"
            ) from error

    def negotiate(self) -> None:
        """Go to the fastest rate at which this line and the board understand each other."""
        for baud in self.transport.rates:
            divisor = round(self.clock_hz / baud) if self.clock_hz else 0
            if baud <= self._first_baud or divisor < LOWEST_DIVISOR or abs(self.clock_hz / divisor / baud - 1) > 0.02:
                continue
            try:
                self.write_register("baud_divisor", divisor)
                self.transport.set_baud(baud)
                tries, self.link.attempts = self.link.attempts, 2
                try:
                    for _ in range(4):
                        self.link.do(Operation.IDENTIFY)
                finally:
                    self.link.attempts = tries
                return
            except LineLostError:
                raise
            except HostError:
                self.identify()

    def recover(self) -> None:
        """Wait for a lost line to come back; LineLostError if it does not."""
        self.transport.reopen(self._reconnect)

    def now(self) -> float:
        return self.transport.now()

    def close(self) -> None:
        self.transport.close()

    # ---- operations --------------------------------------------------------------------------------------------------------

    def read_register(self, name: str) -> int:
        return int.from_bytes(self.link.do(Operation.READ_REGISTER, REGISTERS[name].number), "little")

    def write_register(self, name: str, value: int) -> None:
        self.link.do(Operation.WRITE_REGISTER, REGISTERS[name].number, value.to_bytes(8, "little"))

    def write_memory(self, addr: int, data: bytes) -> None:
        self.link.do_all(Request(Operation.WRITE_MEMORY, addr + k, data[k : k + MAX_DATA]) for k in range(0, len(data), MAX_DATA))

    def read_memory(self, addr: int, size: int) -> bytes:
        pieces: dict[int, bytes] = {}
        self.link.do_all(
            (Request(Operation.READ_MEMORY, addr + k, min(MAX_DATA, size - k).to_bytes(2, "little")) for k in range(0, size, MAX_DATA)),
            lambda request, data: pieces.__setitem__(request.argument or 0, data),
        )
        return b"".join(pieces[k] for k in sorted(pieces))

    def checksums(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """As the board reads the memory."""
        clock = self.clock_hz or 1_000_000
        sums: dict[int, int] = {}
        self.link.do_all(
            (Request(Operation.CHECKSUM, addr, size.to_bytes(4, "little"), seconds=CHECKSUM_CLOCKS_A_BYTE * size / clock)
             for addr, size in spans),
            lambda request, data: sums.__setitem__(request.argument or 0, int.from_bytes(data, "little")),
        )  # fmt: skip
        return [sums[addr] for addr, _ in spans]

    def write_program(self, code: Sequence[int]) -> None:
        data = b"".join(word.to_bytes(WORD_BYTES, "little") for word in code)
        words = MAX_DATA // WORD_BYTES
        self.link.do_all(
            Request(Operation.WRITE_PROGRAM, k, data[WORD_BYTES * k : WORD_BYTES * (k + words)]) for k in range(0, len(code), words)
        )

    def push_token(self, token: int) -> bool:
        try:
            self.link.do(Operation.PUSH_TOKEN, token)
        except RefusedError as refused:
            if refused.cause == Cause.FULL:
                return False
            raise
        return True

    def pop_tokens(self) -> list[int]:
        data = self.link.do(Operation.POP_TOKENS)
        return [int.from_bytes(data[k : k + 4], "little") for k in range(0, len(data), 4)]

    def load_seconds(self, size: int) -> float:
        """If all of the bytes must be sent at the line's rate."""
        frame = 5 + 8 + MAX_DATA + 2
        return size / MAX_DATA * 10 * frame / self.transport.baud if self.transport.baud else 0.0
