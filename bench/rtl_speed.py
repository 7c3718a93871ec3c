"""How fast the RTL is simulated: the core with a model, against its ternary product unit alone and the functional simulator.

``python bench/rtl_speed.py [--core PRESET] [--model NAME | --geometry GEOMETRY]``: all of it in one process and on one thread; builds are
not counted. The model is one that ships, or a geometry with random weights. Speeds are ternary weights (padding excluded) a second of
processor time and of elapsed time, of the fastest of several rounds that take turns. JSON goes to the standard output and to
``bench/results/rtl_speed-CORE.json``.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matmul_alone import MatmulAlone, Product

from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler.pipeline import compile_model
from trilobit.assembler.geometry import compile_geometry, random_memory
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program
from trilobit.isa.segments import parse_segment, segment_trits
from trilobit.isa.spec import ISA
from trilobit.machine import commit, machine
from trilobit.output import write_text
from trilobit.sim.backend import Backend, HostSettings
from trilobit.sim.functional import FunctionalSimulator
from trilobit.sim.rtl import RtlSimulator

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
ROUNDS = 5
TOKENS = {"core": 2, "functional": 30}  # generated in a round
RESULTS = Path(__file__).parent / "results"


@dataclass(kw_only=True)
class Best:
    """The fastest round; one round is ``weights`` weights in ``cycles`` cycles (none for the functional simulator)."""

    weights: int = 0
    cycles: int | None = None
    cpu: float = float("inf")
    wall: float = float("inf")

    def time(self, work: Callable[[], tuple[int, int | None]]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        self.weights, self.cycles = work()
        self.cpu, self.wall = min(self.cpu, time.process_time() - cpu), min(self.wall, time.perf_counter() - wall)

    def report(self) -> dict:
        figures = {"weights": self.weights, "weights_per_second": round(self.weights / self.cpu),
                   "weights_per_second_elapsed": round(self.weights / self.wall)}  # fmt: skip
        if self.cycles is not None:
            figures |= {"cycles": self.cycles, "cycles_per_second": round(self.cycles / self.cpu),
                        "weights_per_cycle": round(self.weights / self.cycles, 3)}  # fmt: skip
        return figures


def products_of(config: CoreConfig, program: Program, memory: np.ndarray) -> tuple[list[Product], np.ndarray, list[np.ndarray]]:
    """The model's own products in program order, [beats, beat_bytes] of their payloads, and their trits."""
    products, payloads, trits, first = [], [], [], 0
    for word in program.code:
        if word & 0xFF != ISA.by_name["tmatmul"].opcode:
            continue
        segment = parse_segment(memory, ISA.fields["addr"].get(word), config.beat_bytes)
        payload = memory[segment.payload : segment.payload + segment.beats * config.beat_bytes]
        payloads.append(payload.reshape(-1, config.beat_bytes))
        trits.append(segment_trits(memory, segment, config.beat_bytes))
        products.append(Product(rows=segment.rows, columns=segment.columns, first_beat=first))
        first += segment.beats
    payloads.append(np.zeros((1, config.beat_bytes), dtype=np.uint8))  # the harness looks one beat ahead
    return products, np.concatenate(payloads), trits


def generate(best: Best, kind: type[Backend], config: CoreConfig, program: Program, memory: np.ndarray, tokens: int) -> None:
    """A round of a simulator, its set-up not counted."""
    with kind(config, program, memory.copy(), HostSettings(limit=tokens)) as backend:
        backend.push([0])

        def run() -> tuple[int, int | None]:
            result = backend.run()
            return result.weights, result.cycles

        best.time(run)
        if len(backend.result().tokens) != tokens:
            raise SystemExit(f"expected {tokens} tokens, got {backend.result().tokens}")


def work_of(config: CoreConfig, model: str, geometry: str | None, folder: Path) -> tuple[Program, np.ndarray]:
    """The program and its memory."""
    if geometry is not None:
        compiled = compile_geometry(geometry, config)
        return compiled.program, random_memory(compiled)
    compile_model(model, config, folder / "bundle")
    bundle = load_bundle(folder / "bundle")
    return bundle.program, bundle.memory()


def measure(core: str, model: str, geometry: str | None) -> dict:
    """All figures."""
    config = load_core(core)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program, memory = work_of(config, model, geometry, folder)
        products, beats, trits = products_of(config, program, memory)
        activations = np.random.default_rng(1).integers(-127, 128, max(p.columns for p in products))
        (folder / "alone").mkdir()
        alone = MatmulAlone(config, products, beats, activations, folder / "alone")
        _, results = alone.run()
        sums = np.concatenate([matrix.astype(np.int64) @ activations[: matrix.shape[1]] for matrix in trits])
        if not np.array_equal(results, sums * MatmulAlone.FACTOR):
            raise SystemExit("the product unit alone computes wrong results; its speed means nothing")

        best = {"matmul_alone": Best(), "core": Best(), "functional": Best()}
        for _ in range(ROUNDS):
            generate(best["core"], RtlSimulator, config, program, memory, TOKENS["core"])
            best["matmul_alone"].time(lambda: (alone.weights, alone.run()[0]))
            generate(best["functional"], FunctionalSimulator, config, program, memory, TOKENS["functional"])
    speed = {name: value.weights / value.cpu for name, value in best.items()}
    return {
        "core": core, "model": geometry or model, "rounds": ROUNDS, **{name: value.report() for name, value in best.items()},
        "core_over_matmul_alone": round(speed["core"] / speed["matmul_alone"], 3),
        "functional_over_core": round(speed["functional"] / speed["core"], 2),
        "machine": machine(), "commit": commit(),
    }  # fmt: skip


def main() -> None:
    """Measure, print, and keep the figures."""
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):  # NumPy's libraries look when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(ONE_THREAD, "1"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", default="ulx3s")
    parser.add_argument("--model", default="tales")
    parser.add_argument("--geometry", help="instead of a model, such as 370m or 1024/2/2816/2048")
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.core, arguments.model, arguments.geometry), indent=2) + "\n"
    print(text, end="")
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / f"rtl_speed-{Path(arguments.core).stem}.json", text)


if __name__ == "__main__":
    main()
