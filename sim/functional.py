"""The functional simulator: a program's instructions in order, bit-exact with the hardware, without time.

Instructions execute one after another with the integer semantics of :mod:`trilobit.isa.semantics`; what the hardware
overlaps cannot be told apart by its results. It needs no compiler on the machine and no torch. Timing faults of the
hardware's prefetch are the one liberty: a bad segment header faults the instruction that consumes it here, and may stop the
hardware some instructions earlier.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from trilobit.errors import ConfigError, ProgramError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA, UNITS, Instruction
from trilobit.sim.backend import (
    Backend,
    HostSettings,
    Retire,
    RunResult,
    check_program,
    check_prompt,
    check_register,
    initial_memory,
    register_values,
)
from trilobit.sim.func_fault import BAD_OPCODE, PROGRAM_COUNTER, MachineFault, check_alignment, footprint, static_fault
from trilobit.sim.func_ops import HALT, WAIT, Bound, bind
from trilobit.sim.func_state import State
from trilobit.sim.func_stream import DEFAULT_CACHE_BYTES, SegmentStream
from trilobit.sim.native import ternary_product

__all__ = ["FunctionalSimulator"]

_NATIVE_FROM = 1 << 20  # bytes of an image; below it the second of g++ at the first use is not worth it


class FunctionalSimulator(Backend):
    """Executes a program instruction by instruction.

    Args:
        config, program, memory, settings: as :class:`~trilobit.sim.backend.Backend`. What lies below
            ``program.write_start`` must not be changed from outside once it was used: decoded weights are kept.
        cache_bytes: memory for decoded weights (4 bytes each) and gains; what goes beyond is decoded at each use.
        native: multiply packed weights by compiled code (:mod:`trilobit.sim.native`) instead of decoding them; None does so
            for an image of at least a megabyte if there is a compiler.

    Attributes:
        fault_detail: what the fault was about, for people; empty if the cause says it all.

    Raises:
        ProgramError: more instructions than the core holds, or a word that sets bits or values it must not. An undefined
            opcode and a bad length are faults, when the program reaches them.
    """

    def __init__(
        self,
        config: CoreConfig,
        program: Program,
        memory: np.ndarray | None = None,
        settings: HostSettings | None = None,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        native: bool | None = None,
    ):
        check_program(program, config)
        self.config, self.program = config, program
        self.settings = settings or HostSettings()
        self.record_retires = False
        self.retires: list[Retire] = []
        self.fault_detail = ""
        self._memory = initial_memory(program, memory)
        plain = np.asarray(self._memory)  # the same bytes without a memmap's cost per slice
        use_native = program.write_start >= _NATIVE_FROM if native is None else native
        stream = SegmentStream(config, plain, program.write_start, cache_bytes, ternary_product() if use_native else None)
        self._state = State(config, plain, self.settings, stream)
        self._instructions = [_decode(word, pc, program.name, config) for pc, word in enumerate(program.code)]
        self._bound = [self._bind(instruction, pc) for pc, instruction in enumerate(self._instructions)]
        self._executed = [0] * len(program.code)
        self._pc = 0
        self._fault = self._fault_pc = 0
        self._halted = self._waiting = False

    def _bind(self, instruction: Instruction | None, pc: int) -> Bound:
        if instruction is None:
            return _faulting(BAD_OPCODE)
        cause = static_fault(instruction, self.config, self.program.window_size, self.program.write_start)
        return _faulting(cause) if cause else bind(instruction, pc, self._state)

    @property
    def pc(self) -> int:
        """The instruction that comes next."""
        return self._pc

    @property
    def committed(self) -> list[int]:
        """The tokens that argmax has found whenever it committed: one of each slot, in the order of the slots."""
        return self._state.committed

    @property
    def memory(self) -> np.ndarray:
        """The memory window, live: [window_size] of uint8."""
        return self._memory

    def push(self, tokens: Sequence[int], slot: int = 0) -> None:
        """Queue prompt tokens of a slot; ConfigError if one has more than 24 bits."""
        check_prompt(self.config, tokens, slot)
        self._state.slots[slot].prompts.extend(int(token) for token in tokens)

    def set_register(self, index: int, values: np.ndarray) -> None:
        """Write the first elements of a vector register; see :class:`~trilobit.sim.backend.Backend`."""
        values = register_values(self.config, index, values)
        self._state.registers[index, :, : values.shape[1]] = values

    def register(self, index: int) -> np.ndarray:
        """A copy of a vector register: [max_length] of int64, or [batch, max_length] for a batch above 1."""
        check_register(index)
        slots = self._state.registers[index]
        return (slots[0] if self.config.batch == 1 else slots).copy()

    def run(
        self,
        on_token: Callable[[int], None] | None = None,
        *,
        on_slot_token: Callable[[int, int], None] | None = None,
        max_instructions: int | None = None,
        max_cycles: int | None = None,
    ) -> RunResult:
        """Run until halt, fault or an empty prompt; see :class:`~trilobit.sim.backend.Backend`.

        Raises:
            ConfigError: ``max_cycles`` is given; time is not simulated here.
        """
        if max_cycles is not None:
            raise ConfigError("expected max_instructions, got max_cycles: the functional simulator has no clock")
        self._state.on_token, self._state.on_slot_token = on_token, on_slot_token
        left = -1 if max_instructions is None else max_instructions
        while left and self._advance():
            left -= 1
        return self.result()

    def step(self) -> Retire | None:
        """Execute one instruction; None if none can be: halted, fault, or waiting for a prompt token."""
        pc = self._pc
        return Retire(pc, self._unit(pc)) if self._advance() else None

    def _unit(self, pc: int) -> str:
        return ISA.by_opcode[self.program.code[pc] & 0xFF].unit

    def _advance(self) -> bool:
        """Execute the next instruction; False if nothing was executed."""
        if self._halted or self._fault:
            return False
        pc = self._pc
        try:
            if pc >= len(self._bound):
                raise MachineFault(PROGRAM_COUNTER, f"the program has {len(self._bound)} instructions")
            following = self._bound[pc]()
        except MachineFault as fault:
            self._fault, self._fault_pc, self.fault_detail = fault.code, pc, fault.detail
            return False
        self._waiting = following == WAIT
        if self._waiting:
            return False
        self._executed[pc] += 1
        if self.record_retires:
            self.retires.append(Retire(pc, self._unit(pc)))
        if following is None:
            self._pc = pc + 1
        elif following == HALT:
            self._halted = True
        else:
            self._pc = following
        return True

    def result(self) -> RunResult:
        """The state as :meth:`run` would report it now."""
        state = self._state
        return RunResult(
            tokens=list(state.emitted), slots=list(state.emitted_slots), fault=self._fault, fault_pc=self._fault_pc, halted=self._halted,
            waiting=self._waiting, retired=sum(self._executed), cycles=None, counters=self._counters(),
            saturated=dict(sorted(state.saturated.items())), weights=state.weights,
        )  # fmt: skip

    def _counters(self) -> dict[str, int]:
        """Instructions by unit, and bytes moved: what can be known without a clock."""
        units = Counter(dict.fromkeys(UNITS, 0))
        read = written = 0
        for instruction, times in zip(self._instructions, self._executed, strict=True):
            if instruction is None or not times:
                continue
            units[instruction.opcode.unit] += times
            size = times * (footprint(instruction, self.config) or 0)
            read += size if instruction.name == "ldv" else 0
            read += size * self.config.batch if instruction.name == "emb" else 0
            written += size if instruction.name in ("sv", "clr") else 0
        counters = {f"retired_{unit}": units[unit] for unit in UNITS}
        moved = {"bytes_loaded": read, "bytes_stored": written, "bytes_streamed": self._state.stream.bytes_read}
        return counters | moved

    def close(self) -> None:
        """Nothing is held."""


def _decode(word: int, pc: int, name: str, config: CoreConfig) -> Instruction | None:
    """An instruction; None for an undefined opcode. A length of zero passes: it is a fault when it is met."""
    opcode = ISA.by_opcode.get(word & 0xFF)
    if opcode is None:
        return None
    instruction = Instruction(opcode, {field.name: field.get(word) for field in opcode.fields})
    try:
        ISA.decode(word if instruction.get("len", 1) else word | 1 << ISA.fields["len"].lo)
        check_alignment(instruction, config)
    except ProgramError as error:
        raise ProgramError(f"program {name!r}, word {pc}: {error}") from error
    return instruction


def _faulting(cause: int) -> Bound:
    def run() -> None:
        raise MachineFault(cause)

    return run
