"""The integer semantics of every instruction that computes, written once.

Vectors are int64 arrays that hold 32-bit register values. Each function returns what the hardware would write, and how many
elements saturated on the way. The functional simulator calls these functions, the RTL is tested against them and
``docs/isa.md`` names them. What only moves data (ldv, sv, emb, clr, control) is in the simulators.

Two widths matter: a *narrow* result saturates to 16 bits, a *wide* one to 32. ``rs(x, n)`` is a right shift by n with
rounding half up (exact to the left for negative n), ``satN`` saturates to N bits.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trilobit.isa.fixed import ACT_ZERO, Scalar, bit_length, normalise, rs, rsqrt, sat, square_norm
from trilobit.isa.noise import gumbel
from trilobit.isa.tables import EXP2, RECIP

__all__ = ["ROWWISE", "Activations", "VectorResult", "argmax_scores", "gumbel", "matmul_scale", "norm", "normq", "rms",
           "scale_products", "threefry", "tmatmul"]  # fmt: skip

LOG2E = 1512775  # log2(e) with 20 fraction bits
SHIFT_LIMIT = 63  # the final shifter's reach; products stay below 2^62, so a longer shift gives the same zero
THREEFRY_ROUNDS = 13
POSITION_SALT = 0x1BD11BDA  # Threefry's parity constant (Salmon et al., SC 2011)


class VectorResult(NamedTuple):
    """A vector [len] and the number of its elements that saturated."""

    value: np.ndarray
    saturated: int


class Activations(NamedTuple):
    """An activation buffer: int8 values [len] (as int64), the scale that undoes the quantisation, saturated elements."""

    value: np.ndarray
    scale: Scalar
    saturated: int


class _Saturation:
    """Collects which elements saturated in any step of one instruction."""

    def __init__(self, shape: int | tuple[int, ...]):
        self.mask = np.zeros(shape, dtype=bool)

    def sat(self, x: np.ndarray, bits: int) -> np.ndarray:
        limited = sat(x, bits)
        self.mask |= limited != x
        return limited

    def finish(self, product: np.ndarray, shift, wide: int) -> VectorResult:
        """The last stage of a row-wise operation: rounding shift and saturation.

        A negative shift would need bits that the product doesn't have: the result saturates unless it is zero.
        """
        bits = 32 if wide else 16
        shift = np.broadcast_to(np.asarray(shift, dtype=np.int64), product.shape)
        shifted = rs(product, np.clip(shift, 0, SHIFT_LIMIT))
        short = (shift < 0) & (product != 0)
        shifted = np.where(short, np.where(product < 0, -(1 << 40), 1 << 40), shifted)
        return VectorResult(self.sat(shifted, bits), int(self.mask.sum()))


# ---- row-wise ------------------------------------------------------------------------------------------------------------


def add(a, b, *, shb=0, sho=0, wide=0):
    """``rs(a + sat32(rs(b, shb)), sho)``."""
    s = _Saturation(len(a))
    return s.finish(a + s.sat(rs(b, shb), 32), sho, wide)


def sub(a, b, *, shb=0, sho=0, wide=0):
    """``rs(a - sat32(rs(b, shb)), sho)``."""
    s = _Saturation(len(a))
    return s.finish(a - s.sat(rs(b, shb), 32), sho, wide)


def mul(a, b, *, shb=0, sho=0, wide=0):
    """``rs(a * sat25(rs(b, shb)), sho)``; the shifted b saturates to 32 bits, then to 25."""
    s = _Saturation(len(a))
    return s.finish(a * s.sat(rs(b, shb), 25), sho, wide)


def div(a, b, *, shb=0, sho=0, wide=0):
    """``a / sat32(rs(b, shb)) * 2^(24 - sho)`` through an 18-bit reciprocal of the normalised divisor."""
    s = _Saturation(len(a))
    b = s.sat(rs(b, shb), 32)
    magnitude = np.abs(b)
    exponent = np.maximum(bit_length(magnitude) - 1, 0)
    fraction = ((magnitude << (31 - exponent)) >> 14) & 0x1FFFF  # the 17 bits below the leading one
    product = np.where(b < 0, -a, a) * (RECIP(fraction) << 6)
    shift = np.where(b == 0, -1, sho + exponent)  # x/0 saturates, 0/0 is 0
    product = np.where(b == 0, a, product)
    return s.finish(product, shift, wide)


def exp(b, *, shb=0, sho, wide=0):
    """``exp(X / 2^17) * 2^(40 - sho)`` with ``X = sat24(rs(b, shb))``."""
    s = _Saturation(len(b))
    power = rs(s.sat(s.sat(rs(b, shb), 32), 24) * LOG2E, 20)
    return s.finish(EXP2(power & 0x1FFFF) << 23, sho - (power >> 17), wide)


def _sigmoid(x):
    """sigmoid(x / 2^17) as an 18-bit mantissa with 18 fraction bits, and a further right shift (0 for x >= 0).

    For negative x it is ``e / (1 + e)`` with ``e = exp(x)``, so its relative error is the same over the whole tail.
    """
    power = rs(-np.abs(x) * LOG2E, 20)
    whole, e = power >> 17, EXP2(power & 0x1FFFF)
    # 1 + e with 18 fraction bits; e has 17, shifted down by its exponent.
    denominator = np.minimum((1 << 18) + ((e << 1) >> np.minimum(-whole, SHIFT_LIMIT)), (1 << 19) - 1)
    reciprocal = RECIP((denominator - (1 << 18)) >> 1)
    negative = x < 0
    return np.where(negative, rs(e * reciprocal, 18), reciprocal), np.where(negative, -(whole + 1), 0)


def sig(b, *, shb=0, sho, neg=0, wide=0):
    """``sigmoid(+-X / 2^17) * 2^(40 - sho)`` with ``X = sat24(rs(b, shb))``, negated if ``neg``."""
    s = _Saturation(len(b))
    x = s.sat(s.sat(rs(b, shb), 32), 24)
    mantissa, tail = _sigmoid(-x if neg else x)
    return s.finish(mantissa << 22, sho + tail, wide)


def silu(b, *, shb=0, sho, wide=0):
    """``b * sigmoid(X / 2^17) * 2^(24 - sho)`` with ``X = sat24(rs(b, shb))``.

    The limit of X is no saturation: beyond +-64 the sigmoid is 1 or 0 to the precision of the result.
    """
    s = _Saturation(len(b))
    mantissa, tail = _sigmoid(sat(rs(b, shb), 24))
    return s.finish(b * (mantissa << 6), sho + tail, wide)


def onem(b, *, sha, shb=0, sho=0, wide=0):
    """``rs((1 << sha) - sat32(rs(b, shb)), sho)``."""
    s = _Saturation(len(b))
    return s.finish((1 << sha) - s.sat(rs(b, shb), 32), sho, wide)


def lerp(a, b, c, *, shb=0, sho=24):
    """``sat32(a + rs((sat32(rs(b, shb)) - a) * sat25(c), sho))``: the recurrence, with a the state and c the gate."""
    s = _Saturation(len(a))
    step = rs((s.sat(rs(b, shb), 32) - a) * s.sat(c, 25), sho)
    return VectorResult(s.sat(a + step, 32), int(s.mask.sum()))


def maximum(a, b, *, shb=0, sho=0, wide=0):
    """``rs(max(a, sat32(rs(b, shb))), sho)``."""
    s = _Saturation(len(a))
    return s.finish(np.maximum(a, s.sat(rs(b, shb), 32)), sho, wide)


def mov(b, *, shb=0, wide=0):
    """``sat32(rs(b, shb))``, saturated to 16 bits unless wide."""
    s = _Saturation(len(b))
    return s.finish(s.sat(rs(b, shb), 32), 0, wide)


def addi(b, *, imm, sha=0, shb=0, sho=0, wide=0):
    """``rs((imm << sha) + sat32(rs(b, shb)), sho)``."""
    s = _Saturation(len(b))
    return s.finish((imm << sha) + s.sat(rs(b, shb), 32), sho, wide)


def muli(b, *, imm, sha=0, shb=0, sho=0, wide=0):
    """``rs((imm << sha) * sat25(rs(b, shb)), sho)``."""
    s = _Saturation(len(b))
    return s.finish((imm << sha) * s.sat(rs(b, shb), 25), sho, wide)


# Mnemonic -> function of the source vectors in the order va, vb, vc (those that the instruction reads) and its options.
ROWWISE: dict[str, Callable[..., VectorResult]] = {
    "add": add, "sub": sub, "mul": mul, "div": div, "exp": exp, "sig": sig, "silu": silu, "onem": onem, "lerp": lerp,
    "max": maximum, "mov": mov, "addi": addi, "muli": muli,
}  # fmt: skip


# ---- argmax; random numbers --------------------------------------------------------------------------------------------


def threefry(key: tuple[int, int], counter) -> np.ndarray:
    """Threefry-2x32 with 13 rounds, first output word (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        key: two 32-bit words.
        counter: [n] of 32-bit words; the second counter word is 0.
    """
    words = (key[0], key[1], POSITION_SALT ^ key[0] ^ key[1])
    mask = np.uint64(0xFFFFFFFF)
    x0 = (np.asarray(counter, dtype=np.uint64) + np.uint64(words[0])) & mask
    x1 = np.full_like(x0, words[1])
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    for i in range(THREEFRY_ROUNDS):
        x0 = (x0 + x1) & mask
        r = np.uint64(rotations[i % 8])
        x1 = ((x1 << r) | (x1 >> (np.uint64(32) - r))) & mask
        x1 ^= x0
        if i % 4 == 3:
            j = i // 4 + 1
            x0 = (x0 + np.uint64(words[j % 3])) & mask
            x1 = (x1 + np.uint64((words[(j + 1) % 3] + j) & 0xFFFFFFFF)) & mask
    return x0.astype(np.int64)


def argmax_scores(logits, *, sha=0, base=0, noise=0, temperature: Scalar = ACT_ZERO, seed=0, position=0):
    """What argmax compares. Ties go to the lowest index.

    Args:
        logits: [len] of 32-bit values at binary point ``sha``.
        temperature: ``1 / (T ln 2)`` as a 16-bit mantissa and exponent; mantissa 0 means no noise.
    """
    if not noise or temperature.mantissa == 0:
        return np.asarray(logits, dtype=np.int64)
    shift = np.clip(sha - 16 - temperature.exponent, 0, SHIFT_LIMIT)
    scaled = rs(logits * np.int64(temperature.mantissa), shift)
    return sat(scaled + gumbel(seed, position, np.arange(base, base + len(logits))), 32)


# ---- RMSNorm unit --------------------------------------------------------------------------------------------------------


def rms(a, b, gains=None, *, sha=0, shb=0, sho=0, eps_m=0, eps_e=0, k_m=0, k_e=0) -> tuple[Scalar, int]:
    """The scalar ``sum(w^2) + (sum(x^2)*eps_m >> eps_e) + (k_m << k_e)`` and how many elements saturated.

    ``x = sat18(rs(a, sha))``; ``w = sat18(rs(y*g, sho))`` with ``y = sat18(rs(b, shb))``, or y without gains.
    """
    s = _Saturation(len(a))
    x = s.sat(rs(a, sha), 18)
    w = s.sat(rs(b, shb), 18)
    if gains is not None:
        w = s.sat(rs(w * gains, sho), 18)
    total = int((w * w).sum()) + (int((x * x).sum()) * eps_m >> eps_e) + (k_m << k_e)
    return square_norm(total), int(s.mask.sum())


def _magnitudes(z) -> tuple[np.ndarray, int, int]:
    """|z| to 20 bits relative to the largest (half up), the largest so reduced, and the shift applied."""
    largest = int(np.abs(z).max())
    if largest == 0:
        return np.abs(z), 0, 0
    shift = largest.bit_length() - 20
    return rs(np.abs(z), shift), int(rs(largest, shift)), shift


def norm(a, gains=None, *, sha=0, sho, c_m=32768, k_m=0, k_e=0, wide=0) -> VectorResult:
    """``z * c_m / sqrt(sum(x^2) + (k_m << k_e)) * 2^-sho``, with ``x = sat18(rs(a, sha))`` and ``z = x*g`` or x."""
    s = _Saturation(len(a))
    x = s.sat(rs(a, sha), 18)
    z = x if gains is None else x * gains
    inverse = rsqrt(square_norm(int((x * x).sum()) + (k_m << k_e)))
    factor = normalise(inverse.mantissa * c_m, inverse.exponent)
    reduced, _, shift = _magnitudes(z)
    result = s.finish(reduced * factor.mantissa, sho - factor.exponent - shift, 1)
    return VectorResult(s.sat(np.sign(z) * result.value, 32 if wide else 16), int(s.mask.sum()))


def normq(a, gains=None, square: Scalar | None = None, *, sha=0) -> Activations:
    """int8 activations ``round(127*z/max|z|)``, half away from zero, and the scale ``max|z| / sqrt(square)``.

    ``square`` is what :func:`rms` left in the scalar register, or None when the instruction is not ``scaled``.
    """
    s = _Saturation(len(a))
    x = s.sat(rs(a, sha), 18)
    z = x if gains is None else x * gains
    reduced, largest, shift = _magnitudes(z)
    saturated = int(s.mask.sum())
    if largest == 0:
        return Activations(np.zeros(len(a), dtype=np.int64), ACT_ZERO, saturated)
    reciprocal = ((127 << 31) // largest + 1) >> 1  # 127 * 2^30 / largest, half up
    q = np.sign(z) * np.minimum(rs(reduced * reciprocal, 30), 127)
    inverse = Scalar(1, 0) if square is None else rsqrt(square)
    return Activations(q, normalise(largest * inverse.mantissa, shift + inverse.exponent), saturated)


# ---- ternary matmul ------------------------------------------------------------------------------------------------------


def matmul_scale(activation: Scalar, segment: Scalar) -> Scalar:
    """The product of the activation buffer's and the segment's scale, 18 bits, truncated."""
    return normalise(activation.mantissa * segment.mantissa, activation.exponent + segment.exponent)


def scale_products(sums, scale: Scalar, *, bp, wide=0) -> VectorResult:
    """Sums [len] times the product of the scales, at binary point ``bp``."""
    s = _Saturation(len(sums))
    return s.finish(sums * np.int64(scale.mantissa), -(bp + scale.exponent), wide)


def tmatmul(trits, act: Activations, segment: Scalar, *, bp, wide=0) -> VectorResult:
    """``trits [len, columns] @ act.value * act.scale * segment.scale * 2^bp``.

    The product in float32 is exact: |sum| <= 127 * 8191 < 2^24.
    """
    sums = (trits.astype(np.float32) @ act.value.astype(np.float32)).astype(np.int64)
    return scale_products(sums, matmul_scale(act.scale, segment), bp=bp, wide=wide)
