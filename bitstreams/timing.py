"""What a board's clocks reached, from nextpnr's report, and what is said when one is missed."""

import re

from trilobit.errors import ToolError

__all__ = ["clock_at", "clocks_of", "critical_path", "missed_clocks", "worst_share"]

CARRY = "$CCU2_COMB"  # in nextpnr's names of the halves of carry cells


def critical_path(raw: dict, clock: str) -> dict:
    """The slowest path of a clock in nextpnr's report: where it starts and ends, and its delays in ns."""
    for path in raw.get("critical_paths", []):
        if path["from"].endswith(clock) and path["to"].endswith(clock):
            steps = path["path"]
            delays = {kind: round(sum(step["delay"] for step in steps if step["type"] == kind), 2) for kind in ("logic", "routing")}
            total = round(sum(step["delay"] for step in steps), 2)
            through = _without_carries([step["to"]["cell"] for step in steps])
            return {"from": steps[0]["from"]["cell"], "to": steps[-1]["to"]["cell"], "total_ns": total, **delays, "through": through}
    return {}


def _without_carries(cells: list[str]) -> list[str]:
    """Each cell once, and of a carry chain its first and its last."""
    once = [cell for cell, before in zip(cells, [None, *cells], strict=False) if cell != before]
    carry = [CARRY in cell for cell in once]
    return [cell for k, cell in enumerate(once) if not (0 < k < len(once) - 1 and all(carry[k - 1 : k + 2]))]


def clocks_of(raw: dict) -> dict[str, dict]:
    """By clock: achieved_mhz, target_mhz, critical_path."""
    return {
        re.sub(r"^\$glbnet\$", "", name): {
            "achieved_mhz": round(figures["achieved"], 2), "target_mhz": round(figures["constraint"], 2),
            "critical_path": critical_path(raw, name),
        }
        for name, figures in raw["fmax"].items()
    }  # fmt: skip


def clock_at(clocks: dict[str, dict], mhz: float) -> dict:
    """The slowest of the clocks whose target is ``mhz``; whatever the tools named it.

    Raises:
        ToolError: there is none.
    """
    found = [figures for figures in clocks.values() if abs(figures["target_mhz"] - mhz) < 0.01 * mhz]
    if not found:
        targets = ", ".join(f"{name} {figures['target_mhz']} MHz" for name, figures in clocks.items())
        raise ToolError(f"expected a clock of {mhz:g} MHz in nextpnr's report, got {targets or 'none'}")
    return min(found, key=lambda figures: figures["achieved_mhz"])


def worst_share(clocks: dict[str, dict]) -> float:
    """Of the clocks, the least share of its target that one reached; 1 or more: all were met."""
    return min(figures["achieved_mhz"] / figures["target_mhz"] for figures in clocks.values())


def missed_clocks(clocks: dict[str, dict]) -> list[str]:
    """A line for every clock that was missed: by how much, and on which path."""
    missed = []
    for clock, figures in clocks.items():
        if figures["achieved_mhz"] < figures["target_mhz"]:
            by = 1000 / figures["achieved_mhz"] - 1000 / figures["target_mhz"]
            path = figures["critical_path"]
            where = "on a path that nextpnr didn't report"
            if path:
                where = f"from {path['from']} to {path['to']} ({path['logic']} ns logic, {path['routing']} ns routing)"
            missed.append(f"{clock}: expected {figures['target_mhz']} MHz, got {figures['achieved_mhz']} MHz, {by:.2f} ns too slow {where}")
    return missed
