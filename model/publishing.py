"""A packed checkpoint back in the published layout, for the public implementation to load.

That implementation quantises what it loads, so the weights are chosen to quantise to the same model: a trit t becomes
``t * scale / share`` with the share of trits that are not zero, rounded down to fp32, and one of them takes what all of them together
lack by that. Their mean magnitude is then the scale again, to the last bit, and rounding ``t / share`` gives t. They are fp32: in
bfloat16 the scales would be off by up to 0.4%.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trilobit.errors import ModelError
from trilobit.isa.trits import ROWS_PER_BYTE, unpack
from trilobit.model.files import atomic_folder
from trilobit.model.importing import TOKENIZER_FILES
from trilobit.model.packed import PackedCheckpoint, open_packed
from trilobit.model.published import TensorSpec
from trilobit.model.quantise import Counts, count_trits
from trilobit.model.synthetic import SHARD_BYTES, write_published

__all__ = ["publish"]

_ELEMENTS = 1 << 22  # that are unpacked at once


def publish(
    packed: str | Path, output: str | Path, *, shard_bytes: int = SHARD_BYTES, progress: Callable[[str], None] | None = None
) -> PackedCheckpoint:
    """Write a packed checkpoint in the published layout, fp32, one tensor at a time; returns what was read.

    Args:
        packed: a packed checkpoint.
        output: a new folder, or an empty one.
        shard_bytes: largest file, unless one tensor is larger.
        progress: called with a tensor's key when it is written.

    Raises:
        ModelError: no packed checkpoint, or an output that is in the way or can't be written.
    """
    checkpoint, output = open_packed(packed), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ModelError(f"{output}: exists; expected a new folder for the published form")

    def values(spec: TensorSpec, write: Callable[[int, np.ndarray], None]) -> None:
        if len(spec.shape) == 1:
            write(0, checkpoint.floats(spec))
            return
        step = max(_ELEMENTS // spec.shape[1] // ROWS_PER_BYTE, 1) * ROWS_PER_BYTE
        if not spec.ternary:
            for start in range(0, spec.shape[0], step):
                write(start, checkpoint.floats(spec, start, start + step))
            return
        weight = checkpoint.packed(spec)
        magnitude, rest = _magnitude(checkpoint.scale(spec), count_trits(weight, spec.shape[0]))
        for start in range(0, spec.shape[0], step):
            stop = min(start + step, spec.shape[0])
            groups = weight[start // ROWS_PER_BYTE : -(-stop // ROWS_PER_BYTE)]
            trits = unpack(groups, stop - start)
            weights = trits * magnitude
            if rest and trits.any():  # the first weight that is not zero takes it
                first = int((trits != 0).argmax())
                weights.flat[first] += np.copysign(np.float32(rest), weights.flat[first])
                rest = 0.0
            write(start, weights)

    try:
        with atomic_folder(output, replace=True) as temporary:
            write_published(checkpoint.config, temporary, "fp32", values, shard_bytes=shard_bytes, progress=progress)
            for name in TOKENIZER_FILES:
                if (checkpoint.folder / name).is_file():
                    shutil.copyfile(checkpoint.folder / name, temporary / name)
    except OSError as error:
        raise ModelError(f"{output}: can't be written: {error.strerror or error}") from error
    return checkpoint


def _magnitude(scale: float, counts: Counts) -> tuple[np.float32, float]:
    """What a trit of 1 becomes, and what one of them takes on top (at least 0), so that the mean magnitude is ``scale`` exactly."""
    nonzero = counts.minus + counts.plus
    if not nonzero:
        return np.float32(0), 0.0
    exact = scale * sum(counts) / nonzero
    magnitude = np.float32(exact)
    if float(magnitude) > exact:
        magnitude = np.nextafter(magnitude, np.float32(0))
    return magnitude, scale * sum(counts) - float(magnitude) * nonzero  # both products are exact in fp64
