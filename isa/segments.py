"""Segments of the weight stream: headers, ternary matrices and gains as bytes, and back.

The layout is that of docs/decisions/0001-machine.md: a 16-byte header padded to whole beats, then the payload, padded to
whole beats. A ternary payload has ceil(rows / 5) groups of ceil(columns / beat_bytes) beats; a gains payload is signed
16-bit little-endian.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np

from trilobit.errors import ProgramError
from trilobit.isa.fixed import ACT_ZERO, MANTISSA_BITS, Scalar
from trilobit.isa.trits import ROWS_PER_BYTE, ZERO_BYTE, unpack

__all__ = ["HEADER_BYTES", "KINDS", "MAGIC", "Segment", "gains_segment", "header_bytes", "matrix_segment", "parse_segment",
           "scalar_of", "segment_gains", "segment_header", "segment_trits"]  # fmt: skip

MAGIC = 0xB3
HEADER_BYTES = 16
KINDS = {"ternary": 1, "gains": 2}
_KIND_NAMES = {number: name for name, number in KINDS.items()}


@dataclass(frozen=True)
class Segment:
    """A parsed segment header and where its payload lies.

    Attributes:
        kind: "ternary" or "gains".
        rows: output rows of a matrix; 1 for gains.
        columns: input columns of a matrix; the number of gains.
        scale: what a product is multiplied by besides its activation scale; zero for gains.
        addr: byte offset of the header in the window.
        payload: byte offset of the first payload beat.
        beats: payload length in memory beats.
    """

    kind: str
    rows: int
    columns: int
    scale: Scalar
    addr: int
    payload: int
    beats: int


def scalar_of(value: float) -> Scalar:
    """The nearest scalar of 18 significant bits to a finite number that is not negative; 0 gives zero.

    Raises:
        ValueError: negative, not finite, or an exponent that a header's signed byte can't hold.
    """
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a finite scale of at least 0, got {value!r}")
    if value == 0:
        return ACT_ZERO
    fraction, exponent = math.frexp(value)  # fraction in [1/2, 1)
    mantissa = math.floor(math.ldexp(fraction, MANTISSA_BITS) + 0.5)
    exponent -= MANTISSA_BITS
    if mantissa == 1 << MANTISSA_BITS:
        mantissa, exponent = mantissa >> 1, exponent + 1
    if not -128 <= exponent <= 127:
        raise ValueError(f"expected a scale between 2^-110 and 2^144, got {value!r}")
    return Scalar(mantissa, exponent)


def _padded(data: bytes, beat_bytes: int, fill: int = 0) -> bytes:
    return data + bytes([fill]) * (-len(data) % beat_bytes)


def header_bytes(beat_bytes: int) -> int:
    """Bytes of a header with its padding to whole beats."""
    return -(-HEADER_BYTES // beat_bytes) * beat_bytes


def segment_header(kind: str, rows: int, columns: int, scale: Scalar, beat_bytes: int) -> bytes:
    """The header of a segment, padded to whole beats.

    Args:
        kind: a key of :data:`KINDS`.
        rows, columns: as in :class:`Segment`.
        scale: of a matrix; :data:`~trilobit.isa.fixed.ACT_ZERO` for gains.
        beat_bytes: of the core that will read it.

    Raises:
        ValueError: a size or a scale that the header can't hold.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        if not 1 <= value <= 0xFFFF:
            raise ValueError(f"expected {name} from 1 to 65535, got {value}")
    if scale.mantissa >> MANTISSA_BITS or not -128 <= scale.exponent <= 127:
        raise ValueError(f"expected an 18-bit mantissa and an exponent from -128 to 127, got {scale!r}")
    body = struct.pack("<BBHH", MAGIC, KINDS[kind], rows, columns)
    body += scale.mantissa.to_bytes(3, "little") + struct.pack("<b", scale.exponent) + bytes(4)
    return _padded(body + struct.pack("<H", _check(body)), beat_bytes)


def _check(body: bytes) -> int:
    """The one's complement of the 16-bit sum of the seven words before the check."""
    return ~sum(struct.unpack("<7H", body[:14])) & 0xFFFF


def matrix_segment(packed: np.ndarray, rows: int, scale: Scalar, beat_bytes: int) -> bytes:
    """The bytes of a ternary matrix.

    Args:
        packed: [ceil(rows / 5), columns] of uint8, as from :func:`trilobit.isa.trits.pack`.
        rows: output rows; those that fill the last group must be zero trits.
        scale: the segment's scale.
        beat_bytes: of the core that will read it.

    Raises:
        ValueError: a shape, a size or a scale that the header can't hold.
    """
    packed = np.asarray(packed)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[0] != -(-rows // ROWS_PER_BYTE):
        raise ValueError(f"expected uint8 [{-(-rows // ROWS_PER_BYTE)}, columns] for {rows} rows, "
                         f"got {packed.dtype} {packed.shape!r}")  # fmt: skip
    columns = packed.shape[1]
    width = -(-columns // beat_bytes) * beat_bytes
    payload = np.full((packed.shape[0], width), ZERO_BYTE, dtype=np.uint8)
    payload[:, :columns] = packed
    return segment_header("ternary", rows, columns, scale, beat_bytes) + payload.tobytes()


def gains_segment(gains: np.ndarray, beat_bytes: int) -> bytes:
    """The bytes of a gain vector [length] of whole numbers of 16 bits.

    Raises:
        ValueError: not one-dimensional, empty, or beyond 16 bits.
    """
    gains = np.asarray(gains)
    if gains.ndim != 1 or not np.issubdtype(gains.dtype, np.integer):
        raise ValueError(f"expected a vector of integers, got {gains.dtype} {gains.shape!r}")
    if gains.size and (gains.min() < -0x8000 or gains.max() > 0x7FFF):
        raise ValueError(f"expected gains of 16 bits, got values from {gains.min()} to {gains.max()}")
    header = segment_header("gains", 1, len(gains), ACT_ZERO, beat_bytes)
    return header + _padded(gains.astype("<i2").tobytes(), beat_bytes)


def parse_segment(memory: np.ndarray, addr: int, beat_bytes: int) -> Segment:
    """Read and check the header at ``addr`` of a memory image [bytes] of uint8.

    Raises:
        ProgramError: the header or its payload leaves the memory, or magic, kind, sizes or check are wrong.
    """
    if not 0 <= addr <= len(memory) - header_bytes(beat_bytes):
        raise ProgramError(f"segment at {addr:#x}: expected an address inside the memory of {len(memory)} bytes")
    raw = bytes(memory[addr : addr + HEADER_BYTES])
    magic, kind, rows, columns = struct.unpack_from("<BBHH", raw)
    if magic != MAGIC:
        raise ProgramError(f"segment at {addr:#x}: expected magic {MAGIC:#04x}, got {magic:#04x}")
    if _check(raw) != int.from_bytes(raw[14:], "little"):
        raise ProgramError(f"segment at {addr:#x}: expected check {_check(raw):#06x}, got {raw[14] | raw[15] << 8:#06x}")
    if kind not in _KIND_NAMES:
        raise ProgramError(f"segment at {addr:#x}: expected kind 1 (ternary) or 2 (gains), got {kind}")
    if not rows or not columns or (_KIND_NAMES[kind] == "gains" and rows != 1):
        raise ProgramError(f"segment at {addr:#x}: expected rows and columns above 0, got {rows} x {columns}")
    scale = Scalar(int.from_bytes(raw[6:9], "little"), int.from_bytes(raw[9:10], "little", signed=True))
    if _KIND_NAMES[kind] == "ternary":
        beats = -(-rows // ROWS_PER_BYTE) * -(-columns // beat_bytes)
    else:
        beats = -(-2 * columns // beat_bytes)
    payload = addr + header_bytes(beat_bytes)
    if payload + beats * beat_bytes > len(memory):
        raise ProgramError(
            f"segment at {addr:#x}: its {beats} beats end beyond {len(memory):#x}, the end of the memory or of the stream's region"
        )
    return Segment(_KIND_NAMES[kind], rows, columns, scale, addr, payload, beats)


def segment_gains(memory: np.ndarray, segment: Segment) -> np.ndarray:
    """The gains [length] of a gains segment, as int64."""
    raw = np.asarray(memory[segment.payload : segment.payload + 2 * segment.columns])
    return raw.view("<i2").astype(np.int64) if raw.flags.c_contiguous else np.frombuffer(raw.tobytes(), "<i2").astype(np.int64)


def segment_trits(memory: np.ndarray, segment: Segment, beat_bytes: int) -> np.ndarray:
    """The trits [rows, columns] of a ternary segment, as int8."""
    groups = -(-segment.rows // ROWS_PER_BYTE)
    raw = np.asarray(memory[segment.payload : segment.payload + segment.beats * beat_bytes]).reshape(groups, -1)
    return unpack(raw[:, : segment.columns], segment.rows)
