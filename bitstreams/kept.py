"""Kept reports of whole cores: placed and routed, alone or in a board's top, or counted after synthesis."""

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from trilobit.isa.core import MACHINES

__all__ = ["core_reports", "core_shape"]

LABELS = ("name", "description", "clock_mhz")  # of a core, which no hardware depends on


def core_shape(core: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a core that make its hardware, from its ``parameters()`` or from a report."""
    defaults = {"batch": 1, "machine": MACHINES[0]}  # which older reports don't have
    return defaults | {key: value for key, value in core.items() if key not in LABELS}


def core_reports() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kept report that has a core, with the name of its folder."""
    for folder in sorted(resources.files("trilobit.bitstreams").iterdir(), key=lambda entry: entry.name):
        if folder.is_dir():
            for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if file.name.endswith(".json") and "core" in (report := json.loads(file.read_text())):
                    yield folder.name, report
