"""An SDR SDRAM on a controller's pins, as a cocotb coroutine that checks every command against the chip's times."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from trilobit.hdl.sdram_chip import SdramChip, SdramClocks

__all__ = ["SdramModel"]

NAMES = {0b100: "activate", 0b010: "read", 0b011: "write", 0b101: "precharge", 0b110: "refresh", 0b111: "mode"}
POSTPONED = 8  # refreshes that SDR SDRAMs may be behind
LONG_AGO = -(10**9)


class SdramModel:
    """Serves the ``prefix`` signals of SdramPins.

    A command that stands on the pins in cycle t counts at the end of t; its data stand on ``dq_i`` in cycle t + cas_latency + io_latency.
    ``words`` maps word addresses (row, bank, column, as the controller counts them) to 16 bits; what was never written reads as noise.
    """

    def __init__(self, dut, chip: SdramChip, clocks: SdramClocks, *, cas_latency: int, io_latency: int = 0, prefix: str = "pins__",
                 init_clocks: int = 0, rng=None):  # fmt: skip
        self.dut, self.chip, self.t, self.prefix, self.rng = dut, chip, clocks, prefix, rng
        self.cas_latency, self.io_latency, self.init_clocks = cas_latency, io_latency, init_clocks
        self.words: dict[int, int] = {}
        self.rows: list[int | None] = [None] * chip.banks
        self.counts = dict.fromkeys(NAMES.values(), 0)
        self.last: dict[str, int] = dict.fromkeys((*NAMES.values(), "ready"), LONG_AGO)
        self.activated = [LONG_AGO] * chip.banks
        self.answers: dict[int, int] = {}
        self.unmasked: set[int] = set()
        self.initialised, self.now, self.longest_pause = False, 0, 0
        self.task = cocotb.start_soon(self._run())

    def _pin(self, name: str) -> int:
        return int(getattr(self.dut, self.prefix + name).value)

    def _after(self, what: str, since: int, clocks: int, rule: str) -> None:
        assert self.now - since >= clocks, f"cycle {self.now}: {what} {self.now - since} clocks after; {rule} is {clocks}"

    def address(self, bank: int, column: int) -> int:
        return ((self.rows[bank] * self.chip.banks + bank) << self.chip.column_bits) | column

    async def _run(self):
        # Pins are registers, so the middle of the cycle is as good as its end, and costs the simulation one callback a cycle.
        dq, cs, dqm = (getattr(self.dut, self.prefix + name) for name in ("dq_i", "cs", "dqm"))
        driven = False
        while True:
            await FallingEdge(self.dut.clk)
            due = self.now - self.io_latency
            if due in self.answers:
                assert not self._pin("dq_oe"), f"cycle {self.now}: both sides drive the bus"
                dq.value, driven = self.answers.pop(due), True
            elif driven or self.rng is not None:
                dq.value, driven = 0xDEAD if self.rng is None else int(self.rng.integers(0, 1 << 16)), False
            if cs.value == 1:
                self._command()
            if self.now in self.unmasked:  # DQM takes two clocks to act on reads
                self.unmasked.remove(self.now)
                assert int(dqm.value) == 0, f"cycle {self.now}: a read is masked"
            self.now += 1

    def _behind(self) -> int:
        """Refreshes that should have been by now and have not."""
        return (self.now - self.last["ready"]) // self.t.refi - self.counts["refresh"] if self.initialised else 0

    def _command(self):
        assert self._pin("clk_en") == 1
        assert self._behind() <= POSTPONED, f"cycle {self.now}: {self._behind()} refreshes behind"
        code = self._pin("ras") << 2 | self._pin("cas") << 1 | self._pin("we")
        if code == 0:
            return
        name = NAMES[code]
        getattr(self, f"_{name}")(self._pin("ba"), self._pin("a"))
        self.last[name] = self.now
        self.counts[name] += 1

    def _ready_for(self, what: str) -> None:
        self._after(what, self.last["refresh"], self.t.rfc, "tRFC")
        self._after(what, self.last["mode"], self.t.mrd, "tMRD")

    def _precharge(self, bank, a):
        assert self.now >= self.init_clocks, f"a command after {self.now} clocks, the chip needs {self.init_clocks}"
        self._ready_for("precharge")
        for b in range(self.chip.banks):
            if a >> 10 & 1 or b == bank:
                if self.rows[b] is not None:
                    self._after("precharge", self.activated[b], self.t.ras, "tRAS")
                    self._after("precharge", self.last["write"], self.t.wr, "tWR")
                self.rows[b] = None

    def _closed(self, what: str) -> None:
        assert self.last["precharge"] > LONG_AGO, f"{what} before the first precharge"
        assert self.rows == [None] * self.chip.banks, f"cycle {self.now}: {what} with an open row"
        self._ready_for(what)
        self._after(what, self.last["precharge"], self.t.rp, "tRP")

    def _refresh(self, bank, a):
        self._closed("refresh")
        self._after("refresh", max(self.activated), self.t.rc, "tRC")
        if self.initialised:
            self.longest_pause = max(self.longest_pause, self.now - max(self.last["refresh"], self.last["ready"]))

    def _mode(self, bank, a):
        self._closed("mode register")
        assert self.counts["refresh"] >= 2, "the mode register comes after the refreshes"
        assert a == self.cas_latency << 4 and bank == 0, f"mode {a:#x}: expected burst length 1, CAS latency {self.cas_latency}"
        self.initialised = True
        self.counts["refresh"] = 0
        self.last["ready"] = self.now

    def _activate(self, bank, a):
        assert self.initialised, "a row is opened before the chip is initialised"
        assert self.rows[bank] is None, f"cycle {self.now}: bank {bank} is open"
        self._ready_for("activate")
        self._after("activate", self.last["precharge"], self.t.rp, "tRP")
        self._after("activate", self.activated[bank], self.t.rc, "tRC")
        self.rows[bank], self.activated[bank] = a, self.now
        assert a < 1 << self.chip.row_bits

    def _column(self, what, bank, a):
        assert self.rows[bank] is not None, f"cycle {self.now}: {what} in a closed bank"
        self._after(what, self.activated[bank], self.t.rcd, "tRCD")
        assert a < 1 << self.chip.column_bits, f"{what}: column {a:#x} (auto precharge?)"
        return self.address(bank, a)

    def _read(self, bank, a):
        address = self._column("read", bank, a)
        self.unmasked.add(self.now + self.cas_latency - 2)
        if address in self.words:
            self.answers[self.now + self.cas_latency] = self.words[address]

    def _write(self, bank, a):
        address = self._column("write", bank, a)
        assert self._pin("dq_oe"), f"cycle {self.now}: a write without data"
        flying = [t for t in self.answers if t <= self.now]
        assert not flying, f"cycle {self.now}: a write while the chip drives the bus"
        mask = (0 if self._pin("dqm") & 1 else 0x00FF) | (0 if self._pin("dqm") & 2 else 0xFF00)
        self.words[address] = (self.words.get(address, 0) & ~mask) | (self._pin("dq_o") & mask)


def from_environment(dut, chip: SdramChip, **arguments) -> SdramModel:
    """A model with the clock and latencies that the test's environment names."""
    cas, mhz = int(os.environ["CAS"]), float(os.environ["MHZ"])
    return SdramModel(dut, chip, chip.clocks(mhz, cas), cas_latency=cas, io_latency=int(os.environ["IO"]), **arguments)
