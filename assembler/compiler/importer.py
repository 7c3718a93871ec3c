"""Reading an exported graph, and what the compiler can map of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trilobit.errors import CompileError
from trilobit.model.graph import Graph, load_graph, load_tensors
from trilobit.model.ranges import estimate_ranges

__all__ = ["SUPPORTED", "Check", "Operation", "check_folder", "read_graph"]

# Operation of the graph -> (instructions it becomes, what is worth knowing). docs/supported-ops.md is made from this.
SUPPORTED: dict[str, tuple[str, str]] = {
    "token": ("wait, poll", "the token of the step; it can only be embedded"),
    "embedding": ("emb", "a 16-bit table in the image, with its own binary point"),
    "rmsnorm": ("norm", "none at all where only products follow: it is folded into them"),
    "bitlinear": ("rms, normq, tmatmul", "eps terms exact; products with the same input share rms, and normq if gains agree"),
    "recurrence": ("ldv, lerp, sv", "a 32-bit state in memory; 1-f is taken from the sigmoid of the negative"),
    "previous": ("ldv, mov, sv", "any vector as it was at the token before, zero at the first; 32 bits in memory"),
    "constant": ("ldv", "16 bits, or 32 where those lose relative precision; arithmetic on constants is done at compile time"),
    "add": ("add, addi", "two vectors, or a vector and a number"),
    "sub": ("sub, addi, onem", "two vectors, or a vector and a number"),
    "mul": ("mul, muli", "two vectors, or a vector and a number"),
    "div": ("div, muli", "two vectors, or a vector and a number"),
    "max": ("max", "two vectors, or a vector and a number"),
    "neg": ("muli", ""),
    "exp": ("exp", ""),
    "sigmoid": ("sig", ""),
    "silu": ("silu", ""),
    "slice": ("-", "of a product: its rows as a product of their own; from element 0: free; else through memory, at a whole beat"),
}


@dataclass(frozen=True)
class Operation:
    """One operation of a graph: its name, the module path, and for an unmapped one the reason."""

    operation: str
    module: str
    reason: str = ""


@dataclass(frozen=True)
class Check:
    """Which operations of a model the compiler maps."""

    mapped: list[Operation] = field(default_factory=list)
    unmapped: list[Operation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all are mapped."""
        return not self.unmapped


def check_folder(folder: str | Path) -> Check:
    """Which operations of an exported graph the compiler maps; never fails on an operation.

    Raises:
        CompileError, ModelError: no graph there.
    """
    result = Check()
    for node in _nodes(Path(folder)):
        operation, module = str(node.get("op")), str(node.get("module") or "")
        if operation in SUPPORTED:
            result.mapped.append(Operation(operation, module))
        else:
            result.unmapped.append(Operation(operation, module, f"supported are {', '.join(SUPPORTED)}"))
    return result


def read_graph(folder: str | Path) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph whose operations are all mapped, with ranges (estimated from the weights if it has none), and its tensors.

    Raises:
        CompileError: an operation that can't be mapped: its name, the module path and what is supported.
        ModelError: a file that is missing, damaged or of another version.
    """
    for operation in check_folder(folder).unmapped[:1]:
        raise CompileError(
            f"{operation.operation!r} in {operation.module or 'the model'} can't be mapped onto the machine; {operation.reason} "
            "(see docs/supported-ops.md)"
        )
    graph = load_graph(folder)
    tensors = load_tensors(graph, folder)
    if any(node.range is None for node in graph.nodes):
        estimate_ranges(graph, tensors)
    return graph, tensors


def _nodes(folder: Path) -> list[dict]:
    """The nodes of graph.json as they stand, before the graph is checked as a whole."""
    try:
        nodes = json.loads((folder / "graph.json").read_bytes())["nodes"]
        if isinstance(nodes, list) and all(isinstance(node, dict) for node in nodes):
            return nodes
    except (OSError, ValueError, KeyError, TypeError):
        pass
    load_graph(folder)  # says what is wrong
    raise CompileError(f"{folder / 'graph.json'}: expected a list of nodes")
