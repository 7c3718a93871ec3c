"""The ternary product compiled for this machine: built once with g++ and cached; without a compiler there is none.

The functional simulator needs no compiler. It uses this for large models, where it is some twenty times faster than unpacked
weights and keeps them packed; the sums are exact either way.
"""

import ctypes
import platform
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from trilobit.errors import ToolError
from trilobit.sim.build_cache import build_once, cache_folder, content_hash
from trilobit.sim.toolchain import GXX

__all__ = ["Product", "ternary_product"]

_FLAGS = ("-std=gnu++17", "-O3", "-march=native", "-shared", "-fPIC")

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


@cache
def ternary_product() -> Product | None:
    """The product of packed rows and activations, or None if it can't be built here.

    It takes bytes [groups, columns] of uint8 (each row contiguous) and activations [columns] of int8 from -127 to 127, and
    returns the exact sums [5 * groups] of int32.
    """
    try:
        function = ctypes.CDLL(str(_library())).ternary_product
    except (ToolError, OSError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    function.restype = None

    def product(packed: np.ndarray, activations: np.ndarray) -> np.ndarray:
        groups, columns = packed.shape
        if packed.dtype != np.uint8 or packed.strides[1] != 1 or activations.dtype != np.int8 or activations.shape != (columns,):
            raise ValueError("expected rows of uint8, each contiguous, and as many int8 activations as columns")
        activations = np.ascontiguousarray(activations)
        sums = np.empty(5 * groups, dtype=np.int32)
        function(packed.ctypes.data, activations.ctypes.data, groups, columns, packed.strides[0], sums.ctypes.data)
        return sums

    return product


def _library() -> Path:
    source = resources.files("trilobit.sim").joinpath("ternary.cpp").read_text()
    # -march=native makes code for this processor; a cache may be shared by several.
    library = cache_folder() / f"ternary-{content_hash(source, *_FLAGS, GXX.version, _processor())}.so"

    def build(work: Path, log: Path) -> Path:
        (work / "ternary.cpp").write_text(source)
        GXX.run([*_FLAGS, "-o", "ternary.so", "ternary.cpp"], cwd=work, log=log)
        return work / "ternary.so"

    return build_once(library, "Building the ternary product (once; a few seconds)", build)


def _processor() -> str:
    """What kind of processor this is, as far as it decides which instructions it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    wanted = ("flags", "Features", "model name", "CPU part")
    return platform.machine() + "".join(next((line for line in lines if line.startswith(name)), "") for name in wanted)
