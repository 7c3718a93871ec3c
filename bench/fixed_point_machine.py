"""The compiled program on many streams at once, with an arithmetic that can be changed.

What the study varies is put in place of the product's while a machine runs (:meth:`Arithmetic.applied`), never in the product;
with the default :class:`Arithmetic` it is :class:`trilobit.batched.BatchedSimulator` as it stands.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from trilobit.assembler.compiler import norms, points
from trilobit.assembler.compiler.pipeline import Compiled, compile_graph
from trilobit.batched import BatchedSimulator
from trilobit.isa import semantics
from trilobit.isa.fixed import rs, sat
from trilobit.isa.spec import Instruction
from trilobit.isa.tables import FRACTION_BITS

__all__ = ["Arithmetic", "Machine", "table"]

_SHIFT_LIMIT = semantics.SHIFT_LIMIT
Rounding = Callable[[np.ndarray, Any], np.ndarray]


def truncated(x, shift):
    """A right shift that drops what it shifts out (towards minus infinity); exact to the left."""
    shift = np.asarray(shift, dtype=np.int64)
    return (np.asarray(x, dtype=np.int64) << np.maximum(-shift, 0)) >> np.maximum(shift, 0)


def half_even(x, shift):
    """A right shift that rounds ties to even."""
    low = truncated(x, shift)
    rest, half = x - (low << shift), np.int64(1) << (np.asarray(shift) - 1)
    return low + ((rest > half) | ((rest == half) & (low & 1 == 1)))


def table(kind: str, index_bits: int, interpolate: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """A table of ``2^index_bits`` entries for the same 17-bit fraction and the same format of result as the product's.

    Args:
        kind: "exp2" or "recip".
        index_bits: 1 to 12.
        interpolate: between the entries; otherwise each entry is the function in the middle of its interval.
    """
    functions: dict[str, tuple[Callable, int]] = {"exp2": (np.exp2, 17), "recip": (lambda u: 1.0 / (1.0 + u), 18)}
    function, fraction = functions[kind]
    rest_bits, limit = FRACTION_BITS - index_bits, (1 << 18) - 1
    offset = 0.0 if interpolate else 0.5
    values = np.floor(function((np.arange((1 << index_bits) + 1) + offset) / (1 << index_bits)) * (1 << fraction) + 0.5).astype(np.int64)
    base, slope = values[:-1], np.diff(values) if interpolate else np.zeros(1 << index_bits, np.int64)

    def look_up(u):
        index, rest = u >> rest_bits, u & ((1 << rest_bits) - 1)
        return np.minimum(base[index] + ((slope[index] * rest + (1 << (rest_bits - 1))) >> rest_bits), limit)

    return look_up


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What the study varies; the defaults are the product's.

    Attributes:
        narrow_bits: of vectors that are not wide, 8 to 24: the compiler's binary points follow. Embeddings, constants and gains keep 16.
        state_bits: of the recurrent state, 8 to 32, at the top of its 32.
        sum_bits: of what add and sub make (the residual stream), likewise.
        operand_bits: of what the norm unit reads, 12 to 24.
        exp2_bits, recip_bits: the tables have 2^bits entries.
        interpolate: whether tables interpolate.
        results: rounding of all vector results: "half up" or "truncate".
        state: rounding of the recurrence's step, likewise; None: as results.
        quantiser: rounding to int8: "half away", "half even" or "truncate" (towards zero).
    """

    narrow_bits: int = 16
    state_bits: int = 32
    sum_bits: int = 32
    operand_bits: int = 18
    exp2_bits: int = 8
    recip_bits: int = 8
    interpolate: bool = True
    results: str = "half up"
    state: str | None = None
    quantiser: str = "half away"

    def compile(self, folder: Path, core: str = "ulx3s") -> Compiled:
        """A model compiled with binary points for this width."""

        def fit(top: float, bits: int, headroom: int | None = None) -> int:
            # The compiler names a headroom for the vectors that it may make narrow, and none for what memory holds in 16 bits.
            return _fit(top, self.narrow_bits if bits == 16 and headroom is not None else bits, headroom or 0)

        with patch.object(points, "fit", fit), patch.object(norms, "_OPERAND_BITS", self.operand_bits):
            return compile_graph(folder, core, store_logits=True)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """While inside, :mod:`trilobit.isa.semantics` computes so."""
        shift, narrow = _ROUNDINGS[self.results], self.narrow_bits

        def finish(s, product: np.ndarray, right, wide: int) -> semantics.VectorResult:
            right = np.broadcast_to(np.asarray(right, dtype=np.int64), product.shape)
            shifted = shift(product, np.clip(right, 0, _SHIFT_LIMIT))
            short = (right < 0) & (product != 0)
            if short.any():
                shifted = np.where(short, np.where(product < 0, -(1 << 40), 1 << 40), shifted)
            return semantics.VectorResult(s.sat(shifted, 32 if wide else narrow), int(s.mask.sum()))

        with contextlib.ExitStack() as stack:
            put = [(semantics._Saturation, "finish", finish), (semantics, "rs", shift)]
            if (self.exp2_bits, self.interpolate) != (8, True):
                put.append((semantics, "EXP2", table("exp2", self.exp2_bits, self.interpolate)))
            if (self.recip_bits, self.interpolate) != (8, True):
                put.append((semantics, "RECIP", table("recip", self.recip_bits, self.interpolate)))
            for owner, name, value in put:
                stack.enter_context(patch.object(owner, name, value))
            yield


_fit = points.fit
_ROUNDINGS: dict[str, Rounding] = {"half up": rs, "truncate": truncated}
_QUANTISERS: dict[str, Rounding] = {"half away": rs, "half even": half_even, "truncate": truncated}


class Machine(BatchedSimulator):
    """A compiled model on B streams.

    Args:
        compiled: with its logits stored.
        streams: B.
        arithmetic: how it computes.

    Attributes:
        on_lerp: called with the pc, the state [B, n] and the gate [B, n] of each recurrence, if set.
    """

    def __init__(self, compiled: Compiled, streams: int, arithmetic: Arithmetic | None = None):
        self.arithmetic = arithmetic or Arithmetic()
        self.narrow_bits, self.operand_bits = self.arithmetic.narrow_bits, self.arithmetic.operand_bits
        self.on_lerp: Callable[[int, np.ndarray, np.ndarray], None] | None = None
        super().__init__(compiled.core, compiled.program, compiled.memory(), compiled.logits, streams)

    def _run(self) -> None:
        with self.arithmetic.applied():
            super()._run()

    def _vector(self, i: Instruction, sources: list[np.ndarray]) -> semantics.VectorResult:
        a = self.arithmetic
        if i.name == "lerp":
            rounding = a.state or a.results
            with patch.object(semantics, "rs", _ROUNDINGS[rounding]):
                value, count = super()._vector(i, sources)
            value = keep(value, a.state_bits, rounding)
            if self.on_lerp is not None:
                self.on_lerp(self._pc - 1, value.reshape(-1, i["len"]), sources[2].reshape(-1, i["len"]))
            return semantics.VectorResult(value, count)
        value, count = super()._vector(i, sources)
        if i.name in ("add", "sub") and i["wide"]:
            value = keep(value, a.sum_bits, a.results)
        return semantics.VectorResult(value, count)

    def _quantised(self, magnitudes: np.ndarray) -> np.ndarray:
        return _QUANTISERS[self.arithmetic.quantiser](magnitudes, 30)


def keep(value: np.ndarray, bits: int, rounding: str) -> np.ndarray:
    """The top ``bits`` of 32."""
    return value if bits == 32 else sat(_ROUNDINGS[rounding](value, 32 - bits), bits) << (32 - bits)
