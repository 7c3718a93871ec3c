"""NumPy files in and out of a machine: checked when they are read, renamed into place when they are written."""

from pathlib import Path

import numpy as np

from trilobit.atomic import replacing
from trilobit.errors import ConfigError
from trilobit.isa.program import Region

__all__ = ["load_integers", "region_bytes", "region_values", "save_array"]


def load_integers(path: Path, *, longest: int, low: int, high: int, what: str) -> np.ndarray:
    """A vector of integers from a ``.npy`` file (never a pickle).

    Args:
        path: the file. longest: elements at most. low, high: range of the values. what: what it is for, for messages.

    Returns:
        [elements] of int64.

    Raises:
        ConfigError: not readable, not an array of integers, more than one dimension, too long, or out of range.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{what}: can't read {path} as a .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.integer):
        got = f"{array.dtype}" if isinstance(array, np.ndarray) else "an archive of arrays (.npz)"
        raise ConfigError(f"{what}: expected whole numbers in {path}, got {got}; scale and round them first")
    if array.ndim != 1:
        raise ConfigError(f"{what}: expected one dimension in {path}, got shape {array.shape}")
    if len(array) > longest:
        raise ConfigError(f"{what}: expected at most {longest} elements in {path}, got {len(array)}")
    if len(array) and (int(array.min()) < low or int(array.max()) > high):
        raise ConfigError(f"{what}: expected values from {low} to {high} in {path}, got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _element(region: Region) -> np.dtype:
    return np.dtype(region.element or "u1")


def region_bytes(path: Path, region: Region, what: str) -> np.ndarray:
    """The content of a file as bytes of a region: uint8, at most ``region.size``. Errors as :func:`load_integers`."""
    kind = _element(region)
    limits = np.iinfo(kind)
    values = load_integers(
        path, longest=region.size // kind.itemsize, low=int(limits.min), high=int(limits.max), what=what
    )  # fmt: skip
    return values.astype(kind).view(np.uint8)


def region_values(memory: np.ndarray, region: Region) -> np.ndarray:
    """A copy of a region of the memory [window_size] of uint8 as its elements (bytes if it has no element type)."""
    kind = _element(region)
    whole = region.size // kind.itemsize * kind.itemsize
    return np.array(memory[region.addr : region.addr + whole]).view(kind)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file under a temporary name, then rename it."""
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)
