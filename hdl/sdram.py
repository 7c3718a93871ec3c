"""A controller for a 16-bit SDR SDRAM, behind the core's memory port."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.fifo import SmallFifo
from trilobit.hdl.interfaces import MemorySignature
from trilobit.hdl.sdram_chip import SdramChip
from trilobit.isa.core import CoreConfig

__all__ = ["SdramController", "SdramPins"]

WORD_BYTES = 2
INIT_REFRESHES = 8
PRECHARGE_ALL = 1 << 10
ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE = 0b100, 0b010, 0b011, 0b101, 0b110, 0b111  # ras, cas, we
NOP = 0


class SdramPins(wiring.Signature):
    """The chip's pins as the controller drives them; ``cs``, ``ras``, ``cas`` and ``we`` are high when asserted."""

    def __init__(self):
        super().__init__({
            "clk_en": Out(1), "cs": Out(1), "ras": Out(1), "cas": Out(1), "we": Out(1), "ba": Out(2), "a": Out(13),
            "dqm": Out(2), "dq_o": Out(16), "dq_oe": Out(1), "dq_i": In(16),
        })  # fmt: skip


class SdramController(wiring.Component):
    """An SDRAM on the memory port, on one clock: a 16-bit word a clock within a row, correct rather than fast.

    One row is open at a time, until another is needed or a refresh is due. Bursts are of length 1, a command a clock. Reads are answered in
    order; a write waits in a queue of ``burst_beats`` beats until all of it (or a queue full) has come, so that a slow writer holds up no
    reader. An address behind the chip's end reads with an error, or writes nothing and answers with an error.

    From a request in an open row to its first beat: ``cas_latency + io_latency + beat_bytes / 2 + 3`` clocks.

    Addresses: byte 0 is the low byte of a word; then columns, banks and rows, so a sequential stream changes bank before it changes row.

    Parameters
    ----------
    config : CoreConfig
        beat_bytes must be at least 2.
    chip : SdramChip
    clock_mhz : float
        The clock; times are rounded up to it.
    cas_latency : int
        2 or 3, as far as the chip has it at this clock.
    io_latency : int
        Clocks that registers between ``pins`` and the chip add between a command and its data.
    init_clocks : int
        Clocks before the first command; default the chip's.

    Members
    -------
    mem : In(MemorySignature(config))
    pins : Out(SdramPins())
        Registered.
    ready : Out(1)
        The chip has been initialised; requests wait until then.
    """

    def __init__(self, config: CoreConfig, chip: SdramChip, *, clock_mhz: float, cas_latency: int = 2, io_latency: int = 0,
                 init_clocks: int | None = None):  # fmt: skip
        if config.beat_bytes < WORD_BYTES:
            raise ValueError(f"expected a core of at least {WORD_BYTES} bytes a beat, got {config.beat_bytes}")
        if chip.banks != 4 or chip.row_bits > 13 or chip.column_bits > 10:
            raise ValueError(f"expected a chip of 4 banks, at most 13 row bits and 10 column bits, got {chip!r}")
        if io_latency < 0:
            raise ValueError(f"expected an io_latency of at least 0, got {io_latency!r}")
        self.config, self.chip = config, chip
        self.clocks = chip.clocks(clock_mhz, cas_latency)
        self._cas_latency, self._io_latency = cas_latency, io_latency
        self._init_clocks = self.clocks.init if init_clocks is None else init_clocks
        super().__init__({"mem": In(MemorySignature(config)), "pins": Out(SdramPins()), "ready": Out(1)})

    def elaborate(self, platform):
        m = Module()
        mem, pins, clocks = self.mem, self.pins, self.clocks
        words = self.config.beat_bytes // WORD_BYTES
        address_bits = self.chip.column_bits + 2 + self.chip.row_bits
        m.submodules.queue = queue = SmallFifo(9 * self.config.beat_bytes, max(2, self.config.burst_beats))
        depth = max(2, self.config.burst_beats)

        # ---- the command that leaves in the next cycle -------------------------------------------------------------------
        command = Signal(3)  # ras, cas, we
        m.d.comb += pins.clk_en.eq(1)
        m.d.sync += [Cat(pins.we, pins.cas, pins.ras).eq(command), pins.cs.eq(command != 0), pins.dq_oe.eq(0), pins.dqm.eq(0)]
        pause = Signal(range(max(self._init_clocks, clocks.rfc, clocks.rc) + 1))  # until the next command
        row_cycle = max(clocks.ras, clocks.rc)
        since_activate, since_write = Signal(range(row_cycle + 1)), Signal(range(clocks.wr + 1))  # both count down
        for timer in (pause, since_activate, since_write):
            with m.If(timer != 0):
                m.d.sync += timer.eq(timer - 1)
        free = Signal()
        m.d.comb += [free.eq(pause == 0), command.eq(NOP)]

        def issue(code, *, a=0, ba=0, then: int = 1):
            """A command, and the clocks until the next."""
            m.d.comb += command.eq(code)
            m.d.sync += [pins.a.eq(a), pins.ba.eq(ba), pause.eq(then - 1)]

        # ---- refresh: a debt that grows by one each interval, paid between bursts --------------------------------------------
        interval, debt = Signal(range(clocks.refi), init=clocks.refi - 1), Signal(4)
        paid = Signal()
        due = Signal()
        m.d.comb += due.eq((interval == 0) & (debt != 15))
        m.d.sync += [interval.eq(Mux(interval == 0, clocks.refi - 1, interval - 1)), debt.eq(debt + due - paid)]

        # ---- requests ------------------------------------------------------------------------------------------------------
        reading = Signal()
        address, left = Signal(address_bits + 1), Signal(range(256 * words + 1))  # of the words under way; the top bit: behind the end
        write_address, write_left = Signal(address_bits + 1), Signal(range(257))
        write_error, responding = Signal(), Signal()
        m.d.comb += [
            mem.wr_ready.eq((write_left == 0) & ~responding & self.ready),
            queue.i_valid.eq(mem.wdata_valid), mem.wdata_ready.eq(queue.i_ready), queue.i_data.eq(Cat(mem.wdata, mem.wdata_strobe)),
            mem.wresp_valid.eq(responding), mem.wresp_error.eq(write_error),
        ]  # fmt: skip

        def word_address(byte_address):
            beyond = (byte_address >> (address_bits + 1)) != 0
            return Cat(byte_address[1 : address_bits + 1], beyond)

        with m.If(mem.wr_valid & mem.wr_ready):
            m.d.sync += [write_address.eq(word_address(mem.wr_addr)), write_left.eq(mem.wr_len + 1), write_error.eq(0)]
        writable = Signal()
        m.d.comb += writable.eq((write_left != 0) & ((queue.level == write_left) | (queue.level == depth)))

        column, bank, row = (address[: self.chip.column_bits], address[self.chip.column_bits :][:2],
                             address[self.chip.column_bits + 2 : address_bits])  # fmt: skip
        beyond = address[-1]
        opened, open_bank, open_row = Signal(), Signal(2), Signal(self.chip.row_bits)
        hit = Signal()
        m.d.comb += hit.eq(opened & (open_bank == bank) & (open_row == row))
        # Reads on their way back, the oldest on top.
        flight, flight_error = Signal(self._cas_latency + self._io_latency + 1), Signal(self._cas_latency + self._io_latency + 1)
        launched = Signal()
        m.d.sync += [flight.eq(Cat(launched, flight)), flight_error.eq(Cat(beyond, flight_error))]
        lane = Signal(range(max(words, 2)))  # the word of a beat that is written

        def precharge(after=None):
            with m.If(free & (since_activate <= row_cycle - clocks.ras) & (since_write == 0)):
                issue(PRECHARGE, a=PRECHARGE_ALL, then=clocks.rp)
                m.d.sync += opened.eq(0)
                if after:
                    m.next = after

        def advance(state):
            """To the next word of a burst: it may be the last, or the last of the row."""
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
            m.next = state
            with m.If(column.all()):
                m.next = "OPEN"
            with m.If(left == 1):
                m.next = "IDLE"

        with m.FSM():
            with m.State("POWER"):
                m.d.sync += pause.eq(self._init_clocks)
                m.next = "PRECHARGE"
            with m.State("PRECHARGE"):
                m.d.sync += left.eq(INIT_REFRESHES)
                precharge("INIT_REFRESH")
            with m.State("INIT_REFRESH"):
                with m.If(free):
                    issue(REFRESH, then=clocks.rfc)
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "MODE"
            with m.State("MODE"):
                with m.If(free):
                    issue(MODE, a=self._cas_latency << 4, then=clocks.mrd)  # burst length 1, sequential
                    m.d.sync += [self.ready.eq(1), debt.eq(0)]
                    m.next = "IDLE"
            with m.State("IDLE"):
                with m.If(debt != 0):
                    m.next = "REFRESH"
                with m.Elif(writable):
                    m.d.sync += [reading.eq(0), address.eq(write_address), left.eq(queue.level * words)]
                    m.next = "OPEN"
                with m.Else():
                    m.d.comb += mem.rd_ready.eq(1)
                    m.d.sync += [reading.eq(1), address.eq(word_address(mem.rd_addr)), left.eq((mem.rd_len + 1) * words)]
                    with m.If(mem.rd_valid):
                        m.next = "OPEN"
            with m.State("REFRESH"):
                with m.If(opened):
                    precharge()
                with m.Elif(free & (since_activate == 0)):
                    issue(REFRESH, then=clocks.rfc)
                    m.d.comb += paid.eq(1)
                    m.next = "IDLE"
            with m.State("OPEN"):
                with m.If(hit):
                    m.next = "READ"
                    with m.If(~reading):
                        m.next = "WRITE"
                with m.Elif(opened):
                    precharge()
                with m.Elif(free & (since_activate == 0)):
                    issue(ACTIVATE, a=row, ba=bank, then=clocks.rcd)
                    m.d.sync += [opened.eq(1), open_bank.eq(bank), open_row.eq(row), since_activate.eq(row_cycle - 1)]
            with m.State("READ"):
                with m.If(free):
                    issue(READ, a=column, ba=bank)
                    m.d.comb += launched.eq(1)
                    advance("READ")
            with m.State("WRITE"):
                # The bus is the chip's until the last word has been read.
                with m.If(free & (flight == 0)):
                    issue(WRITE, a=column, ba=bank)
                    beat, strobe = queue.o_data[: 8 * self.config.beat_bytes], queue.o_data[8 * self.config.beat_bytes :]
                    m.d.sync += [
                        pins.dq_o.eq(beat.word_select(lane, 16)), pins.dq_oe.eq(1), since_write.eq(clocks.wr - 1),
                        pins.dqm.eq(Mux(beyond, C(3, 2), ~strobe.word_select(lane, 2))),
                        lane.eq(Mux(lane == words - 1, 0, lane + 1)), write_error.eq(write_error | beyond),
                    ]  # fmt: skip
                    advance("WRITE")
                    with m.If(lane == words - 1):
                        m.d.comb += queue.o_ready.eq(1)
                        m.d.sync += [write_left.eq(write_left - 1), write_address.eq(address + 1)]
                        with m.If(write_left == 1):
                            m.d.sync += responding.eq(1)
        with m.If(responding):
            m.d.sync += responding.eq(0)

        # ---- beats out of words ----------------------------------------------------------------------------------------------
        came, error = flight[-1], flight_error[-1]
        part = Signal(range(max(words, 2)))
        m.d.sync += mem.rdata_valid.eq(0)
        with m.If(came):
            m.d.sync += [
                mem.rdata.eq(Cat(mem.rdata[16:], self.pins.dq_i)), mem.rdata_error.eq(error | (mem.rdata_error & (part != 0))),
                part.eq(part + 1), mem.rdata_valid.eq(part == words - 1),
            ]  # fmt: skip
            with m.If(part == words - 1):
                m.d.sync += part.eq(0)
        return m
