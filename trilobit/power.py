"""What a token costs in energy: exact cycles and bytes of the cycle model, resources of the kept report, published coefficients."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig
from trilobit.sim.activity import Activity, read_activity
from trilobit.sim.power import PowerEstimate, Resources, estimate_power, known_board
from trilobit.story import clock_evidence, kept_resources

__all__ = ["TokenPower", "known_resources", "measured_activity", "token_power"]

GLITCHES = 2.0
"""Assumed: a look-up table's output changes at most so many times as often as RTL simulation, which sees one change a clock, says."""


@dataclass(frozen=True, kw_only=True)
class TokenPower:
    """The power of a core that makes one token after another, and the energy of a token.

    Attributes:
        power: the terms, in milliwatts, a low and a high value each.
        device: whose resources were counted.
        clock: how the clock is known.
        figures: of the cycle model, as :func:`trilobit.estimating.figures` gives them.
        activity: of the core's registers, if it was measured.
    """

    power: PowerEstimate
    device: str
    clock: str
    figures: dict[str, Any]
    activity: Activity | None = None

    @property
    def joules_per_token(self) -> tuple[float, float]:
        """Low and high, in joules."""
        rate = self.figures["tokens_per_second"]
        return self.power.low_mw * 1e-3 / rate, self.power.high_mw * 1e-3 / rate

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: the power's own keys, then those of a token, and what is known of each."""
        low, high = self.joules_per_token
        names = ("core", "memory", "clock_mhz", "cycles_per_token", "bytes_per_token", "tokens_per_second")
        measured = self.activity
        units = {} if measured is None else {name: {"bits": u.bits, "share": u.share} for name, u in measured.units.items()}
        shares = {"activity": measured and {"share": measured.share, "bits": measured.bits, "cycles": measured.cycles, "units": units}}
        return self.power.to_dict() | shares | {name: self.figures[name] for name in names} | {
            "joules_per_token": {"low": low, "high": high}, "tokens_per_joule": {"low": 1 / high, "high": 1 / low}, "device": self.device,
            "evidence_of": {
                "low_mw": "estimated", "high_mw": "estimated", "terms": "estimated: each from the source that it names",
                "joules_per_token": "estimated", "tokens_per_joule": "estimated",
                "cycles_per_token": "exact: cycle model, equal to the RTL to the cycle",
                "bytes_per_token": "exact: what crosses the memory port in the cycle model",
                "tokens_per_second": f"exact cycles, at clock_mhz; {self.clock}",
                "resources": f"counted by place and route on {self.device}, out of context",
                "activity": "assumed" if measured is None else "measured in RTL simulation: register bits that change in a clock",
            },
        }  # fmt: skip


def known_resources(core: CoreConfig) -> tuple[Resources, str]:
    """Resources of a core and the device that they were counted on, from its kept place-and-route report.

    Raises:
        ConfigError: no board of this core is known, or no report of it is kept.
    """
    known_board(core.name)
    kept = kept_resources(core)
    if kept is None:
        raise ConfigError(f"expected core {core.name!r} with the parameters of its kept place-and-route report for a power estimate, got "
                          "others; take the preset, with a batch of 1")  # fmt: skip
    return kept


def measured_activity(core: CoreConfig, path: Path) -> Activity:
    """The activity of a core's registers in a SAIF file of the RTL simulator.

    Raises:
        ConfigError: no such file, or one of another core or version.
        ToolError: Amaranth, which names the core's registers, is not installed.
    """
    from trilobit.sim.rtl_build import core_verilog

    return read_activity(path, core_verilog(core, gated_clocks=False, waves=True))


def token_power(core: CoreConfig, figures: dict[str, Any], activity: Activity | None = None) -> TokenPower:
    """The power of a core on its board, at the clock and with the memory traffic of the cycle model's figures.

    Args:
        core: what the figures are of.
        figures: of :func:`trilobit.estimating.figures`.
        activity: of :func:`measured_activity`; without it the assumed range.

    Raises:
        ConfigError: as :func:`known_resources`.
    """
    resources, device = known_resources(core)
    clock = figures["clock_mhz"]
    rate = figures["bytes_per_token"] / figures["cycles_per_token"] * clock * 1e6
    toggling = None
    if activity is not None:
        measured = f"{activity.share:.2%} of {activity.bits:,} register bits, measured in RTL simulation"
        source = f"{measured}; for the high value twice that (assumed), as look-up tables glitch"
        toggling = (activity.share, GLITCHES * activity.share, source)
    power = estimate_power(core.name, resources, clock_mhz=clock, bytes_per_second=rate, activity=toggling)
    return TokenPower(power=power, device=device, clock=clock_evidence(core), figures=figures, activity=activity)
