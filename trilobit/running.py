"""What both forms of ``trilobit run`` share: making a backend, and saying how a run ended."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from trilobit.errors import ConfigError, FaultError, ProgramError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.output import print_table
from trilobit.sim.backend import FAULTS, Backend, HostSettings, RunResult

__all__ = ["BACKENDS", "EVIDENCE", "instruction_at", "make_backend", "print_counters", "raise_fault", "result_json",
           "write_timeline"]  # fmt: skip


BACKENDS = ("functional", "cycles", "rtl")
EVIDENCE = {"cycles": "exact: cycle model, equal to the RTL to the cycle", "rtl": "measured in RTL simulation"}
"""How the cycles and counters of a backend are known; the functional simulator has none."""


def make_backend(
    name: str,
    config: CoreConfig,
    program: Program,
    memory: np.ndarray | None,
    settings: HostSettings,
    waves: Path | None = None,
    memory_model: str | None = None,
    trace: Path | None = None,
) -> Backend:
    """A simulator by name; the RTL's tools are imported only if it is asked for.

    Args:
        memory: its content; by default the program's regions.
        memory_model: its timing, as :func:`trilobit.sim.memory.parse_memory` takes it; ideal by default.
        waves: file for the RTL's waves.
        trace: file that a timeline will be written to with :func:`write_timeline`, or None.

    Raises:
        ConfigError: waves, a timeline or memory timing of a backend that has none.
    """
    if waves is not None and name != "rtl":
        raise ConfigError(f"expected --backend rtl with --waves, got {name}: it has no signals")
    if trace is not None and not trace.absolute().parent.is_dir():
        raise ConfigError(f"expected a folder to write {trace} in, found none")
    if name == "functional":
        if memory_model is not None:
            raise ConfigError(f"expected --backend cycles or rtl with --memory {memory_model}, got functional: it has no clock")
        from trilobit.sim.functional import FunctionalSimulator

        machine: Backend = FunctionalSimulator(config, program, memory, settings)
    elif name == "cycles":
        from trilobit.sim.cycles_backend import CycleBackend

        machine = CycleBackend(config, program, memory, settings, memory_model=memory_model or "ideal")
    else:
        from trilobit.sim.rtl import RtlSimulator

        machine = RtlSimulator(config, program, memory, settings, waves=waves, memory_model=memory_model or "ideal")
    if trace is not None:
        machine.trace()
    return machine


def write_timeline(path: Path | None, machine: Backend) -> None:
    """Write the timeline of a machine that was made with ``trace``, for Perfetto; nothing if there is no path."""
    if path is not None:
        from trilobit.sim.trace import write_trace

        write_trace(path, machine.program, machine.trace_records(), title=f"{machine.program.name} on {machine.config.name}")


def instruction_at(program: Program, pc: int) -> str:
    """An instruction as text with its source line, as far as they are known."""
    from trilobit.assembler.disasm import instruction_text

    if not 0 <= pc < len(program.code):
        return f"no instruction (the program has {len(program.code)})"
    try:
        text = instruction_text(ISA.decode(program.code[pc]))
    except ProgramError:
        text = f"word {program.code[pc]:#034x}"
    if program.lines:
        file, line = program.lines[pc]
        text += f"  [{file}:{line}]"
    return text


def raise_fault(backend: Backend, result: RunResult) -> None:
    """Raise the run's fault, if it had one.

    Raises:
        FaultError: cause, pc, the instruction and its source line.
    """
    if result.fault:
        detail = getattr(backend, "fault_detail", "")
        raise FaultError(
            f"fault {result.fault} ({FAULTS.get(result.fault, 'unknown')}) at pc {result.fault_pc}: "
            f"{instruction_at(backend.program, result.fault_pc)}{'; ' + detail if detail else ''}"
        )


def result_json(result: RunResult) -> dict[str, Any]:
    """A run's end as JSON keys."""
    fault = None
    if result.fault:
        fault = {"code": result.fault, "cause": FAULTS.get(result.fault, "unknown"), "pc": result.fault_pc}
    return {
        "tokens": result.tokens, "slots": result.slots, "halted": result.halted, "waiting": result.waiting, "fault": fault,
        "retired": result.retired, "cycles": result.cycles, "weights": result.weights, "counters": result.counters,
        "saturated": {str(pc): count for pc, count in result.saturated.items()},
    }  # fmt: skip


def print_counters(result: RunResult) -> None:
    """Instructions, cycles, stalls by cause with their share of the cycles, and the other counters."""
    rows = {"instructions": f"{result.retired}"}
    if result.cycles is not None:
        rows["cycles"] = f"{result.cycles}"
    rows["ternary weights"] = f"{result.weights}"
    print_table(rows)
    stalls = {k.removeprefix("stall_"): v for k, v in result.counters.items() if k.startswith("stall_") and v}
    console = Console(highlight=False)
    if stalls and result.cycles:
        table = Table("stalled on", box=None, pad_edge=False)
        table.add_column("cycles", justify="right")
        table.add_column("share", justify="right")
        for cause, cycles in sorted(stalls.items(), key=lambda item: -item[1]):
            table.add_row(cause, str(cycles), f"{cycles / result.cycles:.1%}")
        console.print(table)
    table = Table("counter", box=None, pad_edge=False)
    table.add_column("value", justify="right")
    for name, value in result.counters.items():
        if not name.startswith("stall_"):
            table.add_row(name, str(value))
    console.print(table)
    for pc, count in result.saturated.items():
        print_table({f"saturated at pc {pc}": f"{count} elements"})
