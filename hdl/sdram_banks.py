"""Which rows of an SDRAM are open, and when row commands may follow each other."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.sdram_chip import SdramChip, SdramSlots

__all__ = ["SdramBanks"]


class SdramBanks(wiring.Component):
    """The state of the banks. What a command changes is seen from the next clock on.

    Times run from the last activation of any bank, so that tRRD is kept by tRC, and from the last write.

    Parameters
    ----------
    chip : SdramChip
    slots : SdramSlots

    Members
    -------
    bank : In(2), row : In(row_bits)
        What is asked about, and what ``activate`` and ``close`` act on.
    open, match, hit : Out(1)
        A row of the bank is open; it is this one; and a column command may leave in the next clock.
    any_open : Out(1)
    may_activate, may_precharge : Out(1)
        An activation, or a precharge of any bank, may leave in this clock, as far as times since activations and writes go.
    activate, close, close_all, written : In(1)
        These commands leave in this clock.
    """

    def __init__(self, chip: SdramChip, slots: SdramSlots):
        self._chip, self._slots = chip, slots
        super().__init__({
            "bank": In(2), "row": In(chip.row_bits), "open": Out(1), "match": Out(1), "hit": Out(1), "any_open": Out(1),
            "may_activate": Out(1), "may_precharge": Out(1), "activate": In(1), "close": In(1), "close_all": In(1), "written": In(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        slots = self._slots
        opened = Signal(self._chip.banks)
        rows = Array(Signal(self._chip.row_bits, name=f"row{bank}") for bank in range(self._chip.banks))

        def timer(name: str, event, clocks: int):
            """High when ``clocks`` clocks have passed since the event."""
            left = Signal(range(max(clocks, 2)), name=name)
            with m.If(event):
                m.d.sync += left.eq(clocks - 1)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)
            return left == 0

        # A request that starts in this clock sends its column command in the next.
        may_column = timer("until_column", self.activate, slots.activate_column - 1)
        m.d.comb += [
            self.open.eq(opened.bit_select(self.bank, 1)), self.match.eq(self.open & (rows[self.bank] == self.row)),
            self.hit.eq(self.match & may_column), self.any_open.eq(opened.any()),
            self.may_activate.eq(timer("until_activate", self.activate, slots.activate_activate)),
            self.may_precharge.eq(timer("until_precharge", self.activate, slots.activate_precharge)
                                  & timer("until_recovery", self.written, slots.write_precharge)),
        ]  # fmt: skip
        here = Signal(self._chip.banks)
        m.d.comb += here.eq(1 << self.bank)
        m.d.sync += opened.eq(Mux(self.close_all, 0, (opened | Mux(self.activate, here, 0)) & ~Mux(self.close, here, 0)))
        with m.If(self.activate):
            m.d.sync += rows[self.bank].eq(self.row)
        return m
