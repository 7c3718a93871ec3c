"""The vector registers, their ports and the scoreboard that lets units chain on them."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import ELEMENT_BITS, ReadSignature, WriteSignature
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import VECTOR_REGISTERS

__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Eight vector registers, each an SRAM with one read and one write port, lent to units by claims at issue.

    At issue the program counter claims the read ports and the write port that an instruction needs (``claim``, one cycle, with its masks
    and its length in words). Word k of a register may be read if no older writer is active on it or the writer has written more than
    k words (RAW); it may be written if no older reader is active or it has read more than k words (WAR); a second writer or
    reader waits at issue (WAW; one port each). A port returns by itself with the last word. An instruction that reads and writes the same
    register is ordered by its own pipeline and never waits for itself.

    Latency: read data one cycle after ``en``; a written word can be read in the next cycle.

    Parameters
    ----------
    config: core parameters.
    reads, writes: how many unit ports there are.

    Members
    -------
    read[i], write[i]: the units' ports.
    claim, claim_reads, claim_writes, claim_words: the issuing instruction's claims, a bit a register.
    read_busy, write_busy: ports that are lent, a bit a register.
    debug_reg, debug_addr, debug_data: the host's reads while the core doesn't run (``debug`` high); units that still run go first.
    changes: Out(1), low when a clock edge changes nothing.
    """

    def __init__(self, config: CoreConfig, *, reads: int, writes: int):
        self.config = config
        read, write = ReadSignature(config), WriteSignature(config)
        super().__init__({
            "read": In(read).array(reads), "write": In(write).array(writes),
            "claim": In(1), "claim_reads": In(VECTOR_REGISTERS), "claim_writes": In(VECTOR_REGISTERS),
            "claim_words": In(range(config.words + 1)),
            "read_busy": Out(VECTOR_REGISTERS), "write_busy": Out(VECTOR_REGISTERS),
            "debug": In(1), "debug_reg": In(3), "debug_addr": In(range(config.words)), "debug_data": Out(config.lanes * ELEMENT_BITS),
            "changes": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        width = config.lanes * ELEMENT_BITS
        data, raw, war, written, read = [], [], [], [], []
        for r in range(VECTOR_REGISTERS):
            m.submodules[f"v{r}"] = sram = memory.Memory(shape=width, depth=config.words, init=[])
            rport = sram.read_port()
            wport = sram.write_port(granularity=ELEMENT_BITS)
            data.append(rport.data)

            reader, writer = self.read_busy[r], self.write_busy[r]
            raw_dep, war_dep = Signal(name=f"raw{r}"), Signal(name=f"war{r}")
            rcount, wcount = (Signal(range(config.words + 1), name=f"{n}count{r}") for n in "rw")
            rwords, wwords = (Signal(range(config.words + 1), name=f"{n}words{r}") for n in "rw")
            raw.append(raw_dep), war.append(war_dep), written.append(wcount), read.append(rcount)

            # One instruction at most holds each port, so the ports' requests can be merged without priority.
            reads, writes = Signal(name=f"reads{r}"), Signal(name=f"writes{r}")
            m.d.comb += [
                reads.eq(Cat(p.en & (p.reg == r) for p in self.read).any()),
                writes.eq(Cat(p.en & (p.reg == r) for p in self.write).any()),
                rport.en.eq(reads | self.debug),
            ]
            for port in self.read:
                with m.If(port.en & (port.reg == r)):
                    m.d.comb += rport.addr.eq(port.addr)
            for port in self.write:
                with m.If(port.en & (port.reg == r)):
                    m.d.comb += [wport.en.eq(port.mask), wport.addr.eq(port.addr), wport.data.eq(port.data)]
            rnext, wnext = (Signal(range(config.words + 2), name=f"{n}next{r}") for n in "rw")
            m.d.comb += [rnext.eq(rcount + 1), wnext.eq(wcount + 1)]
            with m.If(reads):
                m.d.sync += rcount.eq(rnext)
                with m.If(rnext == rwords):
                    m.d.sync += [reader.eq(0), war_dep.eq(0)]
            with m.If(writes):
                m.d.sync += wcount.eq(wnext)
                with m.If(wnext == wwords):
                    m.d.sync += [writer.eq(0), raw_dep.eq(0)]
            with m.If(self.claim & self.claim_reads[r]):
                m.d.sync += [reader.eq(1), rcount.eq(0), rwords.eq(self.claim_words)]
                m.d.sync += raw_dep.eq(writer & ~(writes & (wnext == wwords)))
            with m.If(self.claim & self.claim_writes[r]):
                m.d.sync += [writer.eq(1), wcount.eq(0), wwords.eq(self.claim_words)]
                m.d.sync += war_dep.eq(reader & ~(reads & (rnext == rwords)))
            with m.If(self.debug & ~reads):
                m.d.comb += rport.addr.eq(self.debug_addr)

        for port in self.read:
            reg, limit, dep = Signal(3), Signal(range(config.words + 1)), Signal()
            with m.Switch(port.reg):
                for r in range(VECTOR_REGISTERS):
                    with m.Case(r):
                        m.d.comb += [limit.eq(written[r]), dep.eq(raw[r])]
            m.d.comb += port.ok.eq(~dep | (port.addr < limit))
            with m.If(port.en):
                m.d.sync += reg.eq(port.reg)
            with m.Switch(reg):
                for r in range(VECTOR_REGISTERS):
                    with m.Case(r):
                        m.d.comb += port.data.eq(data[r])
        for port in self.write:
            limit, dep = Signal(range(config.words + 1)), Signal()
            with m.Switch(port.chk_reg):
                for r in range(VECTOR_REGISTERS):
                    with m.Case(r):
                        m.d.comb += [limit.eq(read[r]), dep.eq(war[r])]
            m.d.comb += port.ok.eq(~dep | (port.chk_addr < limit))
        m.d.comb += self.changes.eq(self.claim | self.debug | Cat(p.en for p in (*self.read, *self.write)).any())
        debug_reg = Signal(3)
        m.d.sync += debug_reg.eq(self.debug_reg)
        with m.Switch(debug_reg):
            for r in range(VECTOR_REGISTERS):
                with m.Case(r):
                    m.d.comb += self.debug_data.eq(data[r])
        return m
