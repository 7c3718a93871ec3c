"""What each overlap brings: cycles with one lever off at a time, from the cycle model.

``python bench/levers.py [--core axi512] [--geometry 370m] [--memory ideal]`` compiles the geometry as it is, then again with one of the
compiler's decisions replaced by the plain one, or with another core, and counts cycles a token in the steady state. The figures are
what the compiler is worth on this hardware, whose units chain and run beside each other in any case. JSON goes to the standard
output and to ``bench/results/levers-CORE-MEMORY.json``.
"""

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from trilobit.assembler.compiler import emit, layout, pipeline
from trilobit.assembler.compiler import schedule as scheduler
from trilobit.assembler.compiler.emit import Line
from trilobit.assembler.compiler.instr import Instr
from trilobit.assembler.geometry import compile_geometry
from trilobit.isa.core import CoreConfig, load_core
from trilobit.machine import commit
from trilobit.output import write_text
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles import CycleModel
from trilobit.sim.geometry import Geometry, parse_geometry, roofline_share

Lever = Callable[[], contextlib.AbstractContextManager]


def as_lowered(instrs: Sequence[Instr], core: CoreConfig, registers: int = 8) -> list[Instr]:
    """No scheduling: the order of the model's operations, activation buffers in turn."""
    order, buffers = sorted(instrs, key=lambda i: i.head), {}
    for i in order:
        if i.op == "normq":
            buffers[id(i.writes)] = i.registers["act"] = len(buffers) % 2
        elif i.act is not None:
            i.registers["act"] = buffers[id(i.act)]
    return order


def gains_with_their_matrix(order: Sequence[Instr]) -> list[Instr]:
    """Each gain vector directly before the matrix that its norm is for, not a product earlier."""
    return [i for i in order if i.gains is not None or i.matrix is not None]


def stream_queued_late(*arguments) -> list[Line]:
    """Each token queues its own stream when it starts, instead of the next token's."""
    lines = _emit(*arguments)
    token = next(n for n, line in enumerate(lines) if line.label == "token")
    follow = next(n for n, line in enumerate(lines) if line.label == "skip_head")
    own = lines.pop(follow)
    own.label, lines[follow].label = "token", "skip_head"
    lines[token].label = ""
    lines.insert(token, own)
    del lines[token - 1]  # the first token's, in front of the loop
    return lines


_emit = emit.emit
no = contextlib.nullcontext
LEVERS: dict[str, Lever] = {
    "instructions scheduled (off: in the order of the model's operations)": lambda: patch.object(pipeline, "schedule", as_lowered),
    "two activation buffers (off: one, quantised when the product before has ended)": lambda: patch.object(scheduler, "_BUFFERS", 1),
    "gains a product ahead (off: just before their own matrix)": lambda: patch.object(layout, "arrange", gains_with_their_matrix),
    "next token's stream queued a token ahead (off: each token queues its own)": lambda: patch.object(pipeline, "emit", stream_queued_late),
}


def cycles(geometry: Geometry, core: CoreConfig, memory: str = "ideal") -> int:
    """Cycles of a token, steady state."""
    compiled = compile_geometry(geometry, core)
    model = CycleModel(compiled.program, core, memory, settings=HostSettings(limit=3), segments=compiled.layout.stream)
    model.push([0])
    ends = []
    while model.run_to_token():
        ends.append(model.cycles)
    if len(ends) != 3:
        raise SystemExit(f"expected 3 tokens, got {len(ends)}: {model.result()}")
    return ends[-1] - ends[-2]


def variants(core: CoreConfig) -> Iterator[tuple[str, CoreConfig, Lever]]:
    """What is measured: a name, a core, and what is switched off."""
    yield "as it is", core, no
    for name, lever in LEVERS.items():
        yield name, core, lever
    for depth in (core.weight_fifo_beats // 4, core.weight_fifo_beats // 16):
        if depth >= 2 * core.burst_beats:
            yield f"weights fetched {depth} beats ahead instead of {core.weight_fifo_beats}", core.replace(weight_fifo_beats=depth), no
    for lanes in (core.lanes // 2, core.lanes * 2):
        if 1 <= lanes <= core.beat_bytes:
            yield f"{lanes} lanes instead of {core.lanes}", core.replace(lanes=lanes), no


def measure(geometry: Geometry, core: CoreConfig, memory: str) -> list[dict]:
    """Every variant; ``costs`` in cycles against the first."""
    rows: list[dict] = []
    for name, config, lever in variants(core):
        with lever():
            found = cycles(geometry, config, memory)
        share = roofline_share(geometry.ternary_weights, core.beat_bytes, found)
        first = rows[0]["cycles_per_token"] if rows else found
        rows.append({"what": name, "cycles_per_token": found, "costs": found - first, "roofline_share": round(share, 5)})
    return rows


def layer(core: CoreConfig, **shape: int) -> float:
    """Cycles that a layer more takes."""
    one, three = (cycles(Geometry(L=n, V=1280, **shape), core) for n in (1, 3))
    return (three - one) / 2


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", default="axi512")
    parser.add_argument("--geometry", default="370m")
    parser.add_argument("--memory", default="ideal")
    arguments = parser.parse_args()
    core, geometry = load_core(arguments.core), parse_geometry(arguments.geometry)
    data = {
        "core": core.name, "geometry": arguments.geometry, "memory": arguments.memory,
        "levers": measure(geometry, core, arguments.memory),
        "layer_of_370m_ideal_memory": layer(core, H=1024, I=2816) if core.max_length >= 2816 else None,
        "evidence": "exact: cycle model, equal to the RTL to the cycle", "commit": commit(),
    }  # fmt: skip
    text = json.dumps(data, indent=2) + "\n"
    print(text, end="")
    write_text(Path(__file__).parent / "results" / f"levers-{core.name}-{arguments.memory}.json", text)


if __name__ == "__main__":
    main()
