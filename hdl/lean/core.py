"""The lean core: the instruction set on one serial vector engine, run by microcode. docs/decisions/0008-lean.md says why."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import connect, flipped
from amaranth.utils import ceil_log2

from trilobit.hdl.counters import COUNTERS, SweptCounters
from trilobit.hdl.fifo import BlockFifo
from trilobit.hdl.interfaces import ELEMENT_BITS, Fault, core_ports, decode
from trilobit.hdl.lean.engine import Engine
from trilobit.hdl.lean.memory import LeanMemory
from trilobit.hdl.lean.micro import Cond, Kind, Slice, Strobe, Target
from trilobit.hdl.lean.microprogram import microprogram
from trilobit.hdl.lean.sequencer import Sequencer, micro_field
from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.pc_slots import TOKEN_BITS
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA, UNITS

__all__ = ["LeanCore"]

QUEUE_DEPTH = 64
WORD = 36
EXPONENT_AT = 17  # exponents stand in bits 24..17 of a word
# The counters that count; the others, why an instruction couldn't be issued, read zero: nothing is issued before the latest one is over.
LIVE = ("cycles", "issued", "busy_ldst", "busy_rmsnorm", "busy_tmatmul", "busy_rowwise", "matmul_beats", "matmul_wait_weights",
        "stream_read_beats", "ldst_read_beats", "write_beats", "saturated")  # fmt: skip


class LeanCore(wiring.Component):
    """A core of few gates: instructions run one after the other, elements one a clock and pass; only the stream is fetched ahead.

    Its ports and its results are those of :class:`trilobit.hdl.core.Core` with one lane and a batch of one. Times are those of its
    microprogram (:mod:`trilobit.hdl.lean.microprogram`), never of data.

    Parameters
    ----------
    config: core parameters, of ``machine`` "lean".
    debug: whether registers can be read out through ``dbg_*``.
    program: instruction words at power-on, where no host writes them.

    Members
    -------
    As :class:`trilobit.hdl.core.Core`. ``events``: of the counters that this core has.
    """

    def __init__(self, config: CoreConfig, *, debug: bool = True, program: Sequence[int] = ()):
        self.config = config
        self.debug = debug
        self.program = program
        super().__init__(core_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        program = microprogram(config)
        sequencer = Sequencer(program)
        # Between programs it stands at its first microinstruction: how long those are apart doesn't move the next one's times.
        m.submodules.sequencer = ResetInserter(~self.running)(sequencer)
        m.submodules.engine = engine = Engine(config, program.values, debug=self.debug)
        m.submodules.memory = mem = LeanMemory(config)
        m.submodules.tmatmul = product = TernaryMatmul(config)
        m.submodules.prompts = prompts = BlockFifo(TOKEN_BITS, QUEUE_DEPTH)
        m.submodules.outputs = outputs = BlockFifo(TOKEN_BITS, QUEUE_DEPTH)
        connect(m, mem.mem, flipped(self.mem))
        micro, conditions = sequencer.micro, Signal(len(Cond))

        def at_end(strobe: Strobe):
            return sequencer.strobes[strobe]

        def target(which: Target):
            return engine.hw_en[which]

        # ---- the instruction ---------------------------------------------------------------------------------------------
        m.submodules.imem = imem = memory.Memory(
            shape=ISA.word_bits, depth=config.program_words, init=self.program, attrs={"no_rw_check": 1, "ram_style": "block"}
        )
        fetch, store = imem.read_port(), imem.write_port()
        word, pc = Signal(ISA.word_bits), Signal(16)
        retires = at_end(Strobe.RETIRE) | at_end(Strobe.RETIRE_BRANCH)
        m.d.comb += [
            store.en.eq(self.prog_en), store.addr.eq(self.prog_addr), store.data.eq(self.prog_data),
            fetch.addr.eq(pc), fetch.en.eq(1), sequencer.opcode.eq(word[:8]),
        ]  # fmt: skip
        m.d.sync += word.eq(fetch.data)
        with m.If(at_end(Strobe.BEGIN)):
            m.d.sync += pc.eq(0)
        with m.Elif(at_end(Strobe.RETIRE_BRANCH)):
            m.d.sync += pc.eq(decode(word, "target"))
        with m.Elif(at_end(Strobe.RETIRE)):
            m.d.sync += pc.eq(pc + 1)

        # ---- engine ------------------------------------------------------------------------------------------------------
        queue_write, queue_read = Signal(3), Signal(3)
        m.d.comb += [
            engine.micro.eq(micro), engine.word.eq(word), engine.queue_write.eq(queue_write), engine.queue_read.eq(queue_read),
            engine.start.eq(sequencer.start), sequencer.ready.eq(engine.ready), sequencer.drained.eq(engine.drained),
            sequencer.ending.eq(engine.ending), sequencer.conditions.eq(conditions),
        ]  # fmt: skip
        m.d.sync += [queue_write.eq(queue_write + at_end(Strobe.PUSH)), queue_read.eq(queue_read + at_end(Strobe.MEET))]
        with m.If(at_end(Strobe.BEGIN)):
            m.d.sync += [queue_write.eq(0), queue_read.eq(0)]
        elements = Signal()  # a move of elements goes on
        from_memory = (micro_field(micro, "slice") == Slice.STREAM) | (micro_field(micro, "slice") == Slice.LOAD)
        moves = sequencer.start & (micro_field(micro, "kind") == Kind.MOVE)
        slice_word, slice_valid = self._slices(m, micro, moves & ~from_memory, word, prompts)
        m.d.comb += [
            engine.move_valid.eq(slice_valid | mem.element_valid & elements), engine.move_data.eq(slice_word | mem.element_data),
            mem.element_start.eq(moves & from_memory), mem.element_load.eq(micro_field(micro, "slice") == Slice.LOAD),
            mem.element_wide.eq(decode(word, "wide")), mem.element_signed.eq(micro_field(micro, "signed")),
            mem.element_ready.eq(elements), mem.element_end.eq(elements & engine.ending),
        ]  # fmt: skip
        with m.If(moves & from_memory):
            m.d.sync += elements.eq(1)
        with m.Elif(elements & engine.ending):
            m.d.sync += elements.eq(0)

        # ---- memory ------------------------------------------------------------------------------------------------------
        m.d.comb += [
            mem.hw_data.eq(engine.hw_data), mem.set_address.eq(target(Target.ADDRESS)), mem.set_beats.eq(target(Target.BEATS)),
            mem.set_region.eq(target(Target.REGION)), mem.set_region_end.eq(target(Target.REGION_END)),
            mem.push.eq(at_end(Strobe.PUSH)), mem.hold.eq(at_end(Strobe.HOLD)), mem.release.eq(at_end(Strobe.RELEASE)),
            mem.read.eq(at_end(Strobe.READ)), mem.reread.eq(at_end(Strobe.REREAD)), mem.write.eq(at_end(Strobe.WRITE)),
            mem.zeros.eq(at_end(Strobe.ZEROS)), mem.store_start.eq(at_end(Strobe.STORE_START)), mem.flush.eq(at_end(Strobe.FLUSH)),
            mem.begin.eq(at_end(Strobe.BEGIN)),
            mem.store_en.eq(engine.store_en), mem.store_data.eq(engine.store_data), mem.store_wide.eq(decode(word, "wide")),
            mem.gain_push.eq(engine.gain_push), mem.gain_data.eq(engine.gain_data), mem.gain_pop.eq(engine.gain_pop),
            engine.gain_in.eq(mem.gain_out),
        ]  # fmt: skip

        product_done = self._product(m, engine, mem, product, word, at_end(Strobe.PRODUCT))

        # ---- host --------------------------------------------------------------------------------------------------------
        m.d.comb += [
            prompts.i_valid.eq(self.prompt_valid), prompts.i_data.eq(self.prompt_token), self.prompt_ready.eq(prompts.i_ready),
            prompts.o_ready.eq(at_end(Strobe.POP)),
            outputs.i_valid.eq(target(Target.OUT)), outputs.i_data.eq(engine.hw_data),
            self.out_valid.eq(outputs.o_valid), self.out_token.eq(outputs.o_data), outputs.o_ready.eq(self.out_ready),
            self.waiting.eq(self.running & (micro_field(micro, "strobe") == Strobe.WAITING) & ~prompts.o_valid),
        ]  # fmt: skip
        with m.If(self.start & ~self.running):
            m.d.sync += [self.running.eq(1), self.halted.eq(0), self.fault.eq(Fault.NONE)]
        with m.If(at_end(Strobe.HALT)):
            m.d.sync += [self.running.eq(0), self.halted.eq(1)]
        with m.If(at_end(Strobe.FAULT)):
            m.d.sync += [self.running.eq(0), self.fault.eq(micro_field(micro, "fault")), self.fault_pc.eq(pc)]

        unit = sequencer.unit
        m.d.comb += [
            self.retire_valid.eq(Mux(retires, 1 << unit, 0)), self.retire_pc.eq(pc.replicate(len(UNITS))),
            self.issue_valid.eq(at_end(Strobe.DISPATCH)), self.issue_pc.eq(pc), self.stream_level.eq(mem.level),
        ]  # fmt: skip
        if self.debug:
            m.d.comb += [
                engine.debug.eq(~self.running), engine.debug_page.eq(self.dbg_reg), engine.debug_index.eq(self.dbg_addr),
                self.dbg_data.eq(engine.debug_data),
            ]  # fmt: skip

        # ---- conditions --------------------------------------------------------------------------------------------------
        length, shift = decode(word, "len"), ceil_log2(config.beat_bytes)
        values = {
            Cond.ALWAYS: Const(1), Cond.NEGATIVE: engine.negative, Cond.ZERO: engine.zero, Cond.ERROR: mem.error,
            Cond.PC_BAD: pc >= self.program_length, Cond.LENGTH_BAD: (length == 0) | (length > config.max_length),
            Cond.ADDRESS_HIGH: decode(word, "addr")[32 + shift :].any(),
            **{cond: decode(word, cond.name.lower()) for cond in (Cond.WIDE, Cond.GAIN, Cond.SCALED, Cond.NEG, Cond.FIRST, Cond.LAST,
                                                                   Cond.NOISE, Cond.ACT)},
            Cond.QUEUE_EMPTY: queue_write == queue_read, Cond.QUEUE_FULL: (queue_write - queue_read)[1:3].all(), Cond.GAINS: mem.gain_some,
            Cond.QUIET: mem.quiet, Cond.READ_DONE: mem.read_done, Cond.WRITE_DONE: mem.write_done, Cond.TAKEN: mem.taken,
            Cond.PRODUCT_DONE: product_done, Cond.PROMPT: prompts.o_valid, Cond.OUT_READY: outputs.i_ready, Cond.FLUSHED: mem.flushed,
        }  # fmt: skip
        m.d.comb += [conditions[cond].eq(value) for cond, value in values.items()]

        # ---- counters ----------------------------------------------------------------------------------------------------
        m.submodules.counters = counters = SweptCounters(saturated_bits=1, live=LIVE)
        busy = Signal()  # an instruction is under way
        m.d.sync += busy.eq((busy | at_end(Strobe.DISPATCH)) & ~retires & self.running)
        counts = {
            "cycles": 1, "issued": at_end(Strobe.DISPATCH),
            **{f"busy_{name}": busy & (unit == k) for k, name in enumerate(UNITS) if name != "control"},
            "matmul_beats": product.beat, "matmul_wait_weights": product.wait_weights, "stream_read_beats": mem.stream_read_beat,
            "ldst_read_beats": mem.load_read_beat, "write_beats": mem.write_beat,
        }  # fmt: skip
        m.d.comb += [counters.events[LIVE.index(name)].eq(event) for name, event in counts.items()]
        m.d.comb += [self.events[COUNTERS.index(name)].eq(event) for name, event in counts.items()]
        m.d.comb += [
            counters.enable.eq(self.running), counters.clear.eq(self.start & ~self.running),
            counters.saturated.eq(engine.saturated | product.saturated.any()),  # never both: the product runs alone
            counters.select.eq(self.counter_select), self.counter_value.eq(counters.value),
        ]  # fmt: skip
        return m

    def _slices(self, m, micro, begins, word, prompts):
        """16 bits from outside: the word of a move, one cycle after it ``begins``, and zero else."""
        shift = ceil_log2(self.config.beat_bytes)
        address = decode(word, "addr")[shift:]
        temperature = Cat(self.temperature_e, self.temperature_e[-1].replicate(6))
        sources = {
            **{Slice(Slice.WORD2 + k): word.word_select(2 + k, 16) for k in range(6)},
            Slice.ADDRESS0: address[:16], Slice.ADDRESS1: address[16:32],
            Slice.WINDOW0: self.window_size[shift : shift + 16], Slice.WINDOW1: self.window_size[shift + 16 : shift + 32],
            Slice.WRITE0: self.write_start[shift : shift + 16], Slice.WRITE1: self.write_start[shift + 16 : shift + 32],
            Slice.EOS0: self.eos[:16], Slice.EOS1: self.eos[16:], Slice.LIMIT0: self.limit[:16], Slice.LIMIT1: self.limit[16:],
            Slice.SEED0: self.seed[:16], Slice.SEED1: self.seed[16:], Slice.TEMPERATURE_M: self.temperature_m,
            Slice.TEMPERATURE_E: temperature, Slice.PROMPT0: prompts.o_data[:16], Slice.PROMPT1: prompts.o_data[16:],
        }  # fmt: skip
        chosen, valid, value = Signal(16), Signal(), Signal(WORD)
        with m.Switch(micro_field(micro, "slice")):
            for number, source in sources.items():
                with m.Case(number):
                    m.d.comb += chosen.eq(source)
        sign = chosen[-1] & micro_field(micro, "signed")
        m.d.sync += [valid.eq(begins), value.eq(0)]
        with m.If(begins):
            m.d.sync += value.eq(Cat(chosen, sign.replicate(WORD - 16)))
        return value, valid

    def _product(self, m, engine, mem, product, word, begins):
        """The ternary product with its activations; what its header would say has been checked by the microcode."""
        config = self.config
        n = config.beat_bytes
        beats = -(-config.max_length // n)
        half = ceil_log2(beats)
        m.submodules.activations = activations = memory.Memory(
            shape=8 * n, depth=2 << half, init=[], attrs={"no_rw_check": 1, "ram_style": "block"}
        )
        rport, wport = activations.read_port(), activations.write_port(granularity=8)
        lane = ceil_log2(n)
        act = product.act
        m.d.comb += [
            wport.addr.eq(Cat(engine.act_index[lane : lane + half], decode(word, "act"))),
            wport.data.eq(engine.act_data.replicate(n)), wport.en.eq(Mux(engine.act_en, 1 << engine.act_index[:lane], 0)),
            rport.addr.eq(Cat(act.beat[:half], act.buf)), rport.en.eq(act.en), act.data.eq(rport.data),
        ]  # fmt: skip
        waiting, busy = Signal(), Signal()  # for the unit to take it; until its last result is in its register
        header = product.header
        loads = {
            Target.COLUMNS: (header.columns, 0), Target.SEGMENT_M: (header.scale.mantissa, 0), Target.ACT_M: (act.scale[0].mantissa, 0),
            Target.SEGMENT_E: (header.scale.exponent, EXPONENT_AT), Target.ACT_E: (act.scale[0].exponent, EXPONENT_AT),
        }  # fmt: skip
        for which, (port, low) in loads.items():
            bits = 8 if low else len(port)
            register = Signal(signed(bits) if low else bits, name=which.name.lower(), reset_less=True)
            with m.If(engine.hw_en[which]):
                m.d.sync += register.eq(engine.hw_data[low : low + bits])
            m.d.comb += port.eq(register)
        with m.If(begins):
            m.d.sync += [waiting.eq(1), busy.eq(1)]
        with m.Elif(product.cmd.ready):
            m.d.sync += waiting.eq(0)
        # Results go through a register that is zero without one.
        result, valid, last = Signal(ELEMENT_BITS), Signal(), Signal()
        m.d.sync += [valid.eq(product.write.en), last.eq(product.retire.valid), result.eq(Mux(product.write.en, product.write.data, 0))]
        with m.If(last):
            m.d.sync += busy.eq(0)
        m.d.comb += [
            product.cmd.valid.eq(waiting), product.cmd.word.eq(word), product.header_valid.eq(1),
            header.addr.eq(decode(word, "addr")), header.rows.eq(decode(word, "len")), act.length.eq(header.columns),
            act.ok.eq(1), act.scale_ok.eq(1), product.write.ok.eq(1),
            product.weight_valid.eq(mem.weight_valid), product.weight_data.eq(mem.weight_data), mem.weight_ready.eq(product.weight_ready),
            engine.product_start.eq(begins), engine.product_valid.eq(valid), engine.product_data.eq(result),
        ]  # fmt: skip
        return ~busy
