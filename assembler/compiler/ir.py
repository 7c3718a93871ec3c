"""The compiler's intermediate form: values that the machine can compute, each a real vector, scalar or buffer.

A graph is lowered to values (:mod:`.lower`), which get binary points (:mod:`.points`) and then instructions
(:mod:`.select`). Up to the points everything here has real numbers as its meaning:

=========  =======================  ==========================================================================
op         inputs                   meaning
=========  =======================  ==========================================================================
emb        -                        row of ``table`` (a tensor's name) chosen by the token
const      -                        ``array``
state      -                        what ``store`` left here at the token before; zero at the start
store      vector                   keeps a vector for the next token (no value)
rms        x, y                     scalar: mean square of ``y*gain`` + ``eps2`` * (mean square of ``x`` + ``eps1``)
norm       x                        ``x * gain / sqrt(mean square of x + eps)``
normq      x, scalar                int8 activations of ``x * gain``, their scale divided by the scalar's root;
                                    ``top`` is the largest gain of the second norm alone
product    activations              rows ``start..stop`` of ternary ``weight`` (a tensor's name) times ``scale``
add sub mul div max   a, b          elementwise
addi muli  a                        with the number ``scalar``
exp sig silu onem     a             sig of the negative if ``neg``; onem is one minus
lerp       state, x, c              ``state + (x - state) * c``
slice      a                        elements ``start..stop``
argmax     logits                   search over one tile of the logits that starts at ``base`` (no value)
=========  =======================  ==========================================================================
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["SINKS", "Builder", "Value", "reachable"]

SINKS = ("store", "argmax")
_KINDS = {"rms": "scalar", "normq": "act", "store": "none", "argmax": "none"}


@dataclass(eq=False)
class Value:
    """One value per token.

    Attributes:
        op: see the module's table.
        inputs: values it is computed from.
        attrs: constants of the operation.
        length: elements (of the activations' buffer for a normq, of the input for a sink).
        module: path of the PyTorch module it comes from, for people.
        name: the graph's name where it has one; unique.
        range: largest absolute value expected, without headroom.
        rms: root mean square expected, 0 if unknown.
        bounded: ``range`` can't be exceeded, so no headroom is needed.
        point: binary point of the fixed-point form: real = integer * 2^-point. Set by :mod:`.points`.
        wide: 32-bit instead of 16-bit elements.
    """

    op: str
    inputs: tuple["Value", ...]
    attrs: dict[str, Any]
    length: int
    module: str
    name: str
    range: float
    rms: float = 0.0
    bounded: bool = False
    point: int = 0
    wide: bool = False

    @property
    def kind(self) -> str:
        """vector, scalar, act or none."""
        return _KINDS.get(self.op, "vector")

    def __repr__(self):
        return f"{self.name}: {self.op}({', '.join(v.name for v in self.inputs)})[{self.length}]"


def _key(attr: Any) -> Any:
    if isinstance(attr, np.ndarray):
        return attr.shape, hashlib.sha256(np.ascontiguousarray(attr).tobytes()).digest()
    return attr


@dataclass
class Builder:
    """Makes values, each distinct one once (so common subexpressions are shared)."""

    values: list[Value] = field(default_factory=list)
    _known: dict[Any, Value] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def make(
        self,
        op: str,
        *inputs: Value,
        length: int,
        module: str,
        name: str,
        range: float,
        rms: float = 0.0,
        bounded: bool = False,
        **attrs: Any,
    ) -> Value:
        """The value with this operation, inputs and attributes; a new one if there is none."""
        key = (op, tuple(map(id, inputs)), length, tuple((k, _key(v)) for k, v in sorted(attrs.items())))
        if key not in self._known:
            unique, count = name, 1
            while unique in self._names:
                unique, count = f"{name}.{count}", count + 1
            self._names.add(unique)
            value = Value(op, inputs, attrs, length, module, unique, float(range), rms, bounded)
            self._known[key] = value
            self.values.append(value)
        return self._known[key]


def reachable(values: Iterable[Value]) -> Iterator[Value]:
    """The values that a sink needs, and the sinks, in the given order."""
    values = list(values)
    wanted = {id(v) for v in values if v.op in SINKS}
    for value in reversed(values):
        if id(value) in wanted:
            wanted.update(id(v) for v in value.inputs)
    return (v for v in values if id(v) in wanted)
