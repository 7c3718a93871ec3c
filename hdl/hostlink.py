"""The host link: requests from a byte stream, done on the core and its memory. Protocol: :mod:`trilobit.hdl.link`."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from trilobit.hdl.frame import BUFFER_BYTES, FrameReceiver, FrameSender, crc32_step
from trilobit.hdl.interfaces import EXPONENT_BITS, MemorySignature
from trilobit.hdl.link import ARGUMENT_BYTES, LOWEST_DIVISOR, MAX_DATA, MAX_TOKENS, PROTOCOL_VERSION, REGISTERS, Cause, Operation
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA, WORD_BYTES

__all__ = ["HostLink"]

SETTINGS = tuple(name for name, register in REGISTERS.items() if register.access in ("rw", "any"))


class HostLink(wiring.Component):
    """Takes requests one at a time, checks each before anything is done, and answers it.

    A request whose frame is broken is refused and nothing is done. A request with the sequence number of the one before is not done
    again: its reply is sent again (``identify`` is always done, so a host begins with it). Memory and program are handled a beat and a word
    at a time as bytes come out of the buffer, two clocks a byte. Anything that would disturb a running program is refused as busy.

    Parameters
    ----------
    config : CoreConfig
    memory_size : int
        Bytes of the memory behind ``mem``; a multiple of beat_bytes.
    timeout : int
        Clocks between two bytes of a frame after which it is given up.
    divisor : int
        Clocks a bit of the line after reset.
    clock_hz : int
        What the host is told that the clock is; 0 if nobody knows.

    Members
    -------
    i, o : streams of 8 bits, In and Out
    mem : Out(MemorySignature(config))
    memory_ready : In(1)
        The memory can be used.
    divisor : Out(16), line_idle : In(1), line_break : In(1)
        Clocks a bit for the line; it changes while no byte is on the line. A break brings back the first.
    core_reset : Out(1)
        A cycle: reset the core. in_reset : In(1), it is not yet back.
    prog_*, prompt_*, out_*, start, running, halted, waiting, fault, fault_pc, counter_*, and the settings
        The ports of :class:`trilobit.hdl.core.Core` of the same names, seen from the other side.
    """

    def __init__(self, config: CoreConfig, *, memory_size: int, timeout: int, divisor: int = 1000, clock_hz: int = 0):
        config.require_one_slot("the UART host link")
        if memory_size % config.beat_bytes or not 0 < memory_size <= 1 << 40:
            raise ValueError(f"expected a memory size of whole beats of {config.beat_bytes} bytes up to 2^40, got {memory_size!r}")
        self.config = config
        self._memory_size, self._timeout, self._clock_hz = memory_size, timeout, clock_hz
        settings = {name: Out(REGISTERS[name].width) for name in SETTINGS} | {
            "temperature_e": Out(signed(EXPONENT_BITS)), "baud_divisor": Out(16, init=divisor), "divisor": Out(16, init=divisor),
        }  # fmt: skip
        super().__init__(settings | {
            "i": In(stream.Signature(8)), "o": Out(stream.Signature(8)),
            "line_idle": In(1, init=1), "line_break": In(1),
            "mem": Out(MemorySignature(config)), "memory_ready": In(1), "core_reset": Out(1), "in_reset": In(1),
            "prog_en": Out(1), "prog_addr": Out(16), "prog_data": Out(ISA.word_bits), "start": Out(1),
            "prompt_valid": Out(1), "prompt_ready": In(1), "prompt_token": Out(24),
            "out_valid": In(1), "out_ready": Out(1), "out_token": In(24),
            "running": In(1), "halted": In(1), "waiting": In(1), "fault": In(4), "fault_pc": In(16), "counter_value": In(48),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        n, config = self.config.beat_bytes, self.config
        m.submodules.receiver = rx = FrameReceiver(timeout=self._timeout)
        m.submodules.sender = tx = FrameSender()
        connect(m, flipped(self.i), rx.i)
        connect(m, tx.o, flipped(self.o))

        # ``word`` takes bytes in at its top and gives them out at its bottom; what came in last lies in its top bits.
        width = 8 * max(WORD_BYTES, n)
        word = Signal(width)
        argument, left = Signal(64), Signal(32)  # left: bytes (or tokens) still to do
        got, put = Signal(range(BUFFER_BYTES)), Signal(range(BUFFER_BYTES))
        count = Signal(range(width // 8 + 1))
        replied, last_sequence, cause = Signal(), Signal(8), Signal(Cause)
        # A broken frame is refused beside that: the reply before it stays there, in case it was lost as well and is asked for again.
        refusing, broken_sequence, broken_cause = Signal(), Signal(8), Signal(Cause)
        busy = self.running | self.in_reset
        # A new divisor counts when the reply that belongs to it has gone, the first one again after a break.
        with m.If(self.line_break):
            m.d.sync += [self.divisor.eq(self.divisor.init), self.baud_divisor.eq(self.divisor.init)]
        with m.Elif(self.line_idle & ~tx.busy & ~rx.valid):
            m.d.sync += self.divisor.eq(self.baud_divisor)
        is_op = {op: rx.operation == op for op in Operation}

        def top(bits):
            return word[width - bits :]

        m.d.comb += [
            rx.addr.eq(got), tx.write_addr.eq(put), tx.write_data.eq(word[:8]),
            tx.sequence.eq(Mux(refusing, broken_sequence, last_sequence)), tx.cause.eq(Mux(refusing, broken_cause, cause)),
            tx.length.eq(Mux(refusing, 0, put)),
            self.prog_addr.eq(argument), self.prog_data.eq(top(ISA.word_bits)), self.prompt_token.eq(argument),
            self.mem.rd_addr.eq(argument), self.mem.wr_addr.eq(argument), self.mem.wdata.eq(top(8 * n)), self.mem.wdata_strobe.eq(~C(0, n)),
        ]  # fmt: skip

        def reply(why):
            m.d.sync += cause.eq(why)
            m.next = "REPLY"

        def take(size, after):
            """States that shift ``size`` bytes of the payload into ``word``."""
            with m.State(f"{after}_FETCH"):
                m.next = f"{after}_SHIFT"
            with m.State(f"{after}_SHIFT"):
                m.d.sync += [word.eq(Cat(word[8:], rx.data)), got.eq(got + 1), count.eq(count + 1)]
                m.next = f"{after}_FETCH"
                with m.If(count == size - 1):
                    m.d.sync += count.eq(0)
                    m.next = after

        def give(size, after, then):
            """A state that puts the low ``size`` bytes of ``word`` into the reply."""
            with m.State(after):
                m.d.comb += tx.write.eq(1)
                m.d.sync += [word.eq(word >> 8), put.eq(put + 1), count.eq(count + 1)]
                with m.If(count == size - 1):
                    m.d.sync += count.eq(0)
                    then()

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [got.eq(0), count.eq(0)]
                with m.If(rx.valid & ~tx.busy & (rx.cause != Cause.DONE)):
                    m.d.sync += [refusing.eq(1), broken_sequence.eq(rx.sequence), broken_cause.eq(rx.cause)]
                    m.next = "SEND"
                with m.Elif(rx.valid & ~tx.busy):
                    m.d.sync += refusing.eq(0)
                    with m.If(replied & (rx.sequence == last_sequence) & ~is_op[Operation.IDENTIFY]):
                        m.next = "SEND"  # a repetition: the reply is still there
                    with m.Else():
                        m.d.sync += [put.eq(0), last_sequence.eq(rx.sequence), replied.eq(1)]
                        m.next = "CHECK_LENGTH"

            # ---- is it a request that can be done? -----------------------------------------------------------------------
            data = Signal(16)  # bytes behind the argument
            m.d.comb += data.eq(rx.length - ARGUMENT_BYTES)
            some = (rx.length > ARGUMENT_BYTES) & (data <= MAX_DATA)
            fits = {
                Operation.IDENTIFY: rx.length == 0, Operation.POP_TOKENS: rx.length == 0,
                Operation.WRITE_MEMORY: some & (data % n == 0), Operation.WRITE_PROGRAM: some & (data % WORD_BYTES == 0),
                Operation.READ_MEMORY: data == 2, Operation.WRITE_REGISTER: data == 8,
                Operation.READ_REGISTER: data == 0, Operation.PUSH_TOKEN: data == 0, Operation.CHECKSUM: data == 4,
            }  # fmt: skip
            with m.State("CHECK_LENGTH"):
                m.d.sync += left.eq(data)
                with m.Switch(rx.operation):
                    for op in Operation:
                        with m.Case(op):
                            with m.If(~fits[op]):
                                reply(Cause.LENGTH)
                            with m.Else():
                                m.next = {Operation.IDENTIFY: "IDENTIFY", Operation.POP_TOKENS: "POP"}.get(op, "ARGUMENT_FETCH")
                    with m.Default():
                        reply(Cause.OPERATION)
            take(ARGUMENT_BYTES, "ARGUMENT")
            with m.State("ARGUMENT"):
                m.d.sync += argument.eq(top(64))
                m.next = "CHECK_ARGUMENT"
            with m.State("CHECK_ARGUMENT"):
                with m.Switch(rx.operation):
                    with m.Case(Operation.WRITE_MEMORY):
                        m.next = "WRITE_FETCH"
                        with m.If((argument % n != 0) | (argument > self._memory_size - n) | (argument + left > self._memory_size)):
                            reply(Cause.ADDRESS)
                        with m.Elif(busy | ~self.memory_ready):
                            reply(Cause.BUSY)
                    with m.Case(Operation.READ_MEMORY):
                        m.next = "SIZE_FETCH"
                    with m.Case(Operation.CHECKSUM):
                        m.next = "SPAN_FETCH"
                    with m.Case(Operation.WRITE_PROGRAM):
                        m.next = "PROGRAM_FETCH"
                        with m.If((argument >= config.program_words) | (argument + (left >> 4) > config.program_words)):
                            reply(Cause.ADDRESS)
                        with m.Elif(busy):
                            reply(Cause.BUSY)
                    with m.Case(Operation.WRITE_REGISTER):
                        m.next = "VALUE_FETCH"
                        with m.If(argument >= len(REGISTERS)):
                            reply(Cause.ADDRESS)
                    with m.Case(Operation.READ_REGISTER):
                        m.next = "READ_REGISTER"
                        with m.If(argument >= len(REGISTERS)):
                            reply(Cause.ADDRESS)
                    with m.Case(Operation.PUSH_TOKEN):
                        m.next = "PUSH"
                        with m.If(argument[24:] != 0):
                            reply(Cause.VALUE)

            # ---- memory, a beat at a time --------------------------------------------------------------------------------
            mem, error = self.mem, Signal()
            m.d.comb += error.eq(mem.rdata_error | mem.wresp_error)
            take(n, "WRITE")
            with m.State("WRITE"):
                m.d.comb += mem.wr_valid.eq(1)
                with m.If(mem.wr_ready):
                    m.next = "WRITE_DATA"
            with m.State("WRITE_DATA"):
                m.d.comb += mem.wdata_valid.eq(1)
                with m.If(mem.wdata_ready):
                    m.next = "WRITE_RESPONSE"
            with m.State("WRITE_RESPONSE"):
                with m.If(mem.wresp_valid):
                    m.d.sync += [argument.eq(argument + n), left.eq(left - n)]
                    m.next = "WRITE_FETCH"
                    with m.If(error):
                        reply(Cause.MEMORY)
                    with m.Elif(left == n):
                        reply(Cause.DONE)
            take(2, "SIZE")
            with m.State("SIZE"):
                m.d.sync += left.eq(top(16))
                m.next = "CHECK_SIZE"
            with m.State("CHECK_SIZE"):
                m.next = "READ"
                with m.If((left == 0) | (left > MAX_DATA) | (left % n != 0)):
                    reply(Cause.LENGTH)
                with m.Elif((argument % n != 0) | (argument > self._memory_size - n) | (argument + left > self._memory_size)):
                    reply(Cause.ADDRESS)
                with m.Elif(~self.memory_ready):
                    reply(Cause.BUSY)
            with m.State("READ"):
                m.d.comb += mem.rd_valid.eq(1)
                with m.If(mem.rd_ready):
                    m.next = "READ_DATA"
            with m.State("READ_DATA"):
                with m.If(mem.rdata_valid):
                    m.d.sync += [word.eq(mem.rdata), argument.eq(argument + n), left.eq(left - n)]
                    m.next = "READ_GIVE"
                    with m.If(error):
                        m.d.sync += put.eq(0)
                        reply(Cause.MEMORY)

            def next_beat():
                m.next = "READ"
                with m.If(left == 0):
                    reply(Cause.DONE)

            give(n, "READ_GIVE", next_beat)

            # ---- checksum: the memory is read, a beat after the other, and none of it sent -------------------------------
            crc = Signal(32)
            take(4, "SPAN")
            with m.State("SPAN"):
                m.d.sync += [left.eq(top(32)), crc.eq(~0)]
                m.next = "CHECK_SPAN"
            with m.State("CHECK_SPAN"):
                m.next = "SUM_READ"
                with m.If((left == 0) | (left % n != 0)):
                    reply(Cause.LENGTH)
                with m.Elif((argument % n != 0) | (argument > self._memory_size - n) | (argument + left > self._memory_size)):
                    reply(Cause.ADDRESS)
                with m.Elif(~self.memory_ready):
                    reply(Cause.BUSY)
            with m.State("SUM_READ"):
                m.d.comb += mem.rd_valid.eq(1)
                with m.If(mem.rd_ready):
                    m.next = "SUM_DATA"
            with m.State("SUM_DATA"):
                with m.If(mem.rdata_valid):
                    m.d.sync += [word.eq(mem.rdata), argument.eq(argument + n), left.eq(left - n), count.eq(0)]
                    m.next = "SUM"
                    with m.If(error):
                        reply(Cause.MEMORY)
            with m.State("SUM"):
                m.d.sync += [crc.eq(crc32_step(crc, word[:8])), word.eq(word >> 8), count.eq(count + 1)]
                with m.If(count == n - 1):
                    m.d.sync += count.eq(0)
                    m.next = "SUM_READ"
                    with m.If(left == 0):
                        m.next = "SUM_DONE"
            with m.State("SUM_DONE"):
                m.d.sync += word.eq(~crc)
                m.next = "GIVE_SUM"
            give(4, "GIVE_SUM", lambda: reply(Cause.DONE))

            # ---- program -------------------------------------------------------------------------------------------------
            take(WORD_BYTES, "PROGRAM")
            with m.State("PROGRAM"):
                m.d.comb += self.prog_en.eq(1)
                m.d.sync += [argument.eq(argument + 1), left.eq(left - WORD_BYTES)]
                m.next = "PROGRAM_FETCH"
                with m.If(left == WORD_BYTES):
                    reply(Cause.DONE)

            # ---- registers -----------------------------------------------------------------------------------------------
            take(8, "VALUE")
            with m.State("VALUE"):
                value = top(64)
                with m.Switch(argument):
                    for register in REGISTERS.values():
                        with m.Case(register.number):
                            if register.access == "ro":
                                reply(Cause.ADDRESS)
                                continue
                            reply(Cause.DONE)
                            refuse = busy if register.access == "rw" else C(0)
                            if register.name == "control":
                                refuse = value[0] & (busy | ~self.memory_ready | value[1])
                            bad = value[register.width :] != 0
                            if register.name == "baud_divisor":
                                bad |= value < LOWEST_DIVISOR
                            with m.If(bad):
                                reply(Cause.VALUE)
                            with m.Elif(refuse):
                                reply(Cause.BUSY)
                            with m.Elif(C(register.name == "control")):
                                m.d.comb += [self.start.eq(value[0]), self.core_reset.eq(value[1])]
                            if register.name in SETTINGS:
                                with m.Else():
                                    m.d.sync += getattr(self, register.name).eq(value)
            status = Cat(
                self.running, self.halted, self.waiting, self.out_valid, self.prompt_ready, self.memory_ready, self.in_reset, C(0, 1),
                self.fault, C(0, 4), self.fault_pc,
            )  # fmt: skip
            constants = {"memory_size": self._memory_size, "program_words": config.program_words, "max_length": config.max_length,
                         "clock_hz": self._clock_hz}  # fmt: skip
            with m.State("READ_REGISTER"):
                m.next = "GIVE_WORD"
                with m.Switch(argument):
                    for name, register in REGISTERS.items():
                        with m.Case(register.number):
                            if name == "control":
                                m.d.sync += word.eq(0)
                            elif name in constants:
                                m.d.sync += word.eq(constants[name])
                            else:
                                held = {"status": status, "counter": self.counter_value}.get(name)
                                held = getattr(self, name) if held is None else held
                                m.d.sync += word.eq(held.as_unsigned())  # no sign beyond the register's width
            with m.State("IDENTIFY"):
                m.d.sync += word.eq(Cat(C(int.from_bytes(b"TRLB", "little"), 32), C(PROTOCOL_VERSION, 8), C(ISA.version, 8),
                                        C(n - 1, 8), C(config.lanes - 1, 8)))  # fmt: skip
                m.next = "GIVE_WORD"
            give(8, "GIVE_WORD", lambda: reply(Cause.DONE))

            # ---- tokens --------------------------------------------------------------------------------------------------
            with m.State("PUSH"):
                m.d.comb += self.prompt_valid.eq(~self.in_reset)
                reply(Mux(self.prompt_ready & ~self.in_reset, Cause.DONE, Cause.FULL))
            with m.State("POP"):
                m.d.sync += [word.eq(self.out_token), count.eq(0)]
                with m.If(self.out_valid & ~self.in_reset & (put != 4 * MAX_TOKENS)):
                    m.d.comb += self.out_ready.eq(1)
                    m.next = "GIVE_TOKEN"
                with m.Else():
                    reply(Cause.DONE)

            def next_token():
                m.next = "POP"

            give(4, "GIVE_TOKEN", next_token)

            with m.State("REPLY"):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [tx.start.eq(1), rx.take.eq(1)]
                m.next = "IDLE"
        return m
