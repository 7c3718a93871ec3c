"""Does a core fit the FPGA that it is meant for? Answered from kept reports, without any tool."""

from importlib import resources
from typing import Any

import yaml

from trilobit.bitstreams.kept import core_reports, core_shape
from trilobit.isa.core import CoreConfig, load_core

__all__ = ["fits"]

COUNTED = ("luts", "registers", "dsps", "brams")


def fits(core: CoreConfig, on_chip_bits: int) -> dict[str, Any] | None:
    """Whether a core fits the device that its preset is meant for (``sim/data/devices.yaml``).

    Known are cores that were placed, alone or within a board's top, and cores whose cells were counted after synthesis; of others only
    whether their memories fit.

    Args:
        core: the core. on_chip_bits: bits of its memories (:func:`trilobit.sim.estimate.estimate`).

    Returns:
        device, fits (None where only memory is known), used and available (counts, or bits of memory), evidence; None for a core
        that is meant for no known device.
    """
    found = _device(core)
    if found is None:
        return None
    name, device = found
    used, evidence = _used(core, device["family"])
    if used is None:
        used = {"memory_bits": on_chip_bits}
        evidence = "exact bits of the core's memories, and of the device's; the logic was not counted"
    available = {key: device[key] for key in used}
    enough = all(count <= available[key] for key, count in used.items())
    return {"device": name, "fits": enough if "luts" in used or not enough else None, "used": used, "available": available,
            "evidence": evidence}  # fmt: skip


def _device(core: CoreConfig) -> tuple[str, dict[str, Any]] | None:
    devices = yaml.safe_load(resources.files("trilobit.sim").joinpath("data/devices.yaml").read_text())
    for name, device in devices.items():
        known = [load_core(preset) for preset in device["cores"]]
        # A preset stands for its batches, too; its other parameters must be the core's.
        if any(core_shape(found.parameters()) | {"batch": core.batch} == core_shape(core.parameters()) for found in known):
            return name, device
    return None


def _used(core: CoreConfig, family: str) -> tuple[dict[str, float] | None, str]:
    """What the core takes: placed alone, else with a board's top around it, else counted; and how that is known."""
    shape = core_shape(core.parameters())
    mine = [(folder, report) for folder, report in core_reports() if core_shape(report["core"]) == shape]
    placed = [(folder, report) for folder, report in mine if "resources" in report] if family == "ecp5" else []
    for folder, report in sorted(placed, key=lambda entry: not entry[0].endswith("-core")):
        what = "the core alone" if folder.endswith("-core") else f"with the rest of {folder}"
        return {key: report["resources"][key] for key in COUNTED}, f"{what}: {report['evidence']}"
    for _, report in mine:
        if report.get("family") == family:
            return _counted(report["total"], family), report["evidence"]
    return None, ""


def _counted(total: dict[str, float], family: str) -> dict[str, float]:
    """As the device's data count: look-up tables with those used as memory; ECP5's carry cells are two."""
    carries = 2 * total["carries"] if family == "ecp5" else 0
    return {"luts": int(total["luts"] + total["memory_luts"] + carries)} | {
        key: int(total[key]) if total[key] == int(total[key]) else total[key] for key in COUNTED[1:]
    }
