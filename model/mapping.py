"""Mapping a PyTorch module's trace onto the operations of the graph (``trilobit.model.graph.OPERATIONS``).

Every vector of a token becomes a node; everything that depends on parameters alone is computed here. To map another
spelling of an operation, add it to the tables below; to map an operation onto others, add it to ``_derive``.
"""

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from trilobit.model.baselines.rwkv import WKV, TokenShift
from trilobit.model.graph import OPERATIONS, Node, UnsupportedOperation
from trilobit.model.reference import BitLinear, LinearRecurrence, RMSNorm

__all__ = ["CheckResult", "Mapper", "Operation", "Vector", "trace"]

_LEAVES = (BitLinear, RMSNorm, LinearRecurrence, TokenShift, WKV)

# PyTorch's spellings of each operation: functions, operators and tensor methods.
_BINARY: dict[Any, str] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "add"),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_"), "sub"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_"), "mul"),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, torch.divide, "div", "div_"), "div"),
    **dict.fromkeys((torch.maximum, "maximum"), "max"),
}
_UNARY: dict[Any, str] = {
    **dict.fromkeys((operator.neg, torch.neg, "neg"), "neg"),
    **dict.fromkeys((torch.exp, "exp"), "exp"),
    **dict.fromkeys((torch.sigmoid, nn.functional.sigmoid, "sigmoid", nn.Sigmoid), "sigmoid"),
    **dict.fromkeys((nn.functional.silu, nn.SiLU), "silu"),
}
# What changes nothing in a per-token vector: types, copies, and dropout in eval mode.
_IDENTITY = {nn.Identity, nn.Dropout, nn.functional.dropout, "to", "float", "double", "contiguous", "clone", "detach"}
# Written with the operations above.
_DERIVED: dict[Any, str] = {
    **dict.fromkeys((torch.square, "square"), "square"),
    **dict.fromkeys((torch.reciprocal, "reciprocal"), "reciprocal"),
    **dict.fromkeys((torch.relu, nn.functional.relu, "relu", nn.ReLU), "relu"),
    **dict.fromkeys((torch.tanh, "tanh", nn.Tanh), "tanh"),
    **dict.fromkeys((torch.lerp, "lerp"), "lerp"),
    **dict.fromkeys((torch.rsub,), "rsub"),
    **dict.fromkeys((torch.minimum, "minimum"), "minimum"),
}
_SPLITTING: dict[Any, str] = {
    **dict.fromkeys((torch.chunk, "chunk"), "chunk"),
    **dict.fromkeys((torch.split, "split"), "split"),
}


@dataclass(frozen=True)
class Vector:
    """A node of the graph: its name and length (None where an unmapped operation left it unknown)."""

    name: str
    length: int | None


@dataclass(frozen=True)
class Operation:
    """One operation of a module: its PyTorch name, the module path, and for an unmapped one the reason."""

    operation: str
    module: str
    reason: str = ""


@dataclass(frozen=True)
class CheckResult:
    """What :func:`check_graph` found."""

    mapped: list[Operation] = field(default_factory=list)
    unmapped: list[Operation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.unmapped


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LEAVES) or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module) -> fx.GraphModule:
    # Parameters after input_ids keep their defaults, so that optional branches are decided before the trace.
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    tracer = _Tracer()
    try:
        graph = tracer.trace(module, concrete_args=defaults)
    except (fx.proxy.TraceError, TypeError) as error:
        raise UnsupportedOperation(
            f"the module's forward cannot be traced: {error}; expected a fixed sequence of operations, without "
            "control flow, loops or sizes that depend on the input"
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    traced.graph.eliminate_dead_code()
    return traced


def _describe(node: fx.Node, traced: fx.GraphModule) -> str:
    if node.op == "call_module":
        return f"module {type(traced.get_submodule(str(node.target))).__name__}"
    if node.op == "call_method":
        return f"Tensor.{node.target}"
    name = getattr(node.target, "__name__", str(node.target))
    module = (getattr(node.target, "__module__", None) or "").lstrip("_")
    return f"{module}.{name}" if module else name


def _module_path(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


class Mapper:
    """Walks a trace and builds the nodes; with ``strict=False`` collects what cannot be mapped instead of raising."""

    def __init__(self, traced: fx.GraphModule, strict: bool):
        self.traced, self.strict = traced, strict
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.embeddings: list[str] = []
        self.values: dict[fx.Node, Any] = {}
        self.result = CheckResult()
        self.output: Any = None
        self._names: set[str] = set()
        self._constants: dict[int, tuple[Tensor, Vector]] = {}
        self._decays: list[Tensor] = []
        self._fx_node: fx.Node | None = None

    def run(self) -> None:
        for node in self.traced.graph.nodes:
            self._fx_node = node
            if node.op == "output":
                self.output = fx.node.map_arg(node.args[0], lambda n: self.values[n])
                continue
            operation = Operation(_describe(node, self.traced), _module_path(node))
            try:
                args = fx.node.map_arg(node.args, lambda n: self.values[n])
                kwargs = fx.node.map_arg(node.kwargs, lambda n: self.values[n])
                value = self._map(node, list(args), dict(kwargs))
            except UnsupportedOperation as error:
                if self.strict:
                    raise
                self.result.unmapped.append(Operation(operation.operation, operation.module, str(error)))
                value = Vector("?", None)
            else:
                if node.op not in ("placeholder", "get_attr") and _has_vector(value):
                    self.result.mapped.append(operation)
            self.values[node] = value

    def _unsupported(self, why: str) -> UnsupportedOperation:
        node = self._fx_node
        assert node is not None
        return UnsupportedOperation(
            f"{_describe(node, self.traced)} in {_module_path(node) or 'the top module'}: {why}; "
            f"supported: {', '.join(op for op in OPERATIONS if op not in ('token', 'constant'))} "
            "(BitLinear, RMSNorm, LinearRecurrence and Embedding modules, elementwise +, -, *, /, maximum, neg,"
            " exp, sigmoid, silu, tanh, relu, lerp, and chunk, split or slices of the last dimension)"
        )

    # Building nodes ---------------------------------------------------------------------------------------------

    def _name(self, wanted: str) -> str:
        name, n = wanted, 1
        while name in self._names:
            name, n = f"{wanted}_{n}", n + 1
        self._names.add(name)
        return name

    def _emit(self, op: str, inputs: list[Vector], length: int | None, **attrs: Any) -> Vector:
        assert self._fx_node is not None
        vector = Vector(self._name(self._fx_node.name), length)
        self.nodes.append(
            Node(
                name=vector.name,
                op=op,
                inputs=[v.name for v in inputs],
                attrs=attrs,
                module=_module_path(self._fx_node),
                shape=[length or 0],
            )
        )
        return vector

    def _constant(self, tensor: Tensor) -> Vector:
        if id(tensor) not in self._constants:
            if tensor.numel() != tensor.shape[-1]:
                raise self._unsupported(f"a constant of shape {list(tensor.shape)} is not one vector for every token")
            vector = Vector(self._name(f"constant_{len(self._constants)}"), tensor.numel())
            key = f"constant.{vector.name}"
            self.tensors[key] = tensor.detach().reshape(-1).float()
            self.nodes.append(
                Node(
                    name=vector.name,
                    op="constant",
                    attrs={"tensor": key},
                    module=_module_path(self._fx_node),  # type: ignore[arg-type]  # set while the graph is walked
                    shape=[tensor.numel()],
                )
            )
            self._constants[id(tensor)] = tensor, vector  # the tensor is kept so that its id stays its own
        return self._constants[id(tensor)][1]

    def _binary(self, op: str, left: Any, right: Any) -> Vector:
        scalars = [_scalar(left), _scalar(right)]
        if scalars[1] is not None:
            return self._emit(op, [left], left.length, scalar=scalars[1], side="right")
        if scalars[0] is not None:
            return self._emit(op, [right], right.length, scalar=scalars[0], side="left")
        a, b = (self._constant(v) if isinstance(v, Tensor) else v for v in (left, right))
        if not isinstance(a, Vector) or not isinstance(b, Vector):
            raise self._unsupported(f"expected two vectors or numbers, got {type(left).__name__}, {type(right).__name__}")
        if None not in (a.length, b.length) and a.length != b.length:
            raise self._unsupported(f"vectors of lengths {a.length} and {b.length}; broadcasting is not supported")
        return self._emit(op, [a, b], a.length or b.length)

    def _unary(self, op: str, x: Any) -> Vector:
        if not isinstance(x, Vector):
            raise self._unsupported(f"expected a vector of a token, got {type(x).__name__}")
        return self._emit(op, [x], x.length)

    # Mapping one traced operation -------------------------------------------------------------------------------

    def _map(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if node.op == "placeholder":
            if self._names:  # the first input is the token; any other kept its default, which is its value
                return args[0] if args else None
            return self._emit("token", [], 1)
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self.traced)
            return value.detach() if isinstance(value, Tensor) else value
        if not _has_vector((args, kwargs)):
            return self._fold(node, args, kwargs)
        if node.op == "call_module":
            module = self.traced.get_submodule(str(node.target))
            mapped = self._map_leaf(str(node.target), module, args, kwargs)
            return mapped if mapped is not None else self._map_function(type(module), args, kwargs)
        return self._map_function(node.target, args, kwargs)

    def _fold(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        with torch.no_grad():
            if node.op == "call_module":
                return self.traced.get_submodule(str(node.target))(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return cast(Callable[..., Any], node.target)(*args, **kwargs)

    def _map_leaf(self, path: str, module: nn.Module, args: list[Any], kwargs: dict[str, Any]) -> Vector | tuple[Vector, None] | None:
        match module:
            case BitLinear():
                (x,) = args
                self._expect_length(x, module.in_features)
                weight, scale = module.packed_weight()
                self.tensors[f"{path}.weight"] = weight
                return self._emit(
                    "bitlinear",
                    [x],
                    module.out_features,
                    weight=f"{path}.weight",
                    scale=float(scale),
                    rows=module.out_features,
                    cols=module.in_features,
                    norm_weight=self._gain(f"{path}.norm.weight", module.norm),
                    eps=module.norm.eps,
                )
            case RMSNorm():
                (x,) = args
                self._expect_length(x, module.size)
                gain = self._gain(f"{path}.weight", module)
                return self._emit("rmsnorm", [x], x.length, weight=gain, eps=module.eps)
            case LinearRecurrence():
                x, f, state = [*args, *kwargs.values(), None][:3]
                if state is not None:
                    raise self._unsupported("a state from elsewhere; on the accelerator the recurrence keeps its own")
                x, f = (self._constant(v) if isinstance(v, Tensor) else v for v in (x, f))
                if x.length is not None:
                    self._expect_length(f, x.length)
                return self._emit("recurrence", [x, f], x.length or f.length)
            case TokenShift() | WKV():
                *vectors, state = [*args, *kwargs.values(), None][: 2 if isinstance(module, TokenShift) else 3]
                if state is not None:
                    raise self._unsupported("a state from elsewhere; on the accelerator a mixer keeps its own")
                if isinstance(module, TokenShift):
                    return self._previous(vectors[0])
                return self._wkv(module, *vectors)
            case nn.Embedding():
                (x,) = args
                self._expect_length(x, 1)
                if module.max_norm is not None:
                    raise self._unsupported("an embedding with max_norm")
                self.tensors[f"{path}.weight"] = module.weight
                self.embeddings.append(f"{path}.weight")
                return self._emit("embedding", [x], module.embedding_dim, weight=f"{path}.weight")
        return None

    def _previous(self, x: Vector | None, length: int | None = None) -> Vector:
        """What a vector was at the token before, zero at the first; without one, :meth:`_remember` says later which."""
        attrs = {} if x is None else {"of": x.name}
        return self._emit("previous", [], length if x is None else x.length, **attrs)

    def _remember(self, previous: Vector, x: Vector) -> None:
        next(node for node in reversed(self.nodes) if node.name == previous.name).attrs["of"] = x.name

    def _wkv(self, module: WKV, k: Vector, v: Vector) -> tuple[Vector, None]:
        """RWKV's average in its stable form (:mod:`trilobit.model.baselines.rwkv`), with three vectors of state."""
        length = module.bonus.numel()
        self._expect_length(k, length)
        self._expect_length(v, length)
        a, b, p = (self._previous(None, length) for _ in range(3))
        self._decays.append(module.log_decay.exp())  # constants are told apart by their identity: keep it alive
        w = self._constant(self._decays[-1])

        def weights(x: Vector, y: Vector) -> tuple[Vector, Vector, Vector]:
            """The larger of two exponents, and e^x and e^y without it."""
            top = self._binary("max", x, y)
            old, new = (self._unary("exp", self._binary("sub", z, top)) for z in (x, y))
            return top, old, new

        _, old, new = weights(p, self._binary("add", self._constant(module.bonus), k))
        total = self._binary("add", self._binary("mul", old, a), self._binary("mul", new, v))
        wkv = self._binary("div", total, self._binary("add", self._binary("mul", old, b), new))
        top, fade, new = weights(self._binary("sub", p, w), k)
        self._remember(a, self._binary("add", self._binary("mul", fade, a), self._binary("mul", new, v)))
        self._remember(b, self._binary("add", self._binary("mul", fade, b), new))
        self._remember(p, top)
        return wkv, None

    def _gain(self, name: str, norm: RMSNorm) -> str | None:
        if norm.weight is None:
            return None
        self.tensors[name] = norm.weight
        return name

    def _expect_length(self, x: Any, length: int) -> None:
        if not isinstance(x, Vector) or (x.length is not None and x.length != length):
            got = f"length {x.length}" if isinstance(x, Vector) else type(x).__name__
            raise self._unsupported(f"expected a vector of length {length}, got {got}")

    def _map_function(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if target in _IDENTITY:
            return args[0]
        if target is operator.getitem:
            return self._index(*args)
        if target in _SPLITTING:
            return self._split(_SPLITTING[target], *args, **kwargs)
        if target in (torch.clamp, "clamp", torch.clamp_min, "clamp_min"):
            return self._clamp(*args, **kwargs)
        if target in (operator.pow, torch.pow, "pow") and args[1:] == [2]:
            return self._binary("mul", args[0], args[0])
        kwargs = {key: value for key, value in kwargs.items() if not (key == "inplace" and value is False)}
        args = args + [kwargs.pop(key) for key in ("input", "other", "end", "weight") if key in kwargs]
        try:
            if not kwargs:
                if target in _BINARY:
                    return self._binary(_BINARY[target], *args)
                if target in _UNARY:
                    return self._unary(_UNARY[target], *args)
                if target in _DERIVED:
                    return self._derive(_DERIVED[target], args)
        except TypeError as error:
            raise self._unsupported(f"arguments {args!r}: {error}") from error
        raise self._unsupported(f"no mapping for this operation{f' with {sorted(kwargs)}' if kwargs else ''}")

    def _derive(self, name: str, args: list[Any]) -> Vector:
        match name:
            case "square":
                return self._binary("mul", args[0], args[0])
            case "reciprocal":
                return self._binary("div", 1.0, args[0])
            case "relu":
                return self._binary("max", args[0], 0.0)
            case "tanh":  # 2 * sigmoid(2x) - 1
                doubled = self._unary("sigmoid", self._binary("mul", args[0], 2.0))
                return self._binary("sub", self._binary("mul", doubled, 2.0), 1.0)
            case "lerp":
                start, end, weight = args
                return self._binary("add", start, self._binary("mul", weight, self._binary("sub", end, start)))
            case "rsub":
                return self._binary("sub", args[1], args[0])
            case _:  # minimum
                negated = [-v if isinstance(v, Tensor) else self._unary("neg", v) for v in args]
                return self._unary("neg", self._binary("max", *negated))

    def _clamp(self, x: Any, min: Any = None, max: Any = None) -> Vector:
        if max is not None or min is None:
            raise self._unsupported("clamp with an upper bound; only a lower bound maps (to max)")
        return self._binary("max", x, min)

    def _slice(self, x: Vector, start: int, stop: int) -> Vector:
        return self._emit("slice", [x], stop - start, start=start, stop=stop)

    def _split(self, kind: str, x: Any, sizes: Any, dim: int = 0) -> tuple[Vector, ...]:
        if dim not in (-1, 2):
            raise self._unsupported(f"{kind} along dimension {dim}; only the last one holds a token's vector")
        if x.length is None:
            return (x,) * (sizes if isinstance(sizes, int) else len(sizes))
        if kind == "chunk":
            sizes = -(-x.length // sizes)
        if isinstance(sizes, int):
            sizes = [min(sizes, x.length - start) for start in range(0, x.length, sizes)]
        stops = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        if stops[-1] != x.length:
            raise self._unsupported(f"split into {sizes} of a vector of length {x.length}")
        return tuple(self._slice(x, stop - size, stop) for size, stop in zip(sizes, stops, strict=True))

    def _index(self, x: Any, index: Any) -> Any:
        if isinstance(x, tuple | list):
            return x[index]
        whole = (slice(None), slice(None))
        index = index if isinstance(index, tuple) else (index,)
        rest = index[1:] if index[:1] == (Ellipsis,) else index[2:] if index[:2] == whole else None
        if rest is None or len(rest) != 1 or not isinstance(rest[0], slice) or rest[0].step not in (None, 1):
            raise self._unsupported(f"index {index}; only a contiguous slice of the last dimension, x[..., a:b]")
        if x.length is None:
            return x
        start, stop, _ = rest[0].indices(x.length)
        return self._slice(x, start, stop)


def _scalar(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) else None


def _has_vector(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_has_vector(v) for v in value)
    if isinstance(value, dict):
        return any(_has_vector(v) for v in value.values())
    return isinstance(value, Vector)
