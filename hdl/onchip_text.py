"""Text on a serial line for a core without a host: characters become prompt tokens, tokens become characters."""

from collections.abc import Mapping

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["END", "FAULT", "GO", "PROMPT_TOKENS", "STOP", "TextPort"]

GO = 0x0D
"""Enter: the prompt is complete."""
STOP = 0x03
"""Control-C: whatever goes on ends, and a new prompt begins."""
END = 0x04
"""Sent behind the last character of an answer."""
FAULT = 0x15
"""Sent instead of END if the core has faulted."""
PROMPT_TOKENS = 64
"""What the core's queue holds: a prompt that is as long starts by itself."""
SETTLE_CLOCKS = 8  # from halt to the last token behind the core's queue; and the length of a reset


class TextPort(wiring.Component):
    """Collects a prompt, starts the core, sends what it emits; then again.

    A prompt is the characters up to :data:`GO` (PROMPT_TOKENS tokens at most), a newline among them as any other; the core is started
    when all of it is in the core's queue, so that no pause of the sender can be taken for its end. A character that the model
    does not know is its unknown token. While the core runs, only :data:`STOP` is listened to. Tokens without a character (the end of
    a text) are not sent; behind the last one comes :data:`END`. The first run after power-on has the seed ``seed``; it rises by
    one with each answer that ends.

    Parameters
    ----------
    encode : Mapping[int, int]
        Byte -> token.
    unknown : int
        Token of every other byte.
    first : int or None
        Token in front of each prompt.
    seed : int
        32 bits.

    Members
    -------
    i, o : streams of 8 bits, In and Out
    prompt_valid, prompt_ready, prompt_token, out_valid, out_ready, out_token, start, seed, halted, fault
        The ports of :class:`trilobit.hdl.core.Core` of the same names, seen from the other side; ``fault`` is one bit.
    core_reset : Out(1)
        Resets the core and its memory while it is high.
    """

    def __init__(self, *, encode: Mapping[int, int], unknown: int, first: int | None, seed: int = 0):
        if not encode or not all(0 <= byte < 256 for byte in encode) or len(set(encode.values())) != len(encode):
            raise ValueError(f"expected bytes from 0 to 255 with a token of its own each, got {dict(encode)!r}")
        if reserved := {0, GO, STOP, END, FAULT} & set(encode):
            raise ValueError(f"expected no character {sorted(reserved)[0]:#04x}: it means something else here")
        self._encode, self._unknown, self._first = dict(encode), unknown, first
        super().__init__({
            "i": In(stream.Signature(8)), "o": Out(stream.Signature(8)),
            "prompt_valid": Out(1), "prompt_ready": In(1), "prompt_token": Out(24),
            "out_valid": In(1), "out_ready": Out(1), "out_token": In(24),
            "start": Out(1), "seed": Out(32, init=seed), "halted": In(1), "fault": In(1), "core_reset": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        byte, taken = Signal(8), Signal()
        m.d.comb += taken.eq(self.i.valid & self.i.ready)
        stop = taken & (self.i.payload == STOP)
        pushed = Signal(range(PROMPT_TOKENS + 1))
        wait = Signal(range(SETTLE_CLOCKS))

        token = Signal(24)
        with m.Switch(byte):
            for character, number in self._encode.items():
                with m.Case(character):
                    m.d.comb += token.eq(number)
            with m.Default():
                m.d.comb += token.eq(self._unknown)
        # What was emitted, a clock later; only tokens that have a character.
        text = Signal(8)
        with m.Switch(self.out_token):
            for character, number in self._encode.items():
                with m.Case(number):
                    m.d.comb += text.eq(character)
        sending = Signal()
        m.d.comb += [self.o.valid.eq(sending)]
        with m.If(self.o.ready):
            m.d.sync += sending.eq(0)

        def push(value, after):
            m.d.comb += [self.prompt_valid.eq(1), self.prompt_token.eq(value)]
            with m.If(self.prompt_ready):
                m.d.sync += pushed.eq(pushed + 1)
                m.next = after

        with m.FSM():
            with m.State("BEGIN"):
                if self._first is None:
                    m.next = "COLLECT"
                else:
                    push(self._first, "COLLECT")
            with m.State("COLLECT"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += byte.eq(self.i.payload)
                with m.If(pushed == PROMPT_TOKENS):
                    m.next = "START"
                with m.Elif(stop):
                    m.next = "RESET"
                with m.Elif(taken & (self.i.payload == GO)):
                    with m.If(pushed != 0):
                        m.next = "START"
                with m.Elif(taken):
                    m.next = "PUSH"
            with m.State("PUSH"):
                push(token, "COLLECT")
            with m.State("START"):
                m.d.comb += self.start.eq(1)
                m.d.sync += [pushed.eq(0), wait.eq(0)]
                m.next = "STARTED"
            with m.State("STARTED"):  # halted is that of the run before until now
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.i.ready.eq(1), self.out_ready.eq(~sending)]
                with m.If(self.out_valid & self.out_ready):
                    m.d.sync += [self.o.payload.eq(text), sending.eq(text != 0), wait.eq(0)]
                with m.Elif((self.halted | self.fault) & ~self.out_valid & ~sending):
                    m.d.sync += wait.eq(wait + 1)
                    with m.If(wait == SETTLE_CLOCKS - 1):
                        m.d.sync += [self.o.payload.eq(END), sending.eq(1), self.seed.eq(self.seed + 1)]
                        m.next = "BEGIN"
                        with m.If(self.fault):
                            m.d.sync += self.o.payload.eq(FAULT)
                            m.next = "RESET"
                with m.If(stop):
                    m.d.sync += wait.eq(0)
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.comb += self.core_reset.eq(1)
                m.d.sync += [wait.eq(wait + 1), pushed.eq(0)]
                with m.If(wait == SETTLE_CLOCKS - 1):
                    m.next = "BEGIN"
        return m
