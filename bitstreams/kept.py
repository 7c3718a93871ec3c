"""Kept reports of whole cores: placed and routed, alone or in a board's top, or counted after synthesis."""

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

__all__ = ["core_reports", "core_shape"]

LABELS = ("name", "description", "clock_mhz")  # of a core, which no hardware depends on


def core_shape(core: Mapping[str, Any]) -> dict[str, int]:
    """The parameters of a core that make its hardware, from ``asdict`` of it or from a report."""
    return {"batch": 1} | {key: value for key, value in core.items() if key not in LABELS}  # a report of before there were batches has none


def core_reports() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kept report that has a core, with the name of its folder."""
    for folder in sorted(resources.files("trilobit.bitstreams").iterdir(), key=lambda entry: entry.name):
        if folder.is_dir():
            for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if file.name.endswith(".json") and "core" in (report := json.loads(file.read_text())):
                    yield folder.name, report
