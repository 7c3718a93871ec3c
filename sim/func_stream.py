"""The weight stream as the functional simulator sees it: regions in, gains and ternary matrices out, each in order."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from trilobit.errors import ProgramError
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import MANTISSA_BITS
from trilobit.isa.segments import Segment, parse_segment, segment_gains, segment_trits
from trilobit.isa.trits import ROWS_PER_BYTE, unpack
from trilobit.sim.func_fault import SEGMENT, MachineFault
from trilobit.sim.native import Product
from trilobit.threads import one_blas_thread

__all__ = ["DEFAULT_CACHE_BYTES", "SegmentStream"]

DEFAULT_CACHE_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 17  # packed bytes decoded at a time when a matrix is not kept


@dataclass
class _Entry:
    """A segment that was met once, and its decoded payload if that may be kept (int64 gains, float32 trits)."""

    segment: Segment
    end: int
    data: np.ndarray | None = None


class SegmentStream:
    """The stream's queue of regions, and the two queues behind it that segments are steered to.

    Headers are parsed when an instruction needs a segment, so a bad one faults the instruction that meets it. Decoded
    payloads of read-only segments are kept up to ``cache_bytes``; later ones are decoded at each use, block by block. With a
    compiled ``product`` weights stay packed.

    Args:
        config: the core's parameters.
        memory: [window_size] of uint8; what lies below ``write_start`` must not change while the simulator lives.
        write_start: first byte that stores may change.
        cache_bytes: memory for decoded payloads (4 bytes a ternary weight, 8 a gain).
        product: multiplies packed weights as they are (:mod:`trilobit.sim.native`); then none are decoded.
    """

    def __init__(self, config: CoreConfig, memory: np.ndarray, write_start: int, cache_bytes: int, product: Product | None = None):
        self._memory = memory
        self._product = product
        self._beat = config.beat_bytes
        self._max_length = config.max_length
        self._write_start = write_start
        self._free = cache_bytes
        self._regions: deque[tuple[int, int]] = deque()
        self._queues: dict[str, deque[_Entry]] = {"gains": deque(), "ternary": deque()}
        self._known: dict[tuple[int, int], _Entry] = {}
        self.bytes_read = 0  # headers and payloads of the segments met, padding included

    def push(self, addr: int, beats: int) -> None:
        """Append a region of whole segments."""
        self._regions.append((addr, addr + beats * self._beat))

    def clear(self) -> None:
        """Drop everything that is queued."""
        self._regions.clear()
        for queue in self._queues.values():
            queue.clear()

    def gains(self, length: int) -> np.ndarray:
        """The next gain vector [length] of int64.

        Raises:
            MachineFault: SEGMENT: a bad header, a segment of another length, or no region is queued (the hardware
                notices after a while that nothing comes).
        """
        entry = self._next("gains")
        if entry.segment.columns != length:
            raise MachineFault(SEGMENT)
        data = entry.data
        if data is None:
            data = segment_gains(self._memory, entry.segment)
            self._keep(entry, data)
        return data

    def matrix(self) -> _Entry:
        """The next ternary matrix, for :meth:`products`. Raises as :meth:`gains`."""
        return self._next("ternary")

    def products(self, entry: _Entry, activations: list[np.ndarray]) -> list[np.ndarray]:
        """The exact sums of a matrix and the activations of each slot.

        Args:
            activations: for each slot [columns] of float32 (whole numbers, int8).

        Returns:
            For each slot [rows] of int64.
        """
        segment = entry.segment
        if self._product is not None:
            packed = self._payload(segment)[:, : segment.columns]
            return [self._product(packed, values.astype(np.int8))[: segment.rows].astype(np.int64) for values in activations]
        if entry.data is None and self._may_keep(entry, 4 * segment.rows * segment.columns):
            self._keep(entry, segment_trits(self._memory, segment, self._beat).astype(np.float32))
        # All numbers are small and whole: a kernel that computes on what stands behind a matrix, too, may still set the flag.
        with one_blas_thread(), np.errstate(invalid="ignore"):
            if entry.data is not None:
                return [(entry.data @ values).astype(np.int64) for values in activations]
            return self._products_in_blocks(segment, activations)

    def _products_in_blocks(self, segment: Segment, activations: list[np.ndarray]) -> list[np.ndarray]:
        raw = self._payload(segment)
        groups = len(raw)
        sums = np.empty((len(activations), groups, ROWS_PER_BYTE), dtype=np.float32)
        step = max(_BLOCK_BYTES // raw.shape[1], 1)
        for start in range(0, groups, step):
            block = raw[start : start + step, : segment.columns]
            trits = unpack(block, ROWS_PER_BYTE * len(block)).astype(np.float32)
            for mine, values in zip(sums, activations, strict=True):
                mine[start : start + step] = (trits @ values).reshape(-1, ROWS_PER_BYTE)
        return [mine.reshape(-1)[: segment.rows].astype(np.int64) for mine in sums]

    def _payload(self, segment: Segment) -> np.ndarray:
        """The packed weights of a matrix: [groups of five rows, columns and their padding] of uint8."""
        groups = -(-segment.rows // ROWS_PER_BYTE)
        return self._memory[segment.payload : segment.payload + segment.beats * self._beat].reshape(groups, -1)

    def _next(self, kind: str) -> _Entry:
        queue = self._queues[kind]
        while not queue:
            entry = self._fetch()
            self._queues[entry.segment.kind].append(entry)
        return queue.popleft()

    def _fetch(self) -> _Entry:
        if not self._regions:
            raise MachineFault(SEGMENT, "the stream's queue is empty; put a stream instruction before")
        addr, end = self._regions.popleft()
        entry = self._known.get((addr, end)) or self._parse(addr, end)
        if entry.end < end:
            self._regions.appendleft((entry.end, end))
        self.bytes_read += entry.end - addr
        return entry

    def _parse(self, addr: int, end: int) -> _Entry:
        try:
            segment = parse_segment(self._memory[:end], addr, self._beat)
        except ProgramError as error:
            raise MachineFault(SEGMENT, str(error)) from error
        sizes, mantissa = max(segment.rows, segment.columns), segment.scale.mantissa
        if sizes > self._max_length or (mantissa and mantissa >> (MANTISSA_BITS - 1) != 1):
            raise MachineFault(
                SEGMENT,
                f"segment at {addr:#x}: expected at most {self._max_length} rows and columns and a scale with a normalised "
                f"mantissa, got {segment.rows} x {segment.columns} and {segment.scale}",
            )
        entry = _Entry(segment, segment.payload + segment.beats * self._beat)
        if entry.end <= self._write_start:
            self._known[addr, end] = entry
        return entry

    def _may_keep(self, entry: _Entry, size: int) -> bool:
        return entry.end <= self._write_start and size <= self._free

    def _keep(self, entry: _Entry, data: np.ndarray) -> None:
        if self._may_keep(entry, data.nbytes):
            self._free -= data.nbytes
            entry.data = data
