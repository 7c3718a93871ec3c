"""The ternary product unit: control, write-back; the arithmetic is in :mod:`trilobit.hdl.dot` and
:mod:`trilobit.hdl.scale`."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.dot import TernaryDot, dot_latency, sum_bits
from trilobit.hdl.fifo import SmallFifo
from trilobit.hdl.interfaces import (
    ELEMENT_BITS,
    ActReadSignature,
    CommandSignature,
    HeaderLayout,
    RetireSignature,
    WriteSignature,
    decode,
    of_slot,
)
from trilobit.hdl.scale import SCALE_LATENCY, FactorLayout, ScaleCombine, ScaleSums
from trilobit.isa.core import CoreConfig
from trilobit.isa.trits import ROWS_PER_BYTE

__all__ = ["FIRST_BEAT", "GAP", "TernaryMatmul", "drain_clocks", "product_clocks"]

FIRST_BEAT = 2
"""Cycles from an instruction's command to its first weight beat, if header, activations and weights are there."""
GAP = 2
"""Cycles without a weight beat between the last beat of a product and the first of the next, if its command waits."""
IN_FLIGHT = 8  # an instruction follows another after at least six cycles and has retired before the fifth one follows


def drain_clocks(config: CoreConfig, rows: int) -> int:
    """Cycles from the last weight beat of a product to its retirement."""
    return dot_latency(config.beat_bytes) + 1 + (rows - 1) % ROWS_PER_BYTE + SCALE_LATENCY + 1


def product_clocks(config: CoreConfig, rows: int, columns: int) -> int:
    """Cycles from the command of a product to its retirement, when nobody waits.

    ceil(rows/5) * ceil(columns/beat_bytes) and a constant; a group shorter than five beats takes five, as each of its
    rows takes a cycle behind.
    """
    groups, beats = -(-rows // ROWS_PER_BYTE), -(-columns // config.beat_bytes)
    return FIRST_BEAT + (groups - 1) * max(beats, ROWS_PER_BYTE) + beats - 1 + drain_clocks(config, rows)


class TernaryMatmul(wiring.Component):
    """``tmatmul``: consumes a weight beat a clock, five rows at a time, and writes a scaled result a clock behind.

    A command is taken when the product before it has read its last beat (its results drain behind, under their own
    register and scale). The header is popped when the activation buffer's scale is there; then a beat is consumed in
    each cycle in which there is one, its activations are there, and, for the last beat of a group, the destination
    may be written and five cycles have passed since the last beat of the group before. So
    the write condition is asked before results are on their way, and nothing behind the weights ever waits.

    With a batch every slot has activations, accumulators, a scale and results of its own; the trits are decoded once, and slots finish
    a row in the same cycle.

    Latency: :data:`FIRST_BEAT`, :data:`GAP`, :func:`drain_clocks`, :func:`product_clocks`. A product of a single
    group delays the next command until its scale has been handed on (:func:`trilobit.hdl.dot.dot_latency` cycles
    after its last beat).

    A header that does not match the instruction (address, rows, columns against the activations' length) raises
    ``fault`` until the unit is reset; it then takes no more weights; results of the product before still drain.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    cmd, retire, active : see docs of the signatures. ``retire`` comes in the cycle of the last write.
    saturated : Out(range(lanes * batch + 1))
        Results that saturated: one a cycle and slot at most.
    write : Out(WriteSignature), act : Out(ActReadSignature)
    weight_valid, weight_ready, weight_data : 8 * beat_bytes bits
        ``weight_ready`` does not depend on ``weight_valid``.
    header_valid, header_ready, header : HeaderLayout
        ``header_ready`` is high while an instruction needs its header and its activations' scale is there.
    fault : Out(1)
    beat, wait_weights, wait_act, wait_output : Out(1)
        For the counters: a beat consumed, or why none was while an instruction is under way; at most one of the four.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "cmd": In(CommandSignature()), "retire": Out(RetireSignature()), "active": Out(1),
            "saturated": Out(range(config.word_elements + 1)),
            "write": Out(WriteSignature(config)), "act": Out(ActReadSignature(config)),
            "weight_valid": In(1), "weight_ready": Out(1), "weight_data": In(8 * config.beat_bytes),
            "header_valid": In(1), "header_ready": Out(1), "header": In(HeaderLayout()),
            "fault": Out(1), "beat": Out(1), "wait_weights": Out(1), "wait_act": Out(1), "wait_output": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.dot = dot = TernaryDot(config.beat_bytes, config.max_length, config.batch)
        combine = [ScaleCombine() for _ in range(config.batch)]
        scale = [ScaleSums(sum_bits(config.max_length)) for _ in range(config.batch)]
        for slot in range(config.batch):
            m.submodules[of_slot("combine", slot)] = combine[slot]
            m.submodules[of_slot("scale", slot)] = scale[slot]

        # Instructions whose results are still to be written, the oldest in front.
        m.submodules.oldest = oldest = SmallFifo(data.StructLayout({"vd": 3, "pc": 16}), IN_FLIGHT)
        accepted = self.cmd.valid & self.cmd.ready
        m.d.comb += [
            oldest.i_valid.eq(accepted),
            oldest.i_data.vd.eq(decode(self.cmd.word, "vd")),
            oldest.i_data.pc.eq(self.cmd.pc),
            self.active.eq(oldest.o_valid),
        ]

        first, rows = self._front(m, dot, combine, accepted)
        self._back(m, dot, combine, scale, oldest, first, rows)
        return m

    def _front(self, m, dot, combine, accepted):
        """Takes commands and headers, consumes weights."""
        config = self._config
        act, write = self.act, self.write

        # The instruction.
        row_bits = (config.max_length + ROWS_PER_BYTE).bit_length()  # the core lets no longer instruction through
        vd, buf, rows, wide = Signal(3), Signal(1), Signal(row_bits), Signal()
        bp, addr = Signal(signed(8)), Signal(40)
        handed = Signal(init=1)  # its scale and destination have been taken over behind
        first = Signal(init=1)  # no group has ended yet

        # Where it is: the beat in its group, and the rows of this group and those to come.
        beats_less_1 = Signal.like(act.beat)
        last_beat, last_group = Signal(), Signal()
        rows_left = Signal(row_bits)
        may_write = Signal()  # the destination may be written
        space = Signal(range(ROWS_PER_BYTE))  # cycles until a group may end

        header = self.header
        taken = self.header_valid & self.header_ready
        ends = Signal()  # a group ends with this beat
        may_end = Signal()
        m.d.comb += [
            write.chk_reg.eq(vd),
            may_end.eq(may_write & (space == 0)),
            act.buf.eq(buf),
            act.en.eq(self.beat),
            ends.eq(self.beat & last_beat),
            dot.valid.eq(self.beat),
            dot.last.eq(last_beat),
            dot.weights.eq(self.weight_data),
            dot.activations.eq(act.data),
        ]
        for slot, part in enumerate(combine):
            m.d.comb += [
                part.activation.eq(act.scale[slot]),
                part.segment.eq(self.header.scale),
                part.bp.eq(bp),
                part.wide.eq(wide),
                part.start.eq(taken),
            ]
        m.d.sync += may_write.eq(write.ok & ~ends)
        with m.If(ends):
            m.d.sync += space.eq(ROWS_PER_BYTE - 1)
        with m.Elif(space != 0):
            m.d.sync += space.eq(space - 1)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(accepted):
                    m.d.sync += [
                        vd.eq(decode(self.cmd.word, "vd")),
                        buf.eq(decode(self.cmd.word, "act")),
                        rows.eq(decode(self.cmd.word, "len")),
                        wide.eq(decode(self.cmd.word, "wide")),
                        bp.eq(decode(self.cmd.word, "bp")),
                        addr.eq(decode(self.cmd.word, "addr")),
                        rows_left.eq(decode(self.cmd.word, "len")),
                    ]
                    m.next = "HEADER"
            with m.State("HEADER"):
                beats = (header.columns - 1) >> ceil_log2(config.beat_bytes)
                m.d.sync += [act.beat.eq(0), beats_less_1.eq(beats), last_beat.eq(beats == 0), first.eq(1)]
                m.d.sync += last_group.eq(~rows_left[3:].any() & (rows_left[:3] <= ROWS_PER_BYTE))
                with m.If(taken):
                    with m.If((header.addr == addr) & (header.rows == rows) & (header.columns == act.length)):
                        m.d.sync += handed.eq(0)
                        m.next = "RUN"
                    with m.Else():
                        m.next = "FAULT"
            with m.State("RUN"):
                with m.If(self.beat):
                    m.d.sync += [
                        act.beat.eq(Mux(last_beat, 0, act.beat + 1)),
                        last_beat.eq((beats_less_1 == 0) | (~last_beat & (act.beat + 1 == beats_less_1))),
                    ]
                with m.If(ends):
                    m.d.sync += [
                        rows_left.eq(rows_left - ROWS_PER_BYTE),
                        last_group.eq(~rows_left[4:].any() & ((Const(0x7FF, 16) >> rows_left[:4])[0])),  # 10 at most
                        first.eq(0),
                    ]
                    with m.If(last_group):
                        m.next = "IDLE"
            with m.State("FAULT"):
                pass

        running, checking = fsm.ongoing("RUN"), fsm.ongoing("HEADER")
        m.d.comb += [
            self.cmd.ready.eq(fsm.ongoing("IDLE") & handed),
            self.header_ready.eq(checking & act.scale_ok),
            self.weight_ready.eq(running & act.ok & (~last_beat | may_end)),
            self.beat.eq(self.weight_ready & self.weight_valid),
            self.fault.eq(fsm.ongoing("FAULT")),
            self.wait_act.eq((checking & ~act.scale_ok) | (running & ~act.ok)),
            self.wait_output.eq(running & act.ok & last_beat & ~may_end),
            self.wait_weights.eq((self.header_ready & ~self.header_valid) | (self.weight_ready & ~self.weight_valid)),
            act.release.eq(ends & last_group),
        ]

        # The mark of a product's first group goes along with its beats.
        age = dot_latency(config.beat_bytes)
        firsts = Signal(age)
        m.d.sync += firsts.eq(Cat(ends & first, firsts))
        with m.If(firsts[-1]):
            m.d.sync += handed.eq(1)
        return firsts[-1], rows

    def _back(self, m, dot, combine, scale, oldest, first, rows):
        """Scales the sums of a group one after the other and writes words."""
        config = self._config
        lanes = config.lanes

        # The rows of a group and of the product that are still to come.
        group_left = Signal(range(ROWS_PER_BYTE + 1))
        left = Signal.like(rows)
        row_valid, row_last = Signal(), Signal()
        m.d.comb += [
            row_valid.eq((group_left != 0) & (left != 0)),
            row_last.eq(left == 1),
        ]
        with m.If(group_left != 0):
            m.d.sync += group_left.eq(group_left - 1)
        with m.If(row_valid):
            m.d.sync += left.eq(left - 1)
        with m.If(dot.sums_valid):
            m.d.sync += group_left.eq(ROWS_PER_BYTE)
        with m.If(first):
            m.d.sync += left.eq(rows)
        for slot in range(config.batch):
            # Sums of a group, the next one in front.
            sums = [Signal.like(dot.sums[0], name=of_slot(f"sum{row}", slot), reset_less=True) for row in range(ROWS_PER_BYTE)]
            factor = Signal(FactorLayout(), name=of_slot("factor", slot))
            m.d.comb += [scale[slot].sum.eq(sums[0]), scale[slot].factor.eq(factor)]
            for low, high in pairwise(sums):
                m.d.sync += low.eq(high)
            with m.If(dot.sums_valid):
                m.d.sync += [total.eq(dot.sums[slot * ROWS_PER_BYTE + row]) for row, total in enumerate(sums)]
            with m.If(first):
                m.d.sync += factor.eq(combine[slot].factor)

        valid, last = Signal(SCALE_LATENCY), Signal(SCALE_LATENCY)
        m.d.sync += [valid.eq(Cat(row_valid, valid)), last.eq(Cat(row_last, last))]

        # Collect a word, write it in the next cycle. The oldest instruction in flight is the one whose results come
        # out.
        write, retire = self.write, self.retire
        lane = Signal(range(lanes))
        done = valid[-1] & (last[-1] | (lane == lanes - 1))
        words = [
            [Signal(ELEMENT_BITS, name=of_slot(f"element{j}", slot), reset_less=True) for j in range(lanes)]
            for slot in range(config.batch)
        ]  # fmt: skip
        m.d.comb += [
            self.saturated.eq(sum(valid[-1] & part.saturated for part in scale)),
            write.reg.eq(oldest.o_data.vd),
            write.data.eq(Cat(words)),
            retire.pc.eq(oldest.o_data.pc),
            oldest.o_ready.eq(retire.valid),
        ]
        m.d.sync += [write.en.eq(done), retire.valid.eq(valid[-1] & last[-1])]
        with m.If(valid[-1]):
            m.d.sync += lane.eq(Mux(done, 0, lane + 1))
            for j in range(lanes):
                m.d.sync += write.mask[j].eq(lane >= j)
                with m.If(lane == j):
                    m.d.sync += [word[j].eq(part.result) for word, part in zip(words, scale, strict=True)]
        with m.If(write.en):
            m.d.sync += write.addr.eq(Mux(retire.valid, 0, write.addr + 1))
