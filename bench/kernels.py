"""What the Triton kernels buy: training steps with the fused BitLinear, and tokens from packed weights, beside plain PyTorch.

``python bench/kernels.py training`` times forward and backward pass of single BitLinears and whole training steps at the 370M
geometry, with peak memory; it needs a CUDA GPU. ``python bench/kernels.py inference`` times one token (greedy, the state carried)
of random models from 370M to 13B on packed weights and on the same geometry in bf16; ``--cpu`` does so on the CPU. ``tiles`` tries
tiles of the product kernel. Results go to the standard output and to ``bench/results/kernels-NAME.json``.

The half-precision model is plain PyTorch: bf16 weights and vectors, activations quantised as the model says. ``dense`` has its
weights ternary beforehand, stored in bf16; ``compiled`` is that with torch.compile around each layer; ``online`` quantises its weights
at every call, as the published modules do. ``graph`` says that a step was replayed as one CUDA graph.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trilobit.machine import commit
from trilobit.model import fused
from trilobit.model.config import ModelConfig
from trilobit.model.distributed import Processes
from trilobit.model.inference import GraphedStep, PackedLM, kernels
from trilobit.model.reference import BitLinear
from trilobit.model.trainer import Run
from trilobit.model.training_config import TrainingConfig
from trilobit.output import write_text
from trilobit.sim.native import ternary_product

RESULTS = Path(__file__).resolve().parent / "results"
# Hidden size, layers. The first three are the published models; 7B and 13B have the widths and depths usual at these sizes.
GEOMETRIES = {"370m": (1024, 24), "1.3b": (2048, 24), "2.7b": (2560, 32), "7b": (4096, 32), "13b": (5120, 40)}
LAYERS = [(1024, 1024), (2048, 11264), (5632, 2048)]  # columns, rows
ROWS = 16384  # tokens of a step on one layer
GIB = 2.0**30


def config_of(name: str) -> ModelConfig:
    hidden, layers = GEOMETRIES[name]
    return ModelConfig(vocab_size=32000, hidden_size=hidden, num_hidden_layers=layers)


def median_ms(work: Callable[[], Any], repeats: int, device: str) -> float:
    """Median time of a call after two that warm up, ms."""
    times = []
    for n in range(repeats + 2):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if n >= 2:
            times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times), 4)


def clean() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# ---- training ------------------------------------------------------------------------------------------------------------


def layer_step(columns: int, rows: int, how: str) -> dict[str, Any]:
    """Forward and backward of one BitLinear in bf16 precision: time, and what stays in memory between the two."""
    torch.manual_seed(1)
    module: Any = BitLinear(columns, rows).cuda().train()
    module.product_dtype = torch.bfloat16
    if how.startswith("fused"):
        fused.fuse(module)
    if how.endswith("compiled"):
        module.compile(dynamic=False)
    x = torch.randn(ROWS, columns, device="cuda", requires_grad=True)
    grad = torch.randn(ROWS, rows, device="cuda")

    def work() -> None:
        x.grad = None
        module.zero_grad()
        module(x).backward(grad)

    work()
    x.grad = None
    module.zero_grad()
    clean()
    before = torch.cuda.memory_allocated()
    out = module(x)
    kept = torch.cuda.memory_allocated() - before - out.numel() * out.element_size()
    out.backward(grad)
    peak = torch.cuda.max_memory_allocated() - before
    del out
    record = {
        "columns": columns,
        "rows": rows,
        "how": how,
        "milliseconds": median_ms(work, 15, "cuda"),
        "kept_bytes": kept,
        "peak_bytes": peak,
    }
    print(json.dumps(record), flush=True)
    return record


def model_step(how: str, batch: int, context: int) -> dict[str, Any]:
    """One optimiser step of the 370M geometry."""
    clean()
    config = TrainingConfig(
        steps=1000, batch_size=batch, context=context, learning_rate=1e-3, precision="bf16", fused=how.startswith("fused"),
        compile=how.endswith("compiled"),
    )  # fmt: skip
    ids = np.random.default_rng(1).integers(32000, size=1 << 20)
    run = Run(config_of("370m"), config, ids, Processes(device=torch.device("cuda")))
    steps = iter(range(1000))
    ms = median_ms(lambda: run.step(next(steps)), 5, "cuda")
    record = {
        "geometry": "370m", "batch": batch, "context": context, "how": how, "milliseconds": ms,
        "peak_bytes": torch.cuda.max_memory_allocated(), "loss": round(float(run.loss), 4),
    }  # fmt: skip
    print(json.dumps(record), flush=True)
    return record


def training() -> dict[str, Any]:
    torch.set_float32_matmul_precision("high")
    ways = ("module", "module compiled", "fused")
    layers = [layer_step(*shape, how) for shape in LAYERS for how in ways]
    models = []
    for how in ("module", "fused", "module compiled", "fused compiled"):
        models.append(model_step(how, 8, 1024))
        clean()
    return {"rows": ROWS, "layers": layers, "models": models}


# ---- inference -----------------------------------------------------------------------------------------------------------


class HalfLM:
    """The same model in bf16, plain PyTorch; ``online``: weights quantised at every call."""

    def __init__(self, config: ModelConfig, device: str, online: bool = False, compiled: bool = False):
        self.config, self.device, self.online = config, torch.device(device), online
        self.run_layer: Any = torch.compile(self.layer, dynamic=False) if compiled else self.layer
        H, I = config.hidden_size, config.mlp_size
        generator = torch.Generator(device).manual_seed(1)

        def matrix(rows: int, columns: int) -> tuple[Tensor, Tensor]:
            weight = torch.empty(rows, columns, dtype=torch.bfloat16, device=device).normal_(std=columns**-0.5, generator=generator)
            return (weight if online else self.ternary(weight)), torch.ones(columns, dtype=torch.bfloat16, device=device)

        self.layers = [[matrix(H, H) for _ in range(4)] + [matrix(2 * I, H), matrix(H, I)] for _ in range(config.num_hidden_layers)]
        self.embedding = torch.empty(config.vocab_size, H, dtype=torch.bfloat16, device=device).normal_(generator=generator)
        self.head = matrix(config.vocab_size, H)
        self.gain = torch.ones(H, dtype=torch.bfloat16, device=device)
        self.lower = torch.full((H,), 0.5, dtype=torch.bfloat16, device=device)

    @staticmethod
    def ternary(weight: Tensor) -> Tensor:
        scale = 1.0 / weight.abs().mean().clamp(min=1e-5)
        return (weight * scale).round().clamp(-1, 1) / scale

    @staticmethod
    def norm(x: Tensor, gain: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * gain

    def linear(self, x: Tensor, matrix: tuple[Tensor, Tensor]) -> Tensor:
        weight, gain = matrix
        y = self.norm(x, gain)
        scale = 127 / y.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        y = (y * scale).round().clamp(-128, 127) / scale
        return nn.functional.linear(y, self.ternary(weight) if self.online else weight)

    def init_state(self, batch: int) -> Tensor:
        return torch.zeros(len(self.layers), batch, self.config.hidden_size, dtype=torch.bfloat16, device=self.device)

    def layer(self, h: Tensor, s: Tensor, i: Any, f: Any, g: Any, o: Any, gate: Any, down: Any) -> Tensor:
        a = self.norm(h, self.gain)
        forget = self.lower + (1 - self.lower) * torch.sigmoid(self.linear(a, f))
        s.copy_(forget * s + (1 - forget) * nn.functional.silu(self.linear(a, i)))
        h = h + self.linear(self.norm(self.linear(a, g), self.gain) * nn.functional.silu(s), o)
        x, y = self.linear(self.norm(h, self.gain), gate).chunk(2, dim=-1)
        return h + self.linear(nn.functional.silu(x) * y, down)

    @torch.no_grad()
    def step(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = nn.functional.embedding(ids, self.embedding)
        for matrices, s in zip(self.layers, state, strict=True):
            h = self.run_layer(h, s, *matrices)
        return self.linear(self.norm(h, self.gain), self.head).float(), state

    @property
    def nbytes(self) -> int:
        tensors = [t for layer in self.layers for pair in layer for t in pair] + [self.embedding, *self.head, self.gain, self.lower]
        return sum(t.numel() * t.element_size() for t in tensors)


def tokens(model: Any, batch: int, graphed: bool, repeats: int) -> dict[str, Any]:
    """Median ms of one greedy token for each sequence, of which four in a row are timed together."""
    device = model.device.type
    ids, state = torch.ones(batch, dtype=torch.int64, device=device), model.init_state(batch)
    step: Any = GraphedStep(model, batch) if graphed else lambda now: model.step(now, state)[0]
    last = {"ids": ids}

    def work() -> None:
        for _ in range(4):
            last["logits"] = step(last["ids"])
            last["ids"] = last["logits"].argmax(-1)

    ms = median_ms(work, repeats, device) / 4
    assert bool(torch.isfinite(last["logits"]).all())
    return {"batch": batch, "graph": graphed, "ms_per_token": round(ms, 4)}


def inference(names: list[str], device: str) -> dict[str, Any]:
    records = []
    ways: list[tuple[str, Callable[[ModelConfig], Any]]] = [
        ("packed", lambda c: PackedLM.random(c, device)),
        ("dense", lambda c: HalfLM(c, device)),
        ("compiled", lambda c: HalfLM(c, device, compiled=True)),
        ("online", lambda c: HalfLM(c, device, online=True)),
    ]
    for name in names:
        for how, make in ways:
            if device == "cpu" and how in ("online", "compiled"):
                continue
            clean()
            model = make(config_of(name))
            cases = [(1, False)]
            if device == "cuda":
                cases = [(1, True)] if how in ("compiled", "online") else [(1, False), (1, True), (4, True), (8, True)]
            for batch, graphed in cases:
                clean()
                record = {"geometry": name, "how": how, "weight_bytes": model.nbytes}
                record |= tokens(model, batch, graphed, 3 if device == "cpu" else 7)
                if device == "cuda":
                    record["peak_bytes"] = torch.cuda.max_memory_allocated()
                records.append(record)
                print(json.dumps(record), flush=True)
            del model
    return {"tokens": records}


def tiles() -> dict[str, Any]:
    """Bandwidth of the product kernel, each tile on matrices that no cache holds."""
    assert kernels is not None
    records: list[dict[str, Any]] = []
    default = kernels.tile
    for matrices, rows, columns in [(3, 1024, 1024), (1, 2048, 5632), (3, 2560, 2560), (1, 27648, 5120), (1, 5120, 13824)]:
        groups = -(-rows // 5)
        copies = max(2, 200_000_000 // (matrices * groups * columns))
        packed = torch.randint(256, (copies, matrices, groups, columns), dtype=torch.uint8, device="cuda")
        q = torch.randint(-127, 128, (1, matrices, columns), dtype=torch.int8, device="cuda")
        before = q, torch.ones(1, matrices, device="cuda"), q.sum(-1, dtype=torch.int32)
        scales = torch.ones(matrices, device="cuda")
        for shape in [
            (1, 256, 2),
            (1, 512, 4),
            (1, 1024, 4),
            (2, 256, 4),
            (2, 128, 2),
            (2, 512, 4),
            (4, 128, 4),
            (4, 256, 4),
            (4, 64, 2),
            (8, 64, 4),
            (8, 128, 4),
            (8, 32, 2),
        ]:
            kernels.tile = lambda *_, shape=shape: shape
            kernels.product(packed[0], scales, before, rows)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for copy in packed:
                    kernels.product(copy, scales, before, rows)
            us = 1000 * median_ms(graph.replay, 5, "cuda") / copies
            size = matrices * groups * columns
            records.append(
                {"matrices": matrices, "rows": rows, "columns": columns, "tile": shape, "us": round(us, 2), "gb_s": round(size / us / 1e3)}
            )
        best = sorted((r for r in records if r["rows"] == rows and r["columns"] == columns), key=lambda r: r["us"])
        print(matrices, rows, columns, [(r["tile"], r["us"], r["gb_s"]) for r in best], flush=True)
    kernels.tile = default
    return {"products": records}


def machine(device: str) -> dict[str, Any]:
    """Where it was measured."""
    found = {"torch": torch.__version__, "python": platform.python_version(), "cores": len(os.sched_getaffinity(0))}
    if device == "cuda":
        import triton

        return {"gpu": torch.cuda.get_device_name(), "triton": triton.__version__, **found}
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {"cpu": cpu, "native_product": ternary_product() is not None, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["training", "inference", "tiles"])
    parser.add_argument(
        "--geometry", action="append", choices=list(GEOMETRIES), help="of inference; all when absent, 370m and 1.3b on a CPU"
    )
    parser.add_argument("--cpu", action="store_true", help="inference on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    device = "cpu" if arguments.cpu else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("needs a CUDA GPU; only `inference --cpu` does without")
    names = arguments.geometry or (["370m", "1.3b"] if arguments.cpu else list(GEOMETRIES))
    record = {"machine": machine(device), "commit": commit()}
    record |= {"training": training, "tiles": tiles, "inference": lambda: inference(names, device)}[arguments.what]()
    name = f"kernels-{arguments.what}{'-cpu' if arguments.cpu else ''}.json"
    write_text(arguments.out / name, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
