"""SDR SDRAM chips as data, and their times in clocks."""

import math
from dataclasses import dataclass, fields
from importlib import resources

import yaml

from trilobit.errors import ConfigError

__all__ = ["SdramChip", "SdramClocks", "load_sdram_chip"]


@dataclass(frozen=True, kw_only=True)
class SdramClocks:
    """A chip's times in clocks, rounded up (``refi`` down)."""

    rcd: int
    rp: int
    ras: int
    rc: int
    rfc: int
    wr: int
    mrd: int
    refi: int
    init: int


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
    t_rfc: float
    t_wr: float
    t_mrd: float
    t_refi: float
    t_init: float
    min_clock: dict[int, float]
    description: str = ""
    sources: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return 2 * self.banks << (self.row_bits + self.column_bits)

    def clocks(self, clock_mhz: float, cas_latency: int) -> SdramClocks:
        """Times in clocks.

        Raises:
            ConfigError: no such CAS latency, or the clock is too fast for it.
        """
        if cas_latency not in self.min_clock:
            raise ConfigError(f"SDRAM {self.name!r}: expected a CAS latency of {sorted(self.min_clock)}, got {cas_latency!r}")
        if 1000 / clock_mhz < self.min_clock[cas_latency]:
            fastest = 1000 / self.min_clock[cas_latency]
            raise ConfigError(f"SDRAM {self.name!r}: expected at most {fastest:g} MHz at CAS latency {cas_latency}, got {clock_mhz:g}")

        def up(ns: float) -> int:
            return max(1, math.ceil(ns * clock_mhz / 1000 - 1e-9))

        return SdramClocks(
            rcd=up(self.t_rcd), rp=up(self.t_rp), ras=up(self.t_ras), rc=up(self.t_rc), rfc=up(self.t_rfc), wr=up(self.t_wr),
            mrd=max(2, up(self.t_mrd)), refi=int(self.t_refi * clock_mhz / 1000), init=up(self.t_init),
        )  # fmt: skip


def load_sdram_chip(name: str) -> SdramChip:
    """A chip of ``sdram_chips.yaml``.

    Raises:
        ConfigError: no such chip.
    """
    chips = yaml.safe_load(resources.files("trilobit.hdl").joinpath("sdram_chips.yaml").read_text())
    if name not in chips:
        raise ConfigError(f"expected an SDRAM chip ({', '.join(sorted(chips))}), got {name!r}")
    data = dict(chips[name])
    data["sources"] = tuple(data["sources"])
    assert set(data) <= {f.name for f in fields(SdramChip)}
    return SdramChip(name=name, **data)
