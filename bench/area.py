"""What cores take on each family of FPGAs, by unit: a page out of the kept counts.

``python bench/area.py [--write]`` prints the page, or writes docs/reference/area.md, from ``bitstreams/area/*.json``
(``python -m trilobit.bitstreams.counts PRESET --family F --keep bitstreams/area`` makes those) and from the kept reports of what was
placed and routed (``bitstreams/*/report.json``).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from trilobit.bitstreams.counts import COLUMNS, FAMILIES, LENGTHS, VARIANTS
from trilobit.output import write_text

HERE = Path(__file__).parent
RESULTS = HERE.parent / "bitstreams" / "area"
ROUTED = HERE.parent / "bitstreams"
PAGE = HERE.parent / "docs" / "reference" / "area.md"
HEAD = ["LUTs", "LUTs as memory", "registers", "carry cells", "DSPs", "block RAMs"]
RAMS = {"xc7": "36 Kbit", "xcup": "36 Kbit", "cyclonev": "10 Kbit", "ecp5": "18 Kbit"}

Report = dict[str, Any]


def load(folder: Path = RESULTS) -> dict[tuple[str, str], Report]:
    """The kept counts: (preset, family) -> report; presets from narrow to wide, families in their usual order."""
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    order = {family: k for k, family in enumerate(FAMILIES)}
    reports.sort(key=lambda r: (r["core"]["beat_bytes"], r["core"]["lanes"], r["core"]["max_length"], r["preset"], order[r["family"]]))
    return {(r["preset"], r["family"]): r for r in reports}


def number(value: float) -> str:
    """With thousands apart; halves of a block stay."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def totals(reports: dict[tuple[str, str], Report]) -> str:
    rows = []
    for (preset, family), report in reports.items():
        total, weights = report["total"], 5 * report["core"]["beat_bytes"]
        luts = total["luts"] + total["memory_luts"] + (2 if family == "ecp5" else family == "cyclonev") * total["carries"]
        rows.append([f"`{preset}`", FAMILIES[family], *(number(total[column]) for column in COLUMNS), f"{luts / weights:,.0f}"])
    return table(
        ["core", "family", "LUTs", "LUTs as memory", "registers", "carry cells", "DSPs", "block RAMs", "LUTs a weight per clock"], rows
    )


def by_unit(reports: dict[tuple[str, str], Report], preset: str) -> str:
    mine = {family: report for (name, family), report in reports.items() if name == preset}
    units = list(next(iter(mine.values()))["units"])
    rows = []
    for unit in [*units, "total"]:
        row = [unit]
        for report in mine.values():
            counts = report["total"] if unit == "total" else report["units"][unit]
            row += [number(counts["luts"] + counts["memory_luts"]), *(number(counts[c]) for c in ("registers", "carries", "dsps", "brams"))]
        rows.append(row)
    return table(["unit", *(f"{family} {what}" for family in mine for what in ("LUTs", "registers", "carries", "DSPs", "RAMs"))], rows)


def against_length(reports: dict[tuple[str, str], Report]) -> str:
    rows = []
    for family in FAMILIES:
        for name in LENGTHS:
            if report := reports.get((name, family)):
                total = report["total"]
                rows.append([FAMILIES[family], str(report["core"]["max_length"]), *(number(total[c]) for c in COLUMNS)])
    return table(["family", "d", *HEAD], rows)


def growth(reports: dict[tuple[str, str], Report]) -> str:
    """What grows from the shortest to the longest vectors, in a sentence."""
    parts = []
    for family, name in FAMILIES.items():
        found = [reports[variant, family]["total"] for variant in LENGTHS if (variant, family) in reports]
        if len(found) == len(LENGTHS):
            more = {column: found[-1][column] / found[0][column] - 1 for column in ("luts", "registers")}
            parts.append(f"{name} LUTs by {more['luts']:.1%}, registers by {more['registers']:.1%}, block RAMs from "
                         f"{number(found[0]['brams'])} to {number(found[-1]['brams'])}")  # fmt: skip
    return f"From the shortest to the longest: {'; '.join(parts)}.\n\n" if parts else ""


def two_machines(reports: dict[tuple[str, str], Report]) -> str:
    """The lean machine beside the pipelined one at the same port, in a sentence."""
    lean, pipelined = reports.get(("lean16", "ecp5")), reports.get(("ulx3s-n16", "ecp5"))
    if not lean or not pipelined:
        return ""
    weights = 5 * lean["core"]["beat_bytes"]
    luts = [total["luts"] + total["memory_luts"] + 2 * total["carries"] for total in (lean["total"], pipelined["total"])]
    each = [f"{count / weights:,.0f}" for count in luts]
    return f"""\
`lean16` is the lean machine ([decision 0008](../decisions/0008-lean.md)); `ulx3s-n16` is the pipelined one with the same port, queues and
vectors. On ECP5 they take {number(luts[0])} and {number(luts[1])} LUTs, {each[0]} and {each[1]} a weight per clock.
Their units differ, but for the product (`tmatmul`) and the queues of tokens.

"""


def routed() -> str:
    """Cores and single units out of context."""
    rows = []
    for path in sorted(ROUTED.glob("*/report.json")):
        report = json.loads(path.read_text())
        config = report.get("core") or report.get("unit_of_core")
        if config is None or "resources" not in report:
            continue
        used, cells, name = report["resources"], report.get("synthesised", {}), path.parent.name
        what = f"`{config['name']}`" if "core" in report else f"unit `{name}` of `{config['name']}` at {config['beat_bytes']} bytes a clock"
        synthesised = f"{number(cells['LUT4'])} + {number(cells['CCU2C'])}" if "CCU2C" in cells else ""
        figures = [number(used[column]) for column in ("luts", "registers", "dsps", "brams")]
        share = ""
        if "core" in report or name.startswith("matmul"):
            weights = 5 * config["beat_bytes"]
            luts = cells["LUT4"] + 2 * cells["CCU2C"] + 6 * cells.get("TRELLIS_DPR16X4", 0)
            share = f"{luts / weights:,.1f}; {used['luts'] / weights:,.1f}"
        rows.append([what, report["device"], synthesised, *figures, share, f"{report['fmax_mhz']} MHz", report["evidence"]])
    columns = ["LUT4 + CCU2C after synthesis", "LUTs (TRELLIS_COMB)", "registers", "DSPs", "block RAMs",
               "a weight per clock: synthesis (a carry cell as two); packed", "clock", "evidence"]  # fmt: skip
    return table(["core or unit", "device", *columns], rows)


def page(reports: dict[tuple[str, str], Report]) -> str:
    presets = list(dict.fromkeys(preset for preset, _ in reports))
    tools = ", ".join(sorted({report["yosys"] for report in reports.values()}))
    commits = ", ".join(sorted({str(report["commit"]) for report in reports.values()}))
    units = "\n".join(f"### `{preset}`\n\n{by_unit(reports, preset)}" for preset in presets)
    return f"""\
# Area by family and unit

<!-- python bench/area.py --write -->

What cores take (`Core`, without a board's host link and memory controller) after **synthesis by Yosys**: counts of cells, not placed, not
routed, and no vendor's tool has seen them. Made with {tools} at commit {commits}; each result in
`bitstreams/area` has the hash of its Verilog, Yosys' command and every cell. The hierarchy is kept, so each cell belongs to one unit;
nothing is optimised across the borders of modules.

```
python -m trilobit.bitstreams.counts PRESET --family xc7 --keep bitstreams/area
python bench/area.py --write
```

PRESET is a preset, a YAML file or one of {", ".join(f"`{name}`" for name in VARIANTS)}; families are
{", ".join(f"`{family}` ({name})" for family, name in FAMILIES.items())}. A core takes half a
minute to some minutes, the widest a quarter of an hour; modules that were counted before are not synthesised again.

- LUTs: LUT1 to LUT6 and inverters (AMD), ALUTs but those in carry chains (Cyclone V), LUT4 (ECP5). As memory: distributed RAM and
  shift registers, in LUTs.
- Carry cells: CARRY4 and CARRY8 beside the LUTs (AMD), ALUTs in arithmetic mode (Cyclone V, one ALUT each), CCU2C (ECP5, two LUT4 each).
- DSPs: DSP48E1, DSP48E2; blocks of 27x27 or two of 18x18 (Cyclone V); MULT18X18D. Block RAMs:
  {", ".join(f"{size} ({family})" for family, size in RAMS.items())}.
- Memories on Cyclone V: Yosys' block RAM has one write enable, so that each part of a memory whose rows are written in parts (the register
  file: an element of 32 bits a lane) takes block RAMs of its own; a line is added to Yosys' rules for this (`m10k_rules` in
  `bitstreams/counts.py`). Memories too small for a block are registers: all of them have initial values, and Yosys' MLAB can't have any.
- LUTs a weight per clock: LUTs, LUTs as memory, and carry cells as far as they are LUTs, over 5 weights a byte of the beat.

{totals(reports)}
{two_machines(reports)}## Against the vector's length

The core of the paper's setting (one byte a clock, one lane) whose registers and norm unit hold d elements and whose gain buffer holds
2 d. The paper reports its own core's area against d on a Stratix 10; those figures are not at hand here and are not quoted.

{growth(reports)}{against_length(reports)}
## Placed and routed

What Yosys and nextpnr made of cores and units out of context, flattened and without wide multiplexers, for comparison; nextpnr's LUTs
count a carry cell as two and what brings carries in and out of chains.

{routed()}
## By unit

LUTs with those used as memory; `core` is what stands between the units.

{units}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/reference/area.md")
    text = page(load())
    if parser.parse_args().write:
        write_text(PAGE, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
