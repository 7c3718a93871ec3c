"""Norms in fixed point: the fields of rms, norm and normq, and the factor that a product's segment must undo.

With N elements, gains g1 (norm in front) and g1*g2 (both norms), x what the first norm sees and y what the gains act on:
a product needs ``max|y*g1*g2| / 127 * sqrt(N) / sqrt(sum((y*g1)^2) + eps2*sum(x^2) + N*eps1*eps2)`` as the scale of
its int8 activations. The integers are at binary points of their own (px of x, pw of w = y*g1, pz of z = y*g1*g2):
the scalar is ``2^(2*pw)`` times the sum, the buffer's scale is ``max|z|*2^pz`` over its root, and the rest,
``sqrt(N)/127 * 2^(pw - pz)``, goes into the segment.
"""

import math

import numpy as np

from trilobit.assembler.compiler.ir import Value
from trilobit.assembler.compiler.points import Policy, fit

__all__ = ["NormUnit"]

_OPERAND_BITS = 18


def _gains(gain: np.ndarray | None) -> tuple[np.ndarray | None, int]:
    """Gains as 16-bit whole numbers with the binary point that their largest allows; nothing for no gain."""
    if gain is None:
        return None, 0
    point = fit(float(np.abs(gain).max()), 16)
    return np.round(gain * 2.0**point).astype(np.int64), point


def _addend(k: float) -> dict[str, int]:
    """``k`` as k_m << k_e, nearest with 16 bits."""
    k_e = max(0, math.frexp(k)[1] - 16)
    k_m = round(k * 2.0**-k_e)
    if k_m == 1 << 16:
        k_m, k_e = 1 << 15, k_e + 1
    return {"k_m": min(k_m, 0xFFFF), "k_e": min(k_e, 31)}


def _factor(e: float) -> dict[str, int]:
    """``e`` as eps_m * 2^-eps_e, nearest with 15 bits."""
    if e == 0:
        return {}
    eps_e = min(max(15 - math.frexp(e)[1], 0), 63)
    eps_m = round(e * 2.0**eps_e)
    if eps_m > 0x7FFF and eps_e:
        eps_e -= 1
        eps_m = round(e * 2.0**eps_e)
    return {"eps_m": min(eps_m, 0x7FFF), "eps_e": eps_e}


class NormUnit:
    """Fields of the norm unit's instructions. ``unscale[id(act)]`` is the factor for segments that use the buffer."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.unscale: dict[int, float] = {}
        self._root_point: dict[int, int] = {}

    def _operand(self, v: Value) -> tuple[int, int]:
        """(shift, point) that bring a vector to the unit's 18 bits."""
        point = fit(v.range, _OPERAND_BITS, 0 if v.bounded else self.policy.headroom)
        shift = min(max(v.point - point, -16), 31)
        return shift, v.point - shift

    def rms(self, value: Value, x: Value, y: Value) -> tuple[dict[str, int], np.ndarray | None]:
        """Fields and gains of the mean square of y*gain with the eps terms of ``value``."""
        n = value.length
        sha, px = self._operand(x)
        shb, pw = self._operand(y)
        fields = {"sha": sha, "shb": shb}
        gains, pg = _gains(value.attrs["gain"])
        if gains is not None:
            top = y.range * float(np.abs(value.attrs["gain"]).max())
            point = min(fit(top, _OPERAND_BITS, 0 if y.bounded else self.policy.headroom), pw + pg)
            fields |= {"gain": 1, "sho": min(pw + pg - point, 63)}
            pw = pw + pg - fields["sho"]
        fields |= _factor(value.attrs["plain"] * 2.0 ** (2 * (pw - px)))
        fields |= _addend(n * value.attrs["constant"] * 2.0 ** (2 * pw))
        self._root_point[id(value)] = pw
        return fields, gains

    def normq(self, value: Value, x: Value, square: Value) -> tuple[dict[str, int], np.ndarray | None]:
        """Fields and gains of the quantisation of x*gain."""
        shift, point = self._operand(x)
        gains, pg = _gains(value.attrs["gain"])
        pw = self._root_point[id(square)]
        self.unscale[id(value)] = math.sqrt(value.length) / 127 * 2.0 ** (pw - point - pg)
        return {"sha": shift, "scaled": 1, "gain": int(gains is not None)}, gains

    def norm(self, value: Value, x: Value) -> tuple[dict[str, int], np.ndarray | None]:
        """Fields and gains of a norm that is used as a vector: its c_m * 2^-sho is sqrt(N) * 2^(point - pg)."""
        n = value.length
        shift, px = self._operand(x)
        gains, pg = _gains(value.attrs["gain"])
        root = math.sqrt(n)
        exponent = math.frexp(root)[1] - 16
        c_m = round(math.ldexp(root, -exponent))
        if c_m == 1 << 16:
            c_m, exponent = 1 << 15, exponent + 1
        fields = {"sha": shift, "gain": int(gains is not None), "c_m": c_m, "sho": pg - value.point - exponent}
        return fields | _addend(n * value.attrs["eps"] * 2.0 ** (2 * px)), gains
