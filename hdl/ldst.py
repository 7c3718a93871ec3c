"""The load/store unit: vectors, embedding rows and cleared state between memory and the register file."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.fifo import BlockFifo
from trilobit.hdl.gearbox import HALF_BITS, Packer, Unpacker
from trilobit.hdl.interfaces import (
    ELEMENT_BITS,
    CommandSignature,
    ReadSignature,
    RetireSignature,
    WriteSignature,
    decode,
)
from trilobit.hdl.ldst_rows import RowStage
from trilobit.hdl.pc_slots import TOKEN_BITS
from trilobit.isa.core import CoreConfig
from trilobit.isa.slots import stored_elements
from trilobit.isa.spec import ISA

__all__ = ["LoadStore"]


def _opcode(name: str) -> int:
    return ISA.by_name[name].opcode


class LoadStore(wiring.Component):
    """Executes ldv, sv, emb and clr, one at a time.

    A load first waits until the older reader of its register has finished, so that memory's answers never wait; it asks for a burst only
    when its FIFO has room for it. A store takes words as they are written by an older instruction (chaining), sends a burst, and
    retires with the last response: so a later load finds what was stored. Bursts never cross a block of ``burst_beats`` beats.

    With ideal memory and a free register, ``ldv`` retires :meth:`load_clocks` clocks after its command; ``emb`` takes three more.

    With a batch, ``ldv`` and ``sv`` move whole words of all slots. ``emb`` loads the slots' rows one after the other; all but the last
    wait in a memory of the unit, and come out beside the last row's words. A row takes :meth:`row_clocks` clocks.

    Members
    -------
    cmd, retire, active, saturated: as every unit.
    token: In(24 * batch), sampled with the command of ``emb``.
    window_size: In(40).
    fault: Out(1), an embedding row outside the window; nothing was requested.
    stop: In(1), the core has faulted: no further store begins.
    read, write: register ports.
    rd_valid, rd_ready, rd_addr, rd_len, rdata_valid, rdata: requests and answers of the read arbiter.
    wr_*, wdata_*, wresp_valid: the memory port's write side.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        n = config.beat_bytes
        super().__init__({
            "cmd": In(CommandSignature()), "retire": Out(RetireSignature()), "active": Out(1),
            "saturated": Out(range(config.word_elements + 1)),
            "token": In(TOKEN_BITS * config.batch), "window_size": In(40), "fault": Out(1), "stop": In(1),
            "read": Out(ReadSignature(config)), "write": Out(WriteSignature(config)),
            "rd_valid": Out(1), "rd_ready": In(1), "rd_addr": Out(40), "rd_len": Out(8), "rdata_valid": In(1), "rdata": In(8 * n),
            "wr_valid": Out(1), "wr_ready": In(1), "wr_addr": Out(40), "wr_len": Out(8),
            "wdata_valid": Out(1), "wdata_ready": In(1), "wdata": Out(8 * n), "wdata_strobe": Out(n), "wresp_valid": In(1),
        })  # fmt: skip

    @staticmethod
    def load_clocks(config: CoreConfig, length: int, wide: int) -> int:
        """Clocks from the command of ``ldv`` to its retirement with ideal memory and a free register."""
        beats = -(-stored_elements(config, length) * (4 if wide else 2) // config.beat_bytes)
        return 6 + max(-(-length // config.lanes), beats)

    @staticmethod
    def row_clocks(config: CoreConfig, length: int) -> int:
        """Clocks of a slot's row in ``emb`` with ideal memory and a free register; ``emb`` retires after as many times batch."""
        return 9 + max(-(-length // config.lanes), -(-length * 2 // config.beat_bytes))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        n, lanes, burst, batch = config.beat_bytes, config.lanes, config.burst_beats, config.batch
        beat_shift, lane_shift = ceil_log2(n), ceil_log2(lanes)

        m.submodules.unpacker = unpacker = Unpacker(n, config.word_elements, batch * config.max_length)
        m.submodules.packer = packer = Packer(n, config.word_elements, batch * config.max_length)
        m.submodules.landing = landing = BlockFifo(8 * n, config.load_fifo_beats)

        # The instruction. ``addr`` and ``beats`` count through the bursts.
        pc, vd, va, length = Signal(16), Signal(3), Signal(3), Signal(16)
        wide, clear = Signal(), Signal()
        addr, beats = Signal(40), Signal(32)
        last_word = Signal(range(config.words))
        token, pitch = Signal(TOKEN_BITS * batch), Signal(16)
        row = Signal(40)
        last_start = Signal(signed(42))  # of a row inside the window
        m.d.sync += [row.eq(token[:TOKEN_BITS] * pitch), last_start.eq(self.window_size - (length << 1))]

        chunk = Signal(range(burst + 1))  # beats of the next burst: up to the end of the block or of the vector
        to_block_end = Signal(range(burst + 1))
        m.d.comb += to_block_end.eq(burst - (addr >> beat_shift)[: ceil_log2(burst)])
        m.d.comb += chunk.eq(Mux(beats < to_block_end, beats, to_block_end))

        m.d.comb += self.retire.pc.eq(pc)
        moved, table, rows = length, addr, None  # elements in memory; address of row 0; the slots' rows
        if batch > 1:
            moved, table, embeds, slot = Signal(range(batch * config.max_length + 1)), Signal(40), Signal(), Signal(range(batch))
            m.submodules.rows = rows = RowStage(config)
            m.d.comb += [rows.length.eq(length), rows.slot.eq(slot)]
        o_valid, o_last = self._load_path(m, landing, unpacker, rows, vd, last_word, length)
        self._store_path(m, packer, va, wide, last_word, length)

        op = self.cmd.word[:8]
        credits = Signal(range(config.load_fifo_beats + 1), init=config.load_fifo_beats)
        take = landing.o_valid & landing.o_ready if rows else landing.o_valid & unpacker.i_ready
        asking = Signal()  # a request is offered: from the cycle after there is room for its answer
        asked = self.rd_valid & self.rd_ready
        m.d.sync += credits.eq(credits + take - Mux(asked, chunk, 0))
        sent = Signal(range(burst + 1))  # beats of the current write burst that are still to go

        m.d.comb += [
            self.active.eq(1),
            self.rd_addr.eq(addr), self.rd_len.eq(chunk - 1), self.wr_addr.eq(addr), self.wr_len.eq(chunk - 1),
            unpacker.length.eq(moved), unpacker.wide.eq(wide), packer.length.eq(moved), packer.wide.eq(wide),
            self.wdata.eq(Mux(clear, 0, packer.o_data)), self.wdata_strobe.eq(Mux(clear, (1 << n) - 1, packer.o_strobe)),
        ]  # fmt: skip
        after = addr + (chunk << beat_shift)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.active.eq(0), self.cmd.ready.eq(1)]
                with m.If(self.cmd.valid):
                    elements = decode(self.cmd.word, "len")
                    if batch > 1:
                        elements = ((elements + (lanes - 1)) >> lane_shift) << ceil_log2(config.word_elements)
                        m.d.sync += [moved.eq(elements), table.eq(decode(self.cmd.word, "addr")), embeds.eq(0), slot.eq(0)]
                    size = elements << Mux(decode(self.cmd.word, "wide"), 2, 1)
                    m.d.sync += [
                        pc.eq(self.cmd.pc), vd.eq(decode(self.cmd.word, "vd")), va.eq(decode(self.cmd.word, "va")),
                        length.eq(decode(self.cmd.word, "len")), wide.eq(decode(self.cmd.word, "wide")),
                        addr.eq(decode(self.cmd.word, "addr")), beats.eq((size + (n - 1)) >> beat_shift),
                        last_word.eq((decode(self.cmd.word, "len") - 1) >> lane_shift),
                        token.eq(self.token), pitch.eq(decode(self.cmd.word, "pitch")), clear.eq(0),
                    ]  # fmt: skip
                    with m.Switch(op):
                        with m.Case(_opcode("ldv")):
                            m.next = "LOAD_FREE"
                        with m.Case(_opcode("emb")):
                            if batch > 1:
                                m.d.sync += embeds.eq(1)
                            m.next = "ROW_PRODUCT"
                        with m.Case(_opcode("sv")):
                            m.next = "STORE"
                        with m.Default():
                            m.d.sync += [clear.eq(1), beats.eq(decode(self.cmd.word, "beats"))]
                            m.next = "WRITE_REQUEST"
            with m.State("ROW_PRODUCT"):
                m.next = "ROW_ADDRESS"
            with m.State("ROW_ADDRESS"):
                m.d.sync += addr.eq(table + row)
                if batch > 1:
                    m.d.sync += beats.eq(((length << 1) + (n - 1)) >> beat_shift)
                m.next = "ROW_CHECK"
            with m.State("ROW_CHECK"):
                with m.If((last_start < 0) | (addr > last_start[:40])):
                    m.next = "FAULT"
                with m.Else():
                    m.next = "LOAD_FREE"
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(1)
            with m.State("LOAD_FREE"):
                m.d.comb += self.write.chk_addr.eq(last_word)
                with m.If(self.write.ok):
                    m.d.comb += [unpacker.start.eq(~embeds), rows.start.eq(embeds)] if rows else unpacker.start.eq(1)
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.sync += asking.eq((beats != 0) & (credits >= chunk))
                m.d.comb += self.rd_valid.eq(asking)
                with m.If(asked):
                    m.d.sync += [addr.eq(after), beats.eq(beats - chunk), asking.eq(0)]
                with m.If(o_valid & o_last):
                    m.d.comb += self.retire.valid.eq(1)
                    m.next = "IDLE"
                    if rows:
                        with m.If(embeds & (slot != batch - 1)):
                            m.d.comb += self.retire.valid.eq(0)
                            m.d.sync += [slot.eq(slot + 1), token.eq(token >> TOKEN_BITS)]
                            m.next = "ROW_PRODUCT"
            with m.State("STORE"):
                m.d.comb += packer.start.eq(1)
                m.next = "WRITE_REQUEST"
            with m.State("WRITE_REQUEST"):
                m.d.comb += self.wr_valid.eq(~self.stop)
                with m.If(self.wr_valid & self.wr_ready):
                    m.d.sync += [sent.eq(chunk), addr.eq(after), beats.eq(beats - chunk)]
                    m.next = "WRITE_DATA"
            with m.State("WRITE_DATA"):
                m.d.comb += self.wdata_valid.eq(clear | packer.o_valid)
                m.d.comb += packer.o_ready.eq(self.wdata_ready & ~clear)
                with m.If(self.wdata_valid & self.wdata_ready):
                    m.d.sync += sent.eq(sent - 1)
                    with m.If(sent == 1):
                        m.next = "WRITE_RESPONSE"
            with m.State("WRITE_RESPONSE"):
                with m.If(self.wresp_valid):
                    with m.If(beats != 0):
                        m.next = "WRITE_REQUEST"
                    with m.Else():
                        m.d.comb += self.retire.valid.eq(1)
                        m.next = "IDLE"
        return m

    def _load_path(self, m, landing, unpacker, rows, vd, last_word, length):
        """Answers -> FIFO -> words -> register. Returns whether a word is there and whether it is the last."""
        lanes = self.config.lanes
        word = Signal(range(self.config.words))
        tail = length[: ceil_log2(lanes)] if lanes > 1 else 0
        m.d.comb += [
            landing.i_valid.eq(self.rdata_valid), landing.i_data.eq(self.rdata),
            landing.o_ready.eq(unpacker.i_ready), unpacker.i_valid.eq(landing.o_valid), unpacker.i_data.eq(landing.o_data),
            unpacker.o_ready.eq(1),
            self.write.chk_reg.eq(vd), self.write.reg.eq(vd), self.write.addr.eq(word),
            self.write.en.eq(unpacker.o_valid), self.write.data.eq(unpacker.o_data),
        ]  # fmt: skip
        o_valid, o_last = unpacker.o_valid, unpacker.o_last
        if rows:  # one of the two has work at a time
            o_valid, o_last = o_valid | rows.o_valid, Mux(rows.o_valid, rows.o_last, o_last)
            m.d.comb += [
                rows.i_valid.eq(landing.o_valid), rows.i_data.eq(landing.o_data), landing.o_ready.eq(unpacker.i_ready | rows.i_ready),
                self.write.en.eq(unpacker.o_valid | (rows.o_valid & (rows.slot == self.config.batch - 1))),
            ]  # fmt: skip
            for j in range(self.config.word_elements):
                row = rows.o_data.word_select(j, HALF_BITS).as_signed()
                m.d.comb += self.write.data.word_select(j, ELEMENT_BITS).eq(
                    Mux(rows.o_valid, row, unpacker.o_data.word_select(j, ELEMENT_BITS))
                )
        for j in range(lanes):
            m.d.comb += self.write.mask[j].eq((word != last_word) | (tail == 0) | (j < tail))
        with m.If(o_valid):
            m.d.sync += word.eq(Mux(o_last, 0, word + 1))
        return o_valid, o_last

    def _store_path(self, m, packer, va, wide, last_word, length):
        """Register -> words, two in flight -> beats."""
        lanes = self.config.lanes
        m.submodules.words = words = SyncFIFO(width=self.config.word_elements * ELEMENT_BITS, depth=2)
        word = Signal(range(self.config.words + 1))
        reading, coming = Signal(), Signal()
        m.d.comb += [
            self.read.reg.eq(va), self.read.addr.eq(word),
            self.read.en.eq(reading & self.read.ok & (words.level + coming < 2)),
            words.w_en.eq(coming), words.w_data.eq(self.read.data),
            words.r_en.eq(packer.i_ready), packer.i_valid.eq(words.r_rdy),
        ]  # fmt: skip
        m.d.sync += coming.eq(self.read.en)
        with m.If(packer.start):
            m.d.sync += [reading.eq(1), word.eq(0)]
        with m.If(self.read.en):
            m.d.sync += word.eq(word + 1)
            with m.If(word == last_word):
                m.d.sync += reading.eq(0)
        over = []
        tail = (packer.length if self.config.batch == 1 else length)[: ceil_log2(lanes)] if lanes > 1 else 0
        taken = Signal(range(self.config.words + 1))  # words handed on, to know the last one's lanes
        with m.If(packer.start):
            m.d.sync += taken.eq(0)
        with m.Elif(packer.i_valid & packer.i_ready):
            m.d.sync += taken.eq(taken + 1)
        for j in range(self.config.word_elements):
            element = words.r_data.word_select(j, ELEMENT_BITS).as_signed()
            fits = element[15:].all() | ~element[15:].any()
            limited = Mux(element[-1], -0x8000, 0x7FFF)
            m.d.comb += packer.i_data.word_select(j, ELEMENT_BITS).eq(Mux(wide | fits, element, limited))
            over.append(~wide & ~fits & ((taken != last_word) | (tail == 0) | (j % lanes < tail)))
        with m.If(packer.i_valid & packer.i_ready):
            m.d.comb += self.saturated.eq(sum(over))
