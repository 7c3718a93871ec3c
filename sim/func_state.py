"""The machine's state as the functional simulator holds it."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import ACT_ZERO, Scalar
from trilobit.isa.spec import VECTOR_REGISTERS
from trilobit.sim.backend import HostSettings
from trilobit.sim.func_stream import SegmentStream

__all__ = ["ActBuffer", "State"]


@dataclass
class ActBuffer:
    """An activation buffer: whole numbers of int8 as float32 [length], ready for the product, and their scale."""

    values: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    scale: Scalar = ACT_ZERO


class State:
    """Everything that instructions read and write.

    Vector registers are int64 [8, max_length] that hold 32-bit values. ``best`` is the running search of argmax: score
    and token; one that was never begun with ``first`` has what the hardware has after reset. ``position`` counts the
    tokens that argmax has committed.
    """

    def __init__(self, config: CoreConfig, memory: np.ndarray, settings: HostSettings, stream: SegmentStream):
        self.config = config
        self.memory = memory
        self.settings = settings
        self.temperature = settings.temperature_scalar()
        self.stream = stream
        self.registers = np.zeros((VECTOR_REGISTERS, config.max_length), dtype=np.int64)
        self.acts = [ActBuffer(), ActBuffer()]
        self.scalars = [ACT_ZERO] * 4
        self.counters = [0] * 4
        self.prompts: deque[int] = deque()
        self.prompt_flag = False
        self.token = 0
        self.best = (0, 0)
        self.position = 0
        self.committed: list[int] = []
        self.emitted: list[int] = []
        self.on_token: Callable[[int], None] | None = None
        self.saturated: Counter[int] = Counter()
        self.weights = 0
