"""safetensors files read and written tensor by tensor, bfloat16 included, without torch.

The ``safetensors`` library checks a file and knows its header; NumPy has no bfloat16, so the library can't hand such a
tensor over, and it writes a file only from tensors that are all in memory. Here the bytes are read into arrays, where a
bfloat16 is the uint16 of its bits, and written one tensor after another.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from trilobit.errors import ModelError
from trilobit.model.files import open_tensors

__all__ = ["FLOATS", "Entry", "TensorReader", "TensorWriter", "float32_of"]

# safetensors' name of a type -> NumPy's; BF16 as the bits.
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
_ALIGN = 8  # of the data in the file, as the library writes it


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: type by safetensors' name, shape, and for one that exists where its bytes start."""

    dtype: str
    shape: tuple[int, ...]
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(_TYPES[self.dtype]).itemsize


def float32_of(raw: np.ndarray, dtype: str) -> np.ndarray:
    """The values of a tensor as :class:`TensorReader` gives it, as fp32 (a copy unless it was fp32)."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False)


class TensorReader:
    """A safetensors file, opened and checked; nothing of its data is in memory.

    Args:
        path: the file.

    Attributes:
        entries: every tensor by its key.

    Raises:
        ModelError: missing, cut short or damaged, or a tensor of a type that is not known here.
    """

    def __init__(self, path: Path):
        self.path = path
        with open_tensors(path, "np"):  # the library checks header, offsets and length
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        self.entries: dict[str, Entry] = {}
        for name, values in header.items():
            if name == "__metadata__":
                continue
            if values["dtype"] not in _TYPES:
                raise ModelError(f"{path}: {name}: expected one of {', '.join(FLOATS)}, got type {values['dtype']!r}")
            self.entries[name] = Entry(values["dtype"], tuple(values["shape"]), 8 + length + values["data_offsets"][0])

    def read(self, name: str) -> np.ndarray:
        """A tensor's data: its shape, the type of the file (bfloat16: uint16 of the bits)."""
        entry = self.entries[name]
        data = np.fromfile(self.path, _TYPES[entry.dtype], int(np.prod(entry.shape, dtype=np.int64)), offset=entry.start)
        if data.nbytes != entry.nbytes:
            raise ModelError(f"{self.path}: {name}: the file ends within it; it was changed while it was read")
        return data.reshape(entry.shape)

    def map(self, name: str) -> np.ndarray:
        """The same without reading it: an array over the file, read-only."""
        entry = self.entries[name]
        if not entry.nbytes:
            return np.zeros(entry.shape, _TYPES[entry.dtype])
        return np.asarray(np.memmap(self.path, _TYPES[entry.dtype], "r", entry.start, entry.shape))


class TensorWriter:
    """Writes a safetensors file one tensor at a time, in any order; a context manager.

    Args:
        path: the file, replaced if it exists.
        entries: every tensor that will be written, by its key.
        metadata: of the header; transformers wants ``{"format": "pt"}``.

    Raises:
        OSError: it can't be written; that the disk is too full is known at once.
    """

    def __init__(self, path: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str] | None = None):
        # Wide types first, so that each tensor lies at a multiple of its element's size.
        order = sorted(entries, key=lambda name: -np.dtype(_TYPES[entries[name].dtype]).itemsize)
        header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
        end = 0
        self._left: dict[str, Entry] = {}
        for name in order:
            entry = entries[name]
            header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [end, end + entry.nbytes]}
            self._left[name] = Entry(entry.dtype, entry.shape, end)
            end += entry.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGN)
        self._base = 8 + len(text)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        if hasattr(os, "posix_fallocate") and end:
            os.posix_fallocate(self._file.fileno(), 0, self._base + end)

    def write(self, name: str, data: np.ndarray) -> None:
        """Write a tensor: an array of its shape and type (bfloat16: uint16 of the bits)."""
        entry = self._left[name]
        if data.shape != entry.shape or data.dtype != np.dtype(_TYPES[entry.dtype]):
            raise ValueError(f"{name}: expected {entry.dtype} {entry.shape}, got {data.dtype} {data.shape}")
        self._file.seek(self._base + entry.start)
        np.ascontiguousarray(data).tofile(self._file)
        del self._left[name]

    def write_rows(self, name: str, start: int, data: np.ndarray) -> None:
        """Write some rows of a matrix from row ``start`` on; the matrix counts as written with its last row."""
        entry = self._left[name]
        data = np.ascontiguousarray(data.astype(_TYPES[entry.dtype], copy=False))
        self._file.seek(self._base + entry.start + start * data[:1].nbytes)
        data.tofile(self._file)
        if start + len(data) == entry.shape[0]:
            del self._left[name]

    def __enter__(self) -> "TensorWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None and self._left:
            raise ValueError(f"not written: {', '.join(self._left)}")
