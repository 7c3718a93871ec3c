"""The RMSNorm unit: rms, norm and normq. Stages, precision and eps: docs/reference/rmsnorm.md."""

from functools import reduce
from operator import add

from amaranth import Cat, DomainRenamer, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import (
    ELEMENT_BITS,
    GAIN_BITS,
    ActWriteSignature,
    CommandSignature,
    GainSignature,
    ReadSignature,
    RetireSignature,
    WriteSignature,
    decode,
    of_slot,
)
from trilobit.hdl.rmsnorm_lane import (
    A_LEFT,
    B_LEFT,
    LONGEST_SHIFT,
    MAGNITUDE_BITS,
    SQUARE_BITS,
    SQUARE_W_STAGE,
    SQUARE_X_STAGE,
    WRITE_STAGE,
    Z_STAGE,
    Lane,
)
from trilobit.hdl.rmsnorm_scalar import (
    FEED_AHEAD,
    INVERSE_CLOCKS,
    NORM_FACTOR_CLOCKS,
    NORMQ_FACTOR_CLOCKS,
    REDUCED_BITS,
    SUM_BITS,
    SUM_W_BITS,
    TOTAL_CLOCKS,
    ScalarEngine,
)
from trilobit.hdl.rmsnorm_sums import LaneMaximum, LaneSum
from trilobit.hdl.shift import highest_one
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA

__all__ = ["CLOCKS", "RMSNorm", "norm_clocks", "normq_clocks", "rms_clocks"]

_RMS, _NORM, _NORMQ = (ISA.by_name[name].opcode for name in ("rms", "norm", "normq"))
_REDUCE = 4  # cycles from the largest magnitude to its 20 bits
_DRAINED = 8  # the stage at which the next instruction may be let in: its fields count from stage 10 on
_QUANTISE_SHIFT = 30
# The longest way behind the read of a word, in cycles and levels of the trees: to the reduced largest (pass 1), to the sum of w.
_SETTLED = max(Z_STAGE + _REDUCE, SQUARE_W_STAGE) + 2

CLOCKS = ("rmsnorm", "rmsnorm_engine")
"""Clock domains of the unit with gated clocks, in the order of ``edges``."""


def _within_reach(shift):
    """At most LONGEST_SHIFT, without a carry chain."""
    beyond = (shift[4] & shift[5]) | shift[6:].any()  # 48 or more
    return Mux(beyond, LONGEST_SHIFT, shift[:6])


def _levels(config: CoreConfig) -> int:
    return (config.lanes - 1).bit_length()


def rms_clocks(config: CoreConfig, words: int, gain: bool = False) -> int:
    """Cycles from taking an rms of ``words`` words (1 at least) to its retirement, if nobody makes the unit wait."""
    return words + gain + SQUARE_X_STAGE + 1 + _levels(config) + TOTAL_CLOCKS


def normq_clocks(config: CoreConfig, words: int, gain: bool = False, scaled: bool = False, engine_free: int = 1) -> int:
    """Cycles from taking a normq to its retirement, if nobody makes the unit wait.

    ``engine_free``: the cycle after taking it in which an rms before it has left the unit (retired in the cycle before), at least 1.
    """
    largest = words + gain + Z_STAGE + 1 + _levels(config) + _REDUCE
    inverse = engine_free + 1 + (INVERSE_CLOCKS if scaled else 0)
    return max(largest, inverse) + NORMQ_FACTOR_CLOCKS + 1 + WRITE_STAGE - FEED_AHEAD + words - 1


def norm_clocks(config: CoreConfig, words: int, gain: bool = False) -> int:
    """Cycles from taking a norm to its retirement, if nobody makes the unit wait."""
    root = rms_clocks(config, words, gain) + 1
    return root + INVERSE_CLOCKS + NORM_FACTOR_CLOCKS + 1 + WRITE_STAGE - FEED_AHEAD + words - 1


class _Slot:
    """What a slot of the batch has for itself: lanes, sums, largest, scalars, and the shifts that follow from them."""

    def __init__(self, m: Module, slot: int, config: CoreConfig, engine_clock: str | None):
        def part(name, component):
            m.submodules[of_slot(name, slot)] = component
            return component

        self.engine = ScalarEngine()
        part("engine", DomainRenamer(engine_clock)(self.engine) if engine_clock else self.engine)
        self.sum_x = part("sum_x", LaneSum(config.lanes, SQUARE_BITS, SUM_BITS))
        self.sum_w = part("sum_w", LaneSum(config.lanes, SQUARE_BITS, SUM_W_BITS))
        self.maximum = part("maximum", LaneMaximum(config.lanes, MAGNITUDE_BITS))
        self.lanes = [part(f"lane_{i}", Lane(config.words)) for i in range(config.lanes)]
        self.amount_b, self.amount_c, self.short, self.wanted_shift = (
            Signal(bits, name=of_slot(name, slot))
            for name, bits in {"amount_b": 6, "amount_c": 6, "short": 1, "wanted_shift": 10}.items()
        )  # fmt: skip


class RMSNorm(wiring.Component):
    """Executes rms, norm and normq (:mod:`trilobit.isa.semantics`), in order.

    Pass 1 reads the sources once, a word a clock, as fast as registers and gains come; then their read ports are free. norm and
    normq keep z in the unit's own buffer, and write a word a clock in pass 2. rms lets the next instruction in when its last
    word has left the lanes; a normq then runs beside the rest of the rms (an rms or norm waits for it).

    Latency: :func:`rms_clocks`, :func:`normq_clocks`, :func:`norm_clocks` cycles from taking the command to ``retire``, which comes
    with the last result. Waiting for registers, gains or buffers adds to it; the values of elements never do.

    Back-pressure: pass 1 waits for ``a.ok`` (and ``b.ok``) and the gains together; pass 2 of normq begins when ``act.ok``; pass 2 of norm
    lets a word into the pipeline when ``write.ok``. ``act.start`` comes five cycles before the first int8 word.

    With a batch every slot has lanes, sums and a scalar engine of its own, and shifts where they follow from its values; gains and control
    are shared. Engines are always in the same state, since no time depends on a value: slot 0's answers for all.

    A gain segment whose length isn't that of the instruction raises ``fault``, which stays until reset; the unit does nothing more.

    Parameters
    ----------
    config: core parameters.
    gated_clocks: the unit is in the domains of :data:`CLOCKS` instead of ``sync``, see trilobit.hdl.core.

    Members
    -------
    cmd, retire: see trilobit.hdl.interfaces.
    a, b: read ports (norm and normq read one register through both);  gain: gain segments;  write: results of norm;  act: results of normq
    active: Out(1), an instruction is in the unit;  fault: Out(1)
    edges: Out(len(CLOCKS)), whether an edge of each of CLOCKS could change anything in this cycle
    saturated: Out(range(lanes * batch + 1)), elements that saturated, word by word
    """

    def __init__(self, config: CoreConfig, *, gated_clocks: bool = False):
        self.config = config
        self.gated_clocks = gated_clocks
        super().__init__({
            "cmd": In(CommandSignature()), "retire": Out(RetireSignature()), "active": Out(1), "edges": Out(len(CLOCKS)),
            "saturated": Out(range(config.word_elements + 1)),
            "a": Out(ReadSignature(config)), "b": Out(ReadSignature(config)), "write": Out(WriteSignature(config)),
            "act": Out(ActWriteSignature(config)), "gain": In(GainSignature(config)), "fault": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        lanes, depth, levels = self.config.lanes, self.config.words, _levels(self.config)
        slots = [_Slot(m, slot, self.config, CLOCKS[1] if self.gated_clocks else None) for slot in range(self.config.batch)]
        engine = slots[0].engine

        def delay(signal, cycles: int, name: str):
            for k in range(cycles):
                later = Signal(name=f"{name}_{k + 1}")
                m.d.sync += later.eq(signal)
                signal = later
            return signal

        # ---- the instruction ----
        word = Signal(ISA.word_bits)
        pc = Signal(16)
        rms, norm, normq = (word[:8] == code for code in (_RMS, _NORM, _NORMQ))
        field = {f.name: decode(word, f.name) for name in ("rms", "norm", "normq") for f in ISA.by_name[name].fields}
        length = field["len"]
        last_word = Signal(range(depth))
        in_last_word = Signal(lanes)  # lanes of the last word that are below the length
        fresh = Signal()  # the first cycle of an instruction
        taken = self.cmd.valid & self.cmd.ready
        next_length = decode(self.cmd.word, "len")
        m.d.sync += fresh.eq(taken)
        second_source = Signal(3)
        with m.If(taken):
            m.d.sync += second_source.eq(Mux(self.cmd.word[:8] == _RMS, decode(self.cmd.word, "vb"), decode(self.cmd.word, "va")))
            m.d.sync += [word.eq(self.cmd.word), pc.eq(self.cmd.pc), last_word.eq((next_length - 1) >> levels)]
            tail = next_length[:levels]
            m.d.sync += in_last_word.eq(Cat((tail == 0) | (tail > i) for i in range(lanes)))

        # An rms or norm owes its sums until the engine has taken them; a normq wants the engine until it has it.
        owed, wanted = Signal(), Signal()
        m.d.sync += [owed.eq((owed & ~engine.total) | (taken & (self.cmd.word[:8] != _NORMQ)))]
        m.d.sync += [wanted.eq((wanted & ~(engine.idle & ~owed)) | (taken & (self.cmd.word[:8] == _NORMQ)))]

        # ---- control ----
        read, read_last, feed, feed_last, second, inject = (Signal() for _ in range(6))
        read_addr, z_write_addr, feed_addr, write_addr = (Signal(range(depth)) for _ in range(4))
        largest_known, started = Signal(), Signal()
        # token[k]: a word is k cycles behind its read; out[k]: k cycles behind its read from the z buffer.
        token = [read, *(Signal(name=f"token_{k}") for k in range(1, Z_STAGE + 3))]
        out = [feed, *(Signal(name=f"out_{k}") for k in range(1, WRITE_STAGE + 1))]
        last = [read_last, *(Signal(name=f"last_{k}") for k in range(1, _DRAINED + 1))]
        out_last = [feed_last, *(Signal(name=f"out_last_{k}") for k in range(1, WRITE_STAGE + 1))]
        for chain in (token, out, last, out_last):
            m.d.sync += Cat(chain[1:]).eq(Cat(chain[:-1]))

        sources_ok = self.a.ok & self.b.ok
        gain_ok = ~field["gain"] | self.gain.valid
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.cmd.ready.eq((self.cmd.word[:8] == _NORMQ) | (engine.idle & ~owed))
                with m.If(taken):
                    m.next = "SEGMENT"
                    with m.If(~self.cmd.word[ISA.fields["gain"].lo]):
                        m.next = "READ"
            with m.State("SEGMENT"):
                m.d.comb += self.gain.segment_ready.eq(1)
                with m.If(self.gain.segment_valid):
                    m.next = "FAULT"
                    with m.If(self.gain.length == length):
                        m.next = "READ"
            with m.State("READ"):
                m.d.comb += [
                    read.eq(sources_ok & gain_ok), read_last.eq(read & (read_addr == last_word)),
                    self.gain.ready.eq(sources_ok & field["gain"]),
                ]  # fmt: skip
                with m.If(read_last):
                    m.next = "WAIT"
                    with m.If(rms):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                # The next instruction's shifts come into force when this one's last word has left the lanes.
                with m.If(last[_DRAINED]):
                    m.next = "IDLE"
            with m.State("WAIT"):
                m.d.comb += inject.eq(second)
                with m.If(engine.feed & (norm | self.act.ok)):
                    m.next = "FEED"
            with m.State("FEED"):
                m.d.comb += [feed.eq(normq | self.write.ok), feed_last.eq(feed & (feed_addr == last_word))]
                with m.If(feed_last):
                    m.next = "FINISH"
            with m.State("FINISH"):
                with m.If(out_last[WRITE_STAGE - 1]):
                    m.d.comb += engine.release.eq(1)
                    m.next = "IDLE"
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(1)
            idle = fsm.ongoing("IDLE")
            waiting = Cat(
                idle & ~taken, fsm.ongoing("SEGMENT") & ~self.gain.segment_valid, fsm.ongoing("READ") & ~read,
                fsm.ongoing("WAIT") & ~(engine.feed & (norm | self.act.ok)), fsm.ongoing("FEED") & ~feed, fsm.ongoing("DRAIN"),
                fsm.ongoing("FAULT"),
            ).any()  # fmt: skip
        m.d.comb += self.active.eq(~idle | ~engine.idle | owed | Cat(token[1:]).any() | Cat(out[1:]).any())

        # While the state waits, all that has begun comes to its end within _SETTLED cycles and levels; then nothing moves.
        begun = ~waiting | fresh | (wanted & engine.idle & ~owed)
        # A word that isn't the last may stay on its way: nobody looks before the last has come through, and behind it they move together.
        settling, ticks = Signal(range(_SETTLED + levels + 1)), Signal()
        with m.If(begun & ~(fsm.ongoing("READ") & ~fresh & ~read_last)):
            m.d.sync += settling.eq(_SETTLED + levels)
        with m.Elif(settling != 0):
            m.d.sync += settling.eq(settling - 1)
        m.d.comb += [ticks.eq(begun | (settling != 0)), self.edges.eq(Cat(ticks, engine.changes))]

        # What follows the lanes is marked with what it is for, since the next instruction may be in force by then.
        z_last = delay(last[Z_STAGE] & ~rms, levels, "z_last")
        reduced_last = delay(z_last, _REDUCE, "reduced_last")
        with m.If(fresh):
            m.d.sync += [z_write_addr.eq(0), feed_addr.eq(0), write_addr.eq(0), second.eq(0), largest_known.eq(0), started.eq(0)]
        with m.Else():
            m.d.sync += [
                z_write_addr.eq(z_write_addr + token[Z_STAGE]),
                feed_addr.eq(feed_addr + feed),
                write_addr.eq(write_addr + out[WRITE_STAGE]),
                started.eq(started | out[FEED_AHEAD]),
            ]
            with m.If(z_last):
                m.d.sync += second.eq(1)
            with m.If(reduced_last):
                m.d.sync += largest_known.eq(1)
        with m.If(taken):
            m.d.sync += read_addr.eq(0)
        with m.Else():
            m.d.sync += read_addr.eq(read_addr + read)

        # ---- shifts ----
        amount_a = Signal(6)
        with m.If(fresh):
            m.d.sync += amount_a.eq(field["sha"] + A_LEFT)
        for slot in slots:
            _, highest = highest_one(slot.maximum.largest)  # if there is none every result is zero, whatever the shift
            shift = slot.wanted_shift
            m.d.sync += shift.eq(field["sho"] - slot.engine.exponent - slot.engine.shift)  # needed two cycles after the exponent
            with m.If(fresh):
                m.d.sync += [
                    slot.amount_b.eq(Mux(rms, field["shb"], field["sha"]) + B_LEFT),
                    slot.amount_c.eq(Mux(field["gain"], _within_reach(field["sho"]), 0)),
                    slot.short.eq(0),
                ]
            with m.Elif(second):
                # The largest is there in the first of these cycles, and stays.
                m.d.sync += [
                    slot.amount_b.eq(highest),
                    slot.short.eq(norm & shift[-1]),
                    slot.amount_c.eq(Mux(shift[-1], 0, _within_reach(shift[:-1]))),
                ]
                with m.If(normq):
                    m.d.sync += slot.amount_c.eq(_QUANTISE_SHIFT)

        # ---- reading and writing ----
        m.d.comb += [
            self.a.reg.eq(field["va"]), self.a.addr.eq(read_addr), self.a.en.eq(read),
            # Both ports read, norm and normq the same register: that is one read.
            self.b.reg.eq(second_source), self.b.addr.eq(read_addr), self.b.en.eq(read),
            self.write.chk_reg.eq(field["vd"]), self.write.chk_addr.eq(feed_addr),
            self.write.reg.eq(field["vd"]), self.write.addr.eq(write_addr), self.write.en.eq(out[WRITE_STAGE] & norm),
            self.write.mask.eq(in_last_word | (~out_last[WRITE_STAGE]).replicate(lanes)),
            self.act.buf.eq(field["act"]), self.act.length.eq(length),
            self.act.start.eq(out[FEED_AHEAD] & ~started & normq),
            self.act.en.eq(out[WRITE_STAGE] & normq), self.act.addr.eq(write_addr),
        ]  # fmt: skip
        for number, slot in enumerate(slots):
            m.d.comb += self.act.scale[number].eq(slot.engine.scale)
            for i, lane in enumerate(slot.lanes):
                place = number * lanes + i
                element = slice(place * ELEMENT_BITS, (place + 1) * ELEMENT_BITS)
                m.d.comb += [
                    lane.a.eq(self.a.data[element]),
                    lane.b.eq(self.b.data[element]),
                    lane.keep.eq(~last[1] | in_last_word[i]),
                    lane.gain.eq(Mux(field["gain"], self.gain.data[i * GAIN_BITS : (i + 1) * GAIN_BITS], 1)),
                    lane.amount_a.eq(amount_a), lane.amount_b.eq(slot.amount_b), lane.amount_c.eq(slot.amount_c),
                    lane.statistics.eq(rms), lane.quantise.eq(normq), lane.wide.eq(field["wide"]), lane.short.eq(slot.short),
                    lane.second.eq(second), lane.factor.eq(slot.engine.factor),
                    lane.z_write.eq(token[Z_STAGE] & ~rms), lane.z_write_addr.eq(z_write_addr),
                    lane.z_read.eq(feed), lane.z_read_addr.eq(feed_addr),
                    getattr(slot.sum_x, f"i{i}").eq(lane.square_x), getattr(slot.sum_w, f"i{i}").eq(lane.square_w),
                    getattr(slot.maximum, f"i{i}").eq(lane.magnitude),
                    self.write.data[element].eq(lane.result), self.act.data[8 * place : 8 * place + 8].eq(lane.quantised),
                ]  # fmt: skip
            m.d.comb += [slot.lanes[0].inject.eq(inject), slot.lanes[0].largest.eq(slot.maximum.largest)]

        # ---- sums, largest, scalars ----
        w_marked = Signal()
        m.d.sync += w_marked.eq(token[9] & rms)
        x_last = Signal()
        m.d.sync += x_last.eq(last[SQUARE_X_STAGE - 1] & ~normq)
        # The addend of up to 47 bits is shifted in its place, 4 bits a cycle and less than 4 at once, before the first square comes.
        addend = field["k_m"] << field["k_e"][:2]
        to_shift = Signal(3)
        with m.If(fresh & ~normq):
            m.d.sync += to_shift.eq(field["k_e"][2:])
        with m.Elif(to_shift != 0):
            m.d.sync += to_shift.eq(to_shift - 1)
        x_valid = delay(token[SQUARE_X_STAGE] & ~normq, levels, "x_valid")
        w_valid = delay(w_marked, levels + SQUARE_W_STAGE - 10, "w_valid")
        z_valid = delay(token[Z_STAGE] & ~rms, levels, "z_valid")
        total = delay(x_last, levels + 1, "x_last")
        owner_pc = Signal(16)
        with m.If(last[1] & ~normq):
            m.d.sync += [
                owner_pc.eq(pc), engine.norm.eq(norm), engine.sc.eq(field["sc"]),
                engine.eps_m.eq(Mux(norm, 1, field["eps_m"])), engine.eps_e.eq(Mux(norm, 0, field["eps_e"])),
            ]  # fmt: skip
        for slot in slots[1:]:
            m.d.comb += [getattr(slot.engine, name).eq(getattr(engine, name)) for name in ("norm", "sc", "eps_m", "eps_e", "release")]
        for slot in slots:
            sum_x, sum_w, maximum = slot.sum_x, slot.sum_w, slot.maximum
            m.d.comb += [
                sum_x.valid.eq(x_valid), sum_w.valid.eq(w_valid), maximum.valid.eq(z_valid),
                sum_x.load.eq(fresh & ~normq), sum_w.load.eq(fresh & ~normq), sum_w.preset.eq(addend), sum_w.shift.eq(to_shift != 0),
                maximum.clear.eq(fresh),
                slot.engine.total.eq(total), slot.engine.sum_x.eq(sum_x.total), slot.engine.sum_w.eq(sum_w.total),
                slot.engine.quantise.eq(wanted & ~owed), slot.engine.scaled.eq(field["scaled"]), slot.engine.sq.eq(field["sc"]),
                slot.engine.c_m.eq(field["c_m"]), slot.engine.largest_valid.eq(largest_known),
                slot.engine.largest.eq(slot.lanes[0].reduced[:REDUCED_BITS]), slot.engine.shift.eq(slot.amount_b - B_LEFT),
            ]  # fmt: skip

        # ---- retirement ----
        m.d.comb += [
            self.retire.valid.eq(engine.stored | out_last[WRITE_STAGE]),
            self.retire.pc.eq(Mux(engine.stored, owner_pc, pc)),
        ]
        with m.If((w_marked | out[WRITE_STAGE]) & (ticks if self.gated_clocks else 1)):
            m.d.comb += self.saturated.eq(reduce(add, (lane.saturated for slot in slots for lane in slot.lanes)))
        return m
