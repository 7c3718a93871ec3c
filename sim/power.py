"""A power range from resources, published coefficients, activity, memory traffic and static power.

Estimated, with its terms shown: the high value takes every coefficient at its upper end, the low value at its lower. Vendors call wrong
toggle rates the largest source of error; without a measured activity the range is wide, and rightly so.
"""

from dataclasses import dataclass
from importlib import resources

import yaml

from trilobit.errors import ConfigError

__all__ = ["BOARDS", "PowerEstimate", "Resources", "Term", "estimate_power", "known_board"]

_DATA = yaml.safe_load(resources.files("trilobit.sim").joinpath("data/power.yaml").read_text())
# Which family and memory a core preset's quoted board has.
BOARDS = {"ulx3s": ("ecp5_85f", "sdr_x16")}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a kept report of the place-and-route tool has: registers, LUT4 (carry cells as two), DSP blocks and block RAMs."""

    registers: int
    luts: int
    dsps: int
    brams: int


@dataclass(frozen=True)
class Term:
    """A part of the estimate in milliwatts, and the sources of its coefficients."""

    name: str
    low_mw: float
    high_mw: float
    source: str


@dataclass(frozen=True)
class PowerEstimate:
    """The terms and their sum, in milliwatts."""

    terms: list[Term]
    evidence: str = "estimated"

    @property
    def low_mw(self) -> float:
        """Sum of the terms' low values."""
        return sum(t.low_mw for t in self.terms)

    @property
    def high_mw(self) -> float:
        """Sum of the terms' high values."""
        return sum(t.high_mw for t in self.terms)

    def to_dict(self) -> dict:
        """For ``--json``."""
        return {
            "evidence": self.evidence, "low_mw": round(self.low_mw, 1), "high_mw": round(self.high_mw, 1),
            "terms": [
                {"name": t.name, "low_mw": round(t.low_mw, 2), "high_mw": round(t.high_mw, 2), "source": t.source} for t in self.terms
            ],
        }  # fmt: skip


def known_board(core: str) -> tuple[str, str]:
    """Family and memory of a core preset's board, by their names in ``data/power.yaml``.

    Raises:
        ConfigError: no board is known for this core.
    """
    if core not in BOARDS:
        raise ConfigError(f"expected a core with a known board ({', '.join(BOARDS)}) for a power estimate, got {core!r}")
    return BOARDS[core]


def estimate_power(core: str, used: Resources, *, clock_mhz: float, bytes_per_second: float,
                   activity: tuple[float, float, str] | None = None) -> PowerEstimate:  # fmt: skip
    """The power of a core on its board.

    Args:
        core: a preset with a known board.
        used: resources of the packed or routed design.
        clock_mhz: the core's clock.
        bytes_per_second: memory traffic.
        activity: low, high and source of the share of registers that toggle in a clock; default: the assumed range.

    Raises:
        ConfigError: no board is known for this core.
    """
    family, memory = known_board(core)
    logic, dram, assumed = _DATA["families"][family], _DATA["memories"][memory], _DATA["assumptions"]
    low_activity, high_activity, activity_source = activity or (*assumed["activity"]["value"], assumed["activity"]["source"])

    def dynamic(name: str, counts: tuple[float, float], source: str) -> Term:
        low, high = (n * pj * a * clock_mhz * 1e-3  # pJ x MHz = uW
                     for n, pj, a in zip(counts, logic["toggle_pj"]["value"], (low_activity, high_activity), strict=True))  # fmt: skip
        return Term(name, low, high, source)

    def scaled(count: int, assumption: str) -> tuple[float, float]:
        low, high = assumed[assumption]["value"]
        return count * low, count * high

    toggle = f"{logic['toggle_pj']['source']}; activity {activity_source}"
    bits = bytes_per_second * 8
    low_bit, high_bit = dram["pj_per_bit"]["value"]
    low_static, high_static = logic["static_mw"]["value"]
    return PowerEstimate([
        dynamic(f"{used.registers} registers", (used.registers, used.registers), toggle),
        dynamic(f"{used.luts} LUT4", scaled(used.luts, "lut_per_register"), f"{toggle}; {assumed['lut_per_register']['source']}"),
        dynamic(f"{used.dsps} DSP blocks", scaled(used.dsps, "dsp_registers"), assumed["dsp_registers"]["source"]),
        dynamic(f"{used.brams} block RAMs", scaled(used.brams, "bram_registers"), assumed["bram_registers"]["source"]),
        Term(f"{dram['text']}, {bytes_per_second / 1e6:.0f} MB/s", bits * low_bit * 1e-9, bits * high_bit * 1e-9,
             dram["pj_per_bit"]["source"]),
        Term(f"static, {logic['text']}", low_static, high_static, logic["static_mw"]["source"]),
    ])  # fmt: skip
