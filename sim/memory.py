"""Parameters of the memories behind a simulated core.

One read channel that returns data in request order, at most a beat a cycle; one write at a time. In the terms of
:class:`trilobit.hdl.interfaces.MemorySignature`, with cycles numbered at the core's clock:

- a read request taken in cycle t brings its first beat in cycle ``t + latency`` at the earliest, behind all beats of earlier requests, and
  then a beat a cycle;
- ``rd_ready`` is low in a cycle that begins with ``outstanding`` requests whose last beat has not been delivered;
- a write request is taken when no other is in flight, its beats are taken one a cycle from the next cycle on, and the response comes
  ``latency`` cycles after the last beat. Reads see a write from its last beat's cycle on.
"""

import ctypes
from dataclasses import dataclass

from trilobit.errors import ConfigError

__all__ = ["IDEAL", "MemoryModel", "MemoryParameters"]

UNLIMITED = 0
FIXED = 0  # enum MemoryKind of memory_model.h


class MemoryParameters(ctypes.Structure):
    """The parameters as ``memory_model.h`` takes them."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("kind", "latency", "outstanding")]


@dataclass(frozen=True)
class MemoryModel:
    """A memory of fixed latency.

    Attributes:
        latency: cycles from a request to its first beat, at least 1.
        outstanding: read requests that may be in flight; 0 for no limit.
    """

    latency: int
    outstanding: int = UNLIMITED

    def __post_init__(self):
        if not 1 <= self.latency <= 1_000_000:
            raise ConfigError(f"expected a memory latency from 1 to 1000000 cycles, got {self.latency!r}")
        if not 0 <= self.outstanding <= 65536:
            raise ConfigError(f"expected from 1 to 65536 outstanding requests (0: no limit), got {self.outstanding!r}")

    def parameters(self) -> MemoryParameters:
        """For the compiled models (``sim_memory`` of the RTL simulation, and the cycle model)."""
        return MemoryParameters(FIXED, self.latency, self.outstanding)

    @classmethod
    def parse(cls, text: "str | MemoryModel") -> "MemoryModel":
        """``ideal``, or ``LATENCY`` or ``LATENCY:OUTSTANDING`` in cycles and requests.

        Raises:
            ConfigError: neither.
        """
        if isinstance(text, MemoryModel):
            return text
        if text == "ideal":
            return IDEAL
        try:
            return cls(*map(int, text.split(":")))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"expected a memory as 'ideal', LATENCY or LATENCY:OUTSTANDING, got {text!r}") from error


IDEAL = MemoryModel(1)
"""A request in every cycle, its first beat in the next, a beat a cycle."""
