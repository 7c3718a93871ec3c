"""The weight stream: segments in the order in which a token consumes them, gains ahead of the matrices they overlap."""

from collections.abc import Sequence

import numpy as np

from trilobit.assembler.compiler.instr import Instr
from trilobit.assembler.compiler.tensors import Tensors
from trilobit.errors import CompileError
from trilobit.isa import trits
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import ACT_ZERO
from trilobit.isa.segments import Segment, gains_segment, header_bytes, segment_header

__all__ = ["arrange", "check_gains", "segment_bytes", "segment_of", "write_segment"]

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


def write_segment(instr: Instr, tensors: Tensors, core: CoreConfig, out: np.ndarray) -> None:
    """Write an instruction's segment.

    Args:
        out: [segment_bytes] of uint8; every byte is written.
    """
    n = core.beat_bytes
    if instr.gains is not None:
        out[:] = np.frombuffer(gains_segment(instr.gains, n), dtype=np.uint8)
        return
    assert instr.matrix is not None
    matrix, start = instr.matrix, header_bytes(n)
    header = segment_header("ternary", instr.length, matrix.columns, matrix.scale, n)
    out[:start] = np.frombuffer(header, dtype=np.uint8)
    groups = out[start:].reshape(-(-instr.length // trits.ROWS_PER_BYTE), -1)
    groups[:, matrix.columns :] = trits.ZERO_BYTE
    tensors.packed(matrix.weight, matrix.start, matrix.stop, groups[:, : matrix.columns])


def segment_of(instr: Instr, addr: int, core: CoreConfig) -> Segment:
    """What the segment of an instruction holds, with its header at byte ``addr``."""
    start = header_bytes(core.beat_bytes)
    beats = (segment_bytes(instr, core) - start) // core.beat_bytes
    if instr.matrix is None:
        return Segment("gains", 1, instr.length, ACT_ZERO, addr, addr + start, beats)
    return Segment("ternary", instr.length, instr.matrix.columns, instr.matrix.scale, addr, addr + start, beats)
