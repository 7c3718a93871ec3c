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

__all__ = ["ActBuffer", "Slot", "State"]

SEED_MASK = (1 << 32) - 1


@dataclass
class ActBuffer:
    """An activation buffer: whole numbers of int8 as float32 [length], ready for the product, and their scale."""

    values: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    scale: Scalar = ACT_ZERO


class Slot:
    """What one sequence of a batch has for itself.

    ``registers`` is [8, max_length] of int64 with 32-bit values. ``best`` is the running search of argmax: score and token; one that
    was never begun with ``first`` has what the hardware has after reset. ``position`` counts the tokens that argmax has committed.
    ``prompted``: the last ``poll`` took a token of this slot. ``done``: ``bdone`` has seen its end, and other slots go on.
    """

    def __init__(self, registers: np.ndarray, seed: int):
        self.registers = registers
        self.seed = seed
        self.acts = [ActBuffer(), ActBuffer()]
        self.scalars = [ACT_ZERO] * 4
        self.prompts: deque[int] = deque()
        self.token = 0
        self.best = (0, 0)
        self.position = 0
        self.emitted = 0
        self.prompted = self.done = False


class State:
    """Everything that instructions read and write: control once, data once a slot.

    ``committed`` holds what argmax found whenever it committed: a token a slot, of suppressed slots too.
    """

    def __init__(self, config: CoreConfig, memory: np.ndarray, settings: HostSettings, stream: SegmentStream):
        self.config = config
        self.memory = memory
        self.settings = settings
        self.temperature = settings.temperature_scalar()
        self.stream = stream
        self.registers = np.zeros((VECTOR_REGISTERS, config.batch, config.max_length), dtype=np.int64)
        self.slots = [Slot(self.registers[:, b], (settings.seed + b) & SEED_MASK) for b in range(config.batch)]
        self.counters = [0] * 4
        self.prompt_flag = False
        self.committed: list[int] = []
        self.emitted: list[int] = []
        self.emitted_slots: list[int] = []
        self.on_token: Callable[[int], None] | None = None
        self.on_slot_token: Callable[[int, int], None] | None = None
        self.saturated: Counter[int] = Counter()
        self.weights = 0

    def suppressed(self, slot: Slot) -> bool:
        """Whether a slot reads its prompt while others generate: its results don't count."""
        return slot.prompted and not self.prompt_flag
