"""The row-wise unit: elementwise instructions and argmax over vector registers."""

import re

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import (
    ELEMENT_BITS,
    EXPONENT_BITS,
    CommandSignature,
    ReadSignature,
    RetireSignature,
    WriteSignature,
    decode,
    of_slot,
)
from trilobit.hdl.rowwise_argmax import TOKEN_BITS, ArgmaxSearch
from trilobit.hdl.rowwise_delay import Chain, delay_in_memory, one_domain
from trilobit.hdl.rowwise_lane import RESULT_CYCLE, RowWiseLane
from trilobit.hdl.rowwise_noise import NOISE_LATENCY, GumbelNoise
from trilobit.isa.core import CoreConfig
from trilobit.isa.semantics import SHIFT_LIMIT
from trilobit.isa.spec import ISA

__all__ = ["CLOCKS", "RETIRE_LATENCY", "ROWWISE_LATENCY", "RowWise"]

ROWWISE_LATENCY = RESULT_CYCLE
RETIRE_LATENCY = ROWWISE_LATENCY + 1

# Stages whose registers may have a clock of their own: the first and last cycle in which their values count. No module with several
# stages is cut.
_SECTIONS = ((2, 4), (5, 6), (7, 9), (10, 12), (13, 14), (15, 16), (17, 20))
CLOCKS = ("rowwise", "rowwise_front", "rowwise_back", "rowwise_noise", *(f"rowwise_{first}" for first, _ in _SECTIONS))
"""Clock domains of the unit with gated clocks, in the order of ``edges``."""
_IN_FLIGHT = 32  # more than RETIRE_LATENCY, the most instructions that the pipeline can hold

# What each instruction asks of the pipeline; see LaneControl. Registers follow from isa.yaml's reads.
_FLAGS: dict[str, set[str]] = {
    "add": {"add4", "count_b4"},
    "sub": {"subtract4", "count_b4"},
    "mul": {"b_factor4", "count_factor4"},
    "div": {"divide4", "whole4", "abs4", "divide7", "divide9", "table13", "count_b4"},
    "exp": {"k_p1", "exp7", "exp12", "table13", "count_x4"},
    "sig": {"k_p1", "nabs4", "sigmoid7", "sigmoid12", "table13", "count_x4"},
    "silu": {"b_p2", "nabs4", "sigmoid7", "sigmoid12", "table13"},
    "onem": {"k_p1", "subtract4", "count_b4"},
    "lerp": {"add4", "negate4", "c_factor4", "addend18", "count_b4", "count_c4"},
    "max": {"subtract4", "whole4", "max5", "count_b4"},
    "mov": {"k_p1", "add4", "count_b4"},  # its immediate bits are zero
    "addi": {"k_p1", "add4", "count_b4"},
    "muli": {"k_p1", "b_factor4", "count_factor4"},
    "argmax": {"c_factor4"},
}
_FLAG_NAMES = sorted(set().union(*_FLAGS.values()))
_WIDE = ("lerp", "argmax")  # always 32 bits
_CONSTANTS = {"exp": 17, "sig": 16}  # p = 2^this, so that the mantissa, in bits 6 and up of the factor, stands where the formula says


class RowWise(wiring.Component):
    """Row-wise unit: ``lanes`` elements a clock through one pipeline of fixed depth.

    A word enters the pipeline in a cycle in which all its source words may be read and its destination word may be written; the
    pipeline then never stalls. The word is read in that cycle, written (``write.en``) :data:`ROWWISE_LATENCY` cycles later and
    may be seen in the register one cycle after that, in which, after the last word, the instruction retires
    (:data:`RETIRE_LATENCY`). The next instruction is accepted in the cycle in which the last word enters, so that its first word can
    enter in the next. An instruction of n words that never waits retires ``n + RETIRE_LATENCY`` cycles after ``cmd`` was taken.

    A register that is named twice as a source is asked for by each of its ports in the same cycle, which is one read.

    With a batch every slot has lanes, noise and a search of its own, under one control; element indices are shared.

    ``argmax`` goes through the same pipeline an element a clock, so that a word of va takes ``lanes`` cycles; noise or not,
    n elements that never wait retire ``n + RETIRE_LATENCY`` cycles after ``cmd`` was taken. ``token_valid`` comes with the
    retirement.

    Parameters
    ----------
    config : CoreConfig
        ``lanes``, ``max_length`` and ``batch`` count.
    gated_clocks : bool
        The unit is in the domains of :data:`CLOCKS` instead of ``sync``, see trilobit.hdl.core.

    Members
    -------
    cmd : In(CommandSignature()), retire : Out(RetireSignature())
    active : Out(1)
        An instruction waits or is in the pipeline.
    edges : Out(len(CLOCKS))
        Whether an edge of each of :data:`CLOCKS` could change anything in this cycle.
    saturated : Out(range(lanes * batch + 1))
        Elements that saturated, of the word that is written in this cycle; zero in other cycles.
    a, b, c : Out(ReadSignature(config)), write : Out(WriteSignature(config))
    seed : In(32), position : In(32 * batch)
        Key of the noise; stable from an argmax's command on. Slot b takes seed + b (modulo 2^32) and its own position,
        ``position.word_select(b, 32)``.
    temperature_m : In(16), temperature_e : In(signed(10))
        ``1 / (T ln 2)``; mantissa 0 means no noise. Stable while an argmax runs.
    token_valid : Out(1), token : Out(24 * batch)
        One cycle, when an argmax with ``last`` retires; slot b's token is ``token.word_select(b, 24)``.
    """

    def __init__(self, config: CoreConfig, *, gated_clocks: bool = False):
        self.config = config
        self.gated_clocks = gated_clocks
        super().__init__({
            "cmd": In(CommandSignature()), "retire": Out(RetireSignature()), "active": Out(1), "edges": Out(len(CLOCKS)),
            "saturated": Out(range(config.word_elements + 1)),
            "a": Out(ReadSignature(config)), "b": Out(ReadSignature(config)), "c": Out(ReadSignature(config)),
            "write": Out(WriteSignature(config)),
            "seed": In(32), "position": In(32 * config.batch), "temperature_m": In(16), "temperature_e": In(signed(EXPONENT_BITS)),
            "token_valid": Out(1), "token": Out(TOKEN_BITS * config.batch),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        lanes = self.config.lanes
        lane_bits = (lanes - 1).bit_length()
        base, front, back, noise_clock = CLOCKS[:4] if self.gated_clocks else ("sync",) * 4

        def section(cycle):
            if cycle < 2:
                return front
            return next((f"rowwise_{first}" for first, last in _SECTIONS if first <= cycle <= last), back)

        stage = section if self.gated_clocks else one_domain
        slots = [[RowWiseLane(stage, noisy=i == 0) for i in range(lanes)] for _ in range(self.config.batch)]
        every_lane = [lane for units in slots for lane in units]
        for number, units in enumerate(slots):
            for i, lane in enumerate(units):
                m.submodules[of_slot(f"lane{i}", number)] = lane

        # ---- the instruction whose words enter (cycle 0) ---------------------------------------------------------------
        accept, occupied, enter, last = Signal(), Signal(), Signal(), Signal()

        def field(name):
            return decode(self.cmd.word, name)

        def is_op(*names):
            return Cat(field("op") == ISA.by_name[name].opcode for name in names).any()

        def held(name, value):
            """A value taken from the instruction when it is accepted."""
            value = Value.cast(value)
            register = Signal(value.shape(), name=f"held_{name}", reset_less=True)
            with m.If(accept):
                m.d[front] += register.eq(value)
            return register

        last_index = (field("len") - 1)[:16]
        va, vb, vc, vd, shb, sho, sha, neg = (
            held(name, field(name)) for name in ("va", "vb", "vc", "vd", "shb", "sho", "sha", "neg")
        )  # fmt: skip
        last_word, tail = held("last_word", last_index[lane_bits : lane_bits + len(self.a.addr)]), held("tail", last_index[:lane_bits])
        uses_a, uses_b, uses_c = (
            held(f"uses_{v}", is_op(*(op for op in _FLAGS if v in ISA.by_name[op].reads))) for v in ("va", "vb", "vc")
        )  # fmt: skip
        argmax, noisy = held("argmax", is_op("argmax")), held("noisy", field("noise") & self.temperature_m.any())
        wide = held("wide", field("wide") | is_op(*_WIDE))
        flags = {name: held(name, is_op(*(op for op in _FLAGS if name in _FLAGS[op]))) for name in _FLAG_NAMES}
        # The constant of p: 2^17 and 2^16 for exp and sig, 1 << sha for onem, imm << sha.
        constant = held("constant", Mux(is_op("onem", *_CONSTANTS), 1, Mux(is_op("addi", "muli"), field("imm"), 0)))
        constant_shift = held("constant_shift", field("sha")[:5])
        for op, shift in _CONSTANTS.items():
            with m.If(accept & is_op(op)):
                m.d[front] += constant_shift.eq(shift)

        word, element = Signal(len(self.a.addr)), Signal(lane_bits)
        more = Signal()  # argmax has entered element 0 of its word: the others follow without asking
        word_done = Signal()
        may_read = (self.a.ok | ~uses_a) & (self.b.ok | ~uses_b) & (self.c.ok | ~uses_c)
        m.d.comb += [
            more.eq(element != 0),
            enter.eq(occupied & (more | (may_read & (self.write.ok | argmax)))),
            last.eq((word == last_word) & (~argmax | (element == tail))),
            word_done.eq(~argmax | (element == lanes - 1)),
            self.cmd.ready.eq(~occupied | (enter & last)),
            accept.eq(self.cmd.valid & self.cmd.ready),
            self.a.en.eq(enter & ~more & uses_a),
            self.b.en.eq(enter & uses_b),
            self.c.en.eq(enter & uses_c),
            self.write.chk_reg.eq(vd),
            self.write.chk_addr.eq(word),
        ]
        for port, register in ((self.a, va), (self.b, vb), (self.c, vc)):
            m.d.comb += [port.reg.eq(register), port.addr.eq(word)]
        with m.If(enter):
            m.d[front] += [word.eq(Mux(last, 0, word + word_done)), element.eq(Mux(last | word_done, 0, element + 1))]
        with m.If(self.cmd.ready):
            m.d[front] += occupied.eq(self.cmd.valid)

        # ---- along the pipeline ------------------------------------------------------------------------------------------
        tick = Signal(5)
        m.d[base] += tick.eq(tick + 1)

        def chain(name, value, cycle=0):
            return Chain(m, name, value, cycle, stage)

        lasts, argmaxes, noisies = chain("last", last), chain("argmax", argmax), chain("noisy", noisy)
        # A bit of ``flight`` for each cycle from 1 on that has a word. The end of the pipeline has a copy of its last two bits, and whether
        # there is any, that change only with a word there.
        flight, noisy_flight = Signal(RETIRE_LATENCY), Signal(18)
        noisy_enter = enter & argmax & noisy
        valid20, valid21, flying = Signal(), Signal(), Signal()
        m.d[base] += [flight.eq(Cat(enter, flight)), noisy_flight.eq(Cat(noisy_enter, noisy_flight))]
        m.d[back] += [valid20.eq(flight[19 - 1]), valid21.eq(valid20), flying.eq(enter | flight[:-1].any())]
        m.d.comb += [
            self.active.eq(occupied | flying),
            self.edges.eq(Cat(
                enter | flying, enter | accept, enter | flight[19 - 1 :].any(), noisy_enter | noisy_flight.any(),
                *(flight[first - 2 : last - 1].any() for first, last in _SECTIONS),
            )),
        ]  # fmt: skip

        # Cycle 1: the operands. The further elements of argmax come from the lane above, into lane 0, where they are
        # multiplied by the temperature or by one.
        # Registers of a chain belong outside of m.If: made within one, they would hold their value while its condition is false.
        neighbour1, argmax1, noisy1 = chain("more", more).at(1), argmaxes.at(1), noisies.at(1)
        for number, units in enumerate(slots):
            for i, lane in enumerate(units):
                place = number * lanes + i
                a, b, c = (port.data.word_select(place, ELEMENT_BITS).as_signed() for port in (self.a, self.b, self.c))
                above = units[i + 1].a_held if i + 1 < lanes else a
                m.d.comb += [
                    lane.a.eq(Mux(neighbour1, above, a)),
                    lane.b.eq(b),
                    lane.c.eq(c),
                    lane.tick.eq(tick),
                ]
            with m.If(argmax1):
                m.d.comb += units[0].c.eq(Mux(noisy1, self.temperature_m, 1))

        # Cycles 0 to 2: the shift of argmax takes the temperature's 16 fraction bits away, and never goes to the left.
        scale, shift1 = Signal(signed(12)), Signal(signed(8), reset_less=True)
        m.d.comb += scale.eq(Cat(sha[:6], 0).as_signed() - 16 - self.temperature_e)
        scale_shift = Mux(scale < 0, 0, Mux(scale > SHIFT_LIMIT, SHIFT_LIMIT, scale))
        m.d[front] += shift1.eq(Mux(argmax, Mux(noisy, scale_shift, 0), sho))

        # Cycle 1: the shift of b, to the left: a power of two up to 2^15, then by -32 to 16.
        constant1 = Signal(signed(32), reset_less=True)
        m.d[stage(1)] += constant1.eq(constant << constant_shift)
        shb1 = chain("shb", shb).at(1)
        left1, power2 = Signal(signed(6)), Signal(16, reset_less=True)
        m.d.comb += left1.eq(-shb1)
        m.d[stage(2)] += power2.eq(1 << left1[:4])
        coarse3 = chain("coarse", Cat(~left1[4], left1[5]), 1).at(3)

        control = {
            "k2": chain("constant", constant1, 1).at(2), "power2": power2, "coarse3": coarse3,
            "mirror4": chain("mirror", neg).at(4), "shift7": chain("shift", shift1, 1).at(7), "wide19": chain("wide", wide).at(19),
            "noise18": noisies.at(18),
        }  # fmt: skip
        for name in _FLAG_NAMES:
            control[name] = chain(name, flags[name]).at(int(re.search(r"\d+$", name)[0]))
        for lane in every_lane:
            m.d.comb += [lane.control[name].eq(value) for name, value in control.items()]

        # ---- results (cycles 19 to 21) --------------------------------------------------------------------------------------
        # What the results of an instruction need waits in a queue; words and elements are counted again.
        waiting = data.StructLayout({"vd": 3, "pc": 16, "tail": lane_bits, "first": 1, "commit": 1})
        m.submodules.queue = queue = Memory(shape=waiting, depth=_IN_FLIGHT, init=[], attrs={"ram_style": "block", "no_rw_check": 1})
        put, get = queue.write_port(domain=front), queue.read_port(domain=stage(19))
        put_at, get_at = Signal(range(_IN_FLIGHT)), Signal(range(_IN_FLIGHT))
        m.d.comb += [
            put.en.eq(accept), put.addr.eq(put_at), get.addr.eq(get_at),
            put.data.vd.eq(field("vd")), put.data.pc.eq(self.cmd.pc), put.data.tail.eq(last_index[:lane_bits]),
            put.data.first.eq(field("first")), put.data.commit.eq(field("last")),
        ]  # fmt: skip
        m.d[front] += put_at.eq(put_at + accept)
        m.d[stage(19)] += get_at.eq(get_at + (flight[18 - 1] & lasts.at(18)))
        entry20, written = Signal(waiting, reset_less=True), Signal(len(word))
        m.d[stage(20)] += entry20.eq(get.data)
        last20, argmax20 = lasts.at(20), argmaxes.at(20)
        with m.If(valid20):
            m.d[back] += written.eq(Mux(last20, 0, written + 1))
        m.d.comb += [
            self.write.en.eq(valid20 & ~argmax20),
            self.write.reg.eq(entry20.vd),
            self.write.addr.eq(written),
            self.write.mask.eq(Cat(~last20 | (entry20.tail >= i) for i in range(lanes))),
            self.write.data.eq(Cat(lane.result for lane in every_lane)),
            self.saturated.eq(sum((lane.saturated & self.write.mask[i % lanes] & self.write.en) for i, lane in enumerate(every_lane))),
            self.retire.valid.eq(valid21 & lasts.at(21)),
            self.retire.pc.eq(chain("pc", entry20.pc, 20).at(21)),
        ]

        # ---- argmax (the noise is added in cycle 18, search in cycle 20) -------------------------------------------------------
        index = Signal(TOKEN_BITS, reset_less=True)
        with m.If(accept):
            m.d[front] += index.eq(field("base"))
        with m.Elif(enter):
            m.d[front] += index.eq(index + 1)
        early = chain("index", index).at(18 - NOISE_LATENCY)
        found = delay_in_memory(m, "index_delay", tick, early, 18 - NOISE_LATENCY, 20, stage)
        for number, units in enumerate(slots):
            noise, search = GumbelNoise(), ArgmaxSearch()
            m.submodules[of_slot("noise", number)] = DomainRenamer(noise_clock)(noise)
            m.submodules[of_slot("search", number)] = DomainRenamer(back)(search)
            m.d.comb += [
                noise.seed.eq(self.seed + number if number else self.seed),
                noise.position.eq(self.position.word_select(number, 32)),
                noise.index.eq(early),
                units[0].noise.eq(noise.o),
                search.valid.eq(valid20 & argmax20),
                search.last.eq(last20),
                search.restart.eq(entry20.first),
                search.score.eq(units[0].result),
                search.index.eq(found),
                self.token.word_select(number, TOKEN_BITS).eq(search.best),
            ]
        m.d.comb += self.token_valid.eq(self.retire.valid & argmaxes.at(21) & chain("commit", entry20.commit, 20).at(21))
        return m
