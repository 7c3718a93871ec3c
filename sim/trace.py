"""Timelines for Perfetto (https://ui.perfetto.dev), from the RTL simulation and from the cycle model in one format.

A track a unit has a slice for each instruction, from its issue to its retirement, with pc, operands and source line; the unit's track of
waits says what the product waited for. The track ``issue`` has the control instructions, and ``stalls`` a slice a stall: its cause, the
instruction that waited and the one that it waited for. ``stream`` has the stretches in which the weight stream came from memory, and a
counter shows the beats in the weight queue. A nanosecond on the time axis is a clock cycle.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilobit.atomic import replacing
from trilobit.errors import ConfigError, ProgramError, ToolError
from trilobit.isa.counters import STALLS
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA, Instruction
from trilobit.sim.trace_records import ISSUE, LEVEL, RETIRE, STALL, STREAM, WAIT, TraceRecords

__all__ = ["Slice", "Timeline", "timeline", "write_trace"]

UNITS = ("ldst", "rmsnorm", "tmatmul", "rowwise", "control")
WAITS = ("weights", "activations", "output")
SEQUENCE = 1  # all packets are of one writer


@dataclass(frozen=True)
class Slice:
    """A stretch of a track: first cycle, cycles, what it is called, and its details."""

    begin: int
    cycles: int
    name: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Timeline:
    """Slices by track (``issue``, ``stalls``, the units, ``tmatmul waits``, ``stream``) by their begin; levels of the weight queue."""

    tracks: dict[str, list[Slice]]
    levels: list[tuple[int, int]]


class _Instructions:
    """What the timeline says about the instructions of a program."""

    def __init__(self, program: Program):
        self.program = program
        self.decoded: dict[int, Instruction | None] = {}

    def __getitem__(self, pc: int) -> Instruction | None:
        if pc not in self.decoded:
            try:
                self.decoded[pc] = ISA.decode(self.program.code[pc]) if pc < len(self.program.code) else None
            except ProgramError:
                self.decoded[pc] = None
        return self.decoded[pc]

    def name(self, pc: int) -> str:
        instruction = self[pc]
        return instruction.name if instruction else "no instruction"

    def unit(self, pc: int) -> str:
        instruction = self[pc]
        return instruction.opcode.unit if instruction else "control"

    def details(self, pc: int) -> dict[str, Any]:
        instruction = self[pc]
        data: dict[str, Any] = {"pc": pc}
        if instruction:
            data |= {field.name: instruction[field.name] for field in instruction.opcode.fields}
        if self.program.lines:
            data["source"] = "{}:{}".format(*self.program.lines[pc])
        return data

    def registers(self, pc: int, names: str) -> set[int]:
        """Vector registers that an instruction ``reads`` or ``writes``."""
        instruction = self[pc]
        if instruction is None:
            return set()
        return {instruction[name] for name in getattr(instruction.opcode, names) if ISA.fields[name].kind == "vreg"}

    def causes(self, stalled: int, cause: str, running: Iterable[tuple[int, int]]) -> int | None:
        """The youngest of the running instructions (issue cycle, pc) for which the stalled one waits; None if it waits for none."""

        def blocks(pc: int) -> bool:
            if cause.startswith("unit_"):
                return self.unit(pc) == cause.removeprefix("unit_")
            if cause in ("read_port", "write_port"):
                names = "reads" if cause == "read_port" else "writes"
                return bool(self.registers(stalled, names) & self.registers(pc, names))
            one, other = self[stalled], self[pc]
            if cause == "activations":
                return bool(one and other and "act" in other.values and other["act"] == one["act"])
            if cause == "token":
                return bool(other and other.name == "argmax" and other["last"])
            return cause in ("drain", "stream_queue")

        return max((item for item in running if blocks(item[1])), default=(0, None))[1]


def timeline(program: Program, records: TraceRecords) -> Timeline:
    """A simulator's records as slices.

    An instruction that was issued before the records begin, or has not retired when they end, has no slice.
    """
    instructions = _Instructions(program)
    tracks: dict[str, list[Slice]] = {name: [] for name in ("issue", "stalls", *UNITS[:-1], "tmatmul waits", "stream")}
    levels = []
    running: dict[str, list[tuple[int, int]]] = {unit: [] for unit in UNITS}  # issue cycle, pc, the oldest first
    # Spans are recorded when they end: sorted by their begin they find the instructions that ran then.
    order = {RETIRE: 0, ISSUE: 1}
    for cycle, value, pc, kind, what in sorted(records.tolist(), key=lambda r: (r[0], order.get(r[3], 2))):
        if kind == ISSUE:
            if (unit := instructions.unit(pc)) == "control":
                tracks["issue"].append(Slice(cycle, 1, instructions.name(pc), instructions.details(pc)))
            else:
                running[unit].append((cycle, pc))
        elif kind == RETIRE:
            unit = UNITS[what]
            # The oldest issue of that pc: a unit may finish an instruction beside the one before it.
            if unit != "control" and (item := next((i for i in running[unit] if i[1] == pc), None)):
                running[unit].remove(item)
                tracks[unit].append(Slice(item[0], cycle - item[0] + 1, instructions.name(pc), instructions.details(pc)))
        elif kind == STALL:
            cause = STALLS[what]
            details = {} if cause == "fetch" else {"waits": f"pc {pc} {instructions.name(pc)}", **instructions.details(pc)}
            name = cause
            other = None if cause == "fetch" else instructions.causes(pc, cause, (i for unit in running.values() for i in unit))
            if other is not None:
                name = f"{cause}: pc {other} {instructions.name(other)}"
                details |= {"for": f"pc {other} {instructions.name(other)}"}
            tracks["stalls"].append(Slice(cycle, value, name, details))
        elif kind == WAIT:
            product = running["tmatmul"][-1][1] if running["tmatmul"] else None
            details = {} if product is None else instructions.details(product)
            name = f"waits for {WAITS[what]}" + ("" if product is None else f": pc {product}")
            tracks["tmatmul waits"].append(Slice(cycle, value, name, details))
        elif kind == LEVEL:
            levels.append((cycle, value))
        elif kind == STREAM:
            tracks["stream"].append(Slice(cycle, value, "reads", {}))
    for slices in tracks.values():
        slices.sort(key=lambda item: (item.begin, -item.cycles))
    return Timeline(tracks, levels)


def _rows(slices: list[Slice]) -> list[list[Slice]]:
    """Slices in as few rows as keep them apart: one that begins before another has ended goes to another row."""
    rows: list[list[Slice]] = []
    free: list[tuple[int, int]] = []  # end, row
    for item in slices:
        if free and free[0][0] <= item.begin:
            _, row = heapq.heappop(free)
        else:
            row = len(rows)
            rows.append([])
        rows[row].append(item)
        heapq.heappush(free, (item.begin + item.cycles, row))
    return rows


def write_trace(path: str | Path, program: Program, records: TraceRecords, *, title: str = "trilobit") -> Timeline:
    """Write a Perfetto trace (protobuf), under a temporary name first.

    Args:
        path: by custom ``.pftrace``.
        program: what ran.
        records: of :meth:`trilobit.sim.cycles.CycleModel.trace_records` or of the RTL simulator's.
        title: of the group of tracks.

    Returns:
        What was written.

    Raises:
        ToolError: the package perfetto is not installed.
        ConfigError: the file can't be written.
    """
    try:
        from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
    except ImportError as error:
        raise ToolError(f'expected {error.name} to write a trace, found none; pip install "trilobit[trace]" brings it') from error
    found = timeline(program, records)
    path = Path(path)
    try:
        with replacing(path) as file:
            _Writer(StreamingTraceProtoBuilder(file), TrackEvent).write(found, title)
    except OSError as error:
        raise ConfigError(f"{path}: expected to write a trace there, can't: {error.strerror}") from error
    return found


class _Writer:
    """Packets of a trace: descriptors of the tracks, then their events."""

    def __init__(self, builder, kinds):
        self.builder, self.kinds = builder, kinds
        self.uuid = 0
        self.first = True

    def _packet(self, cycle: int = 0):
        packet = self.builder.create_packet()
        packet.timestamp = cycle
        packet.trusted_packet_sequence_id = SEQUENCE
        if self.first:
            packet.sequence_flags = 1  # SEQ_INCREMENTAL_STATE_CLEARED: names are not shared with packets before
            self.first = False
        return packet

    def _track(self, name: str, parent: int | None = None, rank: int = 0, counter: str | None = None) -> int:
        self.uuid += 1
        packet = self._packet()
        track = packet.track_descriptor
        track.uuid, track.name, track.sibling_order_rank = self.uuid, name, rank
        track.child_ordering = 3  # EXPLICIT: by rank
        if parent is not None:
            track.parent_uuid = parent
        if counter is not None:
            track.counter.unit_name = counter
        self.builder.write_packet(packet)
        return self.uuid

    def _event(self, cycle: int, kind: int, track: int, name: str | None = None, details: dict[str, Any] | None = None):
        packet = self._packet(cycle)
        event = packet.track_event
        event.type, event.track_uuid = kind, track
        if name is not None:
            event.name = name
        for key, value in (details or {}).items():
            annotation = event.debug_annotations.add()
            annotation.name = key
            if isinstance(value, int):
                annotation.int_value = value
            else:
                annotation.string_value = str(value)
        return packet

    def write(self, found: Timeline, title: str) -> None:
        """The whole trace. Events of a row are nested in order; rows of a unit have the same name and parent, so they are one track."""
        root = self._track(title)
        for rank, (name, slices) in enumerate(found.tracks.items()):
            for row in _rows(slices) or [[]]:
                track = self._track(name, root, rank)
                for item in row:
                    self.builder.write_packet(self._event(item.begin, self.kinds.TYPE_SLICE_BEGIN, track, item.name, item.details))
                    self.builder.write_packet(self._event(item.begin + item.cycles, self.kinds.TYPE_SLICE_END, track))
        queue = self._track("weight queue", root, len(found.tracks), "beats")
        for cycle, level in found.levels:
            packet = self._event(cycle, self.kinds.TYPE_COUNTER, queue)
            packet.track_event.counter_value = level
            self.builder.write_packet(packet)
