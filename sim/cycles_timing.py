"""The cycle model's timing description, ``sim/timing.yaml``, as the compiled model takes it."""

import ctypes
from functools import cache
from importlib import resources

import yaml

__all__ = ["Timing", "timing", "timing_table"]

_NAMES = {"rmsnorm": "rms", "tmatmul": "product", "memory": "memory", "program_counter": ""}


class Timing(ctypes.Structure):
    """``struct Timing`` of ``cycles.h``: the numbers of ``timing.yaml`` in its order."""

    _fields_ = [(name, ctypes.c_uint32) for name in (
        "rowwise_result", "rowwise_retire",
        "rms_square_x", "rms_z", "rms_reduce", "rms_drained", "rms_write", "rms_feed_ahead", "rms_total", "rms_inverse", "rms_norm_factor",
        "rms_normq_factor", "rms_tail",
        "product_dot", "product_levels_a_stage", "product_scale", "product_group",
        "stream_regions", "stream_headers", "stream_gain_segments", "stream_landing_blocks", "stream_landing_least", "stream_boundary",
        "memory_outstanding", "host_queue", "host_offer", "host_settle", "watchdog",
    )]  # fmt: skip


@cache
def timing_table() -> dict[str, dict[str, int]]:
    """The description: unit -> name -> cycles, or a size."""
    return yaml.safe_load(resources.files("trilobit.sim").joinpath("timing.yaml").read_text())


def timing() -> Timing:
    """The description for the compiled model.

    Raises:
        ValueError: a name is missing, or one that the model doesn't know is there.
    """
    values: dict[str, int] = {}
    for unit, numbers in timing_table().items():
        prefix = _NAMES.get(unit, unit)
        values |= {f"{prefix}_{name}" if prefix else name: number for name, number in numbers.items()}
    names = [field[0] for field in Timing._fields_]
    if set(values) != set(names):
        raise ValueError(f"timing.yaml: expected exactly {names}, got {list(values)}")
    return Timing(**values)
