"""A packed checkpoint as its files have it: geometry, and every tensor without unpacking. Needs no torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trilobit.errors import ModelError
from trilobit.model.config import ModelConfig
from trilobit.model.importing import is_packed, read_config
from trilobit.model.published import TensorSpec, tensor_specs
from trilobit.model.tensorfile import Entry, TensorReader, float32_of

__all__ = ["PackedCheckpoint", "open_packed"]


@dataclass
class PackedCheckpoint:
    """An open packed checkpoint.

    Attributes:
        folder: where it lies.
        config: its geometry; ``raw_config`` is the file as it is.
        specs: the tensors of the published layout that it holds, matrices packed.
        reader: its tensor file.
    """

    folder: Path
    config: ModelConfig
    raw_config: dict[str, Any]
    specs: list[TensorSpec]
    reader: TensorReader

    def packed(self, spec: TensorSpec) -> np.ndarray:
        """A ternary matrix: [ceil(rows / 5), columns] of uint8, mapped from the file."""
        return self.reader.map(spec.name)

    def scale(self, spec: TensorSpec) -> float:
        """Mean |W| of a ternary matrix; ModelError if it is none: NaN, infinite or not positive."""
        scale = float(self.reader.read(_scale(spec))[0])
        if not 0 < scale < math.inf:
            raise ModelError(f"{self.reader.path}: {_scale(spec)}: expected a positive number, got {scale}; import the model again")
        return scale

    def floats(self, spec: TensorSpec, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A tensor that is not ternary, or rows ``start..stop`` of it, as fp32; ModelError if it holds NaN or infinity."""
        values = float32_of(self.reader.map(spec.name)[start:stop], self.reader.entries[spec.name].dtype)
        if not np.isfinite(values).all():
            raise ModelError(f"{self.reader.path}: {spec.name}: holds NaN or infinity; the file is damaged, import the model again")
        return values


def _scale(spec: TensorSpec) -> str:
    return spec.name.removesuffix("weight") + "scale"


def open_packed(folder: str | Path) -> PackedCheckpoint:
    """Open a packed checkpoint and check that it is complete.

    Raises:
        ModelError: no packed checkpoint, or a file or tensor missing, damaged or misshaped.
    """
    folder = Path(folder)
    config, raw = read_config(folder)
    if not is_packed(raw, folder / "config.json"):
        raise ModelError(f"{folder}: expected a packed checkpoint, got one in full precision; pack it first: trilobit import")
    reader = TensorReader(folder / "model.safetensors")
    specs = tensor_specs(config)
    for spec in specs:
        wanted: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {spec.name: (("F16", "F32"), spec.shape)}
        if spec.ternary:
            wanted = {spec.name: (("U8",), (-(-spec.shape[0] // 5), spec.shape[1])), _scale(spec): (("F32",), (1,))}
        for name, (dtypes, shape) in wanted.items():
            entry = reader.entries.get(name, Entry("U8", (-1,)))
            if entry.dtype not in dtypes or entry.shape != shape:
                got = f"{entry.dtype} {list(entry.shape)}" if name in reader.entries else "none"
                raise ModelError(f"{reader.path}: {name}: expected {' or '.join(dtypes)} {list(shape)}, got {got}; import the model again")
    return PackedCheckpoint(folder, config, raw, specs, reader)
