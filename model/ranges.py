"""The range of every vector of a graph: measured on a text, or estimated from the weights alone."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from trilobit.errors import ModelError
from trilobit.model.evaluator import Evaluator
from trilobit.model.graph import ELEMENTWISE, Calibration, Graph, Node, largest_magnitude
from trilobit.model.quantise import count_trits

__all__ = ["calibrate", "estimate_ranges"]


def calibrate(
    graph: Graph,
    tensors: dict[str, np.ndarray],
    token_ids: Iterable[int],
    source: str,
    chunk: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Set ``range`` and ``rms`` of every node (and ``range_in`` of each product) from a run over a text.

    Embeddings and constants get the exact range over their whole tensor; everything else what occurred. ``chunk`` tokens go
    through the graph at once; ``progress`` is called with nodes done and to do.
    """
    ids = np.fromiter(token_ids, dtype=np.int64)
    if not len(ids):
        raise ModelError("calibration: expected at least one token, got none")
    evaluator = Evaluator(graph, tensors)
    peak = dict.fromkeys((node.name for node in graph.nodes), 0.0)
    power = dict.fromkeys(peak, 0.0)
    done, to_do = 0, -(-len(ids) // chunk) * len(graph.nodes)
    for start in range(0, len(ids), chunk):
        for node, value in evaluator.run(ids[start : start + chunk]):
            done += 1
            if progress is not None:
                progress(done, to_do)
            peak[node.name] = max(peak[node.name], float(np.abs(value).max()))
            power[node.name] += float(np.square(value, dtype=np.float64).sum())
    for node in graph.nodes:
        if not math.isfinite(peak[node.name]):
            raise ModelError(f"calibration: {node.name} ({node.op} in {node.module or 'the model'}) is not finite")
        node.range = peak[node.name]
        node.rms = math.sqrt(power[node.name] / (len(ids) * node.shape[0]))
        if node.op == "embedding":
            node.range = largest_magnitude(tensors[node.attrs["weight"]])
    _set_input_ranges(graph)
    graph.calibration = Calibration(tokens=len(ids), source=source)


ESTIMATE_SIGMAS = 8.0  # estimated range over estimated rms


def estimate_ranges(graph: Graph, tensors: dict[str, np.ndarray]) -> None:
    """The default policy without a calibration text: ranges from the weights alone, no token run.

    The root mean square is carried through the graph as if all values were independent and of zero mean; the range
    is 8 times that, or the exact bound where the operation has one (embedding, constant, sigmoid, norm).
    """
    rms: dict[str, float] = {}
    peak: dict[str, float] = {}
    for node in graph.nodes:
        r = [rms[name] for name in node.inputs]
        p = [peak[name] for name in node.inputs]
        if len(p) == 1 and node.op in ELEMENTWISE:
            scalar = abs(float(node.attrs["scalar"]))
            left = node.attrs["side"] == "left"
            r, p = ([scalar, *r], [scalar, *p]) if left else ([*r, scalar], [*p, scalar])
        rms[node.name], peak[node.name] = _estimate(node, r, p, tensors)
    for node in graph.nodes:
        node.rms, node.range = rms[node.name], peak[node.name]
    _set_input_ranges(graph)
    graph.calibration = Calibration(tokens=0, source="default policy: estimated from the weights")


def _root_mean_square(x: np.ndarray) -> float:
    flat, step = x.reshape(-1), 1 << 20  # an embedding is too large for a copy in fp64
    total = sum(float(np.square(flat[n : n + step], dtype=np.float64).sum()) for n in range(0, len(flat), step))
    return math.sqrt(total / x.size) if x.size else 0.0


def _estimate(node: Node, r: list[float], p: list[float], tensors: dict[str, np.ndarray]) -> tuple[float, float]:
    """(rms, range) of a node from those of its inputs."""

    def gain(name: str | None) -> tuple[float, float]:
        return (1.0, 1.0) if name is None else (_root_mean_square(tensors[name]), float(np.abs(tensors[name]).max()))

    def normal(value: float) -> tuple[float, float]:
        return value, ESTIMATE_SIGMAS * value

    attrs = node.attrs
    match node.op:
        case "token":
            return 0.0, 0.0
        case "embedding" | "constant":
            tensor = tensors[attrs["weight" if node.op == "embedding" else "tensor"]]
            return _root_mean_square(tensor), largest_magnitude(tensor)
        case "rmsnorm":
            mean, largest = gain(attrs["weight"])
            return mean, min(math.sqrt(node.shape[0]), ESTIMATE_SIGMAS) * largest
        case "bitlinear":
            # A sum of (share of nonzero trits) * cols independent terms, each of the normed input's size.
            counts = count_trits(tensors[attrs["weight"]], attrs["rows"])
            share = (counts.minus + counts.plus) / (attrs["rows"] * attrs["cols"])
            return normal(attrs["scale"] * math.sqrt(share * attrs["cols"]) * gain(attrs["norm_weight"])[0])
        case "recurrence":
            return r[0], p[0]
        case "previous":  # of a vector that comes later; only a text tells its range
            return normal(1.0)
        case "slice" | "neg":
            return r[0], p[0]
        case "silu":
            return r[0], p[0]
        case "sigmoid":
            return 0.5, 1.0
        case "exp":
            return math.exp(min(r[0], 10.0)), math.exp(min(p[0], 10.0))
        case "add" | "sub":
            return math.hypot(r[0], r[1]), min(p[0] + p[1], max(p[0], p[1], ESTIMATE_SIGMAS * math.hypot(r[0], r[1])))
        case "mul":
            return r[0] * r[1], min(p[0] * p[1], max(ESTIMATE_SIGMAS * r[0] * r[1], r[0] * p[1], r[1] * p[0]))
        case "div":
            return normal(r[0] / max(r[1], 1e-3))
        case _:  # max
            return max(r), max(p)


def _set_input_ranges(graph: Graph) -> None:
    ranges = {node.name: node.range for node in graph.nodes}
    for node in graph.nodes:
        if node.op == "bitlinear":
            node.attrs["range_in"] = ranges[node.inputs[0]]
