"""A controller for a 16-bit SDR SDRAM at twice the core's clock, behind the core's memory port."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.fifo import SmallFifo
from trilobit.hdl.interfaces import MemorySignature
from trilobit.hdl.sdram_banks import SdramBanks
from trilobit.hdl.sdram_chip import BURST, SdramChip
from trilobit.isa.core import CoreConfig

__all__ = ["SdramController", "SdramPins"]

WORD_BYTES = 2 * BURST  # what a column command brings or takes
INIT_REFRESHES = 8
SETTLE_CLOCKS = 8  # after a reset, until what the pins' registers began with has gone: the chip is disabled
# Row commands as they stand on ras, cas, we.
ACTIVATE, PRECHARGE, REFRESH, MODE = 0b100, 0b101, 0b110, 0b111
PRECHARGE_ALL = 1 << 10


class SdramPins(wiring.Signature):
    """The chip's pins at half its clock: what belongs to the first half of a core's clock lies in the low bits (or is member ``_0``).

    A read or write stands in the first half, every other command in the second; ``cs``, ``ras``, ``cas`` and ``we`` are high when
    asserted. ``dq_oe`` is for both halves; ``dq_i`` is what the pins sampled, in order of time.
    """

    def __init__(self):
        super().__init__({
            "clk_en": Out(1), "cs": Out(2), "ras": Out(2), "cas": Out(2), "we": Out(2), "ba_0": Out(2), "ba_1": Out(2),
            "a_0": Out(13), "a_1": Out(13), "dqm": Out(4), "dq_o": Out(32), "dq_oe": Out(1), "dq_i": In(32),
        })  # fmt: skip


class SdramController(wiring.Component):
    """An SDRAM on the memory port, four bytes a clock: bursts of two words, a column command a clock, rows opened ahead.

    The chip runs at twice the clock; registers in the pins that work on both edges make the crossing, so all logic has the core's clock.
    A row of each bank may be open. While a request bursts, the bank of the next one is precharged and activated, so a sequential
    stream changes banks without a gap: requests of at least 5 words of 4 bytes hide it all. Refreshes are due each interval and go
    between requests; a sequential read reaches :attr:`SdramSlots.sequential_rate` of the peak.

    Reads are answered in order. A write waits in a queue of ``burst_beats`` beats until all of it (or a queue full) has come, so that a
    slow writer holds up no reader. An address behind the chip's end reads with an error, or writes nothing and answers with an error.

    From a read request to its first beat, in an open row: :meth:`read_latency` clocks. A row of a closed bank costs
    ``activate_column - 1`` clocks more, another row of an open bank ``precharge + activate_column - 1``; a request is taken every
    other clock at most.

    Addresses: bytes of a word, columns, banks, rows; a sequential stream changes bank before it changes row.

    Parameters
    ----------
    config : CoreConfig
        beat_bytes must be at least 4.
    chip : SdramChip
    clock_mhz : float
        The core's clock, half the chip's; times are rounded up to it.
    cas_latency : int
        2 or 3, as far as the chip has it at its clock.
    io_latency : int
        Clocks of the chip that registers and wires between ``pins`` and the chip add, there and back.
    init_clocks : int
        The core's clocks from clock enable to the first command; default the chip's.

    Members
    -------
    mem : In(MemorySignature(config))
    pins : Out(SdramPins())
    ready : Out(1)
        The chip has been initialised; requests wait until then.
    """

    def __init__(self, config: CoreConfig, chip: SdramChip, *, clock_mhz: float, cas_latency: int = 3, io_latency: int = 0,
                 init_clocks: int | None = None):  # fmt: skip
        if config.beat_bytes < WORD_BYTES:
            raise ValueError(f"expected a core of at least {WORD_BYTES} bytes a beat, got {config.beat_bytes}")
        if chip.banks != 4 or chip.row_bits > 13 or chip.column_bits > 10:
            raise ValueError(f"expected a chip of 4 banks, at most 13 row bits and 10 column bits, got {chip!r}")
        if io_latency < 0:
            raise ValueError(f"expected an io_latency of at least 0, got {io_latency!r}")
        self.config, self.chip = config, chip
        self.slots = chip.slots(clock_mhz, cas_latency)
        self._cas_latency, self._delay = cas_latency, cas_latency + io_latency
        self._init_clocks = self.slots.init if init_clocks is None else init_clocks
        super().__init__({"mem": In(MemorySignature(config)), "pins": Out(SdramPins()), "ready": Out(1)})

    @staticmethod
    def read_latency(config: CoreConfig, cas_latency: int, io_latency: int) -> int:
        """Clocks from a read request's transfer to its first beat, when its row is open and nothing else is under way."""
        return 2 + (cas_latency + io_latency + 1) // 2 + config.beat_bytes // WORD_BYTES

    def elaborate(self, platform):
        m = Module()
        mem, slots = self.mem, self.slots
        words = self.config.beat_bytes // WORD_BYTES
        column_bits = self.chip.column_bits - 1  # of words of four bytes
        address_bits = column_bits + 2 + self.chip.row_bits
        depth = max(2, self.config.burst_beats)
        m.submodules.queue = queue = SmallFifo(9 * self.config.beat_bytes, depth)
        m.submodules.banks = banks = SdramBanks(self.chip, slots)

        # ---- requests: one is prepared (``next``) while one bursts (``now``) -------------------------------------------------
        # Addresses count words; the bit above them says that they are behind the chip's end.
        next_valid, next_write = Signal(), Signal()
        next_address, next_left = Signal(address_bits + 1), Signal(range(256 * words + 1))
        now_valid, now_write, now_beyond = Signal(), Signal(), Signal()
        now_bank, now_column, now_left = Signal(2), Signal(column_bits), Signal(range((1 << column_bits) + 1))

        column = next_address[:column_bits]
        to_row_end = Signal(range((1 << column_bits) + 1))
        chunk = Signal(range((1 << column_bits) + 1))  # what bursts at once: up to the row's end
        m.d.comb += [to_row_end.eq((1 << column_bits) - column), chunk.eq(Mux(next_left < to_row_end, next_left, to_row_end))]

        # ---- writes: gathered first ------------------------------------------------------------------------------------------
        write_address, write_left, write_error = Signal(address_bits + 1), Signal(range(257)), Signal()
        writing = Signal()  # what was gathered is in ``next`` or ``now``
        writable, respond = Signal(), Signal()
        m.d.comb += [
            writable.eq((write_left != 0) & ~writing & ((queue.level == write_left) | (queue.level == depth))),
            mem.wr_ready.eq((write_left == 0) & ~writing & ~mem.wresp_valid & self.ready),
            queue.i_valid.eq(mem.wdata_valid), mem.wdata_ready.eq(queue.i_ready), queue.i_data.eq(Cat(mem.wdata, mem.wdata_strobe)),
            mem.wresp_error.eq(write_error),
        ]  # fmt: skip
        m.d.sync += mem.wresp_valid.eq(respond)

        def word_address(byte_address):
            beyond = (byte_address >> (address_bits + 2)) != 0
            return Cat(byte_address[2 : address_bits + 2], beyond)

        with m.If(mem.wr_valid & mem.wr_ready):
            m.d.sync += [write_address.eq(word_address(mem.wr_addr)), write_left.eq(mem.wr_len + 1), write_error.eq(0)]

        m.d.comb += mem.rd_ready.eq(self.ready & ~next_valid & ~writable)
        with m.If(self.ready & ~next_valid & writable):
            m.d.sync += [
                next_valid.eq(1), next_write.eq(1), next_address.eq(write_address), next_left.eq(queue.level * words), writing.eq(1),
                write_left.eq(write_left - queue.level), write_address.eq(write_address + queue.level * words),
            ]  # fmt: skip
        with m.Elif(mem.rd_ready & mem.rd_valid):
            m.d.sync += [
                next_valid.eq(1), next_write.eq(0), next_address.eq(word_address(mem.rd_addr)), next_left.eq((mem.rd_len + 1) * words),
            ]  # fmt: skip

        # ---- column commands, in the first half of a clock -----------------------------------------------------------------------
        pins = self.pins
        command = Signal(3)  # ras, cas, we of the row command in the second half
        turn = Signal(range(slots.read_write + 1))  # clocks until the chip has left the bus
        with m.If(turn != 0):
            m.d.sync += turn.eq(turn - 1)
        reads, writes, last = Signal(), Signal(), Signal()
        m.d.comb += [reads.eq(now_valid & ~now_write), writes.eq(now_valid & now_write & (turn == 0)), last.eq(now_left == 1)]
        part = Signal(range(max(words, 2)))  # the word of a beat that is written
        beat, strobe = queue.o_data[: 8 * self.config.beat_bytes], queue.o_data[8 * self.config.beat_bytes :]
        m.d.comb += [
            pins.cs.eq(Cat(reads | writes, command != 0)), pins.ras.eq(Cat(C(0, 1), command[2])),
            pins.cas.eq(Cat(reads | writes, command[1])), pins.we.eq(Cat(writes, command[0])),
            pins.ba_0.eq(now_bank), pins.a_0.eq(now_column << 1), pins.dq_oe.eq(writes), pins.dq_o.eq(beat.word_select(part, 32)),
            pins.dqm.eq(Mux(writes, Mux(now_beyond, C(0b1111, 4), ~strobe.word_select(part, 4)), Mux(self.ready, C(0, 4), C(0b1111, 4)))),
        ]  # fmt: skip
        with m.If(reads | writes):
            m.d.sync += [now_column.eq(now_column + 1), now_left.eq(now_left - 1)]
            with m.If(last):
                m.d.sync += now_valid.eq(0)
        with m.If(reads):
            m.d.sync += turn.eq(slots.read_write - 1)
        with m.If(writes):
            m.d.sync += [part.eq(Mux(part == words - 1, 0, part + 1)), write_error.eq(write_error | now_beyond)]
            m.d.comb += queue.o_ready.eq(part == words - 1)
            with m.If(last & ~(next_valid & next_write)):  # a write that crosses a row's end goes on in ``next``
                m.d.sync += writing.eq(0)
                m.d.comb += respond.eq(write_left == 0)

        # ---- row commands, in the second half --------------------------------------------------------------------------------
        refreshing = Signal()  # a refresh is due or under way: nothing new starts
        pause = Signal(range(max(slots.precharge, slots.refresh, slots.mode)))  # after precharge, refresh and mode register
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        m.d.comb += [
            banks.bank.eq(next_address[column_bits:][:2]), banks.row.eq(next_address[column_bits + 2 : address_bits]),
            banks.written.eq(writes), pins.ba_1.eq(banks.bank),
        ]  # fmt: skip

        def issue(code, *, a=0, then: int = 1):
            """A row command, and the clocks until the next."""
            m.d.comb += [command.eq(code), pins.a_1.eq(a)]
            m.d.sync += pause.eq(then - 1)

        start = Signal()
        m.d.comb += start.eq(next_valid & banks.hit & ~refreshing & (~now_valid | (last & (reads | writes))))
        with m.If(start):
            m.d.sync += [
                now_valid.eq(1), now_write.eq(next_write), now_beyond.eq(next_address[-1]), now_bank.eq(banks.bank), now_column.eq(column),
                now_left.eq(chunk), next_address.eq(next_address + chunk), next_left.eq(next_left - chunk),
                next_valid.eq(next_left != chunk),
            ]  # fmt: skip

        interval, debt, paid = Signal(range(slots.refresh_interval), init=slots.refresh_interval - 1), Signal(4), Signal()
        due = Signal()
        m.d.comb += due.eq((interval == 0) & (debt != 15))
        m.d.sync += [interval.eq(Mux(interval == 0, slots.refresh_interval - 1, interval - 1)), debt.eq(debt + due - paid)]
        wait = Signal(range(max(self._init_clocks, INIT_REFRESHES) + SETTLE_CLOCKS + 1), init=self._init_clocks + SETTLE_CLOCKS)
        with m.FSM():
            with m.State("POWER"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == self._init_clocks):
                    m.d.sync += pins.clk_en.eq(1)
                with m.If(wait == 0):
                    issue(PRECHARGE, a=PRECHARGE_ALL, then=slots.precharge)
                    m.d.sync += wait.eq(INIT_REFRESHES - 1)
                    m.next = "INIT_REFRESH"
            with m.State("INIT_REFRESH"):
                with m.If(pause == 0):
                    issue(REFRESH, then=slots.refresh)
                    m.d.sync += wait.eq(wait - 1)
                    with m.If(wait == 0):
                        m.next = "MODE"
            with m.State("MODE"):
                with m.If(pause == 0):
                    issue(MODE, a=self._cas_latency << 4 | (BURST.bit_length() - 1), then=slots.mode)  # sequential bursts
                    m.d.comb += pins.ba_1.eq(0)
                    m.d.sync += [self.ready.eq(1), debt.eq(0), interval.eq(slots.refresh_interval - 1)]
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += refreshing.eq(debt != 0)
                with m.If(refreshing):
                    with m.If(~now_valid):
                        with m.If(~banks.any_open & (pause == 0) & banks.may_activate):
                            issue(REFRESH, then=slots.refresh)
                            m.d.comb += paid.eq(1)
                        with m.Elif(banks.any_open & (pause == 0) & banks.may_precharge):
                            issue(PRECHARGE, a=PRECHARGE_ALL, then=slots.precharge)
                            m.d.comb += banks.close_all.eq(1)
                with m.Elif(next_valid & ~banks.match & (pause == 0)):
                    with m.If(~banks.open):
                        with m.If(banks.may_activate):
                            issue(ACTIVATE, a=banks.row)
                            m.d.comb += banks.activate.eq(1)
                    with m.Elif(banks.may_precharge & ~(now_valid & (now_bank == banks.bank))):
                        issue(PRECHARGE, then=slots.precharge)
                        m.d.comb += banks.close.eq(1)

        self._answer(m, words, reads, now_beyond)
        return m

    def _answer(self, m, words, launched, beyond):
        """Words on their way back, the oldest on top, and beats out of them."""
        mem = self.mem
        clocks = (self._delay + 1) // 2
        flight, flight_error = Signal(clocks), Signal(clocks)
        m.d.sync += [flight.eq(Cat(launched, flight)), flight_error.eq(Cat(beyond, flight_error))]
        word = self.pins.dq_i
        if self._delay % 2:  # the burst begins in the second half of a clock
            before = Signal(16)
            m.d.sync += before.eq(self.pins.dq_i[16:])
            word = Cat(before, self.pins.dq_i[:16])
        came, error = flight[-1], flight_error[-1]
        part = Signal(range(max(words, 2)))
        m.d.sync += mem.rdata_valid.eq(0)
        with m.If(came):
            m.d.sync += [
                mem.rdata.eq(Cat(mem.rdata[32:], word)), mem.rdata_error.eq(error | (mem.rdata_error & (part != 0))),
                part.eq(part + 1), mem.rdata_valid.eq(part == words - 1),
            ]  # fmt: skip
            with m.If(part == words - 1):
                m.d.sync += part.eq(0)
