"""What a node of a graph must be, beyond its operation's name: lengths that fit, constants of the right kind, finite ranges."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trilobit.errors import ModelError

if TYPE_CHECKING:
    from trilobit.model.graph import Node

__all__ = ["check_node", "tensor_shapes"]

_GROUP = 5  # rows in a byte


def _number(value: Any, positive: bool = False) -> bool:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return good and (value > 0 or not positive)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_node(node: "Node", lengths: Mapping[str, int]) -> None:
    """Raise ModelError unless a node whose attributes are all there makes sense.

    Args:
        node: its operation is known and its inputs are in ``lengths``.
        lengths: of the nodes before it.
    """

    def need(good: bool, expected: str, got: Any) -> None:
        if not good:
            raise ModelError(f"graph node {node.name} ({node.op}): expected {expected}, got {got!r}")

    need(len(node.shape) == 1 and _whole(node.shape[0]) and node.shape[0] > 0, "shape as [length]", node.shape)
    for key, value in (("range", node.range), ("rms", node.rms)):
        need(value is None or (_number(value) and value >= 0), f"{key} of at least 0, or null", value)
    length, attrs = node.shape[0], node.attrs
    inputs = [lengths[name] for name in node.inputs]
    for key in ("weight", "tensor"):
        if key in attrs and not (key == "weight" and node.op == "rmsnorm" and attrs[key] is None):
            need(isinstance(attrs[key], str), f"the name of a tensor as {key}", attrs[key])
    if "eps" in attrs:
        need(_number(attrs["eps"], positive=True), "eps above 0", attrs["eps"])
    match node.op:
        case "token":
            need(length == 1, "shape [1]", node.shape)
        case "embedding" | "constant":
            pass  # the tensor's own length: tensor_shapes
        case "bitlinear":
            gain, scale, sizes = attrs["norm_weight"], attrs["scale"], (attrs["rows"], attrs["cols"])
            need(gain is None or isinstance(gain, str), "the name of a tensor, or null, as norm_weight", gain)
            need(_number(scale) and scale >= 0, "a scale of at least 0", scale)
            need(sizes == (length, inputs[0]) and all(map(_whole, sizes)), f"rows, cols {length}, {inputs[0]}", sizes)
        case "slice":
            start, stop = attrs["start"], attrs["stop"]
            good = _whole(start) and _whole(stop) and start < stop <= inputs[0]
            need(good and stop - start == length, f"start and stop within {inputs[0]}, {length} apart", (start, stop))
        case _:
            need(all(n == length for n in inputs), f"inputs of length {length}", inputs)
            if "scalar" in attrs:
                need(_number(attrs["scalar"]), "a number as scalar", attrs["scalar"])
                need(attrs["side"] in ("left", "right"), "side 'left' or 'right'", attrs["side"])


def tensor_shapes(nodes: "list[Node]", vocab_size: int) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """For each use of a tensor by the (checked) nodes: its name, the shape it must have, and whether that is a packed matrix."""
    for node in nodes:
        attrs, length = node.attrs, node.shape[0]
        match node.op:
            case "embedding":
                yield attrs["weight"], (vocab_size, length), False
            case "constant":
                yield attrs["tensor"], (length,), False
            case "rmsnorm" if attrs["weight"] is not None:
                yield attrs["weight"], (length,), False
            case "bitlinear":
                yield attrs["weight"], (-(-attrs["rows"] // _GROUP), attrs["cols"]), True
                if attrs["norm_weight"] is not None:
                    yield attrs["norm_weight"], (attrs["cols"],), False
