"""An exported model: a versioned graph of per-token vector operations, without torch.

``graph.json`` beside ``model.safetensors``; docs/reference/graph-format.md describes every field. Here are its
structures, reading and writing; :mod:`trilobit.model.evaluator` computes a graph, :mod:`trilobit.model.ranges` finds
the range of each vector.
"""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trilobit.errors import CompileError, ModelError
from trilobit.model.graph_checks import check_node, tensor_shapes
from trilobit.model.tensorfile import TensorReader

__all__ = [
    "ELEMENTWISE",
    "OPERATIONS",
    "Calibration",
    "Graph",
    "Node",
    "UnsupportedOperation",
    "largest_magnitude",
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
        if not packed and not math.isfinite(largest_magnitude(tensors[name])):
            raise ModelError(f"{path}: {name}: holds NaN or infinity; the file is damaged, export or import the model again")
    return tensors


def largest_magnitude(x: np.ndarray) -> float:
    """The largest magnitude of an array, piece by piece; 0 if it is empty."""
    flat, step = x.reshape(-1), 1 << 20
    return float(np.max([np.abs(flat[n : n + step]).max() for n in range(0, len(flat), step)] or [0.0]))  # NaN stays NaN
