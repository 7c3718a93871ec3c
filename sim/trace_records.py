"""What the compiled simulators record for a timeline, as NumPy sees it."""

import ctypes
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["ISSUE", "LEVEL", "RETIRE", "STALL", "STREAM", "WAIT", "TraceRecord", "TraceRecords", "read_records"]

ISSUE, RETIRE, STALL, WAIT, LEVEL, STREAM = range(6)  # enum TraceKind of trace.h


class TraceRecord(ctypes.Structure):
    """``struct TraceRecord`` of ``trace.h``."""

    _fields_ = [("cycle", ctypes.c_uint64), ("value", ctypes.c_uint32), ("pc", ctypes.c_uint16), ("kind", ctypes.c_uint8),
                ("what", ctypes.c_uint8)]  # fmt: skip


TraceRecords = npt.NDArray[np.void]
"""An array of :class:`TraceRecord`'s fields."""


def read_records(function: Callable[..., int], handle: int) -> TraceRecords:
    """A copy of a simulator's records.

    Args:
        function: ``sim_trace_records`` or ``cycles_trace_records``.
    """
    pointer = ctypes.POINTER(TraceRecord)()
    count = function(handle, ctypes.byref(pointer))
    if not count:
        return np.zeros(0, dtype=np.dtype(TraceRecord))
    return np.ctypeslib.as_array(pointer, shape=(count,)).copy()
