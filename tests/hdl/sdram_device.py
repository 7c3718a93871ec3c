"""An SDR SDRAM as its data sheet describes it: takes a command a clock, keeps words, and asserts every time between commands.

Plain Python, so that any test bench can clock it; :mod:`sdram_model` puts it on a controller's pins. Times are checked in nanoseconds
against the chip's, not against the controller's idea of them in clocks.
"""

from dataclasses import dataclass

from trilobit.hdl.sdram_chip import SdramChip

__all__ = ["Inputs", "SdramDevice", "SdramViolationError"]

NAMES = {0b100: "activate", 0b010: "read", 0b011: "write", 0b101: "precharge", 0b110: "refresh", 0b111: "mode"}
POSTPONED = 8  # refreshes that SDR SDRAMs may be behind
LEAST_CLOCKS = {"tRRD": 2, "tWR": 2, "tMRD": 2}
LONG_AGO = -(10**9)
EPSILON = 1e-6  # ns


class SdramViolationError(AssertionError):
    """A command that breaks a rule of the data sheet; the message begins with the rule's name."""


@dataclass
class Inputs:
    """The chip's pins at a rising edge; ``cs``, ``ras``, ``cas``, ``we`` are high when asserted. ``dq`` counts if ``driven``."""

    cs: int
    ras: int
    cas: int
    we: int
    ba: int
    a: int
    dqm: int
    dq: int = 0
    driven: bool = False
    clk_en: int = 1  # high from before the first command on


class SdramDevice:
    """Clock it with :meth:`edge`; ``words`` maps word addresses (row, bank, column) to 16 bits, what was never written is absent.

    Data of a read at edge t stand at the edges t + cas_latency and the one after it (:meth:`output`).

    Attributes:
        now: number of the next edge.
        counts: commands by name; refreshes since the mode register was set.
        longest_pause: clocks between refreshes, at most.
    """

    def __init__(self, chip: SdramChip, mhz: float, *, cas_latency: int, init_ns: float | None = None):
        self.chip, self.period, self.cas_latency = chip, 1000 / mhz, cas_latency
        self.init_ns = chip.t_init if init_ns is None else init_ns
        self.words: dict[int, int] = {}
        self.counts = dict.fromkeys(NAMES.values(), 0)
        self.now, self.longest_pause, self.enabled = 0, 0, 0
        self._forget()

    def _forget(self) -> None:
        """As at power-on; what a controller's reset leads to."""
        banks = self.chip.banks
        self.rows: list[int | None] = [None] * banks
        self.last = dict.fromkeys((*NAMES.values(), "ready"), LONG_AGO)
        self.activated, self.read_at, self.written_at = ([LONG_AGO] * banks for _ in range(3))
        self.answers: dict[int, int | None] = {}  # edge -> word on the bus
        self.burst: list[int] = []  # word addresses that a write goes on with
        self.initialised = False
        self.counts["refresh"] = 0  # of this initialisation

    # ---- rules ---------------------------------------------------------------------------------------------------------------

    def fail(self, rule: str, what: str):
        raise SdramViolationError(f"{rule}: edge {self.now}: {what}")

    def after(self, rule: str, what: str, since: int, ns: float) -> None:
        clocks = self.now - since
        least = LEAST_CLOCKS.get(rule, 1)
        if clocks < least or clocks * self.period < ns - EPSILON:
            self.fail(rule, f"{what} {clocks} clocks ({clocks * self.period:.2f} ns) after; the chip needs {ns} ns and {least} clocks")

    def behind(self) -> int:
        """Refreshes that should have been by now and have not."""
        if not self.initialised:
            return 0
        return int((self.now - self.last["ready"]) * self.period / self.chip.t_refi) - self.counts["refresh"]

    # ---- clock ---------------------------------------------------------------------------------------------------------------

    def edge(self, pins: Inputs) -> None:
        """A rising edge of the chip's clock."""
        self.enabled = self.enabled + 1 if pins.clk_en else 0
        if not pins.clk_en:
            self._forget()
        busy = [t for t in range(self.now - 1, self.now + 2) if t in self.answers]
        if pins.driven and busy:
            self.fail("bus", f"driven from outside, with the chip's data at edges {busy}")
        if self.burst:
            self._store(self.burst.pop(0), pins)
        if self.behind() > POSTPONED:
            self.fail("tREFI", f"{self.behind()} refreshes behind")
        code = pins.ras << 2 | pins.cas << 1 | pins.we
        if pins.cs and code and self.enabled > 1:  # takes effect one edge later
            name = NAMES[code]
            getattr(self, f"_{name}")(pins)
            self.last[name] = self.now
            self.counts[name] += 1
        masked = self.now + 2
        if pins.dqm and self.answers.get(masked) is not None and self.initialised:
            self.fail("DQM", f"masks the read data at edge {masked}")
        self.answers.pop(self.now - 2, None)
        self.now += 1

    def output(self, edge: int) -> int | None:
        """The word that the chip has on the bus at an edge; None: it drives nothing, or nothing known."""
        return self.answers.get(edge)

    def _store(self, address: int, pins: Inputs) -> None:
        if not pins.driven:
            self.fail("bus", "a write without data")
        mask = (0 if pins.dqm & 1 else 0x00FF) | (0 if pins.dqm & 2 else 0xFF00)
        if mask:
            self.words[address] = (self.words.get(address, 0) & ~mask) | (pins.dq & mask)
        self.written_at[(address >> self.chip.column_bits) % self.chip.banks] = self.now

    # ---- row commands ----------------------------------------------------------------------------------------------------------

    def _ready_for(self, what: str) -> None:
        self.after("tRFC", f"{what} after a refresh", self.last["refresh"], self.chip.t_rfc)
        self.after("tMRD", f"{what} after the mode register", self.last["mode"], self.chip.t_mrd)

    def _precharge(self, pins):
        if self.last["precharge"] == LONG_AGO:
            if self.enabled * self.period < self.init_ns - EPSILON:
                self.fail("init", f"the first command after {self.enabled * self.period:.0f} ns, the chip needs {self.init_ns:.0f} ns")
            if not pins.a >> 10 & 1:
                self.fail("init", "the first precharge is of one bank, the chip needs all precharged")
        self._ready_for("precharge")
        for bank in range(self.chip.banks):
            if (pins.a >> 10 & 1 or bank == pins.ba) and self.rows[bank] is not None:
                self.after("tRAS", "precharge after activate", self.activated[bank], self.chip.t_ras)
                self.after("tWR", "precharge after the last written word", self.written_at[bank], self.chip.t_wr)
                if self.now - self.read_at[bank] < 2:
                    self.fail("burst", "a precharge cuts a read short")
                self.rows[bank] = None

    def _closed(self, what: str) -> None:
        if self.last["precharge"] == LONG_AGO:
            self.fail("init", f"{what} before the first precharge")
        if any(row is not None for row in self.rows):
            self.fail("precharge", f"{what} with an open row")
        self._ready_for(what)
        self.after("tRP", f"{what} after precharge", self.last["precharge"], self.chip.t_rp)

    def _refresh(self, pins):
        self._closed("refresh")
        self.after("tRC", "refresh after activate", max(self.activated), self.chip.t_rc)
        if self.initialised:
            self.longest_pause = max(self.longest_pause, self.now - max(self.last["refresh"], self.last["ready"]))

    def _mode(self, pins):
        self._closed("mode register")
        if self.counts["refresh"] < 8:
            self.fail("init", f"the mode register after {self.counts['refresh']} refreshes; some chips need 8")
        if pins.a != self.cas_latency << 4 | 1 or pins.ba != 0:
            self.fail("mode", f"{pins.a:#x}: expected bursts of 2, sequential, CAS latency {self.cas_latency}")
        self.initialised = True
        self.counts["refresh"] = 0
        self.last["ready"] = self.now

    def _activate(self, pins):
        if not self.initialised:
            self.fail("init", "a row is opened before the mode register is set")
        if self.rows[pins.ba] is not None:
            self.fail("activate", f"bank {pins.ba} is open")
        self._ready_for("activate")
        self.after("tRP", "activate after precharge", self.last["precharge"], self.chip.t_rp)
        self.after("tRC", "activate after activate", self.activated[pins.ba], self.chip.t_rc)
        self.after("tRRD", "activate after activate of another bank", max(self.activated), self.chip.t_rrd)
        if pins.a >= 1 << self.chip.row_bits:
            self.fail("activate", f"row {pins.a:#x}")
        self.rows[pins.ba], self.activated[pins.ba] = pins.a, self.now

    # ---- column commands -------------------------------------------------------------------------------------------------------

    def _column(self, what, pins) -> list[int]:
        """Word addresses of a burst of two; it wraps at its own length."""
        if self.rows[pins.ba] is None:
            self.fail(what, f"bank {pins.ba} is closed")
        self.after("tRCD", f"{what} after activate", self.activated[pins.ba], self.chip.t_rcd)
        if pins.a >= 1 << self.chip.column_bits:
            self.fail(what, f"column {pins.a:#x} (auto precharge?)")
        if self.now - max(self.last["read"], self.last["write"]) < 2:
            self.fail("burst", f"a {what} cuts a burst short")
        row = (self.rows[pins.ba] * self.chip.banks + pins.ba) << self.chip.column_bits
        return [row | pins.a, row | pins.a ^ 1]

    def _read(self, pins):
        for k, address in enumerate(self._column("read", pins)):
            self.answers[self.now + self.cas_latency + k] = self.words.get(address)
        self.read_at[pins.ba] = self.now

    def _write(self, pins):
        self.burst = self._column("write", pins)
        self._store(self.burst.pop(0), pins)
