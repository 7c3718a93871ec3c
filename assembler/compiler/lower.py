"""From graph nodes to values that the machine computes: folded norms, complements, split products, tiled logits.

Everything is lowered in the graph's order and shared by :class:`.ir.Builder`; what no sink needs is dropped at the end
(a norm that was folded into its products, a product of which only slices are used).
"""

import math
from typing import Any

import numpy as np

from trilobit.assembler.compiler.ir import Builder, Value, reachable
from trilobit.assembler.compiler.tensors import Tensors
from trilobit.errors import CompileError
from trilobit.isa.core import CoreConfig
from trilobit.model.graph import Graph, Node

__all__ = ["lower"]

_SIGMOID_TOP = 1 - 2.0**-18  # the largest sigmoid that the machine's table gives
_EXACT = 1e-6  # constants that are equal up to this cancel: they come from fp32 arithmetic


def lower(graph: Graph, tensors: Tensors, core: CoreConfig) -> list[Value]:
    """The values of a checked graph that has ranges, in an order in which they can be computed; sinks included.

    Raises:
        CompileError: a use of the token, an output or a length that can't be mapped.
    """
    return _Lowering(graph, tensors, core).run()


def _ones_to_none(gain: np.ndarray | None) -> np.ndarray | None:
    return None if gain is None or np.all(gain == 1.0) else gain


def _times(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b


class _Lowering:
    def __init__(self, graph: Graph, tensors: Tensors, core: CoreConfig):
        self.graph, self.tensors, self.core = graph, tensors, core
        self.builder = Builder()
        self.of: dict[str, Value] = {}
        self.consumers: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
        for node in graph.nodes:
            for name in node.inputs:
                self.consumers[name].append(node.op)

    def run(self) -> list[Value]:
        for node in self.graph.nodes:
            if node.op == "token":
                if wrong := set(self.consumers[node.name]) - {"embedding"}:
                    raise CompileError(f"{node.name}: the token can only be embedded, got {sorted(wrong)[0]!r} on it")
                continue
            inputs = [self.of[name] for name in node.inputs if name in self.of]
            self.of[node.name] = getattr(self, f"_{node.op}", self._elementwise)(node, *inputs)
        for node in self.graph.nodes:
            if node.op == "previous":
                self._keep(node)
        self._logits()
        values = list(reachable(self.builder.values))
        self._check_lengths(values)
        return values

    # ---- making values ---------------------------------------------------------------------------------------------

    def _make(self, op: str, *inputs: Value, node: Node, range: float | None = None, **options: Any) -> Value:
        options.setdefault("length", node.shape[0])
        options.setdefault("name", node.name)
        rms = node.rms or 0.0 if range is None else 0.0
        found = node.range if range is None else range
        return self.builder.make(op, *inputs, module=node.module, range=found or 0.0, rms=rms, **options)

    def _const(self, node: Node, array: np.ndarray | float, name: str | None = None) -> Value:
        array = np.broadcast_to(np.asarray(array, dtype=np.float64), (node.shape[0],)).copy()
        top = float(np.abs(array).max())
        return self._make("const", node=node, name=name or node.name, array=array, range=top, bounded=True)

    def _gain(self, name: str | None) -> np.ndarray | None:
        return _ones_to_none(None if name is None else self.tensors.vector(name))

    # ---- leaves and norms ------------------------------------------------------------------------------------------

    def _embedding(self, node: Node) -> Value:
        top = self.tensors.peak(node.attrs["weight"])
        return self._make("emb", node=node, table=node.attrs["weight"], range=top, bounded=True)

    def _constant(self, node: Node) -> Value:
        return self._const(node, self.tensors.vector(node.attrs["tensor"]))

    def _rmsnorm(self, node: Node, x: Value) -> Value:
        return self._make("norm", x, node=node, gain=self._gain(node.attrs["weight"]), eps=float(node.attrs["eps"]))

    def _bitlinear(self, node: Node, v: Value) -> Value:
        """Its own norm with the norm in front of it, as docs/decisions/0002-compiler.md derives.

        x is what the first norm sees, y (x, or x times what stands between the norms) what both gains act on.
        """
        only_products = set(self.consumers[node.inputs[0]]) == {"bitlinear"}
        between = [i for i in v.inputs if i.op == "norm"] if v.op == "mul" and only_products else []
        eps2 = float(node.attrs["eps"])
        x = y = v
        gain1, plain, constant = None, 0.0, eps2
        if v.op == "norm" or between:
            first = v if v.op == "norm" else between[0]
            x = y = first.inputs[0]
            if between:
                other = v.inputs[1] if v.inputs[0] is first else v.inputs[0]
                y = self.builder.make(
                    "mul", x, other, length=x.length, module=v.module, name=f"{v.name}.unnormed",
                    range=x.range * other.range,
                )  # fmt: skip
            gain1, plain, constant = first.attrs["gain"], eps2, eps2 * first.attrs["eps"]
        square = self._make("rms", x, y, node=node, name=f"{node.name}.rms", length=x.length, gain=gain1, plain=plain, constant=constant)
        gain2 = self._gain(node.attrs["norm_weight"])
        top = 1.0 if gain2 is None else float(np.abs(gain2).max())
        gain = _times(gain1, gain2)
        act = self._make("normq", y, square, node=node, name=f"{node.name}.act", length=y.length, gain=gain, top=top)
        rows = node.attrs["rows"]
        return self._make("product", act, node=node, weight=node.attrs["weight"], start=0, stop=rows, scale=float(node.attrs["scale"]))

    def _slice(self, node: Node, v: Value) -> Value:
        start, stop = node.attrs["start"], node.attrs["stop"]
        if (start, stop) == (0, v.length):
            return v
        if v.op == "const":
            return self._const(node, v.attrs["array"][start:stop])
        if v.op in ("product", "slice"):  # of a product: fewer rows; of a slice: one slice
            attrs = {**v.attrs, "start": v.attrs["start"] + start, "stop": v.attrs["start"] + stop}
            return self._make(v.op, *v.inputs, node=node, **attrs)
        return self._make("slice", v, node=node, start=start, stop=stop)

    # ---- the recurrence --------------------------------------------------------------------------------------------

    def _recurrence(self, node: Node, x: Value, f: Value) -> Value:
        top = max(node.range or 0.0, x.range)
        state = self._make("state", node=node, name=f"{node.name}.state", state=node.name, range=top)
        new = self._make("lerp", state, x, self._complement(node, f), node=node, range=top)
        self._make("store", new, node=node, name=f"{node.name}.store", state=node.name, range=top)
        return new

    def _previous(self, node: Node) -> Value:
        top = self.graph.node(node.attrs["of"]).range or 0.0
        return self._make("state", node=node, name=node.name, state=node.name, range=max(top, node.range or 0.0))

    def _keep(self, node: Node) -> None:
        """After everything else: store the vector for the next token, at the point where the state is read."""
        state = self.of[node.name]
        new = self.of[node.attrs["of"]]
        self._make("store", new, state, node=node, name=f"{node.name}.store", state=node.name, range=state.range)

    def _complement(self, node: Node, f: Value) -> Value:
        """1 - f, without losing the tail where f is near one: from the sigmoid of the negative if there is one."""
        found = self._affine(f)
        if found is None:
            if f.op == "const":
                return self._const(node, 1.0 - f.attrs["array"], name=f"{f.name}.complement")
            if f.op == "onem":
                return f.inputs[0]
            return self._make("onem", f, node=node, name=f"{f.name}.complement", range=1.0)
        offset, factor, sigmoid = found
        if np.abs(1 - offset).max() < _EXACT:
            return self._scaled(node, sigmoid, -factor, f.name)
        opposite = self._sigmoid(node, sigmoid.inputs[0], neg=1 - sigmoid.attrs["neg"], name=f"{f.name}.complement")
        scaled = self._scaled(node, opposite, factor, f.name)
        rest = 1 - offset - factor
        if np.abs(rest).max() < _EXACT:
            return scaled
        rest = self._const(node, rest, name=f"{f.name}.rest")
        return self._make("add", rest, scaled, node=node, name=f"{f.name}.complement", range=1.0)

    def _scaled(self, node: Node, v: Value, factor: np.ndarray, name: str) -> Value:
        if np.all(factor == 1.0):
            return v
        weight = self._const(node, factor, name=f"{name}.factor")
        top = weight.range * v.range
        return self._make("mul", weight, v, node=node, name=f"{name}.complement", range=top, bounded=True)

    def _affine(self, v: Value) -> tuple[np.ndarray, np.ndarray, Value] | None:
        """(a, b, s) with v = a + b*s for constant vectors a, b and a sigmoid s, if v has that form."""
        if v.op == "sig":
            return np.zeros(v.length), np.ones(v.length), v
        constants = [i.attrs["array"] for i in v.inputs if i.op == "const"]
        others = [i for i in v.inputs if i.op != "const"]
        if v.op not in ("add", "sub", "mul", "addi", "muli", "onem") or len(others) != 1:
            return None
        found = self._affine(others[0])
        if found is None:
            return None
        a, b, s = found
        match v.op:
            case "onem":
                return 1 - a, -b, s
            case "addi" | "add":
                return a + (constants[0] if constants else v.attrs["scalar"]), b, s
            case "muli" | "mul":
                k = constants[0] if constants else v.attrs["scalar"]
                return a * k, b * k, s
            case _:
                return (a - constants[0], b, s) if v.inputs[0] is others[0] else (constants[0] - a, -b, s)

    # ---- elementwise -----------------------------------------------------------------------------------------------

    def _sigmoid(self, node: Node, v: Value, neg: int = 0, name: str | None = None) -> Value:
        if v.op == "const":
            return self._const(node, 1 / (1 + np.exp(v.attrs["array"] * (1 if neg else -1))))
        return self._make("sig", v, node=node, name=name or node.name, neg=neg, range=_SIGMOID_TOP, bounded=True)

    def _neg(self, node: Node, v: Value) -> Value:
        return self._const(node, -v.attrs["array"]) if v.op == "const" else self._muli(node, v, -1.0)

    def _muli(self, node: Node, v: Value, scalar: float, name: str | None = None) -> Value:
        return self._make("muli", v, node=node, name=name or node.name, scalar=scalar, range=v.range * abs(scalar), bounded=v.bounded)

    def _elementwise(self, node: Node, *inputs: Value) -> Value:
        if all(v.op == "const" for v in inputs):
            return self._fold(node, [v.attrs["array"] for v in inputs])
        if len(inputs) == 1 and node.op in ("add", "sub", "mul", "div", "max"):
            return self._with_scalar(node, inputs[0], float(node.attrs["scalar"]), node.attrs["side"] == "left")
        return self._make(node.op, *inputs, node=node)

    def _fold(self, node: Node, arrays: list[np.ndarray]) -> Value:
        if node.op in ("exp", "silu"):
            (x,) = arrays
            return self._const(node, np.exp(x) if node.op == "exp" else x / (1 + np.exp(-x)))
        if len(arrays) == 1:
            scalar = np.full(node.shape[0], float(node.attrs["scalar"]))
            arrays = [scalar, *arrays] if node.attrs["side"] == "left" else [*arrays, scalar]
        functions = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum}
        with np.errstate(divide="ignore", invalid="ignore"):
            folded = functions[node.op](*arrays)
        if not np.isfinite(folded).all():
            raise CompileError(f"{node.name} ({node.op} in {node.module or 'the model'}): its constant is not finite")
        return self._const(node, folded)

    def _with_scalar(self, node: Node, v: Value, scalar: float, left: bool) -> Value:
        match node.op:
            case "add":
                return self._make("addi", v, node=node, scalar=scalar)
            case "sub" if not left:
                return self._make("addi", v, node=node, scalar=-scalar)
            case "sub" if scalar == 1.0:
                return self._make("onem", v, node=node)
            case "sub":
                return self._make("addi", self._muli(node, v, -1.0, f"{node.name}.neg"), node=node, scalar=scalar)
            case "mul":
                return self._muli(node, v, scalar)
            case "div" if not left:
                if scalar == 0:
                    raise CompileError(f"{node.name} (div in {node.module or 'the model'}): division by zero")
                return self._muli(node, v, 1.0 / scalar)
            case "div":
                return self._make("div", self._const(node, scalar, name=f"{node.name}.scalar"), v, node=node)
            case _:
                return self._make("max", v, self._const(node, scalar, name=f"{node.name}.scalar"), node=node)

    # ---- the end of a token ----------------------------------------------------------------------------------------

    def _logits(self) -> None:
        """One argmax over the logits, or one after each tile of a product longer than a register."""
        if len(self.graph.outputs) != 1:
            raise CompileError(f"expected one output, the logits, got {self.graph.outputs}")
        node = self.graph.node(self.graph.outputs[0])
        v = self.of[node.name]
        length = self.core.max_length
        if v.length <= length:
            step, tiles = v.length, [(0, v)]
        elif v.op == "product":
            count = math.ceil(v.length / (length - length % 5))
            step = -(-v.length // (5 * count)) * 5
            tiles = []
            for start in range(0, v.length, step):
                stop = min(start + step, v.length)
                attrs = {**v.attrs, "start": v.attrs["start"] + start, "stop": v.attrs["start"] + stop}
                name = f"{v.name}.rows{start}"
                tiles.append((start, self._make("product", *v.inputs, node=node, name=name, length=stop - start, **attrs)))
        else:
            raise CompileError(
                f"{node.name} ({node.op} in {node.module or 'the model'}): logits of length {v.length} are longer than "
                f"a vector register of core {self.core.name!r} ({length}); only a bitlinear can be computed in tiles, so "
                "it must be the last operation"
            )
        for base, tile in tiles:
            self._make(
                "argmax", tile, node=node, name=f"{tile.name}.argmax", length=tile.length, base=base,
                tile=step, first=int(base == 0), last=int(base == tiles[-1][0]),
            )  # fmt: skip

    def _check_lengths(self, values: list[Value]) -> None:
        limit = self.core.max_length
        for value in values:
            for v in (value, *value.inputs):
                if v.length > limit:
                    raise CompileError(
                        f"{v.name} in {v.module or 'the model'}: a vector of length {v.length} does not fit core "
                        f"{self.core.name!r}, whose registers hold {limit}; choose a core with a larger max_length"
                    )
