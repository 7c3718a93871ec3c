"""The program counter: fetch, decode, in-order issue, and the control instructions."""

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.counters import STALLS
from trilobit.hdl.interfaces import CommandSignature, Fault, decode
from trilobit.hdl.pc_slots import COUNT_BITS, TOKEN_BITS, Slots
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA, VECTOR_REGISTERS, Opcode

__all__ = ["UNITS", "ProgramCounter"]

UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise")
WATCHDOG_BITS = 14


def _register_mask(op: Opcode, names: tuple[str, ...], word):
    """One bit a vector register that an instruction names in the given fields."""
    mask = 0
    for name in names:
        if ISA.fields[name].kind == "vreg":
            mask = mask | (1 << decode(word, name))
    return mask


class ProgramCounter(wiring.Component):
    """Issues instructions in order; an instruction leaves when its unit, its ports and what it waits for are free.

    Five stages: fetch (instruction memory), word, check (length and addresses), issue, and command: there an instruction that has been
    issued waits for its unit, making its claims; the next one leaves issue when it is gone. So no unit's readiness is looked at before the
    end of a cycle. A branch taken costs four clocks, an instruction of a unit two, ``emb`` three, any other one.
    A fault that is seen here (undefined opcode, length, address, read-only memory, token, pc outside the program) is precise: older
    instructions finish first. A fault reported by a unit stops the core at once.

    With a batch each slot has a token, a position, a count of emitted tokens and a queue of prompt tokens (:class:`Slots`); ``emit`` takes
    a cycle a slot.

    Parameters
    ----------
    config: core parameters.
    program: instruction words at power-on; the host may write others.

    Members
    -------
    prog_en, prog_addr, prog_data, program_length: the host's side of the instruction memory.
    start: In(1). window_size, write_start, eos, limit: the host's settings.
    cmd[u]: commands to the units of ``UNITS``; retired: In(4), their retire pulses.
    claim...: claims on registers and activation buffers, with the busy bits that they wait for.
    prompt_*: waiting prompt tokens, a queue a slot; new_token_*: what argmax commits.
    out_*: emitted tokens; with a batch out_slot says whose.
    push_*: the stream's queue. flush, stream_idle: dropping what was fetched ahead.
    unit_fault: In(4) of Fault codes' bits, see core. stop: Out, a fault has been taken.
    stall: Out, one bit of STALLS at most. token, position: for embedding and sampling, slot by slot.
    changes: Out(1), low when a clock edge changes nothing.
    """

    def __init__(self, config: CoreConfig, *, program: Sequence[int] = ()):
        self.config = config
        self.program = program
        batch = config.batch
        super().__init__({
            "prog_en": In(1), "prog_addr": In(16), "prog_data": In(ISA.word_bits), "program_length": In(16),
            "start": In(1), "window_size": In(40), "write_start": In(40), "eos": In(24), "limit": In(32),
            "cmd": Out(CommandSignature()).array(len(UNITS)), "retired": In(len(UNITS)), "unit_pc": Out(16).array(len(UNITS)),
            "claim": Out(1), "claim_reads": Out(VECTOR_REGISTERS), "claim_writes": Out(VECTOR_REGISTERS),
            "claim_last": Out(range(config.words)), "claim_writer": Out(len(UNITS)),
            "read_busy": In(VECTOR_REGISTERS), "write_busy": In(VECTOR_REGISTERS),
            "claim_act_write": Out(1), "claim_act_read": Out(1), "claim_act": Out(1), "act_write_busy": In(2), "act_read_busy": In(2),
            "prompt_valid": In(batch), "prompt_ready": Out(batch), "prompt_token": In(TOKEN_BITS * batch),
            "new_token_valid": In(1), "new_token": In(TOKEN_BITS * batch),
            "out_valid": Out(1), "out_ready": In(1), "out_token": Out(TOKEN_BITS),
            "push_valid": Out(1), "push_ready": In(1), "push_addr": Out(40), "push_beats": Out(32), "flush": Out(1), "stream_idle": In(1),
            "unit_fault": In(4), "unit_fault_pc": In(16), "alive": In(1), "starved": In(1), "starved_pc": In(16),
            "running": Out(1), "halted": Out(1), "waiting": Out(1), "fault": Out(4), "fault_pc": Out(16),
            "issue_valid": Out(1), "issue_pc": Out(16), "issue_control": Out(1), "stall": Out(len(STALLS)),
            "token": Out(TOKEN_BITS * batch), "position": Out(COUNT_BITS * batch), "changes": Out(1),
        } | ({"out_slot": Out(range(batch))} if batch > 1 else {}))  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Written only while the core doesn't run; what is fetched then is dropped.
        m.submodules.imem = imem = memory.Memory(
            shape=ISA.word_bits, depth=config.program_words, init=self.program, attrs={"no_rw_check": 1}
        )
        fetch, store = imem.read_port(), imem.write_port()
        m.d.comb += [store.en.eq(self.prog_en), store.addr.eq(self.prog_addr), store.data.eq(self.prog_data)]

        # ---- the pipeline up to issue ------------------------------------------------------------------------------------
        advance, redirect, target = Signal(), Signal(), Signal(16)
        fetch_pc = Signal(16)
        f_valid, f_pc = Signal(), Signal(16)
        w_valid, w_pc, w_word = Signal(), Signal(16), Signal(ISA.word_bits)
        c_valid, c_pc, c_word = Signal(), Signal(16), Signal(ISA.word_bits)
        end, flags = Signal(42), _Flags(m, w_word, config)
        m.d.comb += [fetch.addr.eq(fetch_pc), fetch.en.eq(advance)]
        with m.If(advance):
            m.d.sync += [
                fetch_pc.eq(fetch_pc + 1),
                f_valid.eq(self.running), f_pc.eq(fetch_pc),
                w_valid.eq(f_valid), w_pc.eq(f_pc), w_word.eq(fetch.data),
                c_valid.eq(w_valid), c_pc.eq(w_pc), c_word.eq(w_word),
            ]  # fmt: skip
            flags.latch(m)
            elements = decode(w_word, "len")
            if config.batch > 1:
                words = (elements + (config.lanes - 1)) >> ceil_log2(config.lanes)
                elements = Mux(flags.word["whole_words"], words << ceil_log2(config.word_elements), elements)
            size = Mux(flags.word["in_beats"], decode(w_word, "beats") << ceil_log2(config.beat_bytes),
                       elements << Mux(decode(w_word, "wide"), 2, 1))  # fmt: skip
            m.d.sync += end.eq(decode(w_word, "addr") + size)
        # The last look before issue: comparisons whose operands were registered.
        i_valid, i_pc, word = Signal(), Signal(16), Signal(ISA.word_bits)
        i = _Issue(m, config)
        problem = Signal(Fault)
        m.d.comb += problem.eq(Fault.NONE)
        with m.If(c_pc >= self.program_length):
            m.d.comb += problem.eq(Fault.PROGRAM_COUNTER)
        with m.Elif(~flags.check["known"]):
            m.d.comb += problem.eq(Fault.BAD_OPCODE)
        with m.Elif(flags.check["has_len"] & ((decode(c_word, "len") == 0) | (decode(c_word, "len") > config.max_length))):
            m.d.comb += problem.eq(Fault.LENGTH)
        with m.Elif(flags.check["has_end"] & (end > self.window_size)):
            m.d.comb += problem.eq(Fault.ADDRESS)
        with m.Elif(flags.check["stores"] & (decode(c_word, "addr") < self.write_start)):
            m.d.comb += problem.eq(Fault.READ_ONLY)
        with m.If(advance):
            m.d.sync += [i_valid.eq(c_valid), i_pc.eq(c_pc), word.eq(c_word)]
            i.latch(m, c_word, problem)
        with m.If(redirect):
            m.d.sync += [fetch_pc.eq(target), f_valid.eq(0), w_valid.eq(0), c_valid.eq(0), i_valid.eq(0)]

        # ---- issue -------------------------------------------------------------------------------------------------------
        token_pending, slots = Signal(), Slots(m, self, config.batch)
        command, command_unit, command_pc, command_word = Signal(), Signal(len(UNITS)), Signal(16), Signal.like(word)
        inflight = Signal(6)
        counters = Array(Signal(16, name=f"x{k}") for k in range(4))
        counter = counters[decode(word, "cnt")]
        idle = (inflight == 0) & ~command
        # A token is compared in emb's first cycle at issue with the token known; the next one decides.
        compared, too_high = Signal(), Signal()
        compares = i_valid & ~advance & ~token_pending
        m.d.sync += [compared.eq(compares), too_high.eq(slots.beyond(decode(word, "rows")))]
        faulty = i.faulty | (i.is_("emb") & compared & too_high)
        act = decode(word, "act")
        go = self.running & i_valid & ~faulty
        blocked = {
            "read_port": (i.reads & self.read_busy).any(),
            "write_port": (i.writes & self.write_busy).any(),
            "activations": (i.act_write & self.act_write_busy.bit_select(act, 1)) | (i.act_read & self.act_read_busy.bit_select(act, 1)),
            "token": (i.reads_token & token_pending) | (i.is_("emb") & ~compared),
        }
        free = Signal()
        m.d.comb += free.eq(go & ~command & ~Cat(blocked.values()).any())
        issue, unit_busy, taken = Signal(), [], []
        for k, cmd in enumerate(self.cmd):
            m.d.comb += [cmd.valid.eq(command & command_unit[k]), cmd.word.eq(command_word), cmd.pc.eq(command_pc)]
            unit_busy.append(go & command & command_unit[k])
            taken.append(command_unit[k] & cmd.ready)
            with m.If(cmd.valid & cmd.ready):
                m.d.sync += self.unit_pc[k].eq(command_pc)
        with m.If(Cat(taken).any()):
            m.d.sync += command.eq(0)
        with m.If(issue & ~i.control):
            m.d.sync += [command.eq(1), command_unit.eq(i.unit), command_pc.eq(i_pc), command_word.eq(word)]
        control_ready = Signal()
        m.d.comb += [
            control_ready.eq(1),
            issue.eq(free & (~i.control | control_ready)),
            advance.eq(~i_valid | issue),
            self.issue_valid.eq(issue), self.issue_pc.eq(i_pc), self.issue_control.eq(issue & i.control),
            self.claim_writer.eq(command_unit), self.claim_act.eq(decode(command_word, "act")),
        ]  # fmt: skip
        # Claims follow in the next cycle, the command's first: nothing else is issued before they stand.
        m.d.sync += [
            self.claim.eq(issue & ~i.control), self.claim_reads.eq(i.reads), self.claim_writes.eq(i.writes), self.claim_last.eq(i.last),
            self.claim_act_write.eq(issue & i.act_write), self.claim_act_read.eq(issue & i.act_read),
        ]  # fmt: skip
        with m.If(issue & i.commits):
            m.d.sync += token_pending.eq(1)
        with m.If(self.new_token_valid):
            m.d.sync += token_pending.eq(0)
            slots.commit()
        m.d.sync += inflight.eq(inflight + self.claim - sum(self.retired))

        # ---- control instructions ----------------------------------------------------------------------------------------
        halting, dropping = Signal(), Signal()  # dropping: halting, halted or faulted
        m.d.comb += [self.out_token.eq(slots.sent()), target.eq(decode(word, "target"))]
        m.d.comb += [self.push_addr.eq(decode(word, "addr")), self.push_beats.eq(decode(word, "beats"))]
        with m.If(free & i.control):
            with m.If(i.is_("stream")):
                m.d.comb += [self.push_valid.eq(1), control_ready.eq(self.push_ready)]
            with m.If(i.is_("poll")):
                slots.poll()
            with m.If(i.is_("wait")):
                slots.wait(control_ready)
            with m.If(i.is_("bprompt")):
                m.d.comb += redirect.eq(slots.prompt)
            with m.If(i.is_("jump")):
                m.d.comb += redirect.eq(1)
            with m.If(i.is_("seti")):
                m.d.sync += counter.eq(decode(word, "imm"))
            with m.If(i.is_("loop")):
                with m.If(counter != 0):
                    m.d.sync += counter.eq(counter - 1)
                m.d.comb += redirect.eq(counter > 1)
            with m.If(i.is_("emit")):
                slots.emit(control_ready)
            with m.If(i.is_("bdone")):
                slots.bdone(redirect)
            with m.If(i.is_("halt")):
                m.d.comb += control_ready.eq(idle)
                with m.If(idle):
                    m.d.sync += [self.running.eq(0), halting.eq(1), dropping.eq(1)]
        m.d.comb += self.flush.eq(dropping)
        with m.If(halting & self.stream_idle):
            m.d.sync += [halting.eq(0), self.halted.eq(1)]

        # ---- faults, start -----------------------------------------------------------------------------------------------
        def take(code, pc):
            m.d.sync += [self.fault.eq(code), self.fault_pc.eq(pc), self.running.eq(0), dropping.eq(1)]

        watchdog, starved = Signal(WATCHDOG_BITS), Signal()
        m.d.sync += starved.eq(self.starved)  # of the cycle before: nothing has moved for long when it counts
        quiet = self.running & ~issue & ~self.alive & ~self.waiting & ~(self.out_valid & ~self.out_ready)
        m.d.sync += watchdog.eq(Mux(quiet, watchdog + 1, 0))
        m.d.comb += self.changes.eq(
            ~self.running | advance | self.claim | (command & Cat(taken).any()) | (compares ^ compared) | self.retired.any()
            | self.new_token_valid | (self.unit_fault != 0) | (i_valid & faulty) | quiet | watchdog.any()
        )  # fmt: skip
        if config.batch > 1:
            with m.If(slots.steps):
                m.d.comb += self.changes.eq(1)
        with m.If(self.running):
            with m.If(self.unit_fault != 0):
                take(self.unit_fault, self.unit_fault_pc)
            with m.Elif(watchdog.all() & starved):
                take(Fault.SEGMENT, self.starved_pc)
            with m.Elif(i_valid & faulty & idle):
                take(Mux(i.faulty, i.problem, Fault.TOKEN), i_pc)
        with m.If(self.start & ~self.running & ~halting):
            m.d.sync += [
                self.running.eq(1), self.halted.eq(0), self.fault.eq(0), fetch_pc.eq(0), i_valid.eq(0), c_valid.eq(0), w_valid.eq(0),
                f_valid.eq(0), *slots.start(), token_pending.eq(0), watchdog.eq(0), dropping.eq(0),
            ]  # fmt: skip

        causes = {
            "fetch": self.running & ~i_valid,
            **{f"unit_{name}": unit_busy[k] for k, name in enumerate(UNITS)},
            **{cause: go & condition for cause, condition in blocked.items()},
            "stream_queue": self.push_valid & ~self.push_ready, "host": self.waiting, "output": slots.output_stalls(control_ready),
            "drain": self.running & i_valid & ((i.is_("halt") & ~idle) | faulty),
        }  # fmt: skip
        earlier = 0  # when an instruction leaves, there is no cause
        for k, cause in enumerate(STALLS):
            m.d.comb += self.stall[k].eq(causes[cause] & ~earlier)
            earlier = earlier | causes[cause]
        return m


class _Flags:
    """What the check stage knows of an instruction, decoded from its opcode: ``word`` beside the word stage, ``check`` a stage later."""

    def __init__(self, m, word, config: CoreConfig):
        names = ("known", "has_len", "has_end", "in_beats", "stores", *(("whole_words",) if config.batch > 1 else ()))
        self.word = {name: Signal(name=f"w_{name}") for name in names}
        self.check = {name: Signal(name=f"c_{name}") for name in names if name != "whole_words"}
        with m.Switch(word[:8]):
            for op in ISA.by_name.values():
                fields = {f.name for f in op.fields}
                # A product's address is checked against its segment's header; a table's row when its token is known.
                flags = {
                    "known": 1, "has_len": "len" in fields, "has_end": op.unit == "ldst" or op.name == "stream",
                    "in_beats": "beats" in fields, "stores": op.name in ("sv", "clr"), "whole_words": op.name in ("ldv", "sv"),
                }  # fmt: skip
                with m.Case(op.opcode):
                    m.d.comb += [signal.eq(flags[name]) for name, signal in self.word.items()]

    def latch(self, m):
        """Register the flags with the word (inside the pipeline's advance)."""
        m.d.sync += [signal.eq(self.word[name]) for name, signal in self.check.items()]


class _Issue:
    """What the issue stage knows of an instruction."""

    CONTROL = (*(op.name for op in ISA.by_name.values() if op.unit == "control" and op.name != "nop"), "emb")

    def __init__(self, m, config: CoreConfig):
        self.config = config
        self.problem, self.faulty = Signal(Fault, name="i_problem"), Signal(name="i_faulty")
        self.unit, self.control = Signal(len(UNITS), name="i_unit"), Signal(name="i_control")
        self.reads, self.writes = Signal(VECTOR_REGISTERS, name="i_reads"), Signal(VECTOR_REGISTERS, name="i_writes")
        self.last = Signal(range(config.words), name="i_last")  # word of a vector
        self.act_read, self.act_write = Signal(name="i_act_read"), Signal(name="i_act_write")
        self.reads_token, self.commits = Signal(name="i_reads_token"), Signal(name="i_commits")
        self.named = {name: Signal(name=f"i_{name}") for name in self.CONTROL}

    def is_(self, name: str):
        """Whether the instruction at issue is this one."""
        return self.named[name]

    def latch(self, m, word, problem):
        """Register everything from the check stage's word (inside the pipeline's advance)."""
        lanes = self.config.lanes
        m.d.sync += [
            self.problem.eq(problem), self.faulty.eq(problem != Fault.NONE), self.last.eq((decode(word, "len") - 1) >> ceil_log2(lanes)),
            self.unit.eq(0), self.control.eq(0), self.reads.eq(0), self.writes.eq(0), self.act_read.eq(0), self.act_write.eq(0),
            self.reads_token.eq(0), self.commits.eq(0), *(flag.eq(0) for flag in self.named.values()),
        ]  # fmt: skip
        with m.Switch(word[:8]):
            for op in ISA.by_name.values():
                with m.Case(op.opcode):
                    m.d.sync += [
                        self.reads.eq(_register_mask(op, op.reads, word)), self.writes.eq(_register_mask(op, op.writes, word)),
                        self.reads_token.eq(op.reads_token), self.control.eq(op.unit == "control"),
                        self.act_write.eq(op.name == "normq"), self.act_read.eq(op.name == "tmatmul"),
                    ]  # fmt: skip
                    if op.unit in UNITS:
                        m.d.sync += self.unit.eq(1 << UNITS.index(op.unit))
                    if op.name == "argmax":
                        m.d.sync += self.commits.eq(decode(word, "last"))
                    if op.name in self.named:
                        m.d.sync += self.named[op.name].eq(1)
