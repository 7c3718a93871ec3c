"""A memory on a core's memory port, as a cocotb coroutine: latency, random back-pressure, errors where asked."""

import cocotb
import numpy as np
from support import cycle, step

__all__ = ["Memory"]


class Memory:
    """Serves the ``prefix`` signals of a MemorySignature from a NumPy buffer.

    Args:
        latency: cycles from a request to its first beat, at least 1.
        busy: probability that a request or a write beat has to wait, each cycle; also that a read beat pauses.
        error_at: byte addresses whose beats answer with an error.
    """

    def __init__(self, dut, data: np.ndarray, beat_bytes: int, *, latency: int = 1, busy: float = 0.0, rng=None, prefix: str = "mem__",
                 error_at: frozenset = frozenset()):  # fmt: skip
        self.dut, self.data, self.n = dut, data, beat_bytes
        self.latency, self.busy, self.rng, self.prefix = latency, busy, rng, prefix
        self.error_at = error_at
        self.reads: list[tuple[int, int]] = []  # every read request: address, beats
        self.writes: list[tuple[int, int]] = []
        self._tasks = [cocotb.start_soon(self._read()), cocotb.start_soon(self._write())]

    def close(self) -> None:
        """Stop serving, so that another memory can take the port."""
        for task in self._tasks:
            task.cancel()

    def _pin(self, name: str):
        return getattr(self.dut, self.prefix + name, None)

    def _set(self, name: str, value: int) -> None:
        pin = self._pin(name)
        if pin is not None:
            pin.value = value

    def _waits(self) -> bool:
        return self.rng is not None and self.rng.random() < self.busy

    async def _read(self):
        queue: list[tuple[int, int]] = []  # beat address, first cycle in which it may be answered
        now = 0
        while True:
            ready = not self._waits()
            self._set("rd_ready", int(ready))
            if queue and queue[0][1] <= now and not self._waits():
                addr, _ = queue.pop(0)
                self._set("rdata_valid", 1)
                self._set("rdata", int.from_bytes(self.data[addr : addr + self.n].tobytes(), "little"))
                self._set("rdata_error", int(addr in self.error_at))
            else:
                self._set("rdata_valid", 0)
                self._set("rdata_error", 0)
            await cycle(self.dut)
            if ready and self._pin("rd_valid").value == 1:
                addr, beats = self._pin("rd_addr").value.to_unsigned(), self._pin("rd_len").value.to_unsigned() + 1
                assert addr % self.n == 0, f"read at {addr:#x} is not a multiple of {self.n}"
                self.reads.append((addr, beats))
                queue += [(addr + k * self.n, now + self.latency) for k in range(beats)]
            await step(self.dut)
            now += 1

    async def _write(self):
        self._set("wresp_valid", 0)
        while True:
            self._set("wr_ready", int(not self._waits()))
            await cycle(self.dut)
            taken = self._pin("wr_valid").value == 1 and self._pin("wr_ready").value == 1
            addr, beats = self._pin("wr_addr").value, self._pin("wr_len").value
            if taken:
                addr, beats = addr.to_unsigned(), beats.to_unsigned() + 1
                self.writes.append((addr, beats))
            await step(self.dut)
            if not taken:
                continue
            self._set("wr_ready", 0)
            while beats:
                ready = not self._waits()
                self._set("wdata_ready", int(ready))
                await cycle(self.dut)
                if ready and self._pin("wdata_valid").value == 1:
                    beat = self._pin("wdata").value.to_unsigned().to_bytes(self.n, "little")
                    strobe = int(self._pin("wdata_strobe").value)
                    for j in range(self.n):
                        if strobe >> j & 1:
                            self.data[addr + j] = beat[j]
                    addr, beats = addr + self.n, beats - 1
                await step(self.dut)
            self._set("wdata_ready", 0)
            self._set("wresp_valid", 1)
            await step(self.dut)
            self._set("wresp_valid", 0)
