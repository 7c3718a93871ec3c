"""Frames of the host link: one received and checked as a whole, one sent. See :mod:`trilobit.hdl.link` for their bytes."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.link import MAX_PAYLOAD, REPLY_MARK, REQUEST_MARK, Cause

__all__ = ["FrameReceiver", "FrameSender", "crc32_step", "crc_step"]

BUFFER_BYTES = 1 << MAX_PAYLOAD.bit_length()


def crc_step(crc, byte):
    """The CRC-16 (polynomial 0x1021, most significant bit first) after one more byte, as an expression of 16 bits."""
    bits = [crc[i] for i in range(16)]
    for k in reversed(range(8)):
        feedback = bits[15] ^ byte[k]
        bits = [feedback, *bits[:15]]
        bits[5] = bits[5] ^ feedback
        bits[12] = bits[12] ^ feedback
    return Cat(*bits)


def crc32_step(crc, byte):
    """The CRC-32 of Ethernet and zip (reflected polynomial 0xEDB88320) after one more byte, as an expression of 32 bits."""
    bits = [crc[i] ^ byte[i] if i < 8 else crc[i] for i in range(32)]
    for _ in range(8):
        feedback, bits = bits[0], [*bits[1:], 0]
        bits = [bit ^ feedback if 0xEDB88320 >> i & 1 else bit for i, bit in enumerate(bits)]
    return Cat(*bits)


class FrameReceiver(wiring.Component):
    """Collects a request and offers it when all of it has come; a broken one is offered as well, with the cause.

    Bytes in front of a mark are skipped. A length beyond the buffer, a CRC that does not fit, or a pause of ``timeout`` clocks within a
    frame makes it a broken one. While a request is offered, no further byte is taken.

    Parameters
    ----------
    timeout : int
        Clocks without a byte after which a frame is given up.

    Members
    -------
    i : In(stream of 8 bits)
    valid : Out(1), take : In(1)
        A request is there; it goes when ``take`` is high.
    cause : Out(4), sequence : Out(8), operation : Out(8), length : Out(16)
        Of the request; ``operation`` and ``length`` mean something only if cause is 0.
    addr : In, data : Out(8)
        Read port of the payload; data follows by one cycle.
    """

    def __init__(self, *, timeout: int):
        if timeout < 2:
            raise ValueError(f"expected a timeout of at least 2 clocks, got {timeout!r}")
        self._timeout = timeout
        super().__init__({
            "i": In(stream.Signature(8)), "valid": Out(1), "take": In(1), "cause": Out(4), "sequence": Out(8), "operation": Out(8),
            "length": Out(16), "addr": In(range(BUFFER_BYTES)), "data": Out(8),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = memory.Memory(shape=8, depth=BUFFER_BYTES, init=[])
        write, read = buffer.write_port(), buffer.read_port()
        byte, came = self.i.payload, self.i.valid & self.i.ready
        crc, low, left, idle = Signal(16), Signal(8), Signal(16), Signal(range(self._timeout + 1))
        m.d.comb += [
            read.addr.eq(self.addr), self.data.eq(read.data), write.data.eq(byte),
            self.i.ready.eq(~self.valid),
        ]  # fmt: skip

        def broken(cause):
            m.d.sync += self.cause.eq(cause)
            m.next = "HELD"

        def then(state, *assignments):
            """On the next byte of the frame, go on; without one for too long, give up."""
            m.d.sync += idle.eq(idle + 1)
            with m.If(came):
                m.d.sync += [idle.eq(0), *assignments]
                m.next = state
            with m.Elif(idle == self._timeout - 1):
                broken(Cause.TIMEOUT)

        step = crc.eq(crc_step(crc, byte))
        with m.FSM():
            with m.State("MARK"):
                m.d.sync += idle.eq(0)
                with m.If(came & (byte == REQUEST_MARK)):
                    m.d.sync += [crc.eq(0xFFFF), self.sequence.eq(0), write.addr.eq(0)]
                    m.next = "SEQUENCE"
            with m.State("SEQUENCE"):
                then("OPERATION", step, self.sequence.eq(byte))
            with m.State("OPERATION"):
                then("LENGTH_LOW", step, self.operation.eq(byte))
            with m.State("LENGTH_LOW"):
                then("LENGTH_HIGH", step, self.length.eq(byte))
            with m.State("LENGTH_HIGH"):
                then("PAYLOAD", step, self.length[8:].eq(byte), left.eq(Cat(self.length[:8], byte)))
                with m.If(came & (Cat(self.length[:8], byte) == 0)):
                    m.next = "CRC_LOW"
                with m.If(came & (Cat(self.length[:8], byte) > MAX_PAYLOAD)):
                    broken(Cause.LENGTH)
            with m.State("PAYLOAD"):
                m.d.comb += write.en.eq(came)
                then("PAYLOAD", step, write.addr.eq(write.addr + 1), left.eq(left - 1))
                with m.If(came & (left == 1)):
                    m.next = "CRC_LOW"
            with m.State("CRC_LOW"):
                then("CRC_HIGH", low.eq(byte))
            with m.State("CRC_HIGH"):
                then("HELD", self.cause.eq(Cause.DONE))
                with m.If(came & (Cat(low, byte) != crc)):
                    m.d.sync += self.cause.eq(Cause.CRC)
            with m.State("HELD"):
                m.d.comb += self.valid.eq(1)
                with m.If(self.take):
                    m.next = "MARK"
        return m


class FrameSender(wiring.Component):
    """Sends a reply: header, ``length`` bytes of its buffer, CRC. The buffer keeps its bytes, so a reply can be sent again.

    Members
    -------
    start : In(1), busy : Out(1)
        ``start`` sends; sequence, cause and length must stay until busy has fallen.
    sequence : In(8), cause : In(4), length : In(16)
    write : In(1), write_addr : In, write_data : In(8)
        Write port of the buffer; not while busy.
    o : Out(stream of 8 bits)
    """

    def __init__(self):
        super().__init__({
            "start": In(1), "busy": Out(1), "sequence": In(8), "cause": In(4), "length": In(16),
            "write": In(1), "write_addr": In(range(BUFFER_BYTES)), "write_data": In(8), "o": Out(stream.Signature(8)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = memory.Memory(shape=8, depth=BUFFER_BYTES, init=[])
        write, read = buffer.write_port(), buffer.read_port()
        crc, at = Signal(16), Signal(16)
        taken = self.o.valid & self.o.ready
        m.d.comb += [
            write.en.eq(self.write), write.addr.eq(self.write_addr), write.data.eq(self.write_data), read.addr.eq(at),
        ]  # fmt: skip

        def send(name, value, after, *assignments):
            with m.State(name):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1), self.o.payload.eq(value)]
                with m.If(taken):
                    m.d.sync += [crc.eq(crc_step(crc, self.o.payload)), *assignments]
                    m.next = after

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "MARK"
            with m.State("MARK"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1), self.o.payload.eq(REPLY_MARK)]
                m.d.sync += [crc.eq(0xFFFF), at.eq(0)]
                with m.If(taken):
                    m.next = "SEQUENCE"
            send("SEQUENCE", self.sequence, "CAUSE")
            send("CAUSE", self.cause, "LENGTH_LOW")
            send("LENGTH_LOW", self.length[:8], "LENGTH_HIGH")
            send("LENGTH_HIGH", self.length[8:], "FETCH")
            with m.State("FETCH"):  # the read port needs a cycle
                m.d.comb += self.busy.eq(1)
                m.next = "PAYLOAD"
                with m.If(at == self.length):
                    m.next = "CRC_LOW"
            send("PAYLOAD", read.data, "FETCH", at.eq(at + 1))
            with m.State("CRC_LOW"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1), self.o.payload.eq(crc[:8])]
                with m.If(taken):
                    m.next = "CRC_HIGH"
            with m.State("CRC_HIGH"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1), self.o.payload.eq(crc[8:])]
                with m.If(taken):
                    m.next = "IDLE"
        return m
