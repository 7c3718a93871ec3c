"""Segments of the weight stream."""

import numpy as np
import pytest

from trilobit.errors import ProgramError
from trilobit.isa import trits
from trilobit.isa.fixed import Scalar
from trilobit.isa.segments import gains_segment, matrix_segment, parse_segment, scalar_of, segment_gains, segment_trits


@pytest.mark.parametrize("beat_bytes", [1, 4, 64])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 4), (7, 13), (12, 65)])
def test_matrix_round_trip(beat_bytes, rows, columns):
    weights = np.random.default_rng(rows * 100 + columns).integers(-1, 2, (rows, columns))
    scale = scalar_of(0.0123)
    data = matrix_segment(trits.pack(weights), rows, scale, beat_bytes)
    assert len(data) % beat_bytes == 0
    memory = np.frombuffer(bytes(beat_bytes) + data, dtype=np.uint8)
    segment = parse_segment(memory, beat_bytes, beat_bytes)
    assert (segment.kind, segment.rows, segment.columns, segment.scale) == ("ternary", rows, columns, scale)
    assert segment.payload + segment.beats * beat_bytes == len(memory)
    assert np.array_equal(segment_trits(memory, segment, beat_bytes), weights)


def test_padding_columns_are_zero_trits():
    data = matrix_segment(trits.pack(np.ones((5, 3), dtype=int)), 5, scalar_of(1.0), 4)
    assert data[16 + 3] == trits.ZERO_BYTE
    assert len(data) == 20


@pytest.mark.parametrize("beat_bytes", [1, 4, 64])
@pytest.mark.parametrize("length", [1, 2, 33])
def test_gains_round_trip(beat_bytes, length):
    gains = np.random.default_rng(length).integers(-0x8000, 0x8000, length)
    memory = np.frombuffer(gains_segment(gains, beat_bytes), dtype=np.uint8)
    segment = parse_segment(memory, 0, beat_bytes)
    assert (segment.kind, segment.rows, segment.columns, segment.scale) == ("gains", 1, length, Scalar(0, 0))
    assert np.array_equal(segment_gains(memory, segment), gains)


def test_every_damaged_bit_of_a_header_is_found():
    data = bytearray(matrix_segment(trits.pack(np.zeros((5, 4), dtype=int)), 5, scalar_of(1.5), 4))
    for bit in range(128):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProgramError, match="segment at 0x0"):
            parse_segment(np.frombuffer(damaged, dtype=np.uint8), 0, 4)


@pytest.mark.parametrize(
    ("addr", "keep", "message"),
    [
        (400, None, "expected an address inside the memory of 36 bytes"),
        (-4, None, "expected an address inside the memory of 36 bytes"),
        (0, -4, "its 5 beats end beyond 0x20, the end of the memory"),
    ],
)
def test_segment_outside_memory(addr, keep, message):
    memory = np.frombuffer(gains_segment(np.arange(9), 4), dtype=np.uint8)[:keep]
    with pytest.raises(ProgramError, match=message):
        parse_segment(memory, addr, 4)


@pytest.mark.parametrize("value", [1.0, 0.5, 1 / 3, 0.999999999, 3e-9, 12345.678])
def test_scalar_is_within_half_a_unit(value):
    scalar = scalar_of(value)
    assert 1 << 17 <= scalar.mantissa < 1 << 18
    assert abs(scalar.mantissa * 2.0**scalar.exponent - value) <= value * 2.0**-18


def test_scalar_rejects_what_it_cannot_hold():
    assert scalar_of(0.0) == Scalar(0, 0)
    for value in (-1.0, float("nan"), float("inf"), 2.0**-130, 2.0**150):
        with pytest.raises(ValueError, match="scale"):
            scalar_of(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: matrix_segment(np.zeros((2, 4), dtype=np.uint8), 5, scalar_of(1.0), 4),
        lambda: matrix_segment(np.zeros((1, 0), dtype=np.uint8), 5, scalar_of(1.0), 4),
        lambda: matrix_segment(np.zeros((1, 4), dtype=np.uint8), 5, Scalar(1 << 18, 0), 4),
        lambda: gains_segment(np.array([40000]), 4),
        lambda: gains_segment(np.array([1.0]), 4),
    ],
)
def test_writers_reject_what_does_not_fit(call):
    with pytest.raises(ValueError, match="expected"):
        call()
