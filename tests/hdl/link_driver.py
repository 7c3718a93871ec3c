"""The host's side of the link, as coroutines: over the byte streams of a HostLink, or over the bits of a UART."""

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import FallingEdge, Timer, with_timeout
from support import PERIOD_NS, get, put

from trilobit.hdl.link import REGISTERS, Cause, Operation, request_frame, split_reply

__all__ = ["LinkDriver", "UartDriver"]


class LinkDriver:
    """Requests over the streams ``i`` and ``o``."""

    def __init__(self, dut):
        self.dut, self.sequence = dut, 0

    async def send(self, data: bytes) -> None:
        for byte in data:
            await put(self.dut, "i", payload=byte)

    async def receive(self) -> int:
        return (await get(self.dut, "o", "payload", limit=20_000))[0]

    async def reply(self) -> tuple[int, Cause, bytes]:
        data = b""
        while (reply := split_reply(data)) is None:
            data += bytes([await self.receive()])
        return reply

    async def request(self, operation: Operation, argument: int | None = None, data: bytes = b"") -> tuple[Cause, bytes]:
        """A request with the next sequence number; cause and payload of its reply."""
        self.sequence = (self.sequence + 1) % 256
        await self.send(request_frame(self.sequence, operation, argument, data))
        sequence, cause, payload = await self.reply()
        assert sequence == self.sequence
        return cause, payload

    async def do(self, operation: Operation, argument: int | None = None, data: bytes = b"") -> bytes:
        """As :meth:`request`, and it must be done."""
        cause, payload = await self.request(operation, argument, data)
        assert cause == Cause.DONE, f"{operation.name} {argument}: {cause.name}"
        return payload

    async def write(self, register: str, value: int) -> None:
        await self.do(Operation.WRITE_REGISTER, REGISTERS[register].number, value.to_bytes(8, "little"))

    async def read(self, register: str) -> int:
        return int.from_bytes(await self.do(Operation.READ_REGISTER, REGISTERS[register].number), "little")

    async def write_memory(self, addr: int, data: bytes, chunk: int = 256) -> None:
        for k in range(0, len(data), chunk):
            await self.do(Operation.WRITE_MEMORY, addr + k, data[k : k + chunk])

    async def read_memory(self, addr: int, size: int, chunk: int = 256) -> bytes:
        data = b""
        while len(data) < size:
            count = min(chunk, size - len(data))
            data += await self.do(Operation.READ_MEMORY, addr + len(data), count.to_bytes(2, "little"))
        return data

    async def write_program(self, code: list[int], chunk: int = 16) -> None:
        for k in range(0, len(code), chunk):
            await self.do(Operation.WRITE_PROGRAM, k, b"".join(word.to_bytes(16, "little") for word in code[k : k + chunk]))

    async def pop(self) -> list[int]:
        data = await self.do(Operation.POP_TOKENS)
        return [int.from_bytes(data[k : k + 4], "little") for k in range(0, len(data), 4)]


class UartDriver(LinkDriver):
    """The same over the lines ``rx`` and ``tx`` (names as the board sees them)."""

    def __init__(self, dut, divisor: int):
        super().__init__(dut)
        self.bit_ns, self.received = divisor * PERIOD_NS, Queue()
        self.task = cocotb.start_soon(self._listen())

    async def send(self, data: bytes) -> None:
        for byte in data:
            for bit in [0, *(byte >> k & 1 for k in range(8)), 1]:
                self.dut.rx.value = bit
                await Timer(self.bit_ns, "ns")

    async def _listen(self):
        while True:
            await FallingEdge(self.dut.tx)
            await Timer(self.bit_ns // 2, "ns")
            byte = 0
            for k in range(8):
                await Timer(self.bit_ns, "ns")
                byte |= int(self.dut.tx.value) << k
            await Timer(self.bit_ns, "ns")
            assert self.dut.tx.value == 1, "no stop bit"
            await self.received.put(byte)

    async def receive(self) -> int:
        return await with_timeout(self.received.get(), 10_000 * self.bit_ns, "ns")
