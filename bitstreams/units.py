"""What each unit of a synthesised design takes, from the names of Yosys' netlist."""

import json
from collections import Counter
from pathlib import Path

__all__ = ["LUTS_OF", "cell_counts", "unit_table"]

LUTS_OF = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
"""LUT4 that a cell takes: a carry cell is two; 16 x 4 bits of distributed memory are four, and two for its write port."""
COLUMNS = {"TRELLIS_FF": "registers", "MULT18X18D": "dsps", "DP16KD": "brams"}
OTHER = "(rest)"


def cell_counts(netlist: Path, top: str) -> dict[str, str]:
    """Cells of a flattened netlist (``write_json``): name -> type."""
    cells = json.loads(netlist.read_text())["modules"][top]["cells"]
    return {name: cell["type"] for name, cell in cells.items()}


def unit_table(cells: dict[str, str], units: list[str]) -> dict[str, dict[str, int]]:
    """Luts (carry cells as two), registers, dsps and brams by unit.

    A cell belongs to the unit whose path its name begins with; logic that was optimised across units goes where Yosys named it, so the
    shares are estimates while their sum is exact.

    Args:
        cells: name -> type.
        units: paths such as ``system.core.rowwise``; the longest that fits counts.
    """
    by_length = sorted(units, key=len, reverse=True)
    table: dict[str, Counter] = {unit: Counter() for unit in (*units, OTHER)}
    for name, kind in cells.items():
        column, amount = ("luts", LUTS_OF[kind]) if kind in LUTS_OF else (COLUMNS.get(kind), 1)
        if column is None:
            continue
        unit = next((unit for unit in by_length if name.startswith(f"{unit}.")), OTHER)
        table[unit][column] += amount
    names = ("luts", *COLUMNS.values())
    return {unit: {column: counts[column] for column in names} for unit, counts in table.items() if counts}
