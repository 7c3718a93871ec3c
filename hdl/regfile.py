"""The vector registers, their ports and the scoreboard that lets units chain on them."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import ELEMENT_BITS, ReadSignature, WriteSignature
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import VECTOR_REGISTERS

__all__ = ["RegisterFile"]

DEBUG_PORT = 0
"""The read port whose data path serves the host's reads too."""


class RegisterFile(wiring.Component):
    """Eight vector registers, each an SRAM with one read and one write port, lent to units by claims at issue.

    With a batch a word is as wide as all slots' elements together; claims, counts and ports are the same.

    At issue the program counter claims the read ports and the write port that an instruction needs (``claim``, one cycle, with its masks
    and its last word). Word k of a register may be read if no older writer is active on it or the writer has written more than
    k words (RAW); the register may be written when its older reader has read its last word (WAR); a second writer or reader waits at issue
    (WAW; one port each). A port returns by itself with the last word. An instruction that reads and writes the same
    register is ordered by its own pipeline and never waits for itself.

    Latency: read data one cycle after ``en``; a written word can be read in the next cycle.

    Parameters
    ----------
    config: core parameters.
    reads, writes: how many unit ports there are.
    debug: whether the host can read registers.

    Members
    -------
    read[i], write[i]: the units' ports.
    claim, claim_reads, claim_writes: the issuing instruction's claims, a bit a register; claim_last: its last word;
    claim_writer: the write port that it uses, a bit a port.
    read_busy, write_busy: ports that are lent, a bit a register.
    debug_reg, debug_addr, debug_data: the host's reads while the core doesn't run (``debug`` high); units that still run go first.
    changes: Out(1), low when a clock edge changes nothing.
    """

    def __init__(self, config: CoreConfig, *, reads: int, writes: int, debug: bool = True):
        self.config = config
        self.debug_port = debug
        read, write = ReadSignature(config), WriteSignature(config)
        super().__init__({
            "read": In(read).array(reads), "write": In(write).array(writes),
            "claim": In(1), "claim_reads": In(VECTOR_REGISTERS), "claim_writes": In(VECTOR_REGISTERS),
            "claim_last": In(range(config.words)), "claim_writer": In(writes),
            "read_busy": Out(VECTOR_REGISTERS), "write_busy": Out(VECTOR_REGISTERS),
            "debug": In(1), "debug_reg": In(3), "debug_addr": In(range(config.words)),
            "debug_data": Out(config.word_elements * ELEMENT_BITS), "changes": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        data, raw_ok, war_ok = zip(*(self._register(m, r) for r in range(VECTOR_REGISTERS)), strict=True)
        for i, port in enumerate(self.read):
            select = Signal(VECTOR_REGISTERS, name=f"select{i}")  # one-hot: the register whose answer the port has
            m.d.comb += port.ok.eq(_pick(port.reg, raw_ok))
            with m.If(port.en):
                m.d.sync += select.eq(1 << port.reg)
            if i == DEBUG_PORT and self.debug_port:
                with m.Elif(self.debug):
                    m.d.sync += select.eq(1 << self.debug_reg)
                m.d.comb += self.debug_data.eq(port.data)
            m.d.comb += port.data.eq(_and_or(select, data))
        for port in self.write:
            m.d.comb += port.ok.eq(_pick(port.chk_reg, war_ok))
        m.d.comb += self.changes.eq(self.claim | self.debug | Cat(p.en for p in (*self.read, *self.write)).any())
        return m

    def _register(self, m, r: int):
        """One register: its SRAM, its two counts, its two ports' state.

        Every instruction reads and writes words 0, 1, 2, ... of a register once, so the counts are the SRAM's addresses, and no unit's
        address has to be brought here. A word is never read in the cycle in which it is written (it could not be had in time in a chain,
        and an older reader has read it before), so what the SRAM answers then doesn't matter.
        """
        config = self.config
        sram: memory.Memory = memory.Memory(
            shape=config.word_elements * ELEMENT_BITS,
            depth=config.words,
            init=[],
            attrs={"no_rw_check": 1},  # type: ignore[dict-item]  # Amaranth takes integers too
        )
        m.submodules[f"v{r}"] = sram
        rport = sram.read_port()
        wport = sram.write_port(granularity=ELEMENT_BITS)
        reader, writer = self.read_busy[r], self.write_busy[r]
        raw, war = Signal(name=f"raw{r}"), Signal(name=f"war{r}")
        rcount, wcount = (Signal(range(config.words + 1), name=f"{n}count{r}") for n in "rw")
        rnext = Signal(range(config.words + 2), init=1, name=f"rnext{r}")
        rlast, wlast = (Signal(range(config.words), name=f"{n}last{r}") for n in "rw")
        owner = Signal(len(self.write), name=f"owner{r}")  # one-hot: the unit that has the write port

        # One instruction at most holds each port, so the ports' requests can be merged without priority.
        reads, reads_last, writes_last = (Signal(name=f"{name}{r}") for name in ("reads", "reads_last", "writes_last"))
        written = [Signal(name=f"write{i}_{r}") for i in range(len(self.write))]
        writes = Signal(name=f"writes{r}")
        m.d.comb += [
            reads.eq(Cat(p.en & (p.reg == r) for p in self.read).any()),
            *(w.eq(p.en & (p.reg == r)) for w, p in zip(written, self.write, strict=True)),
            writes.eq(Cat(written).any()),
            reads_last.eq(reads & (rcount == rlast)),
            writes_last.eq(writes & (wcount == wlast)),
            rport.en.eq(reads | self.debug if self.debug_port else reads),
            rport.addr.eq(Mux(self.debug & ~reads, self.debug_addr, rcount) if self.debug_port else rcount),
            wport.addr.eq(wcount),
            wport.data.eq(_and_or(owner, [port.data for port in self.write])),
        ]
        for lane in range(config.lanes):
            enable = Cat(w & p.mask[lane] for w, p in zip(written, self.write, strict=True)).any()
            m.d.comb += [wport.en[slot * config.lanes + lane].eq(enable) for slot in range(config.batch)]
        # Whether the next word may be read is worked out a cycle ahead: a reader never overtakes the writer that it waits for.
        may_read, none_written = Signal(init=1, name=f"may_read{r}"), Signal(name=f"none_written{r}")
        with m.If(reads):
            m.d.sync += [rcount.eq(rnext), rnext.eq(rnext + 1)]
        with m.If(writes):
            m.d.sync += [wcount.eq(wcount + 1), none_written.eq(0)]
        m.d.sync += may_read.eq(~raw | writes | Mux(reads, rnext != wcount, rcount != wcount))
        with m.If(reads_last):
            m.d.sync += [reader.eq(0), war.eq(0)]
        with m.If(writes_last):
            m.d.sync += [writer.eq(0), raw.eq(0)]
        with m.If(self.claim & self.claim_reads[r]):
            waits = writer & ~writes_last
            m.d.sync += [reader.eq(1), rcount.eq(0), rnext.eq(1), rlast.eq(self.claim_last), raw.eq(waits)]
            m.d.sync += may_read.eq(~waits | writes | ~none_written)
        with m.If(self.claim & self.claim_writes[r]):
            m.d.sync += [writer.eq(1), wcount.eq(0), none_written.eq(1), wlast.eq(self.claim_last), war.eq(reader & ~reads_last)]
            m.d.sync += owner.eq(self.claim_writer)
        return rport.data, may_read, ~war


def _and_or(select, values):
    """The value whose bit of a one-hot select is set. Half a four-input table a value and bit; a multiplexer takes nearly one."""
    return reduce(or_, (value & bit.replicate(len(value)) for bit, value in zip(select, values, strict=True)))


def _pick(register, bits):
    """One bit of eight, by register number."""
    return Cat(bits).bit_select(register, 1)
