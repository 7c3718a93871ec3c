"""What carries the link's bytes: the interface, and the serial port."""

import time
from abc import ABC, abstractmethod
from importlib.util import find_spec

from trilobit.errors import ConfigError, HostError

__all__ = ["LineLostError", "SerialTransport", "Transport"]

BREAK_SECONDS = 0.005  # 30 bits at 1 Mbaud are 30 us; operating systems round up anyway
REOPEN_SECONDS = 0.25


class LineLostError(HostError):
    """The line is gone: a cable pulled, a board switched off."""


class Transport(ABC):
    """A line of bytes to a board, and the clock that its timeouts are counted by.

    Attributes:
        description: for people.
        baud: bits a second now (0: the line has no rate). first_baud: the board's rate after reset.
        rates: rates that may be asked for, fastest first.
        quiet: seconds without a byte after which nothing of an old reply can come any more.
    """

    description: str
    baud: int = 0
    first_baud: int = 0
    rates: tuple[int, ...] = ()
    quiet: float = 0.05

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send bytes; LineLostError if the line is gone."""

    @abstractmethod
    def read(self, timeout: float) -> bytes:
        """The bytes that have come; waits for at least one, ``timeout`` seconds at most. LineLostError if the line is gone."""

    @abstractmethod
    def send_break(self) -> None:
        """Hold the line low for longer than any byte."""

    @abstractmethod
    def set_baud(self, baud: int) -> None:
        """Change the rate of this side; what has come at the old rate is dropped."""

    @abstractmethod
    def now(self) -> float:
        """Seconds: real ones, or the simulated board's."""

    @abstractmethod
    def reopen(self, seconds: float) -> None:
        """Wait for a lost line to come back.

        Raises:
            LineLostError: it did not within ``seconds``.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the line back. Idempotent."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class SerialTransport(Transport):
    """A serial port, through pyserial.

    Args:
        port: device, such as ``/dev/ttyUSB0``.
        baud: the board's rate after reset.

    Raises:
        ConfigError: pyserial is not installed, or the port can't be opened.
    """

    rates = (3_000_000, 2_000_000, 1_000_000)

    def __init__(self, port: str, baud: int):
        try:
            import serial
        except ImportError as error:
            raise ConfigError('expected pyserial for --port, found none; pip install "trilobit[boards]" brings it') from error
        # pyserial lets through what termios and its own check of rates raise.
        self._errors: tuple[type[Exception], ...] = (serial.SerialException, OSError, ValueError)
        if find_spec("termios") is not None:
            import termios

            self._errors += (termios.error,)
        self._serial, self._port, self.baud, self.first_baud = serial, port, baud, baud
        self.description = port
        try:
            self._line = self._open()
        except self._errors as error:
            raise ConfigError(
                f"expected a serial port at {port}, can't open it: {error}. Is the board plugged in, and may you use it (on Linux: "
                "group dialout, or the udev rule in docs/ulx3s.md)?"
            ) from error

    def _open(self):
        return self._serial.Serial(self._port, self.baud, timeout=0, write_timeout=10)

    def write(self, data: bytes) -> None:
        try:
            self._line.write(data)
        except self._errors as error:
            raise LineLostError(f"{self._port} is gone: {error}") from error

    def read(self, timeout: float) -> bytes:
        try:
            self._line.timeout = timeout
            data = self._line.read(1)
            return data + self._line.read(self._line.in_waiting) if data else b""
        except self._errors as error:
            raise LineLostError(f"{self._port} is gone: {error}") from error

    def send_break(self) -> None:
        try:
            self._line.flush()
            self._line.send_break(BREAK_SECONDS)
        except self._errors as error:
            raise LineLostError(f"{self._port} is gone: {error}") from error

    def set_baud(self, baud: int) -> None:
        try:
            self._line.flush()
            self._line.baudrate = self.baud = baud
            self._line.reset_input_buffer()
        except self._errors as error:
            raise LineLostError(f"{self._port} does not do {baud} baud: {error}") from error

    def now(self) -> float:
        return time.monotonic()

    def reopen(self, seconds: float) -> None:
        self.close()
        until = time.monotonic() + seconds
        while True:
            try:
                self._line = self._open()
                return
            except self._errors as error:
                if time.monotonic() > until:
                    raise LineLostError(f"{self._port} did not come back within {seconds:g} s: {error}") from error
                time.sleep(REOPEN_SECONDS)

    def close(self) -> None:
        self._line.close()
