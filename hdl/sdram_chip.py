"""SDR SDRAM chips as data, their times in clocks, and in slots of a core that runs at half their clock."""

import math
from dataclasses import dataclass, fields
from importlib import resources

import yaml

from trilobit.errors import ConfigError

__all__ = ["BURST", "SdramChip", "SdramClocks", "SdramSlots", "load_sdram_chip", "sdram_chips"]

BURST = 2
"""Words of a chip's burst: what one column command brings or takes, four bytes."""


@dataclass(frozen=True, kw_only=True)
class SdramClocks:
    """A chip's times in its own clocks, rounded up (``refi`` down)."""

    rcd: int
    rp: int
    ras: int
    rc: int
    rrd: int
    rfc: int
    wr: int
    mrd: int
    refi: int
    init: int


@dataclass(frozen=True, kw_only=True)
class SdramSlots:
    """The least distances between commands in clocks of the core, of which each is two of the chip's.

    Column commands (read, write) leave in the first half of a core's clock, all others in the second.

    Attributes:
        activate_column: activate to read or write in that bank (tRCD); at least 2, which the controller's pipeline takes.
        precharge: precharge to the next row command (tRP).
        activate_precharge: (tRAS).
        activate_activate: of any banks (tRC, hence tRRD).
        refresh: refresh to the next row command (tRFC).
        write_precharge: (tWR).
        mode: mode register to the next row command (tMRD).
        read_write: read to write, so that the chip has left the bus for one of its clocks before it is driven.
        refresh_interval: from refresh to refresh, on the average (tREFI), rounded down.
        init: from reset to the first command.
    """

    activate_column: int
    precharge: int
    activate_precharge: int
    activate_activate: int
    refresh: int
    write_precharge: int
    mode: int
    read_write: int
    refresh_interval: int
    init: int

    @property
    def refresh_cost(self) -> int:
        """Clocks without data when a refresh falls into a sequential stream of reads: precharge all, refresh, activate, read."""
        return self.precharge + self.refresh + self.activate_column

    @property
    def sequential_rate(self) -> float:
        """Share of the peak rate (4 bytes a core's clock) that an endless sequential read reaches; bank changes are hidden."""
        return 1 - self.refresh_cost / self.refresh_interval


@dataclass(frozen=True, kw_only=True)
class SdramChip:
    """A 16-bit SDR SDRAM; fields as in ``sdram_chips.yaml``, times in ns."""

    name: str
    banks: int
    row_bits: int
    column_bits: int
    t_rcd: float
    t_rp: float
    t_ras: float
    t_rc: float
    t_rrd: float
    t_rfc: float
    t_wr: float
    t_mrd: float
    t_refi: float
    t_init: float
    t_ac: dict[int, float]
    t_oh: float
    t_hz: float
    min_clock: dict[int, float]
    description: str = ""
    sources: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return 2 * self.banks << (self.row_bits + self.column_bits)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of one bank; the next ones lie in the next bank."""
        return 2 << self.column_bits

    def clocks(self, chip_mhz: float, cas_latency: int) -> SdramClocks:
        """Times in clocks of the chip.

        Raises:
            ConfigError: no such CAS latency, or the clock is too fast for it.
        """
        if cas_latency not in self.min_clock:
            raise ConfigError(f"SDRAM {self.name!r}: expected a CAS latency of {sorted(self.min_clock)}, got {cas_latency!r}")
        if 1000 / chip_mhz < self.min_clock[cas_latency] - 1e-9:
            fastest = 1000 / self.min_clock[cas_latency]
            raise ConfigError(f"SDRAM {self.name!r}: expected at most {fastest:.4g} MHz at CAS latency {cas_latency}, got {chip_mhz:g}")

        def up(ns: float, least: int = 1) -> int:
            return max(least, math.ceil(ns * chip_mhz / 1000 - 1e-9))

        return SdramClocks(
            rcd=up(self.t_rcd), rp=up(self.t_rp), ras=up(self.t_ras), rc=up(self.t_rc), rrd=up(self.t_rrd, 2), rfc=up(self.t_rfc),
            wr=up(self.t_wr, 2), mrd=up(self.t_mrd, 2), refi=int(self.t_refi * chip_mhz / 1000), init=up(self.t_init),
        )  # fmt: skip

    def slots(self, core_mhz: float, cas_latency: int) -> SdramSlots:
        """Times in clocks of a core at half the chip's clock.

        Raises:
            ConfigError: as :meth:`clocks`.
        """
        t = self.clocks(2 * core_mhz, cas_latency)

        def half(clocks: int) -> int:
            """Between two row commands, or two column commands."""
            return -(-clocks // 2)

        return SdramSlots(
            activate_column=max(2, half(t.rcd + 1)), precharge=half(t.rp), activate_precharge=half(t.ras),
            activate_activate=half(max(t.rc, t.rrd)), refresh=half(t.rfc),
            # The last word of a write goes with the second half of its clock, in which row commands leave as well.
            write_precharge=half(t.wr), mode=half(t.mrd),
            # The last word of a read is on the bus cas_latency + 1 clocks after its command.
            read_write=half(cas_latency + BURST + 1), refresh_interval=t.refi // 2, init=half(t.init),
        )  # fmt: skip


def _chips() -> dict:
    return yaml.safe_load(resources.files("trilobit.hdl").joinpath("sdram_chips.yaml").read_text())


def sdram_chips() -> list[str]:
    """The names of the chips in ``sdram_chips.yaml``."""
    return sorted(_chips())


def load_sdram_chip(name: str) -> SdramChip:
    """A chip of ``sdram_chips.yaml``.

    Raises:
        ConfigError: no such chip.
    """
    chips = _chips()
    if name not in chips:
        raise ConfigError(f"expected an SDRAM chip ({', '.join(sorted(chips))}), got {name!r}")
    data = dict(chips[name])
    data["sources"] = tuple(data["sources"])
    assert set(data) <= {f.name for f in fields(SdramChip)}
    return SdramChip(name=name, **data)
