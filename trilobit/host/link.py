"""Requests and replies of the host link over a line that may lose, flip and add bytes. Protocol: docs/reference/host-link.md."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from trilobit.errors import HostError
from trilobit.hdl.link import HEADER_BYTES, MAX_PAYLOAD, REPLY_MARK, Cause, Operation, request_frame, split_reply
from trilobit.host.transport import Transport

__all__ = ["LinkClient", "RefusedError", "Request"]

TRIES = 12
PATIENCE = 0.25  # seconds beyond what the line itself needs: USB adapters hold bytes back for up to 16 ms
WINDOW_BYTES = 4096  # requests on their way at once; operating systems' and adapters' buffers hold that
# A reply may come so late that its request was sent again under other numbers, all attempts of all that fly: none may get that number anew.
MOST_FLYING = 256 // TRIES
DAMAGED = (Cause.CRC, Cause.LENGTH, Cause.TIMEOUT, Cause.OPERATION)  # of a frame that was sent right, these tell of damage on the way


class RefusedError(HostError):
    """The board understood a request and does not do it.

    Attributes:
        cause: why.
    """

    def __init__(self, message: str, cause: Cause):
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Request:
    """What is asked: operation, argument, data; ``seconds`` that the board may need for it."""

    operation: Operation
    argument: int | None = None
    data: bytes = b""
    seconds: float = 0.0

    def __str__(self) -> str:
        argument = "" if self.argument is None else f" {self.argument:#x}"
        return f"{self.operation.name.lower()}{argument}"


@dataclass
class _Flying:
    request: Request
    tries: int
    deadline: float


class LinkClient:
    """One request at a time (:meth:`do`), or several on their way (:meth:`do_all`), each done exactly once or an error.

    Args:
        transport: the line.
        attempts: how often a request is sent before the link gives up; at most TRIES.

    Attributes:
        repeated: requests that had to be sent again, so far.
    """

    def __init__(self, transport: Transport, *, attempts: int = TRIES):
        self.transport, self.attempts, self.repeated = transport, attempts, 0
        self._sequence = 0
        self._received = b""

    # ---- one request -------------------------------------------------------------------------------------------------------

    def do(self, operation: Operation, argument: int | None = None, data: bytes = b"", *, seconds: float = 0.0) -> bytes:
        """Send a request until its reply comes; the reply's payload.

        A repetition keeps its sequence number, so that the board does nothing twice.

        Raises:
            RefusedError: the board does not do it.
            HostError: no answer after all attempts.
            LineLostError: the line is gone.
        """
        request = Request(operation, argument, data, seconds)
        sequence = self._next_sequence()
        for attempt in range(self.attempts):
            self.repeated += attempt > 0
            frame = request_frame(sequence, operation, argument, data)
            self.transport.write(frame)
            deadline = self.transport.now() + self._allowance(len(frame), request)
            for number, cause, payload in self._replies(deadline):
                if number == sequence and cause == Cause.DONE:
                    return payload
                if cause in DAMAGED:  # perhaps ours: its number may be damaged as well
                    if attempt:  # the board may have begun within a frame, at a byte like a mark, and would with each that comes at once
                        self.drop_input(self.transport.quiet)
                    break
                if number == sequence:
                    raise RefusedError(f"the board refuses {request}: {cause.name.lower()}", cause)
        raise HostError(f"expected an answer to {request} on {self.transport.description}, got none in {self.attempts} attempts")

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) % 256
        return self._sequence

    def _allowance(self, size: int, request: Request) -> float:
        """Seconds until the reply must be there: the line's time for both frames, the board's, and patience."""
        line = 10 * (size + HEADER_BYTES + MAX_PAYLOAD + 2) / self.transport.baud if self.transport.baud else 0.0
        return line + request.seconds + PATIENCE

    # ---- many requests -----------------------------------------------------------------------------------------------------

    def do_all(self, requests: Iterable[Request], on_done: Callable[[Request, bytes], None] | None = None) -> None:
        """Send requests one behind the other and repeat those whose reply does not come.

        Only for what may be done twice and in any order: reads, writes of memory and program.

        Args:
            requests: what to do.
            on_done: called with each request that is done and its reply's payload.

        Raises:
            As :meth:`do`.
        """
        waiting = iter(requests)
        again: list[_Flying] = []
        flying: dict[int, _Flying] = {}
        size = 0  # bytes of the requests that fly
        more = True
        while more or again or flying:
            while size < WINDOW_BYTES and len(flying) < MOST_FLYING:
                if again:
                    entry = again.pop(0)
                    self.repeated += 1
                elif more and (request := next(waiting, None)) is not None:
                    entry = _Flying(request, 0, 0.0)
                else:
                    more = False
                    break
                size += self._launch(entry, flying)
            for number, cause, payload in self._replies(min(f.deadline for f in flying.values())) if flying else ():
                done = flying.get(number)
                if done is None:
                    continue
                if cause == Cause.DONE or cause in DAMAGED:
                    del flying[number]
                    size -= _bytes(done.request)
                    if cause != Cause.DONE:
                        again.append(done)
                    elif on_done is not None:
                        on_done(done.request, payload)
                    break  # there is room again
                raise RefusedError(f"the board refuses {done.request}: {cause.name.lower()}", cause)
            now = self.transport.now()
            for number in [n for n, f in flying.items() if f.deadline <= now]:
                late = flying.pop(number)
                size -= _bytes(late.request)
                again.append(late)

    def _launch(self, entry: _Flying, flying: dict[int, _Flying]) -> int:
        """Send a request under a number that is free; the bytes it takes of the window."""
        if entry.tries >= self.attempts:
            raise HostError(f"expected an answer to {entry.request} on {self.transport.description}, got none in {entry.tries} attempts")
        sequence = self._next_sequence()
        while sequence in flying:
            sequence = self._next_sequence()
        request = entry.request
        self.transport.write(request_frame(sequence, request.operation, request.argument, request.data))
        # Those in front of it are done first.
        ahead = sum(_bytes(f.request) for f in flying.values())
        entry.deadline = (
            self.transport.now() + self._allowance(ahead + _bytes(request), request) + sum(f.request.seconds for f in flying.values())
        )
        entry.tries += 1
        flying[sequence] = entry
        return _bytes(request)

    # ---- replies -----------------------------------------------------------------------------------------------------------

    def _replies(self, deadline: float) -> Iterator[tuple[int, Cause, bytes]]:
        """Whole replies as they come, until the deadline; bytes that are none are skipped."""
        while True:
            while True:
                start = self._received.find(bytes([REPLY_MARK]))
                self._received = self._received[start:] if start >= 0 else b""
                try:
                    reply = split_reply(self._received)
                except ValueError:
                    self._received = self._received[1:]
                    continue
                break
            if reply is not None:
                self._received = self._received[HEADER_BYTES + len(reply[2]) + 2 :]
                yield reply
                continue
            left = deadline - self.transport.now()
            if left <= 0:
                # What began like a reply and never ended must not swallow the next one.
                self._received = self._received[1:] if self._received else b""
                if self._received:
                    continue
                return
            self._received += self.transport.read(left)

    def drop_input(self, quiet: float) -> None:
        """Throw away what comes until nothing has come for ``quiet`` seconds."""
        self._received = b""
        while self.transport.read(quiet):
            pass


def _bytes(request: Request) -> int:
    return HEADER_BYTES + (8 if request.argument is not None else 0) + len(request.data) + 2
