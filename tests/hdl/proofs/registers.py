"""What the register file promises, under what the program counter and the units guarantee.

One register is looked at; the others are used in any way, even wrong ones. The harness keeps its own books of the instruction that reads
the register and of the one that writes it: how far each has come, and which of the two is the older.
"""

from amaranth.hdl import Cat, Mux, Signal

from proofs.solver import Harness, opened
from trilobit.hdl import regfile
from trilobit.isa.core import load_core

__all__ = ["Register"]

ELEMENT_BITS = 32
LOOKED_AT = (0, ELEMENT_BITS - 1)  # bits of each element whose values are followed; the others have the same wires


class Register(Harness):
    """One register of :class:`trilobit.hdl.regfile.RegisterFile`.

    Parameters
    ----------
    words: words of a register; lanes: elements of a word, 1 to 4. reads, writes: unit ports.
    number: which register is looked at. debug: with the host's reads.
    source: the module that has ``RegisterFile``, or a mutant of it.
    """

    def __init__(self, *, words: int, reads: int, writes: int, number: int = 0, lanes: int = 2, batch: int = 1, debug: bool = True,
                 source=regfile):  # fmt: skip
        super().__init__()
        # The smallest register that a core may have is of 8 elements; the file itself takes any.
        config = load_core("tiny").replace(max_length=8, lanes=lanes, batch=batch)
        object.__setattr__(config, "max_length", words * lanes)
        assert config.words == words
        self.config, self.number, self.reads, self.writes, self.source = config, number, reads, writes, source
        self.dut = source.RegisterFile(config, reads=reads, writes=writes, debug=debug)

    def build(self) -> None:
        self._inputs()
        self._books()
        self._assume()
        self._promise()

    def _inputs(self) -> None:
        m, dut, r = self.m, self.dut, self.number
        m.submodules.dut, found = opened(dut, type(dut)._register, self.source._and_or)
        registers = [frame for frame in found if "sram" in frame]
        self.inside = registers[r]
        # One-hot selections are merged by _and_or: a write port's owner in each register, then the register behind each read port.
        self.selects = [frame["select"] for frame in found if "values" in frame][len(registers) :]
        self.inputs += [dut.claim, dut.claim_reads, dut.claim_writes, dut.claim_last, dut.claim_writer]
        self.inputs += [dut.debug, dut.debug_reg, dut.debug_addr]
        for port in dut.read:
            self.inputs += [port.reg, port.en]
        for port in dut.write:
            self.inputs += [port.chk_reg, port.reg, port.en, port.mask, port.data]
        self.reader_ports = self.free("reader_ports", self.reads)  # at a claim: the ports that the instruction reads through
        self.claims_read, self.claims_write = Signal(name="claims_read"), Signal(name="claims_write")
        self.asked, self.wrote = Signal(self.reads, name="asked"), Signal(self.writes, name="wrote")
        m.d.comb += [
            self.claims_read.eq(dut.claim & dut.claim_reads[r]), self.claims_write.eq(dut.claim & dut.claim_writes[r]),
            self.asked.eq(Cat(p.en & (p.reg == r) for p in dut.read)), self.wrote.eq(Cat(p.en & (p.reg == r) for p in dut.write)),
        ]  # fmt: skip

    def _books(self) -> None:
        """What is true, from the claims and from what the units do."""
        m, dut, words, r = self.m, self.dut, self.config.words, self.number

        def number(name):
            return Signal(range(words + 1), name=name)

        self.reading, self.writing = Signal(name="true_reading"), Signal(name="true_writing")
        self.rpos, self.wpos, self.rend, self.wend = (number(name) for name in ("words_read", "words_written", "read_end", "write_end"))
        self.ports, self.owner = Signal(self.reads, name="reads_through"), Signal(self.writes, name="writes_through")
        # At most one of these: the reader's instruction came after the writer's, before it, or both are one.
        self.reader_younger, self.writer_younger, self.same = (
            Signal(name=n) for n in ("reader_younger", "writer_younger", "one_instruction")
        )
        self.granted = Signal(name="granted")  # the writer has been told that it may write
        self.told = Signal(name="told")
        m.d.comb += self.told.eq(Cat(p.ok & (p.chk_reg == r) & o for p, o in zip(dut.write, self.owner, strict=True)).any())
        self.read, self.write = self.asked.any(), self.wrote.any()
        self.read_ends, self.write_ends = self.read & (self.rpos == self.rend), self.write & (self.wpos == self.wend)
        with m.If(self.writing & self.told):
            m.d.sync += self.granted.eq(1)
        with m.If(self.read):
            m.d.sync += self.rpos.eq(self.rpos + 1)
        with m.If(self.write):
            m.d.sync += self.wpos.eq(self.wpos + 1)
        with m.If(self.read_ends | self.write_ends):
            m.d.sync += [self.reader_younger.eq(0), self.writer_younger.eq(0), self.same.eq(0)]
        with m.If(self.read_ends):
            m.d.sync += self.reading.eq(0)
        with m.If(self.write_ends):
            m.d.sync += self.writing.eq(0)
        with m.If(self.claims_read):
            m.d.sync += [
                self.reading.eq(1), self.rpos.eq(0), self.rend.eq(dut.claim_last), self.ports.eq(self.reader_ports),
                self.reader_younger.eq(self.writing & ~self.write_ends), self.same.eq(self.claims_write),
            ]  # fmt: skip
        with m.If(self.claims_write):
            m.d.sync += [
                self.writing.eq(1), self.wpos.eq(0), self.wend.eq(dut.claim_last), self.owner.eq(dut.claim_writer), self.granted.eq(0),
                self.writer_younger.eq(self.reading & ~self.read_ends), self.same.eq(self.claims_read),
            ]  # fmt: skip
        self._values()

    def _values(self) -> None:
        """The value of one word, chosen by the solver, and what the reader must get: what older instructions wrote, in program order."""
        m, words, lanes = self.m, self.config.words, self.config.lanes
        elements = self.config.word_elements
        self.word = word = self.constant("word", words)

        def part(data):
            return [Cat(data[ELEMENT_BITS * e + bit] for bit in LOOKED_AT) for e in range(elements)]

        bits = len(LOOKED_AT) * elements
        self.value, self.promise, self.pending = Signal(bits, name="value"), Signal(bits, name="promised_value"), Signal(name="yet_to_come")
        after = Signal(bits, name="value_after")  # this cycle's write
        m.d.comb += after.eq(self.value)
        for wrote, port in zip(self.wrote, self.dut.write, strict=True):
            with m.If(wrote & (self.wpos == word)):
                old = [self.value.word_select(e, len(LOOKED_AT)) for e in range(elements)]
                pairs = enumerate(zip(part(port.data), old, strict=True))
                m.d.comb += after.eq(Cat(Mux(port.mask[e % lanes], new, kept) for e, (new, kept) in pairs))
        m.d.sync += self.value.eq(after)
        writes_it = self.write & (self.wpos == word)
        with m.If(self.claims_read):
            to_come = self.writing & ~writes_it & (self.wpos <= word) & (word <= self.wend)
            m.d.sync += [self.promise.eq(after), self.pending.eq(to_come)]
        with m.Elif(writes_it & self.reader_younger):
            m.d.sync += [self.promise.eq(after), self.pending.eq(0)]
        self.answers = [Cat(part(port.data)) for port in self.dut.read]
        self.due = Signal(self.reads, name="answer_due")  # the ports that asked for the word in the cycle before
        self.answer = Signal(bits, name="due_value")
        m.d.sync += [self.due.eq(Mux(self.rpos == word, self.asked, 0)), self.answer.eq(self.promise)]
        # A port whose answer stays: it asked this register last, and nothing was read from the register since.
        self.stays = Signal(self.reads, name="answer_stays")
        self.before = [Signal(bits, name=f"answer_before{i}") for i in range(self.reads)]
        for i, port in enumerate(self.dut.read):
            with m.If(self.dut.debug | self.read | port.en):
                m.d.sync += self.stays[i].eq(0)
            with m.If(self.asked[i]):
                m.d.sync += self.stays[i].eq(1)
            m.d.sync += self.before[i].eq(self.answers[i])
        self.undisturbed = Signal(self.reads, name="undisturbed")
        m.d.sync += self.undisturbed.eq(Cat(s & ~port.en for s, port in zip(self.stays, self.dut.read, strict=True))
                                        & (~self.dut.debug & ~self.read).replicate(self.reads))  # fmt: skip

    def _assume(self) -> None:
        """What the program counter (claims) and the units (ports) guarantee."""
        dut, r = self.dut, self.number
        one_hot = sum(dut.claim_writer[j] for j in range(self.writes)) == 1
        self.assumptions |= {
            "claims only of ports that aren't lent":
                ~(self.claims_read & dut.read_busy[r]) & ~(self.claims_write & dut.write_busy[r]),
            "a claim's last word is in the register": dut.claim_last < self.config.words,
            "a claimed write port has one owner": ~self.claims_write | one_hot,
            "a claimed read port is used through some unit port": ~self.claims_read | self.reader_ports.any(),
            "only the reader reads, through all its ports at once": (self.asked == 0) | (self.reading & (self.asked == self.ports)),
            "a word is read only when ok":
                Cat(~asked | port.ok for asked, port in zip(self.asked, dut.read, strict=True)).all(),
            "only the writer writes": (self.wrote == 0) | (self.writing & (self.wrote == self.owner)),
            "a word is written only when ok was given": (self.wrote == 0) | self.granted | self.told,
            "an instruction writes a word after it has read it": ~(self.same & self.write) | (self.wpos < self.rpos),
        }  # fmt: skip

    def _promise(self) -> None:
        m, dut, r, inside = self.m, self.dut, self.number, self.inside
        may_read = ~self.reader_younger | (self.rpos < self.wpos)
        # The word that the reader waits for was written in the cycle before.
        came, told_before, wrote_on = Signal(name="came"), Signal(name="told_before"), Signal(name="wrote_on")
        m.d.sync += [
            came.eq(self.reading & self.reader_younger & self.write & (self.wpos == self.rpos)),
            told_before.eq(self.writing & self.told & ~self.write_ends), wrote_on.eq(self.reading & self.reader_younger & self.write),
        ]  # fmt: skip
        # While ``changes`` is low nothing changes behind an edge.
        registers = [inside[name] for name in ("may_read", "war", "raw", "rcount", "wcount", "owner")]
        state = Cat(*registers, dut.read_busy[r], dut.write_busy[r], *self.answers)
        still, state_before = Signal(name="still"), Signal(len(state), name="state_before")
        m.d.sync += [still.eq(~dut.changes), state_before.eq(state)]
        asks = [self.reading & (port.reg == r) for port in dut.read]
        self.properties |= {
            "RAW: a younger reader never reads a word before it is written": ~(self.read & self.reader_younger) | (self.rpos < self.wpos),
            "WAR: a younger writer never writes before the older reader has read all": ~(self.write & self.writer_younger),
            "a word is never read while it is written": ~(self.read & self.write & (self.rpos == self.wpos)),
            "the read port is lent from the claim to the last word": dut.read_busy[r] == self.reading,
            "the write port is lent from the claim to the last word": dut.write_busy[r] == self.writing,
            "a reader is let on as soon as its word is written, and at once if none is older":
                Cat(~a | (port.ok == may_read) for a, port in zip(asks, dut.read, strict=True)).all(),
            "progress: a write by the older writer lets the reader on in the next cycle":
                ~(came | wrote_on) | Cat(~a | port.ok for a, port in zip(asks, dut.read, strict=True)).all(),
            "a writer is let on exactly when no older reader is left": Cat(
                ~(self.writing & (port.chk_reg == r)) | (port.ok == ~self.writer_younger) for port in dut.write).all(),
            "a writer's ok stays": ~told_before | ~self.writer_younger,
            "the reader gets what the older instructions wrote":
                ~(self.read & (self.rpos == self.word) & self.pending) & Cat(
                    ~due | (answer == self.answer) for due, answer in zip(self.due, self.answers, strict=True)).all(),
            "an answer stays until the register is read again": Cat(
                ~same | (a == b) for same, a, b in zip(self.undisturbed, self.answers, self.before, strict=True)).all(),
            "changes is low only if nothing changes": ~still | (state == state_before),
        }  # fmt: skip
        self._invariants()
        self.covers |= {
            "a reader waits for a writer": self.reading & self.reader_younger & ~may_read,
            "a reader follows a writer in the next cycle": self.read & self.reader_younger & (self.wpos == self.rpos + 1) & self.write,
            "a writer waits for a reader": self.writing & self.writer_younger,
            "the followed word, written by one instruction, reaches the next": self.due.any() & (self.answer != 0),
            "an instruction reads and writes the register": self.same & self.read & self.write,
            "both ports are claimed anew when both have come back": self.claims_read & self.claims_write & (self.value != 0),
            "a reader goes on behind the end of a shorter writer": self.read & ~self.writing & (self.rpos == self.wpos) & (self.rpos != 0),
        }  # fmt: skip
        if self.reads > 1:
            self.covers["two ports read in step"] = self.due.all() & (self.answer != 0)
        self.shown |= {
            "claims_reading": self.claims_read, "claims_writing": self.claims_write, "claim_last_word": dut.claim_last,
            "read_is_busy": dut.read_busy[r], "write_is_busy": dut.write_busy[r], "reader_is_younger": self.reader_younger,
            "writer_is_younger": self.writer_younger, "same_instruction": self.same,
            **{f"read{i}_ok": port.ok & (port.reg == r) for i, port in enumerate(dut.read)}, "read_en": self.asked,
            "reader_at_word": self.rpos,
            **{f"write{j}_ok": port.ok & (port.chk_reg == r) for j, port in enumerate(dut.write)}, "write_en": self.wrote,
            "writer_at_word": self.wpos, "watched_word": self.word, "true_value": self.value, "promised": self.promise,
            "due_ports": self.due, **{f"answer{i}": answer for i, answer in enumerate(self.answers)}, "debug_on": dut.debug,
            **{f"dut_{name}": inside[name] for name in ("may_read", "raw", "war", "rcount", "wcount")},
        }  # fmt: skip

    def _invariants(self) -> None:
        """What the registers inside mean in the books' terms."""
        m, inside = self.m, self.inside
        probe = inside["sram"].read_port(domain="comb")
        m.d.comb += probe.addr.eq(self.word)
        stored = Cat(probe.data[ELEMENT_BITS * e + bit] for e in range(self.config.word_elements) for bit in LOOKED_AT)
        reading, writing, rpos, wpos = self.reading, self.writing, self.rpos, self.wpos
        younger, older, same = self.reader_younger, self.writer_younger, self.same
        ahead = reading & (rpos <= self.word)  # the reader has not read the followed word
        self.invariants |= {
            "read counts": ~reading | ((inside["rcount"] == rpos) & (inside["rnext"] == rpos + 1) & (inside["rlast"] == self.rend)),
            "write counts": ~writing | ((inside["wcount"] == wpos) & (inside["wlast"] == self.wend) & (inside["owner"] == self.owner)),
            "none_written": ~writing | (inside["none_written"] == (wpos == 0)),
            "raw": (~reading | (inside["raw"] == younger)) & (~inside["raw"] | (writing & (inside["rcount"] <= inside["wcount"]))),
            "war": inside["war"] == older,
            "may_read": inside["may_read"] == (~inside["raw"] | (inside["rcount"] < inside["wcount"])),
            "one owner": ~writing | (sum(self.owner[j] for j in range(self.writes)) == 1),
            "selections": Cat(~stays | (select == 1 << self.number) for stays, select in zip(self.stays, self.selects, strict=True)).all(),
            "one order": ((younger + older + same) <= 1) & ((reading & writing) | ~(younger | older | same)),
            "every pair has an order": ~(reading & writing) | younger | older | same,
            "ends": (~reading | ((rpos <= self.rend) & (self.rend < self.config.words)))
                    & (~writing | ((wpos <= self.wend) & (self.wend < self.config.words))),
            "follows": ~younger | (rpos <= wpos),
            "goes ahead": ~same | (wpos <= rpos),
            "has read ports": ~reading | self.ports.any(),
            "memory": stored == self.value,
            "not yet": ~ahead | (self.pending == (younger & (wpos <= self.word) & (self.word <= self.wend))),
            "promise": ~ahead | self.pending | (self.promise == self.value),
            "granted": ~self.granted | ~older | ~writing,
            "unwritten": ~(writing & older) | (wpos == 0),
        }  # fmt: skip
