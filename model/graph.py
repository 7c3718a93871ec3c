"""An exported model: a versioned graph of per-token vector operations, without torch.

``graph.json`` beside ``model.safetensors``; docs/reference/graph-format.md describes every field. Here are its
structures, reading and writing, an evaluator in NumPy (fp64 vectors, exact integer products, the same values as the
PyTorch reference), and the ranges of every vector: measured on a text, or estimated from the weights alone.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trilobit.errors import CompileError, ModelError
from trilobit.isa import trits
from trilobit.model.graph_checks import check_node, tensor_shapes
from trilobit.model.quantise import count_trits
from trilobit.model.tensorfile import TensorReader
from trilobit.threads import side_by_side

__all__ = [
    "OPERATIONS",
    "Calibration",
    "Evaluator",
    "Graph",
    "Node",
    "UnsupportedOperation",
    "calibrate",
    "estimate_ranges",
    "evaluate_float",
    "load_graph",
    "load_tensors",
    "save_graph",
]

SCHEMA = "trilobit-graph"
VERSION = 1

# Every operation a graph may hold: numbers of node inputs (elementwise: 1 with a scalar, else 2), required attributes.
OPERATIONS: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "token": ((0,), ()),
    "embedding": ((1,), ("weight",)),
    "rmsnorm": ((1,), ("weight", "eps")),
    "bitlinear": ((1,), ("weight", "scale", "rows", "cols", "norm_weight", "eps")),
    "recurrence": ((2,), ()),
    "previous": ((0,), ("of",)),
    "constant": ((0,), ("tensor",)),
    "add": ((1, 2), ()),
    "sub": ((1, 2), ()),
    "mul": ((1, 2), ()),
    "div": ((1, 2), ()),
    "max": ((1, 2), ()),
    "neg": ((1,), ()),
    "exp": ((1,), ()),
    "sigmoid": ((1,), ()),
    "silu": ((1,), ()),
    "slice": ((1,), ("start", "stop")),
}
ELEMENTWISE = ("add", "sub", "mul", "div", "max")

_UNPACKED_ELEMENTS = 1 << 21  # of a large matrix that are unpacked at once
_SCALE_FLOOR = 1e-5  # smallest max|y| that an activation scale is made from, as in the reference


class UnsupportedOperation(CompileError):  # noqa: N818 - a name that users catch, and it reads as what it says
    """A model holds an operation that has no equivalent on the accelerator."""


class Node(msgspec.Struct, kw_only=True):
    """One vector per token.

    Attributes:
        name: unique in the graph.
        op: a key of :data:`OPERATIONS`.
        inputs: names of earlier nodes.
        attrs: constants of the operation; tensors by their name in the tensor file.
        module: path of the PyTorch module that it comes from; "" at the top.
        shape: [length of the vector]; [1] for the token.
        range: largest absolute value over the calibration text, or null.
        rms: root mean square over the same, or null.
    """

    name: str
    op: str
    inputs: list[str] = []
    attrs: dict[str, Any] = {}
    module: str = ""
    shape: list[int]
    range: float | None = None
    rms: float | None = None


class Calibration(msgspec.Struct, kw_only=True):
    """Where the ranges come from: the number of tokens (0: estimated from the weights) and a description."""

    tokens: int
    source: str


class Graph(msgspec.Struct, kw_only=True):
    """A model as a list of nodes in an order in which they can be computed."""

    schema: str = SCHEMA
    version: int = VERSION
    config: dict[str, Any] | None = None
    vocab_size: int
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    nodes: list[Node]
    outputs: list[str]
    tensors: str = "model.safetensors"
    calibration: Calibration | None = None

    def node(self, name: str) -> Node:
        """The node of that name; KeyError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def tensor_names(self) -> list[str]:
        """Names of all tensors that the nodes use."""
        keys = ("weight", "norm_weight", "tensor")
        return sorted({node.attrs[key] for node in self.nodes for key in keys if node.attrs.get(key) is not None})

    def validate(self) -> None:
        """Raise ModelError unless every node is known, complete, has its inputs before it, and makes sense."""
        seen: dict[str, int] = {}
        for node in self.nodes:
            if node.op not in OPERATIONS:
                raise ModelError(f"graph node {node.name}: unknown operation {node.op!r}; known: {', '.join(OPERATIONS)}")
            counts, required = OPERATIONS[node.op]
            if len(node.inputs) not in counts:
                raise ModelError(f"graph node {node.name}: {node.op} takes {counts} inputs, got {len(node.inputs)}")
            missing = [key for key in required if key not in node.attrs]
            if node.op in ELEMENTWISE and len(node.inputs) == 1:
                missing += [key for key in ("scalar", "side") if key not in node.attrs]
            if missing:
                raise ModelError(f"graph node {node.name}: {node.op} lacks {', '.join(missing)}")
            unknown = [name for name in node.inputs if name not in seen]
            if unknown or node.name in seen:
                raise ModelError(f"graph node {node.name}: defined twice, or inputs not defined before it: {unknown}")
            check_node(node, seen)
            seen[node.name] = node.shape[0]
        for node in self.nodes:
            if node.op == "previous" and seen.get(node.attrs["of"]) != node.shape[0]:
                raise ModelError(f"graph node {node.name}: previous of {node.attrs['of']!r}: expected a node of length {node.shape[0]}")
        if not self.outputs or not set(self.outputs) <= set(seen):
            raise ModelError(f"graph outputs: expected names of nodes, got {self.outputs}")
        if seen[self.outputs[0]] != self.vocab_size:
            raise ModelError(f"graph outputs: expected logits of length {self.vocab_size}, got {seen[self.outputs[0]]}")
        if Path(self.tensors).name != self.tensors:
            raise ModelError(f"graph tensors: expected a file name without folders, got {self.tensors!r}")


def save_graph(graph: Graph, folder: str | Path) -> None:
    """Write ``graph.json`` into the folder, one node a line."""
    graph.validate()
    values = msgspec.to_builtins(graph)
    nodes = ",\n".join("  " + json.dumps(node) for node in values.pop("nodes"))
    head = json.dumps(values, indent=1).removesuffix("\n}")
    (Path(folder) / "graph.json").write_text(f'{head},\n "nodes": [\n{nodes}\n ]\n}}\n', encoding="utf-8")


def load_graph(folder: str | Path) -> Graph:
    """Read and check ``graph.json``.

    Raises:
        ModelError: missing, no JSON of this schema, of another version, or inconsistent.
    """
    path = Path(folder) / "graph.json"
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; export the model first (trilobit.model.export_graph)") from None
    except ValueError as error:
        raise ModelError(f"{path}: expected JSON, got something else ({error})") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise ModelError(f"{path}: expected schema {SCHEMA!r}; this is not an exported graph")
    if values.get("version") != VERSION:
        raise ModelError(f"{path}: expected version {VERSION}, got {values.get('version')!r}; export the model again")
    try:
        graph = msgspec.convert(values, Graph)
        graph.validate()
    except (msgspec.ValidationError, ModelError) as error:
        raise ModelError(f"{path}: {error}") from error
    return graph


def load_tensors(graph: Graph, folder: str | Path) -> dict[str, np.ndarray]:
    """The tensors that the graph uses, by name, mapped from the file: read where they are used, and never written to.

    Raises:
        ModelError: the file or one of the tensors is missing or misshaped, or holds NaN or infinity.
    """
    path = Path(folder) / graph.tensors
    reader = TensorReader(path)
    missing = [name for name in graph.tensor_names() if name not in reader.entries]
    if missing:
        raise ModelError(f"{path}: missing {', '.join(missing)}; the file and graph.json are not of one export")
    tensors = {name: reader.map(name) for name in graph.tensor_names()}
    for name, expected, packed in tensor_shapes(graph.nodes, graph.vocab_size):
        dtypes = ("U8",) if packed else ("F16", "F32", "F64")
        entry = reader.entries[name]
        if entry.shape != expected or entry.dtype not in dtypes:
            raise ModelError(f"{path}: {name}: expected {' or '.join(dtypes)} {list(expected)}, got {entry.dtype} {list(entry.shape)}")
        if not packed and not math.isfinite(_peak(tensors[name])):
            raise ModelError(f"{path}: {name}: holds NaN or infinity; the file is damaged, export or import the model again")
    return tensors


def _round_half_away(x: np.ndarray) -> np.ndarray:
    return np.trunc(x + np.copysign(0.5 - 2.0**-54, x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp(-x) = inf for x < -709: the quotient is 0, as it should be
        return 1 / (1 + np.exp(-x))


class Evaluator:
    """Computes a graph in floating point, tokens at a time, keeping the recurrent state between calls.

    Vectors are fp64; products are exact integers in fp32 (BLAS).

    Args:
        graph, tensors: as loaded.
        keep_bytes: memory for unpacked weights (4 bytes each), which are kept; what goes beyond is unpacked at each use, a
            block of rows at a time.
    """

    def __init__(self, graph: Graph, tensors: dict[str, np.ndarray], keep_bytes: int = 1 << 29):
        self.graph = graph
        self._tensors = tensors
        self._free = keep_bytes
        self._matrices: dict[str, np.ndarray] = {}
        self._uses = {name: 0 for name in (node.name for node in graph.nodes)}
        for node in graph.nodes:
            for name in node.inputs:
                self._uses[name] += 1
        self.reset()

    def reset(self) -> None:
        """Every recurrent state to zero."""
        self.state = {n.name: np.zeros(n.shape[0]) for n in self.graph.nodes if n.op in ("recurrence", "previous")}

    def run(self, token_ids: np.ndarray) -> Iterator[tuple[Node, np.ndarray]]:
        """Yield each node with its values, [T, length] fp64, in graph order; values no longer needed are dropped."""
        ids = np.asarray(token_ids, dtype=np.int64)
        if ids.ndim != 1:
            raise ValueError(f"expected token ids [T], got shape {ids.shape}")
        if ids.size and (ids.min() < 0 or ids.max() >= self.graph.vocab_size):
            raise ModelError(f"token ids must be 0..{self.graph.vocab_size - 1}, got {ids.min()}..{ids.max()}")
        if any(node.op == "previous" for node in self.graph.nodes):
            yield from self._token_by_token(ids)
            return
        values: dict[str, np.ndarray] = {}
        left = dict(self._uses)
        for node in self.graph.nodes:
            inputs = [values[name] for name in node.inputs]
            value = ids[:, None] if node.op == "token" else self._compute(node, inputs, len(ids))
            values[node.name] = value
            for name in node.inputs:
                left[name] -= 1
                if not left[name]:
                    values.pop(name, None)
            yield node, value

    def _token_by_token(self, ids: np.ndarray) -> Iterator[tuple[Node, np.ndarray]]:
        """As :meth:`run`, where any vector may be needed by the next token."""
        kept = {node.name: np.zeros((len(ids), node.shape[0])) for node in self.graph.nodes}
        previous = [node for node in self.graph.nodes if node.op == "previous"]
        for t in range(len(ids)):
            values: dict[str, np.ndarray] = {}
            for node in self.graph.nodes:
                inputs = [values[name] for name in node.inputs]
                values[node.name] = ids[t : t + 1, None] if node.op == "token" else self._compute(node, inputs, 1)
                kept[node.name][t] = values[node.name][0]
            for node in previous:
                self.state[node.name] = values[node.attrs["of"]][0]
        for node in self.graph.nodes:
            yield node, kept[node.name]

    def __call__(self, token_ids: np.ndarray) -> np.ndarray:
        """Logits [T, V], fp32, for tokens that follow those of the calls before."""
        logits = None
        for node, value in self.run(token_ids):
            if node.name == self.graph.outputs[0]:
                logits = value.astype(np.float32)
        assert logits is not None  # validate() has seen the output among the nodes
        return logits

    def _vector(self, name: str) -> np.ndarray:
        return self._tensors[name].astype(np.float64)

    def _compute(self, node: Node, inputs: list[np.ndarray], length: int) -> np.ndarray:
        attrs = node.attrs
        match node.op:
            case "embedding":
                return self._tensors[attrs["weight"]][inputs[0][:, 0]].astype(np.float64)
            case "constant":
                return np.broadcast_to(self._vector(attrs["tensor"]), (length, node.shape[0]))
            case "rmsnorm":
                return self._norm(inputs[0], attrs["weight"], attrs["eps"])
            case "bitlinear":
                return self._bitlinear(inputs[0], attrs)
            case "recurrence":
                return self._recurrence(node.name, *inputs)
            case "previous":
                return self.state[node.name][None]
            case "slice":
                return inputs[0][:, attrs["start"] : attrs["stop"]]
            case "neg":
                return -inputs[0]
            case "exp":
                return np.exp(inputs[0])
            case "sigmoid":
                return _sigmoid(inputs[0])
            case "silu":
                return inputs[0] * _sigmoid(inputs[0])
        if len(inputs) == 1:
            scalar = np.asarray(attrs["scalar"], dtype=np.float64)
            inputs = [scalar, inputs[0]] if attrs["side"] == "left" else [inputs[0], scalar]
        function = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum}[node.op]
        return function(*inputs)

    def _norm(self, x: np.ndarray, weight: str | None, eps: float) -> np.ndarray:
        y = x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + eps)
        return y if weight is None else y * self._vector(weight)

    def _bitlinear(self, x: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
        y = self._norm(x, attrs["norm_weight"], attrs["eps"])
        scale = 127 / np.maximum(np.abs(y).max(axis=-1, keepdims=True), _SCALE_FLOOR)
        q = np.clip(_round_half_away(y * scale), -128, 127).astype(np.float32)
        return self._product(q, attrs["weight"], attrs["rows"]).astype(np.float64) * (attrs["scale"] / scale)

    def _product(self, q: np.ndarray, name: str, rows: int) -> np.ndarray:
        """q [T, columns] of fp32 integers times a ternary matrix: [T, rows], exact."""
        packed = self._tensors[name]
        size = 4 * rows * packed.shape[1]
        if name not in self._matrices and size <= self._free:
            self._free -= size
            self._matrices[name] = trits.unpack(packed, rows).astype(np.float32)
        kept = self._matrices.get(name)
        product = np.empty((len(q), rows), dtype=np.float32)
        step = max(_UNPACKED_ELEMENTS // packed.shape[1] // trits.ROWS_PER_BYTE, 1) * trits.ROWS_PER_BYTE

        def block(start: int) -> None:
            stop = min(start + step, rows)
            if kept is not None:
                product[:, start:stop] = q @ kept[start:stop].T
            else:
                groups = packed[start // trits.ROWS_PER_BYTE : -(-stop // trits.ROWS_PER_BYTE)]
                product[:, start:stop] = q @ trits.unpack(groups, stop - start).astype(np.float32).T

        side_by_side(block, range(0, rows, step))
        return product

    def _recurrence(self, name: str, x: np.ndarray, f: np.ndarray) -> np.ndarray:
        s = x * (1 - f)
        state = self.state[name]
        for t in range(len(s)):
            s[t] += f[t] * state
            state = s[t]
        self.state[name] = state.copy() if len(s) else state
        return s


def evaluate_float(graph: Graph, tensors: dict[str, np.ndarray], token_ids: np.ndarray, chunk: int = 1024) -> np.ndarray:
    """Logits of a text from the zero state: token ids [T] to [T, V] fp32, ``chunk`` tokens at a time."""
    evaluator = Evaluator(graph, tensors)
    token_ids = np.asarray(token_ids)
    parts = [evaluator(token_ids[start : start + chunk]) for start in range(0, len(token_ids), chunk)]
    return np.concatenate(parts) if parts else np.zeros((0, graph.vocab_size), np.float32)


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
            node.range = _peak(tensors[node.attrs["weight"]])
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


def _peak(x: np.ndarray) -> float:
    flat, step = x.reshape(-1), 1 << 20
    return float(np.max([np.abs(flat[n : n + step]).max() for n in range(0, len(flat), step)] or [0.0]))  # NaN stays NaN


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
            return _root_mean_square(tensor), _peak(tensor)
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
