"""Proofs of the queues, the registers' scoreboard, the activation buffers, issue, the row-wise unit's control
and the sharing of the memory port: docs/decisions/0007-proofs.md.

Each proof is for all time, by induction. Three tests a unit: its contract is proved; the situations that the contract speaks of can be
reached (else an assumption might have excluded them); and each of a list of wrong units is refuted, by the contract alone.
"""

import pytest
from amaranth.hdl import Mux, Signal
from proofs import activations, issue, memory_port, queues, registers, rowwise_control
from proofs.solver import Harness, RefutedError, can_always_rest, mutated, prove, reachable, refute

from trilobit.hdl import actbuf, fifo, memarb, memshare, pc, regfile, rowwise

INDUCTION_STEPS = 1  # what holds in one cycle holds in the next: the invariants are strong enough
CYCLES = 12  # a counterexample or a situation is looked for in so many cycles after reset


def assert_reachable(harness: Harness) -> None:
    found = reachable(harness, steps=CYCLES)
    assert found.keys() == harness.covers.keys(), f"not reached in {CYCLES} cycles: {sorted(harness.covers.keys() - found.keys())}"


def assert_refuted(harness: Harness, name: str, *, steps: int = CYCLES) -> None:
    proof = refute(harness, name, steps=steps)
    assert proof.broken, f"no counterexample to {name!r} in {steps} cycles"
    print(f"refuted in {proof.steps} cycles: {proof.broken[0]}\n{proof.table()}")


# ---- the solver ---------------------------------------------------------------------------------------------------------


class Counter(Harness):
    """Counts 0, 1, 2, 3, 4, 0 in three bits, and claims that it never gets to ``beyond``."""

    def __init__(self, beyond: int):
        super().__init__()
        self.beyond = beyond

    def build(self) -> None:
        count = Signal(3, name="state")
        self.m.d.sync += count.eq(Mux(count == 4, 0, count + 1))
        self.properties["not beyond"] = count != self.beyond
        self.shown["count"] = count
        self.covers = {"the end": count == 4, "behind the end": count == 5}


def test_a_property_is_proved_refuted_or_left_open():
    assert prove(Counter(7), steps=4).steps == 3  # 5 and 6 lead to 7, but nothing leads to 5
    with pytest.raises(AssertionError, match=r"not beyond: neither proved nor refuted in 1 cycles") as open_end:
        prove(Counter(7), steps=1)
    assert not isinstance(open_end.value, RefutedError)
    with pytest.raises(RefutedError) as refuted:
        prove(Counter(4), steps=8)
    assert str(refuted.value).splitlines()[-1].split() == ["count", "0", "1", "2", "3", "4"]
    assert not refute(Counter(4), "not beyond", steps=4).broken
    assert refute(Counter(4), "not beyond", steps=5).broken == ("not beyond",)
    assert reachable(Counter(7), steps=12) == {"the end": 4}


HARNESSES = {
    "small queue": lambda: queues.SmallQueue(4), "block queue": lambda: queues.BlockQueue(4),
    "registers": lambda: registers.Register(words=3, reads=2, writes=2), "activation buffers": activations.Activations,
    "issue": issue.Issue, "reads": memory_port.Reads, "memory port": memory_port.Share,
    "row-wise unit": rowwise_control.RowWiseControl,
}  # fmt: skip


@pytest.mark.parametrize("kind", HARNESSES)
def test_no_assumption_ends_a_sequence_of_inputs(kind):
    assert can_always_rest(HARNESSES[kind]())


def test_an_assumption_that_leaves_no_way_on_is_found():
    class Hasty(memory_port.Share):
        def build(self):
            super().build()
            self.rest.clear()  # core_flush low, though core_busy is high

    assert not can_always_rest(Hasty())


# ---- queues -------------------------------------------------------------------------------------------------------------

QUEUES = {"small": queues.SmallQueue, "block": queues.BlockQueue}


@pytest.mark.parametrize("depth", [2, 4, 8, pytest.param(32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", QUEUES)
def test_a_queue_keeps_order_values_level_and_latency(kind, depth):
    prove(QUEUES[kind](depth), steps=INDUCTION_STEPS)


@pytest.mark.parametrize("kind", QUEUES)
def test_a_queue_gets_full_and_is_flushed_in_the_proofs(kind):
    assert_reachable(QUEUES[kind](4))


SMALL_READY = "self.i_ready.eq(~self.level[ceil_log2(self._depth)])"
BLOCK_FETCH = "fetch.eq(some & (~offered | self.o_ready))"
WRONG_QUEUES = {
    "takes one too many": ("small", SMALL_READY, "self.i_ready.eq(self.level <= self._depth)", "ready whenever there is room"),
    "takes one too few": ("small", SMALL_READY, "self.i_ready.eq(self.level < self._depth - 1)", "ready whenever there is room"),
    "ready depends on the taker": (
        "small", SMALL_READY, "self.i_ready.eq(~self.level[ceil_log2(self._depth)] | self.o_ready)", "ready whenever there is room"),
    "offers one too few": ("small", "self.o_valid.eq(self.level != 0)", "self.o_valid.eq(self.level > 1)", "in the cycle after it entered"),
    "flush forgets the item that enters": (
        "small", "[self.level.eq(0), rport.addr.eq(wport.addr + put)]", "[self.level.eq(0), rport.addr.eq(wport.addr)]", "in its turn"),
    "writes beside the address": ("small", "wport.data.eq(self.i_data),\n            wport.en.eq(self.i_valid & self.i_ready)",
                                  "wport.data.eq(self.i_data),\n            wport.en.eq(self.i_valid)", "in its turn"),
    "fetches over an offer": ("block", BLOCK_FETCH, "fetch.eq(some)", "an offer stays"),
    "fetches only when asked": ("block", BLOCK_FETCH, "fetch.eq(some & self.o_ready)", "BLOCK_FIFO_LATENCY"),
    "forgets that more is stored": ("block", "~(fetch & (stored == 1))", "~fetch", "an offer two cycles after"),
    "never full": ("block", "self.i_ready.eq(~stored[-1])", "self.i_ready.eq(1)", "ready whenever there is room"),
    "offers what is flushed": ("block", "some.eq(0), offered.eq(0),", "some.eq(0),", "a flush leaves nothing"),
    "an item that enters is not counted while one leaves": (
        "block", "stored.eq(stored + put - fetch)", "stored.eq(stored + (put & ~fetch) - fetch)", "level is the number of items"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_QUEUES)
def test_a_wrong_queue_is_refuted(wrong):
    kind, old, new, broken = WRONG_QUEUES[wrong]
    assert_refuted(QUEUES[kind](4, source=mutated(fifo, (old, new))), broken)


def test_a_counterexample_can_be_read():
    wrong = mutated(fifo, (SMALL_READY, "self.i_ready.eq(self.level <= self._depth)"))
    with pytest.raises(RefutedError) as caught:
        prove(queues.SmallQueue(2, source=wrong), steps=CYCLES)
    lines = str(caught.value).splitlines()
    assert lines[0] == "SmallQueue: ready whenever there is room, whatever o_ready is: fails in the last cycle of"
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["cycle"] == ["0", "1", "2"]
    assert rows["level"] == ["0", "1", "2"]
    assert rows["i_ready"] == ["1", ".", "."]


# ---- registers ----------------------------------------------------------------------------------------------------------

SIZES = [  # words, lanes, read ports, write ports, register, batch, debug
    (2, 2, 1, 1, 0, 1, True), (4, 2, 2, 2, 7, 1, True), (3, 1, 3, 2, 3, 1, False),
    *(pytest.param(*size, marks=pytest.mark.slow) for size in (
        (8, 4, 6, 4, 0, 1, True), (4, 2, 6, 4, 5, 2, True), (16, 1, 3, 4, 0, 1, True),
        *((4, 2, 2, 2, register, 1, True) for register in range(7)),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("words", "lanes", "reads", "writes", "number", "batch", "debug"), SIZES)
def test_registers_have_no_hazard_lose_no_port_and_make_progress(words, lanes, reads, writes, number, batch, debug):
    harness = registers.Register(words=words, lanes=lanes, reads=reads, writes=writes, number=number, batch=batch, debug=debug)
    prove(harness, steps=INDUCTION_STEPS)


def test_registers_are_shared_in_every_way_in_the_proofs():
    assert_reachable(registers.Register(words=4, reads=2, writes=2))


MAY_READ = "may_read.eq(~raw | writes | Mux(reads, rnext != wcount, rcount != wcount))"
CLAIMED_MAY_READ = "may_read.eq(~waits | writes | ~none_written)"
WRONG_REGISTERS = {
    "always readable": (MAY_READ, "may_read.eq(1)", "RAW"),
    "readable at the claim": (CLAIMED_MAY_READ, "may_read.eq(1)", "RAW"),
    "a reader looks at its own word, not the next": (MAY_READ, "may_read.eq(~raw | writes | (rcount != wcount))", "RAW"),
    "a reader is let on a word too late": (MAY_READ, "may_read.eq(~raw | Mux(reads, rnext != wcount, rcount != wcount))", "let on as soon"),
    "a reader waits for the last word": (MAY_READ, "may_read.eq(~raw)", "progress"),
    "a claim forgets the writer": ("raw.eq(waits)", "raw.eq(0)", "RAW"),
    "a claim waits for a writer that has just ended": ("waits = writer & ~writes_last", "waits = writer", "let on as soon"),
    "a claim forgets what has been written": (CLAIMED_MAY_READ, "may_read.eq(~waits)", "let on as soon"),
    "a writer doesn't wait": ("war.eq(reader & ~reads_last)", "war.eq(0)", "WAR"),
    "a writer waits for a reader that has just ended": ("war.eq(reader & ~reads_last)", "war.eq(reader)", "exactly when no older reader"),
    "a read port returns a word early": (
        "reads_last.eq(reads & (rcount == rlast))", "reads_last.eq(reads & (rnext == rlast))", "the read port is lent"),
    "a write port is never returned": ("m.d.sync += [writer.eq(0), raw.eq(0)]", "m.d.sync += raw.eq(0)", "write port"),
    "the last write leaves the reader waiting": ("m.d.sync += [writer.eq(0), raw.eq(0)]", "m.d.sync += writer.eq(0)", "let on as soon"),
    "words go to the reader's place": ("wport.addr.eq(wcount)", "wport.addr.eq(rcount)", "what the older instructions wrote"),
    "the mask is not looked at": ("enable = Cat(w & p.mask[lane] for", "enable = Cat(w for", "what the older instructions wrote"),
    "the host's reads go first": ("Mux(self.debug & ~reads, self.debug_addr, rcount)", "Mux(self.debug, self.debug_addr, rcount)",
                                  "what the older instructions wrote"),
    "an answer is lost with another register's read": ("with m.If(port.en):", "with m.If(Cat(p.en for p in self.read).any()):",
                                                       "an answer stays"),
    "claims don't count as changes": ("self.changes.eq(self.claim | self.debug", "self.changes.eq(self.debug", "changes is low"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_REGISTERS)
def test_wrong_registers_are_refuted(wrong):
    old, new, broken = WRONG_REGISTERS[wrong]
    assert_refuted(registers.Register(words=3, lanes=1, reads=2, writes=2, source=mutated(regfile, (old, new))), broken)


# ---- activation buffers -------------------------------------------------------------------------------------------------

BUFFERS = [  # elements, bytes of a beat, lanes, batch, which
    (8, 4, 2, 1, 0), (12, 4, 1, 1, 1), (10, 4, 2, 2, 1), (8, 4, 4, 1, 0),
    pytest.param(64, 4, 2, 1, 1, marks=pytest.mark.slow), pytest.param(64, 16, 4, 4, 0, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(("length", "beat_bytes", "lanes", "batch", "number"), BUFFERS)
def test_activation_buffers_have_no_hazard_lose_no_side_and_make_progress(length, beat_bytes, lanes, batch, number):
    harness = activations.Activations(length=length, beat_bytes=beat_bytes, lanes=lanes, batch=batch, number=number)
    prove(harness, steps=INDUCTION_STEPS)


def test_activation_buffers_are_shared_in_every_way_in_the_proofs():
    assert_reachable(activations.Activations())


WRONG_BUFFERS = {
    "a product doesn't wait": ("raw.eq(writer & ~last)", "raw.eq(0)", "RAW"),
    "a product is let on a beat early": ("(s & (read.beat < n))", "(s & (read.beat <= n))", "RAW"),
    "each word counts as a beat": ("with m.If(write.en & mine & (write.addr[:part].all() if part else 1)):",
                                   "with m.If(write.en & mine):", "RAW"),
    "beats of the writer before count": ("started.eq(1), ready.eq(0)]", "started.eq(1)]", "RAW"),
    "a product waits for a writer that has ended": ("[writer.eq(0), raw.eq(0)]", "[writer.eq(0)]", "progress"),
    "a writer doesn't wait": ("war.eq(reader & ~(read.release & (read.buf == b)))", "war.eq(0)", "WAR"),
    "a writer waits for a product that has just left": ("war.eq(reader & ~(read.release & (read.buf == b)))", "war.eq(reader)",
                                                        "a writer is let on exactly"),
    "the scale of the writer before is taken": ("[writer.eq(1), started.eq(0), war", "[writer.eq(1), war", "announced exactly"),
    "the write side is returned late": ("(write.addr + 1 == words)", "(write.addr == words)", "the write side"),
    "a release returns both buffers": ("with m.If(read.release & (read.buf == b)):", "with m.If(read.release):", "the read side"),
    "both buffers get the scale": ("with m.If(write.start & mine):", "with m.If(write.start):", "the older writer's"),
    "words of a beat overwrite each other": ("1 << write.addr[:part] if part else 1, 0)", "(1 << n // lanes) - 1, 0)", "what was written"),
    "words go to the other buffer": ("ceil_log2(half)], write.buf)", "ceil_log2(half)], ~write.buf)", "what was written"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_BUFFERS)
def test_wrong_activation_buffers_are_refuted(wrong):
    old, new, broken = WRONG_BUFFERS[wrong]
    assert_refuted(activations.Activations(source=mutated(actbuf, (old, new))), broken)


# ---- issue: what the registers' and buffers' proofs assume of the program counter ---------------------------------------


def test_issue_claims_what_is_free_and_lets_no_bad_instruction_through():
    prove(issue.Issue(), steps=INDUCTION_STEPS)


@pytest.mark.slow
def test_issue_waits_and_stops_in_the_proofs():
    assert_reachable(issue.Issue())


WRONG_ISSUE = {
    "lent registers are claimed": ("(i.reads & self.read_busy).any()", "(i.reads & 0).any()", "aren't lent"),
    "stores go anywhere": ('(decode(c_word, "addr") < self.write_start)', "0", "no command has"),
    "the other buffer is looked at": ("act_read_busy.bit_select(act, 1)", "act_read_busy.bit_select(~act, 1)", "aren't lent"),
    "the unit may be busy": ("free.eq(go & ~command &", "free.eq(go &", "a claim comes with its command, once"),
    "a word too many": ('((decode(word, "len") - 1) >> ceil_log2(lanes))', '(decode(word, "len") >> ceil_log2(lanes))', "last word"),
    "an element too many": ("> config.max_length)", "> config.max_length + 1)", "no command has"),
    "only the first address counts": ('end.eq(decode(w_word, "addr") + size)', 'end.eq(decode(w_word, "addr"))', "no command has"),
    "tokens aren't looked at": ('i.faulty | (i.is_("emb") & compared & too_high)', "i.faulty", "token has a row"),
    "the token before is looked at": ("compares = i_valid & ~advance & ~token_pending", "compares = i_valid & ~advance", "token has a row"),
}
FAST = "stores go anywhere"


@pytest.mark.parametrize("wrong", [pytest.param(wrong, marks=() if wrong == FAST else pytest.mark.slow) for wrong in WRONG_ISSUE])
def test_wrong_issue_is_refuted(wrong):
    old, new, broken = WRONG_ISSUE[wrong]
    assert_refuted(issue.Issue(source=mutated(pc, (old, new))), broken)


# ---- the row-wise unit: what the registers' proof assumes of a unit -----------------------------------------------------


def test_the_row_wise_unit_reads_and_writes_words_in_order_when_it_may_and_retires_on_time():
    prove(rowwise_control.RowWiseControl(), steps=INDUCTION_STEPS)


def test_the_row_wise_unit_waits_and_goes_on_in_the_proofs():
    assert_reachable(rowwise_control.RowWiseControl())


WRONG_ROW_WISE = {
    "the destination isn't waited for": ("(may_read & (self.write.ok | argmax))", "may_read", "a word enters only when"),
    "argmax waits for a destination": ("(may_read & (self.write.ok | argmax))", "(may_read & self.write.ok)", "progress"),
    "b isn't waited for": ("& (self.b.ok | ~uses_b) &", "&", "read only when ok"),
    "argmax reads a word for each element": ("self.a.en.eq(enter & ~more & uses_a)", "self.a.en.eq(enter & uses_a)", "read in order"),
    "the last word is left out": ("(word == last_word) &", "(word + 1 == last_word) &", "no instruction is left"),
    "written to the register of the word that enters": ("self.write.reg.eq(entry20.vd)", "self.write.reg.eq(vd)", "instruction's register"),
    "the next instruction's words are counted on": ("Mux(last20, 0, written + 1)", "written + 1", "instruction's register"),
    "the next destination comes a cycle early": (
        "(flight[18 - 1] & lasts.at(18))", "(flight[17 - 1] & lasts.at(17))", "instruction's register"),
    "retires with each word": ("(valid21 & lasts.at(21))", "(valid21 | lasts.at(21))", "instruction retires"),
}  # fmt: skip


AT_THE_END = ("instruction's register", "instruction retires")  # of the pipeline: refuted after more than 20 cycles


@pytest.mark.parametrize("wrong", [
    pytest.param(wrong, marks=pytest.mark.slow if case[2] in AT_THE_END else ()) for wrong, case in WRONG_ROW_WISE.items()
])  # fmt: skip
def test_a_wrong_row_wise_unit_is_refuted(wrong):
    old, new, broken = WRONG_ROW_WISE[wrong]
    harness = rowwise_control.RowWiseControl(source=mutated(rowwise, (old, new)))
    assert_refuted(harness, broken, steps=rowwise.RETIRE_LATENCY + CYCLES)


# ---- the memory port ----------------------------------------------------------------------------------------------------

PORTS = {"reads": (memory_port.Reads, memarb), "share": (memory_port.Share, memshare)}


FEWER = ("OUTSTANDING = 16", "OUTSTANDING = 4")  # requests that may wait for their answers


def test_reads_are_answered_to_the_side_that_asked():
    prove(memory_port.Reads(source=mutated(memarb, FEWER)), steps=INDUCTION_STEPS)


@pytest.mark.slow
def test_reads_are_answered_to_the_side_that_asked_with_16_outstanding():
    prove(memory_port.Reads(), steps=INDUCTION_STEPS)


def test_one_write_at_a_time_has_the_memory_and_a_flushed_core_leaves_it():
    prove(memory_port.Share(), steps=INDUCTION_STEPS)


@pytest.mark.parametrize("kind", PORTS)
def test_both_sides_ask_for_the_memory_in_the_proofs(kind):
    assert_reachable(PORTS[kind][0]())


WRONG_PORTS = {
    "a full list takes a request": ("reads", "self.stream_valid) & room)", "self.stream_valid))", "no deadlock"),
    "both readers are taken": ("reads", "self.rd_ready & room & ~self.ldst_valid)", "self.rd_ready & room)", "taken from one reader"),
    "the stream owns all": ("reads", "Cat(self.rd_len, self.ldst_valid)", "Cat(self.rd_len, ~self.stream_valid)", "each beat goes"),
    "a request ends with its first beat": ("reads", "left == owners.r_data[:8]", "left == 0", "each beat goes"),
    "a second write begins": ("share", "mem.wr_valid.eq(request & ~owned)", "mem.wr_valid.eq(request)", "mutual exclusion"),
    "both sides are taken": ("share", "~owned & ~host.wr_valid & ~flush)", "~owned & ~flush)", "taken from one side"),
    "the core owns all": ("share", "owner.eq(host.wr_valid)", "owner.eq(~core.wr_valid)", "a response goes"),
    "a beat too few": ("share", "beats.eq(mem.wr_len + 1)", "beats.eq(mem.wr_len)", "no beat is lost"),
    "a flushed core still writes": ("share", "Mux(flush, 0, core.wdata_strobe)", "core.wdata_strobe", "each beat is"),
    "a flushed core still asks": ("share", "~host.wr_valid & ~flush)", "~host.wr_valid)", "isn't taken"),
    "a flushed write stands still": ("share", "core.wdata_valid | flush)", "core.wdata_valid)", "goes on without it"),
    "busy a clock too late": ("share", "(outstanding != 0) | (added != 0)", "(outstanding != 0)", "core_busy"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_PORTS)
def test_a_wrong_memory_port_is_refuted(wrong):
    kind, old, new, broken = WRONG_PORTS[wrong]
    harness, source = PORTS[kind]
    changes = [(old, new), *([FEWER] if kind == "reads" else [])]
    assert_refuted(harness(source=mutated(source, *changes)), broken)
