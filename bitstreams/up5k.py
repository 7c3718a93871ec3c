"""``python -m trilobit.bitstreams.up5k``: the smallest core counted for an iCE40UP5K, and by how much it is too large."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import click

from trilobit.bitstreams.units import cell_counts
from trilobit.hdl.core import Core
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import CoreConfig, load_core
from trilobit.sim.toolchain import YOSYS

__all__ = ["AVAILABLE", "count_up5k", "smallest_core"]

# Lattice FPGA-DS-02008 (iCE40 UltraPlus family data sheet), table 2.1: 5,280 LUT4 with a register each, 30 block RAMs of 4 Kbit, 8
# multipliers of 16 bits, 4 single-port RAMs of 256 Kbit, which have no contents at power-on.
AVAILABLE = {"luts": 5280, "registers": 5280, "brams": 30, "dsps": 8}
COLUMNS = {"SB_LUT4": "luts", "SB_RAM40_4K": "brams", "SB_MAC16": "dsps"}
SPRAM_BYTES = 4 * 256 * 1024 // 8


def smallest_core() -> CoreConfig:
    """A byte a clock, and every buffer as small as shakespeare-onchip allows."""
    return load_core("onchip").replace(name="up5k", beat_bytes=1, weight_fifo_beats=32, gain_buffer_elements=256)


def count_up5k(config: CoreConfig) -> dict:
    """Cells of a core alone, after synthesis with Yosys for an iCE40UP5K; nothing is placed: it doesn't fit.

    Returns:
        a report: resources (used), available, excess (used over available, as a factor), evidence, tools, core.

    Raises:
        ToolError: Yosys is missing or failed.
    """
    name = "trilobit_core"
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "top.v").write_text(to_verilog(Core(config, debug=False), name))
        YOSYS.run(["-q", "-p", f"read_verilog top.v; synth_ice40 -device u -dsp -top {name} -json top.json"], cwd=work)
        cells = Counter(cell_counts(work / "top.json", name).values())
    used = Counter({column: 0 for column in AVAILABLE})
    for kind, count in cells.items():
        column = "registers" if kind.startswith("SB_DFF") else COLUMNS.get(kind)
        if column is not None:
            used[column] += count
    return {
        "device": "iCE40UP5K", "component": "the core alone, without memory and serial line", "parameters": config.parameters(),
        "evidence": "counted after synthesis (Yosys); not placed: it does not fit", "resources": dict(used), "available": AVAILABLE,
        "excess": {key: round(used[key] / room, 2) for key, room in AVAILABLE.items()},
        "memory_bytes": SPRAM_BYTES, "tools": {"yosys": YOSYS.version}, "cells": dict(sorted(cells.items())),
    }  # fmt: skip


@click.command()
def main() -> None:
    """Count the smallest core for an iCE40UP5K (a few minutes) and write bitstreams/up5k/report.json."""
    report = count_up5k(smallest_core())
    folder = Path(__file__).parent / "up5k"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    for key, room in AVAILABLE.items():
        click.echo(f"{key}: {report['resources'][key]} of {room}, {report['excess'][key]} times")


if __name__ == "__main__":
    main()
