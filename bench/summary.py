"""All bars in one place: what is asked for, what was reached, and how it is known.

``python bench/summary.py [--write]`` prints JSON. Exact figures are computed on the spot by the cycle model (equal to the RTL to
the cycle); measured ones come from the kept results of the other benchmarks in ``bench/results``, each with its commit. ``--write`` also
puts the table into docs/performance.md.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from trilobit.cli import main as trilobit
from trilobit.machine import commit, machine
from trilobit.output import write_text

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- bars: python bench/summary.py --write -->\n", "<!-- end of bars -->\n"
GEOMETRIES = ("370m", "1.3b", "2.7b")


def estimate(what: str, core: str, memory: str = "ideal", clock: float | None = None, batch: int = 1) -> dict[str, Any]:
    """``trilobit estimate`` as JSON."""
    arguments = ["estimate", what, "--core", core, "--batch", str(batch), "--memory", memory, "--json"]
    arguments += [] if clock is None else ["--clock", str(clock)]
    result = CliRunner().invoke(trilobit, arguments)
    if result.exit_code:
        raise SystemExit(result.output)
    return json.loads(result.stdout)


def kept(name: str) -> dict[str, Any] | None:
    """A kept result, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def row(what: str, bar: str, value: float | None, met: bool | None, evidence: str, *, shown: str | None = None) -> dict[str, Any]:
    """A bar; ``value`` is None where nothing is known, ``met`` None where there is no bar."""
    return {"what": what, "bar": bar, "value": value, "shown": "not measured" if value is None else shown or f"{value:.2%}",
            "met": met, "evidence": evidence}  # fmt: skip


def shares() -> list[dict[str, Any]]:
    """Shares of the roofline and of the memory."""
    rows = []
    for geometry in GEOMETRIES:
        value = estimate(geometry, "axi512")["roofline_share"]
        rows.append(row(f"roofline share, whole token, {geometry} on axi512, ideal memory", "at least 97%", value, value >= 0.97, "exact"))
    for geometry in GEOMETRIES:
        value = estimate(geometry, "axi512", "ddr4-2400", 300)["memory_share"]
        what = f"required bytes of min(port, pins), {geometry} on axi512 at 300 MHz, DDR4-2400"
        rows.append(row(f"{what}, tREFI 7.8 us", "at least 92%", value, value >= 0.92, "exact"))
        value = estimate(geometry, "axi512", "ddr4-2400-hot", 300)["memory_share"]
        rows.append(row(f"{what}, tREFI 3.9 us", "none", value, None, "exact"))
    value = estimate("tales", "ulx3s", "sdram")["memory_share"]
    rows.append(row("required bytes of the SDRAM's pins, tales on ulx3s", "at least 90%", value, value >= 0.9, "exact"))
    return rows


def layers() -> list[dict[str, Any]]:
    """One layer with H=1024, I=2816: half of what three take more than one."""
    rows = []
    for core, beat, bar in (("axi512", 64, 41_500), ("ddr128", 16, 165_000)):
        one, three = (estimate(f"1024/{layers}/2816/64", core)["cycles_per_token"] for layers in (1, 3))
        value = (three - one) / 2
        rows.append(row(f"one layer, H=1024, I=2816, at {beat} bytes a clock", f"at most {bar:,} cycles", value, value <= bar, "exact",
                        shown=f"{value:,.0f} cycles"))  # fmt: skip
    return rows


def paper() -> list[dict[str, Any]]:
    """The paper's own case."""
    data = kept("paper")
    case = next((case for case in data["cases"] if case["d"] == 512), None) if data else None
    evidence = f"measured (RTL), {data['commit']}" if data else "python bench/paper.py"
    ms, share = (case["milliseconds"], case["cycles_over_clocks_of_bytes_moved"]) if case else (None, None)
    return [
        row("the paper's mixer at d=512, 60 MHz", "at most 3.0 ms", ms, ms is not None and ms <= 3.0, evidence, shown=f"{ms} ms"),
        row("its cycles over the clocks of the bytes moved", "at most 1.03", share, share is not None and share <= 1.03, evidence,
            shown=f"{share}"),
    ]  # fmt: skip


def equality() -> list[dict[str, Any]]:
    """Whole tokens on the RTL, which stop with an error if anything differs, and the speed of the cycle model."""
    rows = []
    for path in sorted(RESULTS.glob("rtl-*.json")):
        data = json.loads(path.read_text())
        core = data["core"] if data.get("batch", 1) == 1 else f"{data['core']}, batch {data['batch']}"
        cycles, bits = data["equal_to_cycle_model"], data["equal_to_functional"]
        rows.append(row(f"cycle model against RTL, whole tokens, {data['geometry']} on {core}, {data['memory']}", "difference 0",
                        0 if cycles else 1, cycles and bits,
                        f"measured (RTL), {data['commit']}; bits {'' if bits else 'NOT '}equal to the functional simulator's",
                        shown="0 cycles" if cycles else "some cycles"))  # fmt: skip
    for memory in ("ideal", "ddr4-2400"):
        begin = time.process_time()
        estimate("2.7b", "axi512", memory)
        seconds = time.process_time() - begin
        rows.append(row(f"cycle model of 2.7B, axi512, {memory}: compiling and several tokens, processor time", "at most 5 s", seconds,
                        seconds <= 5, "measured", shown=f"{seconds:.1f} s"))  # fmt: skip
    return rows


def speed() -> list[dict[str, Any]]:
    """Speed of the RTL simulation."""
    rows = []
    for core in ("ulx3s", "axi512"):
        data = kept(f"rtl_speed-{core}")
        evidence = f"measured, load {data['machine']['load']}, {data['commit']}" if data else "python bench/rtl_speed.py"
        share, rate = (data["core_over_matmul_alone"], data["core"]["weights_per_second"]) if data else (None, None)
        rows.append(row(f"RTL simulation of {core}, weights/s of its product unit's alone", "at least 60%", share,
                        share is not None and share >= 0.6, evidence, shown=None if share is None else f"{share:.1%}"))  # fmt: skip
        rows.append(row(f"RTL simulation of {core}, one thread", "aim 50 M weights/s", rate, rate is not None and rate >= 50e6, evidence,
                        shown=None if rate is None else f"{rate / 1e6:.0f} M weights/s"))  # fmt: skip
    return rows


def batch() -> list[dict[str, Any]]:
    """Several sequences a pass over the weights."""
    rows = []
    for memory in ("ideal", "ddr4-2400"):
        one, four = (estimate("1.3b", "axi512", memory, batch=batch)["tokens_per_second"] for batch in (1, 4))
        rows.append(row(f"batch 4 against batch 1, 1.3b on axi512, tokens/s at one clock, {memory}", "at least 3.8x", four / one,
                        four / one >= 3.8, "exact", shown=f"{four / one:.3f}x"))  # fmt: skip
    return rows


GROUPS = {
    "Shares of the roofline and of the memory": shares, "One layer": layers, "The paper's own case": paper,
    "Several sequences a pass": batch, "Cycle model and RTL": equality, "Speed of the RTL simulation": speed,
}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    met = {True: "yes", False: "no", None: ""}
    lines = ["| what | bar | reached | met | evidence |", "|---|---|---|---|---|"]
    lines += [f"| {r['what']} | {r['bar']} | {r['shown']} | {met[r['met']]} | {r['evidence']} |" for r in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the bars, and put them into the page if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    arguments = parser.parse_args()
    groups = {title: rows() for title, rows in GROUPS.items()}
    print(json.dumps({"bars": [bar for rows in groups.values() for bar in rows], "machine": machine(), "commit": commit()}, indent=2))
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        if not rest or not after:
            raise SystemExit(f"expected the lines {BEGIN!r} and {END!r} in {PAGE}")
        tables = "\n".join(f"### {title}\n\n{table(rows)}" for title, rows in groups.items())
        write_text(PAGE, before + BEGIN + "\n" + tables + "\n" + END + after)


if __name__ == "__main__":
    main()
