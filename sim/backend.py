"""What every simulator of the machine offers: load a program, push prompt tokens, run, look at registers and memory.

The functional simulator (:mod:`trilobit.sim.functional`) and the RTL simulator (:mod:`trilobit.sim.rtl`) implement
:class:`Backend`, so that a command or a test written against it runs on both.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from trilobit.errors import ConfigError, ProgramError
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import Scalar
from trilobit.isa.spec import VECTOR_REGISTERS

if TYPE_CHECKING:
    from trilobit.isa.program import Program
    from trilobit.sim.trace_records import TraceRecords

__all__ = ["FAULTS", "TOKEN_LIMIT", "Backend", "HostSettings", "Retire", "RunResult", "check_program", "check_prompt", "check_register",
           "initial_memory", "register_values", "report_tokens"]  # fmt: skip

TOKEN_LIMIT = 1 << 24  # tokens are 24 bits
LOWEST_TEMPERATURE = 0.01
TEMPERATURE_BITS = 16

# Cause codes of docs/decisions/0001-machine.md, for people.
FAULTS = {
    0: "none",
    1: "bad opcode",
    2: "length beyond max_length, or zero",
    3: "address outside the memory window",
    4: "store below write_start",
    5: "bad segment header, or one that does not match the instruction",
    6: "memory error response",
    7: "token not below rows",
    8: "program counter outside the program",
}


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """What the host writes into the core's registers before it starts a program.

    Attributes:
        seed: 32 bits, key of the Gumbel noise; that of slot b is ``seed + b`` modulo 2^32.
        temperature: 0 for greedy, else at least 0.01.
        eos: token that ends the sequence for ``bdone`` (24 bits; the default is never a token).
        limit: emitted tokens of a slot at which ``bdone`` takes it as done (32 bits).
    """

    seed: int = 0
    temperature: float = 0.0
    eos: int = 0xFFFFFF
    limit: int = 0xFFFFFFFF

    def __post_init__(self):
        for name, bits in (("seed", 32), ("eos", 24), ("limit", 32)):
            value = getattr(self, name)
            if not 0 <= value < 1 << bits:
                raise ConfigError(f"expected {name} from 0 to {(1 << bits) - 1}, got {value!r}")
        t = self.temperature
        if not math.isfinite(t) or t < 0 or 0 < t < LOWEST_TEMPERATURE:
            raise ConfigError(f"expected a temperature of 0 (greedy) or at least {LOWEST_TEMPERATURE}, got {t!r}")

    def temperature_scalar(self) -> Scalar:
        """``1 / (T ln 2)`` as a 16-bit mantissa (nearest) and an exponent; mantissa 0 for T = 0."""
        if self.temperature == 0:
            return Scalar(0, 0)
        value = Fraction(1 / (self.temperature * math.log(2)))
        exponent = math.frexp(float(value))[1] - TEMPERATURE_BITS
        mantissa = math.floor(value / Fraction(2) ** exponent + Fraction(1, 2))
        if mantissa == 1 << TEMPERATURE_BITS:
            mantissa, exponent = mantissa >> 1, exponent + 1
        if exponent < -512:  # the register holds 10 signed bits; noise drowns the logits long before
            return Scalar(1 << (TEMPERATURE_BITS - 1), -512)
        return Scalar(mantissa, exponent)


@dataclass(frozen=True)
class Retire:
    """An instruction that has finished: its pc, its unit, and the cycle (None where time is not simulated)."""

    pc: int
    unit: str
    cycle: int | None = None


@dataclass(kw_only=True)
class RunResult:
    """Why a run came back and what it did. Numbers count from the start of the program, not of this call.

    Attributes:
        tokens: all tokens emitted since the start, of all slots, in the order in which they were emitted.
        slots: the slot of each token; all 0 for a core of batch 1.
        fault: cause code (:data:`FAULTS`), 0 for none; fault_pc: pc of the instruction at fault.
        halted: a ``halt`` has retired. waiting: the program waits for a prompt token (``push``, then ``run`` goes on).
            With none of the three, the limit of instructions or cycles was reached.
        retired: instructions executed.
        cycles: clock cycles, None where time is not simulated.
        counters: the backend's counters by name.
        saturated: pc -> elements that saturated (functional only).
        weights: ternary weights consumed, padding not counted; one that serves several slots counts once.
    """

    tokens: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    fault: int = 0
    fault_pc: int = 0
    halted: bool = False
    waiting: bool = False
    retired: int = 0
    cycles: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    saturated: dict[int, int] = field(default_factory=dict)
    weights: int = 0

    def tokens_of(self, slot: int) -> list[int]:
        """The tokens that one slot emitted."""
        return [token for token, of in zip(self.tokens, self.slots, strict=True) if of == slot]


def initial_memory(program: "Program", memory: np.ndarray | None) -> np.ndarray:
    """The memory a backend starts with: the given one (kept, not copied) or the program's regions.

    Raises:
        ConfigError: not a writable one-dimensional uint8 array of ``program.window_size`` bytes.
    """
    if memory is None:
        return program.memory()
    if memory.dtype != np.uint8 or memory.ndim != 1 or len(memory) != program.window_size or not memory.flags.writeable:
        raise ConfigError(
            f"expected the memory as a writable uint8 array of window_size={program.window_size} bytes, got "
            f"{memory.dtype} of shape {memory.shape}{'' if memory.flags.writeable else ', read-only'}"
        )
    return memory


def check_program(program: "Program", config: CoreConfig) -> None:
    """Refuse a program that a core can't hold: too many instructions, or for a lean core a window or a ``write_start`` that it can't keep.

    Raises:
        ProgramError: more than ``program_words``; for a lean core, which counts both in beats, in 32 bits, also a window or ``write_start``
            that is no multiple of beat_bytes, and a window of 2^32 beats or more.
    """
    if len(program.code) > config.program_words:
        raise ProgramError(
            f"program {program.name!r}: expected at most {config.program_words} instructions for core {config.name!r}, "
            f"got {len(program.code)}"
        )
    if config.machine != "lean":
        return
    for name in ("window_size", "write_start"):
        if getattr(program, name) % config.beat_bytes:
            raise ProgramError(
                f"program {program.name!r}: expected {name} as a multiple of beat_bytes={config.beat_bytes} of the lean core "
                f"{config.name!r}, got {getattr(program, name)}; round it up"
            )
    if program.window_size >> 32 >= config.beat_bytes:
        raise ProgramError(
            f"program {program.name!r}: expected a window of less than 2^32 beats for the lean core {config.name!r}, got "
            f"{program.window_size // config.beat_bytes}; take wider beats, or the pipelined machine"
        )


def check_prompt(config: CoreConfig, tokens: Sequence[int], slot: int) -> None:
    """Refuse prompt tokens of more than 24 bits and slots that the core doesn't have (ConfigError)."""
    if not 0 <= slot < config.batch:
        raise ConfigError(f"expected a slot from 0 to {config.batch - 1} on core {config.name!r} of batch {config.batch}, got {slot!r}")
    for token in tokens:
        if not 0 <= token < TOKEN_LIMIT:
            raise ConfigError(f"expected prompt tokens from 0 to {TOKEN_LIMIT - 1}, got {token!r}")


def register_values(config: CoreConfig, index: int, values: np.ndarray) -> np.ndarray:
    """What ``set_register`` was given, checked, as [batch, length] (ConfigError)."""
    check_register(index)
    values = np.asarray(values)
    shape = "[length]" if config.batch == 1 else f"[{config.batch}, length]"
    if not np.issubdtype(values.dtype, np.integer):
        raise ConfigError(f"v{index}: expected a vector of integers, got {values.dtype}")
    if values.shape[:-1] != (() if config.batch == 1 else (config.batch,)) or not values.ndim:
        raise ConfigError(f"v{index}: expected values of shape {shape}, got shape {values.shape}")
    if values.shape[-1] > config.max_length:
        raise ConfigError(f"v{index}: expected at most max_length={config.max_length} elements, got {values.shape[-1]}")
    if values.size and (int(values.min()) < -(1 << 31) or int(values.max()) >= 1 << 31):
        raise ConfigError(f"v{index}: expected 32-bit values, got from {values.min()} to {values.max()}")
    return values.reshape(config.batch, -1)


def check_register(index: int) -> None:
    """Refuse an index that no vector register has (ConfigError)."""
    if not 0 <= index < VECTOR_REGISTERS:
        raise ConfigError(f"expected a vector register from 0 to {VECTOR_REGISTERS - 1}, got {index!r}")


def report_tokens(
    pairs: Iterable[tuple[int, int]], on_token: Callable[[int], None] | None, on_slot_token: Callable[[int, int], None] | None
) -> None:
    """Tell the callbacks of :meth:`Backend.run` about tokens and their slots."""
    for token, slot in pairs:
        if on_token is not None:
            on_token(token)
        if on_slot_token is not None:
            on_slot_token(token, slot)


class Backend(ABC):
    """A machine with a program in it, at the start of the program.

    A core of batch B runs B sequences ("slots", 0 to B - 1) in lockstep, each with prompt tokens, registers and noise of its own.

    Args:
        config: the core's parameters.
        program: instructions, window size and start of the writable part.
        memory: [window_size] of uint8, changed in place by stores; default ``program.memory()``.
        settings: what the host asks for.
    """

    config: CoreConfig
    program: "Program"
    settings: HostSettings
    record_retires: bool = False
    retires: list[Retire]

    @abstractmethod
    def push(self, tokens: Sequence[int], slot: int = 0) -> None:
        """Queue prompt tokens (24 bits each) of a slot, before a run or while the program waits."""

    @abstractmethod
    def run(
        self,
        on_token: Callable[[int], None] | None = None,
        *,
        on_slot_token: Callable[[int, int], None] | None = None,
        max_instructions: int | None = None,
        max_cycles: int | None = None,
    ) -> RunResult:
        """Run until the program halts, faults, or waits for a prompt token of a slot that has none; call again to go on.

        Args:
            on_token: called with each token as it is emitted, whatever its slot.
            on_slot_token: called with each token and its slot.
            max_instructions: return after so many further instructions (functional).
            max_cycles: return after so many further cycles (RTL).
        """

    @abstractmethod
    def step(self) -> Retire | None:
        """Run until the next instruction retires. None if none can: halted, fault, or waiting for a prompt token."""

    @abstractmethod
    def result(self) -> RunResult:
        """The state as :meth:`run` would report it now."""

    @abstractmethod
    def set_register(self, index: int, values: np.ndarray) -> None:
        """Write the first elements of a vector register: [length] of signed 32-bit integers, or [batch, length] for a batch above 1.

        Raises:
            ConfigError: no such register, another shape, longer than max_length, or a value beyond 32 bits.
        """

    @abstractmethod
    def register(self, index: int) -> np.ndarray:
        """A copy of a vector register: [max_length] of int64, or [batch, max_length] for a batch above 1."""

    def trace(self, on: bool = True) -> None:
        """Record a timeline from now on, where time is simulated.

        Raises:
            ConfigError: this backend has no clock.
        """
        raise ConfigError("expected the cycles or rtl backend for a timeline; the functional one has no clock")

    def trace_records(self) -> "TraceRecords":
        """The timeline so far, for :func:`trilobit.sim.trace.write_trace`; ConfigError as :meth:`trace`."""
        raise ConfigError("expected the cycles or rtl backend for a timeline; the functional one has no clock")

    @property
    @abstractmethod
    def memory(self) -> np.ndarray:
        """The memory window, live: [window_size] of uint8."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the backend holds (processes, files). Idempotent."""

    def __enter__(self) -> "Backend":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()
