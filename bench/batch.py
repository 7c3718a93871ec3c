"""What several sequences a pass bring: tokens/s of a batch against batch 1 at the same clock, from the cycle model.

``python bench/batch.py [--geometry 1.3b] [--core axi512] [--memory ideal --memory ddr4-2400]`` compiles the geometry for batches of 1,
2, 4 and 8, each with the core's lanes for every sequence and with its lanes divided among them, and counts the cycles of a pass in the
steady state. A pass makes a token of each sequence. JSON goes to the standard output and to ``bench/results/batch-GEOMETRY-CORE.json``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from trilobit.assembler.geometry import compile_geometry
from trilobit.isa.core import CoreConfig, load_core
from trilobit.machine import commit
from trilobit.output import write_text
from trilobit.sim.estimate import estimate
from trilobit.sim.geometry import Geometry, parse_geometry

BATCHES = (1, 2, 4, 8)


def cores(core: CoreConfig) -> list[CoreConfig]:
    """Every batch with the lanes of the core, then with its lanes shared out, as far as there are any."""
    whole = [core.replace(batch=batch) for batch in BATCHES]
    return whole + [core.replace(batch=batch, lanes=core.lanes // batch) for batch in BATCHES[1:] if core.lanes >= batch]


def measure(geometry: Geometry, core: CoreConfig, memory: str) -> list[dict[str, Any]]:
    """A row for each core; ``against_batch_1`` compares tokens/s with the first, the core itself."""
    rows: list[dict[str, Any]] = []
    for config in cores(core):
        compiled = compile_geometry(geometry, config)
        found = estimate(compiled.program, config, weights=compiled.weights(), memory=memory, segments=compiled.layout.stream)
        first = rows[0]["tokens_per_second"] if rows else found.tokens_per_second
        rows.append({
            "batch": config.batch, "lanes": config.lanes, "memory": memory, "cycles_per_pass": found.cycles_per_token,
            "tokens_per_second": round(found.tokens_per_second, 2),
            "tokens_per_second_per_sequence": round(found.tokens_per_second_per_sequence, 2),
            "against_batch_1": round(found.tokens_per_second / first, 4), "roofline_share": round(found.roofline, 5),
            "bytes_per_pass": found.bytes_per_token, "on_chip_bits": found.to_dict()["on_chip_bits"],
        })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", default="1.3b")
    parser.add_argument("--core", default="axi512")
    parser.add_argument("--memory", action="append", help="ideal and ddr4-2400 if none is given")
    arguments = parser.parse_args()
    core, geometry = load_core(arguments.core), parse_geometry(arguments.geometry)
    data = {
        "core": core.name, "geometry": arguments.geometry, "clock_mhz": core.clock_mhz,
        "rows": [row for memory in arguments.memory or ["ideal", "ddr4-2400"] for row in measure(geometry, core, memory)],
        "evidence": "exact: cycle model, equal to the RTL to the cycle", "commit": commit(),
    }  # fmt: skip
    text = json.dumps(data, indent=2) + "\n"
    print(text, end="")
    name = arguments.geometry.lower().replace("/", "x")
    write_text(Path(__file__).parent / "results" / f"batch-{name}-{core.name}.json", text)


if __name__ == "__main__":
    main()
