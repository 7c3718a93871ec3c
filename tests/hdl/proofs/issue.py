"""What the program counter promises to the registers, to the activation buffers, to the units and to memory: the other proofs' assumptions.

Program, host and units do anything: the instruction memory is taken out, and what it answers is chosen anew in each cycle. The busy bits
are those of a register file that is only known to lend what is claimed.
"""

from amaranth.hdl import Cat, Mux, Signal
from amaranth.utils import ceil_log2

from proofs.solver import Harness, opened
from trilobit.hdl import pc as program_counter
from trilobit.hdl.interfaces import Fault, decode
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA, VECTOR_REGISTERS

__all__ = ["Issue"]

FREE = ("program_length", "start", "eos", "limit", "retired", "prompt_valid", "prompt_token",
        "new_token_valid", "new_token", "out_ready", "push_ready", "stream_idle", "unit_fault", "unit_fault_pc", "alive", "starved",
        "starved_pc")  # fmt: skip


class Issue(Harness):
    """:class:`trilobit.hdl.pc.ProgramCounter` of the core ``tiny``; ``source``: the module that has it, or a mutant."""

    def __init__(self, *, source=program_counter):
        super().__init__()
        self.config = load_core("tiny")
        self.dut, self.units = source.ProgramCounter(self.config), source.UNITS

    def build(self) -> None:
        m, dut = self.m, self.dut
        module, (self.inside,) = opened(dut)
        m.submodules.dut = module
        del module._named_submodules["imem"]
        self.inputs += [self.inside["fetch"].data]
        self.inputs += [getattr(dut, name) for name in FREE]
        self.inputs += [cmd.ready for cmd in dut.cmd]
        self.window, self.store_from = (self.constant(name, 1 << 40) for name in ("host_window", "host_write_start"))
        m.d.comb += [dut.window_size.eq(self.window), dut.write_start.eq(self.store_from)]
        # Lent from the claim to a return at any time.
        lent = []
        for name, claims, busy in (
            ("read", Mux(dut.claim, dut.claim_reads, 0), dut.read_busy), ("write", Mux(dut.claim, dut.claim_writes, 0), dut.write_busy),
            ("act_write", dut.claim_act_write << dut.claim_act, dut.act_write_busy),
            ("act_read", dut.claim_act_read << dut.claim_act, dut.act_read_busy),
        ):  # fmt: skip
            returned = self.free(f"{name}_returned", len(busy))
            held = Signal(len(busy), name=f"{name}_held")
            m.d.comb += busy.eq(held)
            m.d.sync += held.eq((held & ~returned) | claims)
            lent.append((claims & held) == 0)
        self.assumptions["a token is committed only when one is awaited"] = ~dut.new_token_valid | self.inside["token_pending"]
        self._promise(lent)
        self._invariants()

    def _masks(self, word):
        """The registers that an instruction reads and writes, and what else is looked up by its opcode."""
        reads, writes = Signal(VECTOR_REGISTERS), Signal(VECTOR_REGISTERS)
        known, has_len, has_end, stores, in_beats, unit = Signal(), Signal(), Signal(), Signal(), Signal(), Signal(len(self.units))
        m = self.m
        with m.Switch(word[:8]):
            for op in ISA.by_name.values():
                fields = {f.name for f in op.fields}
                with m.Case(op.opcode):
                    for mask, names in ((reads, op.reads), (writes, op.writes)):
                        for r in range(VECTOR_REGISTERS):
                            named = [decode(word, name) == r for name in names if ISA.fields[name].kind == "vreg"]
                            m.d.comb += mask[r].eq(Cat(named).any() if named else 0)
                    m.d.comb += [
                        known.eq(1),
                        has_len.eq("len" in fields),
                        stores.eq(op.name in ("sv", "clr")),
                        in_beats.eq("beats" in fields),
                    ]
                    m.d.comb += has_end.eq(op.unit == "ldst" or op.name == "stream")
                    m.d.comb += unit.eq(1 << self.units.index(op.unit) if op.unit in self.units else 0)
        length = decode(word, "len")
        size = Mux(in_beats, decode(word, "beats") << ceil_log2(self.config.beat_bytes), length << Mux(decode(word, "wide"), 2, 1))
        end = Signal(42)
        m.d.comb += end.eq(decode(word, "addr") + size)
        legal = (
            known & (~has_len | ((length != 0) & (length <= self.config.max_length))) & (~has_end | (end <= self.window))
            & (~stores | (decode(word, "addr") >= self.store_from))
        )  # fmt: skip
        last = Signal(16)
        m.d.comb += last.eq((length - 1) >> ceil_log2(self.config.lanes))
        return {"reads": reads, "writes": writes, "known": known, "has_len": has_len, "has_end": has_end, "stores": stores,
                "in_beats": in_beats, "unit": unit, "end": end, "legal": legal, "last": last}  # fmt: skip

    def _promise(self, lent: list) -> None:
        m, dut, inside = self.m, self.dut, self.inside
        any_command = Cat(cmd.valid for cmd in dut.cmd).any()
        taken = Cat(cmd.valid & cmd.ready for cmd in dut.cmd).any()
        word = dut.cmd[0].word  # the same for all
        self.expected = expected = self._masks(word)
        pending, word_before = Signal(name="pending_before"), Signal.like(word, name="word_before")
        m.d.sync += [pending.eq(any_command & ~taken), word_before.eq(word)]
        valid = Cat(cmd.valid for cmd in dut.cmd)
        one = [valid == 1 << k for k in range(len(self.units))]
        registers = dut.claim_reads | dut.claim_writes
        self.properties |= {
            "registers and buffers are claimed only when they aren't lent": Cat(lent).all(),
            "a claim comes with its command, once": dut.claim == (any_command & ~pending),
            "a command stays until its unit takes it": ~pending | (any_command & (word == word_before)),
            "a command goes to one unit, which its opcode names": ~any_command | (Cat(one).any() & (valid == expected["unit"])),
            "a claim's registers are those that the instruction names": ~dut.claim | (
                (dut.claim_reads == expected["reads"]) & (dut.claim_writes == expected["writes"])),
            "a claim has at most one destination": ~dut.claim | ((dut.claim_writes & (dut.claim_writes - 1)[:VECTOR_REGISTERS]) == 0),
            "a claim's write port is its unit's": ~dut.claim | (dut.claim_writer == valid),
            "a claim's last word is the instruction's and in the register": ~(dut.claim & registers.any()) | (
                (dut.claim_last == expected["last"]) & (expected["last"] < self.config.words)),
            "buffers are claimed with a command, one side at a time": (
                ~(dut.claim_act_write | dut.claim_act_read) | dut.claim) & ~(dut.claim_act_write & dut.claim_act_read),
            "buffers are claimed by normq and tmatmul alone, those that they name": ~dut.claim | (
                (dut.claim_act_write == (word[:8] == ISA.by_name["normq"].opcode))
                & (dut.claim_act_read == (word[:8] == ISA.by_name["tmatmul"].opcode)) & (dut.claim_act == decode(word, "act"))),
            "no command has an unknown opcode, a bad length, an address outside the window or a store below write_start":
                ~any_command | expected["legal"],
            "an embedding's token has a row": ~(dut.claim & (word[:8] == ISA.by_name["emb"].opcode)) | (
                dut.token < decode(word, "rows")),
        }  # fmt: skip
        self.covers |= {
            "a store waits for its unit": pending & any_command & (word[:8] == ISA.by_name["sv"].opcode),
            "an instruction waits for a register": inside["i_valid"] & (inside["i"].reads & dut.read_busy).any(),
            "an instruction is stopped for its address": inside["i_valid"] & inside["i"].faulty & (inside["i"].problem == Fault.ADDRESS),
        }
        names = {"f": "f_valid", "w": "w_valid", "c": "c_valid", "i": "i_valid"}
        self.shown |= {
            "is_running": dut.running, **{f"stage_{k}": inside[name] for k, name in names.items()}, "issued_word": inside["word"],
            "is_issue": inside["issue"], "claim_now": dut.claim, "claimed_reads": dut.claim_reads, "claimed_writes": dut.claim_writes,
            "claimed_last": dut.claim_last, "claimed_writer": dut.claim_writer, "act_write": dut.claim_act_write,
            "act_read": dut.claim_act_read, "act_number": dut.claim_act, "busy_reads": dut.read_busy, "busy_writes": dut.write_busy,
            "busy_act_writes": dut.act_write_busy, "busy_act_reads": dut.act_read_busy, "commands": valid, "command_opcode": word[:8],
            "unit_ready": Cat(cmd.ready for cmd in dut.cmd), "token_now": dut.token, "fault_code": dut.fault,
        }  # fmt: skip

    def _invariants(self) -> None:
        dut, inside = self.dut, self.inside
        command, flags, i = inside["command"], inside["flags"], inside["i"]
        check, issue = self._masks(inside["c_word"]), self._masks(inside["word"])
        token_before = Signal.like(dut.token, name="token_before")
        self.m.d.sync += token_before.eq(dut.token)
        names = ("known", "has_len", "has_end", "stores")
        word = inside["word"]
        self.invariants |= {
            "claim": ~dut.claim | command,
            "act claims": ~(dut.claim_act_write | dut.claim_act_read) | dut.claim,
            "unit": ~command | (inside["command_unit"] == self.expected["unit"]),
            "unit known": ~command | self.expected["unit"].any(),
            "check flags": ~inside["c_valid"] | Cat(flags.check[name] == check[name] for name in names).all(),
            "check end": ~inside["c_valid"] | (inside["end"] == check["end"]),
            "issue masks": ~inside["i_valid"] | (
                (i.reads == issue["reads"]) & (i.writes == issue["writes"]) & (i.unit == issue["unit"])
                & (i.act_write == (word[:8] == ISA.by_name["normq"].opcode)) & (i.act_read == (word[:8] == ISA.by_name["tmatmul"].opcode))
                & (i.is_("emb") == (word[:8] == ISA.by_name["emb"].opcode)) & (i.control == (issue["known"] & ~issue["unit"].any()))),
            "issue last": ~inside["i_valid"] | (i.last == issue["last"][: len(i.last)]),
            "issue legal": ~inside["i_valid"] | i.faulty | issue["legal"],
            "token looked at": ~(inside["i_valid"] & inside["compared"] & i.is_("emb")) | (
                ~inside["token_pending"] & (inside["too_high"] == (dut.token >= decode(word, "rows")))),
        }  # fmt: skip
