"""Shifts round as stated, and results saturate as stated, against exact rational arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trilobit.isa import semantics
from trilobit.isa.fixed import Scalar, normalise, rs, rs_away, rsqrt, sat, square_norm

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


def half_up(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


@given(INT32, st.integers(-31, 63))
def test_rs_rounds_half_up_and_is_exact_to_the_left(x, shift):
    assert int(rs(x, shift)) == half_up(Fraction(x) / Fraction(2) ** shift)


@given(st.integers(-(1 << 50), 1 << 50), st.integers(0, 50))
def test_rs_away_rounds_half_away_from_zero(x, shift):
    expected = half_up(Fraction(abs(x), 1 << shift)) * (1 if x >= 0 else -1)
    assert int(rs_away(np.int64(x), shift)) == expected


def clip(value: int, bits: int) -> int:
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, value))


EXACT = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * clip(b, 25),
    "max": lambda a, b: max(a, b),
}


@pytest.mark.parametrize("name", EXACT)
@given(INT32, INT32, st.integers(-31, 31), st.integers(0, 63), st.integers(0, 1))
@settings(max_examples=150, deadline=None)
def test_two_operand_arithmetic_equals_exact_arithmetic_with_saturation_counted(name, a, b, shb, sho, wide):
    shifted = half_up(Fraction(b) / Fraction(2) ** shb)
    limited = clip(shifted, 32)
    exact = half_up(Fraction(EXACT[name](a, limited)) / (1 << sho))
    bits = 32 if wide else 16
    got = semantics.ROWWISE[name](np.array([a]), np.array([b]), shb=shb, sho=sho, wide=wide)
    assert got.value.tolist() == [clip(exact, bits)]
    overflow = limited != shifted or clip(exact, bits) != exact or (name == "mul" and clip(limited, 25) != limited)
    assert got.saturated == overflow


@given(INT32, st.integers(-32768, 32767), st.integers(0, 16), st.integers(-31, 31), st.integers(0, 63), st.integers(0, 1))
@settings(max_examples=150, deadline=None)
def test_immediates_and_one_minus_equal_exact_arithmetic(b, imm, sha, shb, sho, wide):
    limited = clip(half_up(Fraction(b) / Fraction(2) ** shb), 32)
    bits = 32 if wide else 16
    vector = np.array([b])
    for name, value in (("addi", (imm << sha) + limited), ("muli", (imm << sha) * clip(limited, 25))):
        got = semantics.ROWWISE[name](vector, imm=imm, sha=sha, shb=shb, sho=sho, wide=wide)
        assert got.value.tolist() == [clip(half_up(Fraction(value) / (1 << sho)), bits)], name
    one = clip(half_up(Fraction((1 << sha) - limited) / (1 << sho)), bits)
    assert semantics.onem(vector, sha=sha, shb=shb, sho=sho, wide=wide).value.tolist() == [one]
    assert semantics.mov(vector, shb=shb, wide=wide).value.tolist() == [clip(limited, bits)]


@given(INT32, INT32, st.integers(-(1 << 24), (1 << 24) - 1), st.integers(-31, 31), st.integers(0, 63))
@settings(max_examples=200, deadline=None)
def test_lerp_equals_exact_arithmetic(a, b, c, shb, sho):
    limited = clip(half_up(Fraction(b) / Fraction(2) ** shb), 32)
    step = half_up(Fraction((limited - a) * c) / (1 << sho))
    got = semantics.lerp(np.array([a]), np.array([b]), np.array([c]), shb=shb, sho=sho)
    assert got.value.tolist() == [clip(a + step, 32)]


@given(st.integers(0, (1 << 80) - 1))
def test_a_sum_of_squares_keeps_35_bits_and_an_even_exponent(total):
    scalar = square_norm(total)
    assert scalar.exponent % 2 == 0 and scalar.mantissa < 1 << 36
    value = Fraction(scalar.mantissa) * Fraction(2) ** scalar.exponent
    assert value <= total and (total - value) * (1 << 34) <= total
    assert scalar.mantissa == 0 or scalar.mantissa >> 34


@given(st.integers(1, (1 << 80) - 1))
@settings(max_examples=500)
def test_rsqrt_is_right_to_a_relative_2_to_the_minus_16(total):
    square = square_norm(total)
    inverse = rsqrt(square)
    # (mantissa * 2^e)^2 * square is 1 for an exact root; its relative error is twice that of the root.
    product = Fraction(inverse.mantissa) ** 2 * Fraction(2) ** (2 * inverse.exponent + square.exponent) * square.mantissa
    assert abs(float(product) ** 0.5 - 1) < 2.0**-16
    assert 1 << 17 <= inverse.mantissa < 1 << 18


def test_rsqrt_and_scalars_of_zero_are_zero():
    assert rsqrt(square_norm(0)) == normalise(0) == Scalar(0, 0)


@given(st.integers(1, (1 << 60) - 1), st.integers(-40, 40))
def test_normalise_truncates_to_18_bits_with_the_top_bit_set(value, exponent):
    scalar = normalise(value, exponent)
    assert scalar.mantissa >> 17 == 1
    exact = Fraction(value) * Fraction(2) ** exponent
    got = Fraction(scalar.mantissa) * Fraction(2) ** scalar.exponent
    assert 0 <= exact - got < Fraction(2) ** scalar.exponent


@given(st.integers(-(1 << 60), 1 << 60), st.integers(2, 40))
def test_sat_is_the_nearest_value_of_so_many_bits(x, bits):
    assert int(sat(np.int64(x), bits)) == clip(x, bits)
