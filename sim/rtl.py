"""The RTL simulator: the core's own Verilog, compiled by Verilator together with a memory and a host in C++ (harness.cpp)."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from trilobit.errors import ConfigError, ToolError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.segments import parse_segment
from trilobit.isa.slots import interleave
from trilobit.isa.spec import ISA
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
    report_tokens,
)
from trilobit.sim.memory import IDEAL, Memory, parse_memory
from trilobit.sim.rtl_build import core_verilog, simulator_library
from trilobit.sim.trace_records import TraceRecords, read_records

__all__ = ["UNITS", "RtlSimulator"]

DEFAULT_SETTINGS = HostSettings()

UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise", "control")
"""Units in the order of the core's ``retire_valid`` bits."""

LIMIT, TOKEN, HALTED, FAULT, WAITING, RETIRE = range(6)  # enum Reason of harness.h
FOREVER = (1 << 64) - 1
SLICE = 2_000_000  # cycles between looks at Python's signals (Ctrl-C)
SCRATCH_ALIGN = 256


class _RetireRecord(ctypes.Structure):
    _fields_ = [("cycle", ctypes.c_uint64), ("pc", ctypes.c_uint16), ("unit", ctypes.c_uint16), ("zero", ctypes.c_uint32)]


class RtlSimulator(Backend):
    """A program on the simulated hardware, with the true number of cycles.

    Registers can be written before the first run only, and read while the core does not run (before, after ``halt``, after a fault).

    Args:
        config: the core's parameters; its simulator is built the first time (half a minute) and kept.
        program: what to run.
        memory: [window_size] of uint8, the memory itself: stores change it. Default ``program.memory()``.
        settings: what the host asks for.
        memory_model: a :class:`trilobit.sim.memory.Memory`, or its name as :func:`trilobit.sim.memory.parse_memory` takes it.
        waves: file for every signal (a slower build of its own): waves (FST), or with the suffix ``.saif`` how often each bit changed,
            without gated clocks, as on an FPGA.
        gated_clocks: clock units only in cycles in which they can change; the same machine, faster. A lean core has one clock.

    Raises:
        ProgramError: the core can't hold the program (:func:`trilobit.sim.backend.check_program`).
        ToolError: Verilator, a compiler or Amaranth is missing or fails.
    """

    def __init__(self, config: CoreConfig, program: Program, memory: np.ndarray | None = None,
                 settings: HostSettings = DEFAULT_SETTINGS, *, memory_model: str | Memory = IDEAL,
                 waves: str | Path | None = None, gated_clocks: bool = True):  # fmt: skip
        self._sim = None
        check_program(program, config)
        self.config = config
        self.program = program
        self.settings = settings
        self.memory_model = parse_memory(memory_model)
        self._memory = initial_memory(program, memory)
        if waves is not None and not Path(waves).absolute().parent.is_dir():
            raise ConfigError(f"expected a folder to write {waves} in, found none")
        kind = None if waves is None else "saif" if Path(waves).suffix == ".saif" else "fst"
        gated_clocks = gated_clocks and kind != "saif" and config.machine != "lean"
        library = simulator_library(config, core_verilog(config, gated_clocks=gated_clocks, waves=kind is not None),
                                    gated_clocks=gated_clocks, waves=kind)  # fmt: skip
        self._lib = _load(library)
        if (self._lib.sim_beat_bytes(), self._lib.sim_lanes(), self._lib.sim_batch()) != (config.beat_bytes, config.lanes, config.batch):
            raise ToolError(f"{library} was built for another core; delete it and try again")
        self._sim = self._lib.sim_new(None if waves is None else str(waves).encode())
        if not self._sim:
            raise ConfigError(f"expected to write waves to {waves}, can't open it")
        temperature = settings.temperature_scalar()
        self._lib.sim_settings(self._sim, settings.seed, temperature.mantissa, temperature.exponent, settings.eos, settings.limit)
        self._started = False
        self._reason = LIMIT
        self._pending: list[Retire] = []
        self._seen = 0  # retire records handed out by step()
        self.record_retires = False

    # ---- Backend -----------------------------------------------------------------------------------------------------------

    def push(self, tokens: Sequence[int], slot: int = 0) -> None:
        check_prompt(self.config, tokens, slot)
        values = np.asarray(tokens, dtype=np.uint32)
        self._lib.sim_push(self._handle, _pointer(values), len(values), slot)
        if self._reason == WAITING and len(values):
            self._reason = LIMIT

    def run(self, on_token: Callable[[int], None] | None = None, *, on_slot_token: Callable[[int, int], None] | None = None,
            max_instructions: int | None = None, max_cycles: int | None = None) -> RunResult:  # fmt: skip
        self._start()
        budget = FOREVER if max_cycles is None else max_cycles
        instructions = 0
        retired = self._retired() if max_instructions is not None else 0
        self._lib.sim_record(self._handle, int(self.record_retires))
        while budget > 0 and self._reason not in (HALTED, FAULT, WAITING):
            before, tokens = self._lib.sim_cycles(self._handle), self._token_count()
            self._reason = self._lib.sim_run(self._handle, min(budget, SLICE), int(max_instructions is not None))
            budget -= self._lib.sim_cycles(self._handle) - before
            if on_token is not None or on_slot_token is not None:
                report_tokens(list(zip(self._tokens(), self._slots(), strict=True))[tokens:], on_token, on_slot_token)
            if max_instructions is not None:
                instructions = self._retired() - retired
                if instructions >= max_instructions:
                    break
        return self.result()

    def step(self) -> Retire | None:
        self._start()
        self._lib.sim_record(self._handle, 1)
        while self._seen >= len(records := self._records()):
            if self._reason in (HALTED, FAULT, WAITING):
                return None
            self._reason = self._lib.sim_run(self._handle, SLICE, 1)
        self._seen += 1
        return records[self._seen - 1]

    def counters(self) -> dict[str, int]:
        """The core's counters by name, at any time; empty before the first run."""
        from trilobit.hdl.counters import COUNTERS

        return {name: self._lib.sim_counter(self._handle, k) for k, name in enumerate(COUNTERS)} if self._started else {}

    def result(self) -> RunResult:
        counters = self.counters()
        return RunResult(
            tokens=self._tokens() if self._started else [],
            slots=self._slots() if self._started else [],
            fault=self._lib.sim_fault(self._handle),
            fault_pc=self._lib.sim_fault_pc(self._handle) if self._reason == FAULT else 0,
            halted=self._reason == HALTED,
            waiting=self._reason == WAITING,
            retired=self._retired() if self._started else 0,
            cycles=counters.get("cycles", 0),
            counters=counters,
            weights=self._weights() if self._started else 0,
        )

    def set_register(self, index: int, values: np.ndarray) -> None:
        data = register_values(self.config, index, values)
        if self._started:
            raise ConfigError("expected registers to be written before the program runs; this one has started")
        length = data.shape[1]
        if not length:
            raise ConfigError(f"expected at least one element for v{index}, got none")
        # A program of two instructions loads it from a memory of its own.
        stored = interleave(self.config, data if self.config.batch > 1 else data[0]).astype("<i4").view(np.uint8)
        scratch = np.zeros(-(-len(stored) // SCRATCH_ALIGN) * SCRATCH_ALIGN, dtype=np.uint8)
        scratch[: len(stored)] = stored
        load = ISA.encode("ldv", vd=index, addr=0, len=length, wide=1)
        self._attach(scratch, 0, IDEAL)
        self._load_program([load, ISA.encode("halt")])
        self._lib.sim_start(self._handle)
        reason = self._lib.sim_run(self._handle, 1_000_000, 0)
        if reason != HALTED:
            raise ToolError(f"expected the core to load v{index} and halt, it stopped with reason {reason}; this is a bug")

    def register(self, index: int) -> np.ndarray:
        check_register(index)
        if self._started and self._lib.sim_running(self._handle):
            raise ConfigError("expected the core to have stopped; its registers can't be read while it runs")
        config = self.config
        words = np.zeros((config.words, config.batch, config.lanes), dtype=np.int32)
        self._lib.sim_register(self._handle, index, config.words, _pointer(words))
        slots = words.transpose(1, 0, 2).reshape(config.batch, config.max_length).astype(np.int64)
        return slots[0] if config.batch == 1 else slots

    @property
    def memory(self) -> np.ndarray:
        return self._memory

    @property
    def retires(self) -> list[Retire]:  # type: ignore[override]  # an attribute there: read only here
        """Instructions retired since ``record_retires`` was set, in order of their cycle."""
        return self._records() if self._started else []

    @property
    def cycles(self) -> int:
        """Clock cycles since the program was started; 0 before."""
        return self._lib.sim_cycles(self._handle) if self._started else 0

    def trace(self, on: bool = True) -> None:
        """Record a timeline from now on."""
        self._lib.sim_trace(self._handle, int(on))

    def trace_records(self) -> TraceRecords:
        """The timeline so far, for :func:`trilobit.sim.trace.write_trace`."""
        return read_records(self._lib.sim_trace_records, self._handle)

    def close(self) -> None:
        if self._sim:
            self._lib.sim_delete(self._sim)
            self._sim = None

    def __del__(self):
        self.close()

    # ---- the library -------------------------------------------------------------------------------------------------------

    @property
    def _handle(self) -> int:
        if not self._sim:
            raise ConfigError("expected an open simulator, this one was closed")
        return self._sim

    def _start(self) -> None:
        if not self._started:
            self._attach(self._memory, self.program.write_start, self.memory_model)
            self._load_program(self.program.code)
            self._lib.sim_start(self._handle)
            self._started = True

    def _attach(self, memory: np.ndarray, write_start: int, model: Memory) -> None:
        self._attached = memory  # the library keeps a pointer
        parameters = model.parameters(self.config.clock_mhz)
        if not self._lib.sim_memory(self._handle, _pointer(memory), len(memory), write_start, ctypes.byref(parameters)):
            raise ConfigError(f"memory {model.name!r}: expected a core of at least 4 bytes a beat, got {self.config.beat_bytes}")

    def _load_program(self, code: Sequence[int]) -> None:
        words = np.frombuffer(b"".join(word.to_bytes(16, "little") for word in code), dtype=np.uint32)
        self._lib.sim_program(self._handle, _pointer(words), len(code))

    def _token_count(self) -> int:
        return self._lib.sim_tokens(self._handle, ctypes.byref(ctypes.c_void_p()))

    def _tokens(self) -> list[int]:
        pointer = ctypes.c_void_p()
        count = self._lib.sim_tokens(self._handle, ctypes.byref(pointer))
        return _array(pointer, ctypes.c_uint32, count)[:]

    def _records(self) -> list[Retire]:
        pointer = ctypes.c_void_p()
        count = self._lib.sim_retires(self._handle, ctypes.byref(pointer))
        return [Retire(r.pc, UNITS[r.unit], r.cycle) for r in _array(pointer, _RetireRecord, count)]

    def _slots(self) -> list[int]:
        """The slot of each emitted token."""
        return _array(self._lib.sim_token_slots(self._handle), ctypes.c_uint32, self._token_count())[:]

    def _by_pc(self) -> np.ndarray:
        return np.ctypeslib.as_array(self._lib.sim_retired_by_pc(self._handle), shape=(1 << 16,))

    def _retired(self) -> int:
        return int(self._by_pc().sum())

    def _weights(self) -> int:
        counts = self._by_pc()
        total = 0
        opcode, address = ISA.by_name["tmatmul"].opcode, ISA.fields["addr"]
        for pc in np.flatnonzero(counts[: len(self.program.code)]).tolist():
            word = self.program.code[pc]
            if word & 0xFF == opcode:
                segment = parse_segment(self._memory, address.get(word), self.config.beat_bytes)
                total += int(counts[pc]) * segment.rows * segment.columns
        return total


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _array(pointer: ctypes.c_void_p, kind, count: int):
    return ctypes.cast(pointer, ctypes.POINTER(kind))[:count] if count else []


def _load(path: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(path))
    handle, u32, i32, u64, void = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64, None
    signatures = {
        "sim_beat_bytes": (i32, []), "sim_lanes": (i32, []), "sim_batch": (i32, []),
        "sim_new": (handle, [ctypes.c_char_p]), "sim_delete": (void, [handle]),
        "sim_memory": (i32, [handle, handle, u64, u64, handle]), "sim_settings": (void, [handle, u32, u32, i32, u32, u32]),
        "sim_program": (void, [handle, handle, u32]), "sim_push": (void, [handle, handle, u32, u32]), "sim_start": (void, [handle]),
        "sim_run": (i32, [handle, u64, i32]),
        "sim_cycles": (u64, [handle]), "sim_fault": (u32, [handle]), "sim_fault_pc": (u32, [handle]), "sim_running": (i32, [handle]),
        "sim_counter": (u64, [handle, u32]), "sim_register": (void, [handle, u32, u32, handle]),
        "sim_tokens": (u64, [handle, handle]), "sim_token_slots": (handle, [handle]),
        "sim_record": (void, [handle, i32]), "sim_retires": (u64, [handle, handle]),
        "sim_trace": (void, [handle, i32]), "sim_trace_records": (u64, [handle, handle]),
        "sim_retired_by_pc": (ctypes.POINTER(u64), [handle]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
