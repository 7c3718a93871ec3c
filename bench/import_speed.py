"""From a published checkpoint of full size to tokens: seconds and memory of each step, with random weights.

``python bench/import_speed.py 370m 1.3b [--text TEXT] [--work DIR]``: for each geometry a checkpoint in bfloat16 is written (in a
temporary folder: 0.75, 2.7 or 5.4 GB, and half as much again beside it), imported and compiled for ``axi512`` with default ranges; then
calibrated on 64 tokens, and generated from on the functional simulator. Every step is a process of its own; its elapsed and processor
seconds and its largest resident memory (pages of mapped files included) come from the operating system. JSON goes to the standard output
and to ``bench/results/import-GEOMETRY.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from trilobit.machine import commit, machine
from trilobit.output import write_text

RESULTS = Path(__file__).parent / "results"
CLI = "from trilobit.cli import main; main()"
CALIBRATION_TOKENS = 64
GENERATED = 8
# Seconds from token to token, after the first: what the bundle's load and the compiled kernel cost once is not in them.
GENERATE = f"""
import json, sys, time
from trilobit.assembler.bundle import load_bundle
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator
bundle = load_bundle(sys.argv[1])
settings = HostSettings(limit={GENERATED})
simulator = FunctionalSimulator(bundle.core, bundle.program, bundle.memory(), settings, native=sys.argv[2] == "native")
simulator.push([1])
at = []
result = simulator.run(lambda token: at.append((time.perf_counter(), time.process_time())))
assert len(result.tokens) == {GENERATED} and not result.fault
steps = len(at) - 1
print(json.dumps({{"seconds_per_token": (at[-1][0] - at[0][0]) / steps, "cpu_seconds_per_token": (at[-1][1] - at[0][1]) / steps}}))
"""


def measure(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    """Run Python with these arguments: elapsed and processor seconds, largest resident memory; and what it printed."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments[:4]))} ... failed with exit code {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_bytes": usage.ru_maxrss * 1024,
    }, text


def bench(geometry: str, text: Path, work: Path) -> dict[str, Any]:
    source, packed, bundle, second = (work / f"{geometry}-{name}" for name in ("source", "packed", "bundle", "calibrated"))
    load = os.getloadavg()[0]  # what else ran: elapsed seconds are worth little beside it, processor seconds more
    steps = {}
    steps["synthesize"], made = measure("-c", CLI, "synthesize", geometry, "-o", source, "--json")
    steps["import"], imported = measure("-c", CLI, "import", source, "-o", packed, "--json")
    steps["compile"], _ = measure("-c", CLI, "compile", packed, "--core", "axi512", "-o", bundle, "--json")
    calibrate = ["--calibrate", text, "--calibrate-tokens", CALIBRATION_TOKENS]
    steps["import and calibrate"], calibrated = measure("-c", CLI, "import", source, "-o", second, *calibrate, "--json")
    steps["generate"], native = measure("-c", GENERATE, bundle, "native")
    steps["generate without a compiler"], numpy = measure("-c", GENERATE, bundle, "numpy")
    found = json.loads(imported)
    both = steps["import"]["seconds"] + steps["compile"]["seconds"]
    return {
        "geometry": geometry, "parameters": json.loads(made)["parameters"], "source_bytes": found["source_bytes"],
        "packed_bytes": found["packed_bytes"], "image_bytes": (bundle / "image.bin").stat().st_size, "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load, 1), "steps": steps, "import_and_compile_seconds": round(both, 2),
        "calibration": {k: json.loads(calibrated)["calibration"][k] for k in ("tokens", "seconds")},
        "functional": json.loads(native), "functional_without_a_compiler": json.loads(numpy),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("geometries", nargs="+", choices=["370m", "1.3b", "2.7b"])
    parser.add_argument("--text", type=Path, default=Path(__file__).parents[1] / "README.md", help="to calibrate on, as bytes")
    parser.add_argument("--work", type=Path, help="folder for the checkpoints; they are deleted afterwards")
    options = parser.parse_args()
    for geometry in options.geometries:
        with tempfile.TemporaryDirectory(dir=options.work, prefix="trilobit-import-") as work:
            figures = bench(geometry, options.text, Path(work))
        text = json.dumps(figures | {"machine": machine(), "commit": commit()}, indent=2) + "\n"
        write_text(RESULTS / f"import-{geometry}.json", text)
        print(text, end="", flush=True)


if __name__ == "__main__":
    main()
