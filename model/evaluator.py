"""A graph computed in NumPy: fp64 vectors and exact integer products, the same values as the PyTorch reference."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from trilobit.errors import ModelError
from trilobit.isa import trits
from trilobit.model.graph import Graph, Node
from trilobit.threads import side_by_side

__all__ = ["Evaluator", "evaluate_float"]

_UNPACKED_ELEMENTS = 1 << 21  # of a large matrix that are unpacked at once
_SCALE_FLOOR = 1e-5  # smallest max|y| that an activation scale is made from, as in the reference


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
