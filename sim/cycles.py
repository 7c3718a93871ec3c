"""The cycle model: when everything happens in a program, without data, equal to the RTL to the cycle.

Of a pipelined core it steps the control of each unit (cycles.cpp) with the latencies of ``timing.yaml``; of a lean core it runs the
microprogram (lean.cpp). The memories are those of ``memory_model.h``, which the RTL simulation shares. Equality with the RTL is tested on
random programs, memories and cores: the cycle in which each instruction retires, all cycles, and all counters
(tests/sim/test_cycles_rtl.py, test_lean_cycles.py). It needs a C++ compiler, and neither Amaranth nor Verilator.
"""

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.segments import Segment
from trilobit.isa.spec import ISA
from trilobit.sim.backend import (
    TOKEN_LIMIT,
    Backend,
    HostSettings,
    Retire,
    RunResult,
    check_program,
    check_prompt,
    initial_memory,
    report_tokens,
)
from trilobit.sim.cycles_build import COUNTERS, WAITS, load_cycles
from trilobit.sim.cycles_decode import StreamSegment, decode_program, known_segments, machine_of, stream_segments
from trilobit.sim.cycles_timing import timing
from trilobit.sim.memory import IDEAL, Memory, parse_memory
from trilobit.sim.trace_records import TraceRecords, read_records

__all__ = ["UNITS", "CycleModel"]

UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise", "control")
"""Units in the order of the core's ``retire_valid`` bits."""

UNTIL_RETIRE, UNTIL_TOKEN = 1, 2
LIMIT, TOKEN, HALTED, FAULT, WAITING, RETIRE = range(6)  # enum Reason of cycles.h
FOREVER = (1 << 64) - 1
SLICE = 20_000_000  # cycles between looks at Python's signals (Ctrl-C)
DEFAULT_SETTINGS = HostSettings()


class _RetireRecord(ctypes.Structure):
    _fields_ = [("cycle", ctypes.c_uint64), ("pc", ctypes.c_uint16), ("unit", ctypes.c_uint16), ("zero", ctypes.c_uint32)]


class CycleModel(Backend):
    """A program on the cycle model.

    Values are not simulated: registers can't be read or written, stores change nothing, and ``argmax`` finds the tokens that are given.

    Args:
        program: instructions and memory window.
        config: the core's parameters.
        memory: ``"ideal"``, ``"LATENCY:OUTSTANDING"``, a memory's name or file, or a :class:`trilobit.sim.memory.Memory`.
        settings: what the host asks for; ``eos`` and ``limit`` count.
        image: [window_size] of uint8 with the stream's headers; default the program's regions.
        segments: the stream's segments instead of an image; then the image is not made.
        generated: tokens that ``argmax`` commits, in order, with a batch one of each slot a time; token 0 behind the last. They choose
            embedding rows, and ``eos`` ends.

    Raises:
        ProgramError: the core can't hold the program (:func:`trilobit.sim.backend.check_program`).
        ConfigError: no such memory, or none for this core.
        ToolError: there is no C++ compiler.
    """

    def __init__(self, program: Program, config: CoreConfig, memory: "str | Memory" = IDEAL, settings: HostSettings = DEFAULT_SETTINGS, *,
                 image: np.ndarray | None = None, segments: Sequence[Segment] | None = None, generated: Sequence[int] = ()):  # fmt: skip
        self._model = None
        check_program(program, config)
        self.config, self.program, self.settings = config, program, settings
        self.memory_model = parse_memory(memory)
        self._image = image
        if segments is None:
            self._image = initial_memory(program, image)
            ordered = stream_segments(program, config, self._image)
        else:
            ordered = known_segments(segments)
        self._segments = {segment.addr: segment for segment in ordered}
        self._lib, self._model = self._load(ordered, segments)
        if not self._model:
            raise ConfigError(f"memory {self.memory_model.name!r}: expected a core of at least 4 bytes a beat, got {config.beat_bytes}")
        self.give(generated)
        self._reason = LIMIT
        self._seen = 0  # retire records handed out by step()
        self.record_retires = False

    def _load(self, ordered: list[StreamSegment], segments: Sequence[Segment] | None) -> tuple[ctypes.CDLL, int | None]:
        """The compiled model of the config's machine, and a new one in it; None if the memory doesn't fit the core."""
        if self.config.machine == "lean":
            from trilobit.sim.lean import new_lean

            return new_lean(self.program, self.config, self.memory_model, self.settings, ordered, segments, self._image)
        lib, machine = load_cycles(), machine_of(self.program, self.config, self.settings)
        parameters = self.memory_model.parameters(self.config.clock_mhz)
        model = lib.new(
            ctypes.byref(machine), ctypes.byref(timing()), decode_program(self.program, self.config), len(self.program.code),
            (StreamSegment * len(ordered))(*ordered), len(ordered), ctypes.byref(parameters),
        )  # fmt: skip
        return lib, model

    # ---- Backend -----------------------------------------------------------------------------------------------------------

    def push(self, tokens: Sequence[int], slot: int = 0) -> None:
        check_prompt(self.config, tokens, slot)
        self._give(self._lib.push, tokens, "prompt tokens", slot)
        if self._reason == WAITING and len(tokens):
            self._reason = LIMIT

    def give(self, generated: Sequence[int]) -> None:
        """Further tokens that ``argmax`` commits, behind those that it was given."""
        self._give(self._lib.generated, generated, "generated tokens")

    def run(self, on_token: Callable[[int], None] | None = None, *, on_slot_token: Callable[[int, int], None] | None = None,
            max_instructions: int | None = None, max_cycles: int | None = None) -> RunResult:  # fmt: skip
        self._lib.record(self._handle, int(self.record_retires))
        budget = FOREVER if max_cycles is None else max_cycles
        retired = self._retired() if max_instructions is not None else 0
        while budget > 0 and self._reason not in (HALTED, FAULT, WAITING):
            before, tokens = self.cycles, len(self._tokens())
            self._reason = self._lib.run(self._handle, min(budget, SLICE), int(max_instructions is not None))
            budget -= self.cycles - before
            if on_token is not None or on_slot_token is not None:
                report_tokens(list(zip(self._tokens(), self._slots(), strict=True))[tokens:], on_token, on_slot_token)
            if max_instructions is not None and self._retired() - retired >= max_instructions:
                break
        return self.result()

    def run_to_token(self) -> bool:
        """Run until the next token, of whichever slot, is emitted; False if none is: the program halted, faulted, or waits."""
        self._lib.record(self._handle, int(self.record_retires))
        while self._reason not in (HALTED, FAULT, WAITING):
            self._reason = self._lib.run(self._handle, SLICE, UNTIL_TOKEN)
            if self._reason == TOKEN:
                return True
        return False

    def waits(self) -> dict[tuple[str, str], int]:
        """Cycles in which a unit waited, by unit and cause, beside the causes that the hardware counts."""
        return dict(zip(WAITS, self._lib.waits(self._handle)[: len(WAITS)], strict=True))

    def step(self) -> Retire | None:
        self._lib.record(self._handle, 1)
        while self._seen >= len(records := self.retires):
            if self._reason in (HALTED, FAULT, WAITING):
                return None
            self._reason = self._lib.run(self._handle, SLICE, UNTIL_RETIRE)
        self._seen += 1
        return records[self._seen - 1]

    def result(self) -> RunResult:
        counters = dict(zip(COUNTERS, self._lib.counters(self._handle)[: len(COUNTERS)], strict=True))
        del counters["saturated"]
        return RunResult(
            tokens=self._tokens(), slots=self._slots(),
            fault=self._lib.fault(self._handle), fault_pc=self._lib.fault_pc(self._handle),
            halted=self._reason == HALTED, waiting=self._reason == WAITING, retired=self._retired(), cycles=counters["cycles"],
            counters=counters, weights=self._weights(),
        )  # fmt: skip

    def set_register(self, index: int, values: np.ndarray) -> None:
        raise ConfigError("expected the functional or rtl backend for values in registers; the cycle model has no data")

    def register(self, index: int) -> np.ndarray:
        raise ConfigError("expected the functional or rtl backend to read registers; the cycle model has no data")

    @property
    def memory(self) -> np.ndarray:
        """The image as it was given; stores don't change it."""
        if self._image is None:
            raise ConfigError("expected an image to read memory, this model was made from segments alone")
        return self._image

    @property
    def retires(self) -> list[Retire]:  # type: ignore[override]  # an attribute there: read only here
        """Instructions retired since ``record_retires`` was set, in order of their cycle."""
        pointer = ctypes.c_void_p()
        count = self._lib.retires(self._handle, ctypes.byref(pointer))
        return [Retire(r.pc, UNITS[r.unit], r.cycle) for r in _array(pointer, _RetireRecord, count)]

    @property
    def cycles(self) -> int:
        """Clock cycles since the program was started."""
        return self._lib.now(self._handle)

    def trace(self, on: bool = True) -> None:
        """Record a timeline from now on."""
        self._lib.trace(self._handle, int(on))

    def trace_records(self) -> TraceRecords:
        """The timeline so far, for :func:`trilobit.sim.trace.write_trace`."""
        return read_records(self._lib.trace_records, self._handle)

    def close(self) -> None:
        if self._model:
            self._lib.delete(self._model)
            self._model = None

    def __del__(self):
        self.close()

    # ---- the library -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> "CycleModel":
        return self

    @property
    def _handle(self) -> int:
        if not self._model:
            raise ConfigError("expected an open model, this one was closed")
        return self._model

    def _give(self, function, tokens: Sequence[int], what: str, *more: int) -> None:
        for token in tokens:
            if not 0 <= token < TOKEN_LIMIT:
                raise ConfigError(f"expected {what} from 0 to {TOKEN_LIMIT - 1}, got {token!r}")
        values = np.asarray(tokens, dtype=np.uint32)
        function(self._handle, ctypes.c_void_p(values.ctypes.data), len(values), *more)

    def _tokens(self) -> list[int]:
        pointer = ctypes.c_void_p()
        count = self._lib.tokens(self._handle, ctypes.byref(pointer))
        return _array(pointer, ctypes.c_uint32, count)[:]

    def _slots(self) -> list[int]:
        """The slot of each emitted token."""
        count = self._lib.tokens(self._handle, ctypes.byref(ctypes.c_void_p()))
        return _array(self._lib.token_slots(self._handle), ctypes.c_uint32, count)[:]

    def _by_pc(self) -> np.ndarray:
        return np.ctypeslib.as_array(self._lib.retired_by_pc(self._handle), shape=(1 << 16,))

    def _retired(self) -> int:
        return int(self._by_pc().sum())

    def _weights(self) -> int:
        counts = self._by_pc()
        total = 0
        opcode, address = ISA.by_name["tmatmul"].opcode, ISA.fields["addr"]
        for pc in np.flatnonzero(counts[: len(self.program.code)]).tolist():
            word = self.program.code[pc]
            if word & 0xFF == opcode:
                segment = self._segments[address.get(word)]
                total += int(counts[pc]) * segment.rows * segment.columns
        return total


def _array(pointer: ctypes.c_void_p, kind, count: int):
    return ctypes.cast(pointer, ctypes.POINTER(kind))[:count] if count else []
