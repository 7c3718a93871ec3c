"""Segment headers of the weight stream: collected, checked, taken apart."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.interfaces import GAIN_BITS, HeaderLayout
from trilobit.isa.core import CoreConfig
from trilobit.isa.segments import HEADER_BYTES, KINDS, MAGIC

__all__ = ["HeaderReader"]

WORD_BITS = 16


class HeaderReader(wiring.Component):
    """Takes the header_beats beats of a header, then offers its fields, or faults.

    Latency: the header is offered two cycles after its last beat was taken; no further beat is taken until the offer
    has been. A header is good if magic, kind and check are right, rows and columns are not zero, columns (gains: the
    length) are at most max_length, gains have one row, and a matrix's mantissa has its top bit set or is zero.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    i_valid, i_ready, i_data : 8 * beat_bytes bits
    addr : In(40)
        Byte offset of the beat that is offered.
    o_valid, o_ready
    header : Out(HeaderLayout)
        With ``o_valid``; ``addr`` is that of the first beat, ``columns`` the length of gains.
    is_gains : Out(1)
    column_beats : Out
        Payload beats less one of a group of rows, or of all gains.
    fault : Out(1)
        A bad header came; stays until a reset.
    busy : Out(1)
        Part of a header has been taken, or it waits.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        n = config.beat_bytes
        super().__init__({
            "i_valid": In(1), "i_ready": Out(1), "i_data": In(8 * n), "addr": In(40),
            "o_valid": Out(1), "o_ready": In(1), "header": Out(HeaderLayout()), "is_gains": Out(1),
            "column_beats": Out(range(max(-(-2 * config.max_length // n), 2))),
            "fault": Out(1), "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self._config
        used = min(8 * config.beat_bytes, 8 * HEADER_BYTES)  # bits of a beat that belong to the header

        # Beats enter at the top and shift down; the words that just entered are added up one cycle later.
        raw = Signal(8 * HEADER_BYTES)
        index = Signal(range(max(config.header_beats, 2)))
        total = Signal(WORD_BITS)
        fresh = Signal()
        taken = self.i_valid & self.i_ready
        m.d.sync += fresh.eq(taken)
        with m.If(taken):
            m.d.sync += raw.eq(Cat(raw[used:], self.i_data[:used]))
            with m.If(index == 0):
                m.d.sync += self.header.addr.eq(self.addr)
        newest = [raw[-k:][:WORD_BITS] for k in range(WORD_BITS, max(used, WORD_BITS) + 1, WORD_BITS)]
        whole_word = fresh if used >= WORD_BITS else fresh & ~index[0]  # a byte a beat: every second completes a word
        with m.If(whole_word):
            m.d.sync += total.eq(total + sum(newest))

        magic, kind, rows, columns = raw[0:8], raw[8:16], raw[16:32], raw[32:48]
        mantissa, exponent = raw[48:66], raw[72:80]
        good = Signal()
        m.d.comb += [
            self.is_gains.eq(kind == KINDS["gains"]),
            good.eq(
                (magic == MAGIC)
                & (total == (1 << WORD_BITS) - 1)
                & (rows != 0)
                & (columns != 0)
                & (columns <= config.max_length)
                & ~raw[66:72].any()
                & Mux(self.is_gains, rows == 1, (kind == KINDS["ternary"]) & (mantissa[-1] | ~mantissa.any()))
            ),
            self.header.rows.eq(rows),
            self.header.columns.eq(columns),
            self.header.scale.mantissa.eq(mantissa),
            self.header.scale.exponent.eq(exponent.as_signed()),
            self.column_beats.eq((Mux(self.is_gains, columns * (GAIN_BITS // 8), columns) - 1)[:17] >> ceil_log2(config.beat_bytes)),
        ]
        with m.FSM() as fsm:
            with m.State("COLLECT"):
                with m.If(taken):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == config.header_beats - 1):
                        m.d.sync += index.eq(0)
                        m.next = "SUM"
            with m.State("SUM"):
                m.next = "OFFER"
            with m.State("OFFER"):
                with m.If(~good):
                    m.next = "FAULT"
                with m.Elif(self.o_ready):
                    m.d.sync += total.eq(0)
                    m.next = "COLLECT"
            with m.State("FAULT"):
                pass
        m.d.comb += [
            self.i_ready.eq(fsm.ongoing("COLLECT")),
            self.o_valid.eq(fsm.ongoing("OFFER") & good),
            self.fault.eq(fsm.ongoing("FAULT")),
            self.busy.eq(~fsm.ongoing("COLLECT") | (index != 0)),
        ]
        return m
