"""``python -m trilobit.bitstreams.table``: the kept reports of whole boards as the table of docs/reference/boards.md."""

import json
from importlib import resources
from pathlib import Path

from trilobit.bitstreams.timing import clock_at
from trilobit.hdl.boards import BOARDS

__all__ = ["HEAD", "board_reports", "row"]

HEAD = """| board | core | LUTs | registers | multipliers | block RAMs | clock reached | of | slowest path: cells + wires | bitstream |
|---|---|---|---|---|---|---|---|---|---|"""


def board_reports() -> dict[str, dict]:
    """By board its kept report: that of its bitstream, else the one of a missed clock that came nearest."""
    found = {}
    for name in BOARDS:
        folder = Path(str(resources.files("trilobit.bitstreams").joinpath(name)))
        reports = [json.loads(path.read_text()) for path in sorted(folder.glob(f"trilobit_{name}-*.json"))]
        if reports:
            found[name] = max(reports, key=lambda report: ("bitstream" in report, report["fmax_mhz"]))
    return found


def row(report: dict) -> str:
    """A line of the table."""
    used, available = report["resources"], report["available"]
    shares = " | ".join(f"{used[key]:,} ({100 * used[key] / available[key]:.0f}%)" for key in ("luts", "registers", "dsps", "brams"))
    # Cells are all that isn't wire: logic, and what comes out of and goes into registers, block RAMs and multipliers.
    path = clock_at(report["clocks"], report["clock_mhz"])["critical_path"]
    bitstream = f"{report['bitstream_bytes'] / 1e3:.0f} kB" if "bitstream" in report else "none: clock missed"
    return (f"| `{report['board']}` | `{report['core']['name']}` | {shares} | {report['fmax_mhz']:.1f} MHz | {report['clock_mhz']:g} MHz | "
            f"{path['total_ns'] - path['routing']:.1f} + {path['routing']:.1f} ns | {bitstream} |")  # fmt: skip


def main() -> None:
    print(HEAD)
    for report in board_reports().values():
        print(row(report))


if __name__ == "__main__":
    main()
