"""A pseudoterminal with an emulated board at its other end: a serial port for pyserial, whose cable can be pulled."""

import os
import select
import threading
import time
import tty
from pathlib import Path

from emulated_board import EmulatedLine

from trilobit.hdl.link import MAX_PAYLOAD
from trilobit.isa.core import CoreConfig

__all__ = ["SerialPort"]

FRAME = MAX_PAYLOAD + 7


class _Board(EmulatedLine):
    """The board alone, on the machine's clock: bytes in, bytes out."""

    def answer(self, data: bytes) -> bytes:
        self.time = time.monotonic()
        self._in += self._noisy(data)
        self._work()
        answer, self._out = self._out, b""
        return self._noisy(answer)

    def pause(self) -> None:
        self._in = b""


class SerialPort:
    """``path`` is a port until :meth:`close`.

    Args:
        path: where the port appears.
        unplug_after: bytes from the host after which the cable is pulled, once; ``away`` seconds later it is back, and the board, which
            was without power, has forgotten its memory.
    """

    def __init__(self, path: Path, config: CoreConfig, memory_size: int, *, unplug_after: int | None = None, away: float = 0.3, **noise):
        self.path, self.board = path, _Board(config, memory_size, **noise)
        self.unplug_after, self.away, self.unplugged = unplug_after, away, 0
        self._received = 0
        self._stop = threading.Event()
        self._plug()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _plug(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path.symlink_to(os.ttyname(self._slave))

    def _unplug(self) -> None:
        self.path.unlink()
        os.close(self._slave)
        os.close(self._master)

    def _serve(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.02)[0]:
                self.board.pause()
                continue
            data = os.read(self._master, FRAME)
            self._received += len(data)
            if self.unplug_after is not None and self._received > self.unplug_after:
                self.unplug_after = None
                self.unplugged += 1
                self._unplug()
                self.board.memory[:] = 0x5A
                self.board.pause()
                time.sleep(self.away)
                self._plug()
                continue
            answer = self.board.answer(data)
            while answer:
                answer = answer[os.write(self._master, answer) :]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._unplug()

    def __enter__(self) -> "SerialPort":
        return self

    def __exit__(self, *_) -> None:
        self.close()
