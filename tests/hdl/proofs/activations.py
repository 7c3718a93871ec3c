"""What the activation buffers promise, under what the program counter, the norm unit and the product guarantee.

One of the two buffers is looked at; the other is used in any way. The books are those of the registers' proof, except that a product reads
any beat as often as it likes and returns the buffer itself.
"""

from amaranth.hdl import Cat, Signal

from proofs.solver import Harness, driven, opened
from trilobit.hdl import actbuf
from trilobit.isa.core import load_core

__all__ = ["Activations"]

LOOKED_AT = (0, 7)  # bits of each int8 whose values are followed


class Activations(Harness):
    """One buffer of :class:`trilobit.hdl.actbuf.ActivationBuffers`.

    Parameters
    ----------
    length: elements that a buffer holds, at least 8. beat_bytes, lanes, batch: of the core.
    number: which buffer is looked at. source: the module that has ``ActivationBuffers``, or a mutant of it.
    """

    def __init__(self, *, length: int = 8, beat_bytes: int = 4, lanes: int = 2, batch: int = 1, number: int = 0, source=actbuf):
        super().__init__()
        self.config = load_core("tiny").replace(max_length=length, beat_bytes=beat_bytes, lanes=lanes, batch=batch)
        self.parts = beat_bytes // lanes  # words of a beat
        self.beats = -(-length // beat_bytes)
        self.number = number
        self.dut = source.ActivationBuffers(self.config)

    def build(self) -> None:
        m, dut, b = self.m, self.dut, self.number
        module, (self.inside,) = opened(dut)
        m.submodules.dut = module
        self.signals = driven(module)
        write, read = dut.write, dut.read
        self.inputs += [write.buf, write.start, write.scale.as_value(), write.length, write.en, write.addr, write.data,
                        read.buf, read.beat, read.en, read.release, dut.claim_write, dut.claim_read, dut.claim_buf]  # fmt: skip
        self.claims_write, self.claims_read = dut.claim_write & (dut.claim_buf == b), dut.claim_read & (dut.claim_buf == b)
        self.starts, self.writes = write.start & (write.buf == b), write.en & (write.buf == b)
        self.reads, self.releases = read.en & (read.buf == b), read.release & (read.buf == b)
        self._books()
        self._assume()
        self._promise()
        self._invariants()

    def _books(self) -> None:
        m, write, lanes, words = self.m, self.dut.write, self.config.lanes, self.config.words

        def flag(name):
            return Signal(name=name)

        self.writing, self.reading, self.begun, self.granted = (flag(n) for n in ("true_writing", "true_reading", "begun", "granted"))
        self.reader_younger, self.writer_younger = flag("reader_younger"), flag("writer_younger")
        self.wpos, self.words = Signal(range(words + 1), name="words_written"), Signal(range(words + 1), name="words_to_write")
        self.length, self.scale = Signal(16, name="true_length"), Signal.like(write.scale.as_value(), name="true_scale")
        self.ends = self.writes & (self.wpos + 1 == self.words)
        with m.If(self.writing & (write.buf == self.number) & write.ok):
            m.d.sync += self.granted.eq(1)
        with m.If(self.starts):
            m.d.sync += [self.begun.eq(1), self.length.eq(write.length), self.scale.eq(write.scale.as_value()), self.wpos.eq(0),
                         self.words.eq((write.length + lanes - 1)[: 16] // lanes)]  # fmt: skip
        with m.If(self.writes):
            m.d.sync += self.wpos.eq(self.wpos + 1)
        with m.If(self.ends | self.releases):
            m.d.sync += [self.reader_younger.eq(0), self.writer_younger.eq(0)]
        with m.If(self.ends):
            m.d.sync += self.writing.eq(0)
        with m.If(self.releases):
            m.d.sync += self.reading.eq(0)
        with m.If(self.claims_write):
            m.d.sync += [self.writing.eq(1), self.begun.eq(0), self.granted.eq(0), self.writer_younger.eq(self.reading & ~self.releases)]
        with m.If(self.claims_read):
            m.d.sync += [self.reading.eq(1), self.reader_younger.eq(self.writing & ~self.ends)]
        # The bytes of one beat, chosen by the solver.
        self.beat = self.constant("beat", self.beats)
        values = [Signal(len(LOOKED_AT) * self.config.word_elements, name=f"value{part}") for part in range(self.parts)]
        for part, value in enumerate(values):
            with m.If(self.writes & (self.wpos == self.beat * self.parts + part)):
                m.d.sync += value.eq(Cat(write.data[8 * e + bit] for e in range(self.config.word_elements) for bit in LOOKED_AT))
        # In the buffer a slot's words of a beat stand side by side.
        slot_bits = len(LOOKED_AT) * lanes
        self.value = Cat(value.word_select(slot, slot_bits) for slot in range(self.config.batch) for value in values)
        self.due, self.answer = flag("due"), Signal(len(self.value), name="due_value")
        m.d.sync += [self.due.eq(self.reads & (self.dut.read.beat == self.beat)), self.answer.eq(self.value)]

    def _part(self, data):
        return Cat(data[8 * byte + bit] for byte in range(self.config.batch * self.config.beat_bytes) for bit in LOOKED_AT)

    def _assume(self) -> None:
        dut, b = self.dut, self.number
        read, write, n = dut.read, dut.write, self.config.beat_bytes
        last_beat = read.beat == (self.length - 1)[:16] // n
        self.assumptions |= {
            "claims only of sides that aren't lent": ~(self.claims_write & dut.write_busy[b]) & ~(self.claims_read & dut.read_busy[b]),
            "no instruction claims both sides": ~(dut.claim_write & dut.claim_read),
            "the writer starts once, when ok was given, with a length that the buffer holds": ~self.starts | (
                self.writing & ~self.begun & (self.granted | write.ok) & (write.length != 0) & (write.length <= self.config.max_length)),
            "then it writes words in order, none too many": ~self.writes | (self.writing & self.begun & (write.addr == self.wpos)),
            "the product reads only when ok, within its length":
                ~self.reads | (self.reading & read.ok & (read.beat * n < self.length)),
            "it returns the buffer with its last beat": ~self.releases | (self.reads & last_beat),
        }  # fmt: skip

    def _promise(self) -> None:
        m, dut, b = self.m, self.dut, self.number
        read, write, part = dut.read, dut.write, self.parts
        here = self.reading & (read.buf == b)
        complete = ~self.reader_younger | (self.begun & (read.beat < self.wpos // part))
        told = ~self.reader_younger | self.begun
        ended = Signal(name="writer_ended")  # in the cycle before
        m.d.sync += ended.eq(self.ends)
        overwritten = self.writes & (write.addr // part == read.beat)
        self.properties |= {
            "RAW: a beat is never read before its words are written": ~(self.reads & self.reader_younger) | (
                self.begun & (self.wpos >= (read.beat + 1) * part)),
            "WAR: nothing is written before the older product has returned the buffer":
                ~((self.starts | self.writes) & self.writer_younger),
            "a beat is never read while it is written": ~(self.reads & overwritten),
            "the write side is lent from the claim to the last word": dut.write_busy[b] == self.writing,
            "the read side is lent from the claim to the release": dut.read_busy[b] == self.reading,
            "a product is let on as soon as its beat is complete, and at once if no writer is older": ~here | (read.ok == complete),
            "progress: when the writer has ended every beat may be read": ~(ended & here) | (read.ok & read.scale_ok),
            "scale and length are announced exactly when they belong to the product": ~here | (read.scale_ok == told),
            "scale and length are the older writer's": ~(here & read.scale_ok) | (
                (read.scale.as_value() == self.scale) & (read.length == self.length)),
            "a writer is let on exactly when no older product is left":
                ~(self.writing & (write.buf == b)) | (write.ok == ~self.writer_younger),
            "the product gets what was written": ~self.due | (self._part(read.data) == self.answer),
        }  # fmt: skip
        self.covers |= {
            "a product waits for a writer's scale": here & ~read.scale_ok,
            "a product waits for a beat": here & self.begun & ~read.ok,
            "a product reads what is being filled": self.reads & self.reader_younger & self.writing,
            "a writer waits for a product": self.writing & self.writer_younger,
            "a written beat is read": self.due & (self.answer != 0),
            "a full buffer is returned": self.releases & (self.length == self.config.max_length),
        }
        if self.parts > 1:
            self.covers["a buffer whose last beat is not full is returned"] = self.releases & (self.words % part != 0)
        self.shown |= {
            "claims_writing": self.claims_write, "claims_reading": self.claims_read, "write_is_busy": dut.write_busy[b],
            "read_is_busy": dut.read_busy[b], "reader_is_younger": self.reader_younger, "writer_is_younger": self.writer_younger,
            "write_ok": write.ok & (write.buf == b), "write_start": self.starts, "write_length": write.length, "write_en": self.writes,
            "word_written": self.wpos, "read_ok": here & read.ok, "read_scale_ok": here & read.scale_ok, "read_en": self.reads,
            "read_beat": read.beat, "read_release": self.releases, "watched_beat": self.beat, "true_value": self.value,
            "answer_due": self.due, "answer": self._part(read.data),
            **{f"dut_{name}": self.signals[f"{name}{b}"] for name in ("raw", "war", "started", "ready", "words")},
        }  # fmt: skip

    def _invariants(self) -> None:
        m, b, signals = self.m, self.number, self.signals
        sram, half = self.inside["sram"], self.inside["half"]
        probe = sram.read_port(domain="comb")
        m.d.comb += probe.addr.eq(self.beat + b * half)
        raw, war, started, ready, words = (signals[f"{name}{b}"] for name in ("raw", "war", "started", "ready", "words"))
        reading, writing, begun, younger, older = self.reading, self.writing, self.begun, self.reader_younger, self.writer_younger
        self.invariants |= {
            "raw": (~reading | (raw == younger)) & (~raw | writing),
            "war": war == older,
            "started": ~writing | (started == begun),
            "counts": ~(writing & begun) | ((words == self.words) & (ready == self.wpos // self.parts) & (self.wpos < self.words)),
            "lengths": ~begun | ((self.words == (self.length + self.config.lanes - 1)[:16] // self.config.lanes)
                                 & (self.length <= self.config.max_length) & (self.length != 0)),
            "scale": signals[f"scale{b}"].as_value() == self.scale if hasattr(signals[f"scale{b}"], "as_value")
                     else signals[f"scale{b}"] == self.scale,
            "length": signals[f"length{b}"] == self.length,
            "one order": ~(younger & older) & ((reading & writing) | ~(younger | older)) & (~(reading & writing) | younger | older),
            "memory": self._part(probe.data) == self.value,
            "untouched": ~older | ~begun,
            "granted": ~(self.granted & older & writing),
        }  # fmt: skip
