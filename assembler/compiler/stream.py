"""The weight stream: segments in the order in which a token consumes them, gains ahead of the matrices they overlap."""

from collections.abc import Sequence

import numpy as np

from trilobit.assembler.compiler.instr import Instr, Matrix
from trilobit.errors import CompileError
from trilobit.isa import trits
from trilobit.isa.core import CoreConfig
from trilobit.isa.segments import gains_segment, header_bytes, matrix_segment

__all__ = ["arrange", "check_gains", "segment_bytes", "segment_data"]

_GAIN_SEGMENTS = 16  # that may wait in the hardware (trilobit.hdl.stream.GAIN_SEGMENTS)


def arrange(order: Sequence[Instr]) -> list[Instr]:
    """The instructions that take from the stream, in the order of their segments.

    A gain vector stands before the matrix of the last product that is issued before its consumer: it is there while
    that product still runs. Gains and matrices each keep the program's order.
    """
    items: list[Instr] = []
    last_matrix = 0  # where the last matrix stands in items
    for i in order:
        if i.gains is not None:
            items.insert(last_matrix, i)
            last_matrix += 1
        if i.matrix is not None:
            last_matrix = len(items)
            items.append(i)
    return items


def segment_bytes(instr: Instr, core: CoreConfig) -> int:
    """Bytes of an instruction's segment with header and padding."""
    n = core.beat_bytes
    if instr.matrix is None:
        beats = -(-2 * instr.length // n)
    else:
        beats = -(-instr.length // trits.ROWS_PER_BYTE) * -(-instr.matrix.columns // n)
    return header_bytes(n) + beats * n


def check_gains(items: Sequence[Instr], order: Sequence[Instr], core: CoreConfig) -> None:
    """Refuse a stream that could stop for ever because the gain buffer is full.

    When the fetch comes to a gain segment, those before it are consumed unless their consumer stands behind a product
    whose matrix is yet to be fetched. They must fit together with the new one.

    Raises:
        CompileError: they don't; the message has the numbers.
    """
    place = {id(i): n for n, i in enumerate(order)}
    padded = {id(i): -(-2 * i.length // core.beat_bytes) * core.beat_bytes // 2 for i in items if i.gains is not None}
    waiting: list[Instr] = []
    coming = None
    matrices = [n for n, i in enumerate(items) if i.matrix is not None]
    for n, item in enumerate(items):
        if item.gains is None:
            continue
        while matrices and matrices[0] < n:
            matrices.pop(0)
        coming = place[id(items[matrices[0]])] if matrices else len(order)
        waiting = [i for i in waiting if place[id(i)] > coming] + [item]
        stuck = [i for i in waiting if place[id(i)] > coming or i is item]
        total = sum(padded[id(i)] for i in stuck)
        if total > core.gain_buffer_elements or len(stuck) > _GAIN_SEGMENTS:
            raise CompileError(
                f"{item.value.name} in {item.value.module}: {total} gains in {len(stuck)} vectors would wait at once, core "
                f"{core.name!r} holds {core.gain_buffer_elements} in {_GAIN_SEGMENTS} vectors; choose a core with a larger "
                "gain_buffer_elements"
            )


def segment_data(instr: Instr, tensors: dict[str, np.ndarray], core: CoreConfig) -> bytes:
    """The bytes of an instruction's segment."""
    if instr.gains is not None:
        return gains_segment(instr.gains, core.beat_bytes)
    assert instr.matrix is not None
    return matrix_segment(_rows(tensors, instr.matrix), instr.length, instr.matrix.scale, core.beat_bytes)


def _rows(tensors: dict[str, np.ndarray], matrix: Matrix) -> np.ndarray:
    """The packed rows of a matrix: whole groups where they start at one, else packed anew."""
    packed = tensors[matrix.weight]
    start, stop = matrix.start, matrix.stop
    first, last = start // trits.ROWS_PER_BYTE, -(-stop // trits.ROWS_PER_BYTE)
    groups = packed[first:last]
    if start % trits.ROWS_PER_BYTE == 0 and stop % trits.ROWS_PER_BYTE == 0:
        return groups
    offset = start - first * trits.ROWS_PER_BYTE
    rows = trits.unpack(groups, (last - first) * trits.ROWS_PER_BYTE)
    return trits.pack(rows[offset : offset + stop - start])
