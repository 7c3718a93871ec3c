"""The parts of ``trilobit report`` that the cycle model answers: where a token's cycles go, and a timeline of one token."""

import math
from itertools import pairwise
from typing import Any

from trilobit.estimating import Subject
from trilobit.isa.program import Program
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles import CycleModel
from trilobit.sim.trace import Slice, timeline

__all__ = ["cycles_by_cause", "token_timeline"]

UNITS = ("tmatmul", "rmsnorm", "rowwise", "ldst")
MOST = 420  # instructions that a timeline of a page's width can show
POINTS = 2000  # spans of waiting that are closer than such a part of the timeline are drawn as one
CALLED = {
    "tmatmul": "ternary product", "rmsnorm": "norm and quantisation", "rowwise": "elementwise", "ldst": "load and store",
    "stream": "weight stream", "issue": "program counter",
}  # fmt: skip
MEANINGS = {
    ("tmatmul", "works"): "weights meet activations, a beat a clock: what the roofline counts, and little beside",
    ("tmatmul", "weights"): "the memory has not brought the next weights",
    ("tmatmul", "activations"): "the norm unit has not written the activations of this product yet",
    ("tmatmul", "output"): "results are not taken as fast as they come",
    ("rmsnorm", "gains"): "the gains have not come through the stream",
    ("rmsnorm", "registers"): "the vector is still being written by another unit",
    ("rmsnorm", "scalars"): "the root or the division that a norm needs is not ready",
    ("rmsnorm", "activations"): "both activation buffers are still read by products",
    ("rowwise", "registers"): "the vector is still being written by another unit: it follows a product's results as they come",
    ("ldst", "register"): "the register is not ready to be written or read",
    ("ldst", "memory"): "the memory has not answered",
    ("stream", "works"): "a beat of the weight stream arrives",
    ("stream", "queue_full"): "the queues are full: weights are there before they are needed, which is good",
    ("stream", "idle"): "neither: the memory serves others, refreshes, or was not asked yet",
    ("issue", "works"): "an instruction starts",
    ("issue", "idle"): "an instruction is under way: a lean core does one after the other",
    ("issue", "fetch"): "the next instruction is not there yet: after a jump",
    ("issue", "read_port"): "it reads a vector register that an older instruction still reads",
    ("issue", "write_port"): "it writes a vector register that an older instruction still writes",
    ("issue", "activations"): "it needs an activation buffer that an older one still uses",
    ("issue", "token"): "it needs the token, which the search for the largest logit has not found yet",
    ("issue", "stream_queue"): "it is a stream, and four regions are queued",
    ("issue", "host"): "it waits for a prompt token",
    ("issue", "output"): "it is an emit, and the queue of tokens is full",
    ("issue", "drain"): "it is a halt and lets older ones end",
}  # fmt: skip


def cycles_by_cause(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """For each unit the parts of a token's cycles: working, each cause of waiting, nothing to do.

    Args:
        figures: of :func:`trilobit.estimating.figures`.

    Returns:
        ``unit``, ``called`` and ``parts``: ``part``, ``cycles`` a token, ``share`` of them, ``meaning``. Parts of a unit make up the
        token. A unit's busy cycles include its waits, but for the stream, which is busy where a beat comes.
    """
    total = figures["cycles_per_token"]
    found = []
    for unit in (*UNITS, "stream", "issue"):
        row = figures["units"][unit]
        waits = {cause: cycles for cause, cycles in row["stalls"].items() if cycles}
        waited = sum(waits.values())
        works = row["busy"] if unit in ("stream", "issue") else max(row["busy"] - waited, 0)
        parts = {"works": works} | dict(sorted(waits.items(), key=lambda item: -item[1]))
        if (idle := total - works - waited) > 0:
            parts["idle"] = idle
        found.append({"unit": unit, "called": CALLED[unit], "parts": [
            {"part": part, "cycles": cycles, "share": cycles / total, "meaning": _meaning(unit, part)} for part, cycles in parts.items()
        ]})  # fmt: skip
    return found


def _meaning(unit: str, part: str) -> str:
    if part.startswith("unit_"):
        return f"it would have to queue: {part.removeprefix('unit_')} has not taken the one before"
    return MEANINGS.get((unit, part), "works on an instruction" if part == "works" else "no instruction is there")


def token_timeline(subject: Subject, layer_of: list[int | None], *, memory: str, clock_mhz: float) -> dict[str, Any]:
    """A timeline of one token in the steady state, or of its first layers if it has more instructions than can be seen.

    It is what ``--trace`` writes; instructions that began with the token before have no slice.

    Args:
        subject: a bundle's.
        layer_of: the layer of each instruction, or None.
        memory, clock_mhz: as for the figures.

    Returns:
        ``cycles`` of the token; ``end`` of what is shown; ``whole``: whether that is the token;
        ``tracks``: of the units, ``stalls``, ``tmatmul waits`` and ``stream`` lists of ``begin`` (of the token: 0), ``cycles``,
        ``name``, and for instructions ``pc``; ``layers``: ``layer``, ``begin``, ``end``; ``joined``: waits no more cycles apart are one,
        ``held`` of its ``cycles`` are theirs;
        ``in_flight``: cycles from issue to retirement by mnemonic, of the whole token.
    """
    core = subject.core.replace(clock_mhz=clock_mhz)
    with CycleModel(subject.program, core, memory, HostSettings(limit=3), image=subject.image, segments=subject.segments) as model:
        for slot in range(core.batch):
            model.push([0], slot=slot)
        for _ in range(core.batch):
            model.run_to_token()
        begin = model.cycles
        model.trace()
        for _ in range(core.batch):
            model.run_to_token()
        cycles, records = model.cycles - begin, model.trace_records()
    tracks = timeline(subject.program, records).tracks
    shown = _shown(subject.program, tracks, layer_of, begin, cycles)
    joined = max(math.ceil(shown / POINTS), 1)
    in_flight: dict[str, int] = {}
    for item in (item for unit in UNITS for item in tracks[unit]):
        in_flight[item.name] = in_flight.get(item.name, 0) + item.cycles
    data: dict[str, list[dict[str, Any]]] = {
        unit: [_span(item, begin) | {"pc": item.details["pc"]} for item in tracks[unit] if item.begin - begin < shown] for unit in UNITS
    }
    for name in ("stream", "tmatmul waits", "stalls"):
        data[name] = _joined([_span(item, begin) for item in tracks[name] if item.begin - begin < shown], joined)
    return {
        "cycles": cycles, "end": shown, "whole": shown == cycles, "joined": joined, "tracks": data,
        "layers": [layer for layer in _layers(tracks, layer_of, begin, cycles) if layer["begin"] < shown], "in_flight": in_flight,
    }  # fmt: skip


def _span(item: Slice, begin: int) -> dict[str, Any]:
    """A slice from the token's begin on, by its cause or mnemonic alone."""
    cut = max(begin - item.begin, 0)
    return {"begin": item.begin + cut - begin, "cycles": item.cycles - cut, "name": item.name.split(":")[0].removeprefix("waits for ")}


def _joined(spans: list[dict[str, Any]], gap: int) -> list[dict[str, Any]]:
    """Spans of one name that are no more than ``gap`` cycles apart as one; ``held``: how many of its cycles they are."""
    found: list[dict[str, Any]] = []
    for span in spans:
        last = found[-1] if found else None
        if last and last["name"] == span["name"] and span["begin"] - last["begin"] - last["cycles"] <= gap:
            last["cycles"] = span["begin"] + span["cycles"] - last["begin"]
            last["held"] += span["cycles"]
        else:
            found.append(span | {"held": span["cycles"]})
    return found


def _layers(tracks: dict[str, list[Slice]], layer_of: list[int | None], begin: int, cycles: int) -> list[dict[str, Any]]:
    """From the issue of a layer's first instruction to that of the next layer's; the last ends with its last retirement."""
    first: dict[int, int] = {}
    last = 0
    for item in (item for unit in UNITS for item in tracks[unit]):
        layer = layer_of[item.details["pc"]]
        if layer is not None:
            at = item.begin - begin
            first[layer] = min(at, first.get(layer, at))
            last = max(last, at + item.cycles)
    order = sorted(first, key=lambda layer: first[layer])
    bounds = [first[layer] for layer in order] + [min(last, cycles)]
    return [{"layer": layer, "begin": a, "end": b} for layer, (a, b) in zip(order, pairwise(bounds), strict=True)]


def _shown(program: Program, tracks: dict[str, list[Slice]], layer_of: list[int | None], begin: int, cycles: int) -> int:
    """Cycles of the token that are shown: all, or whole layers with no more than ``MOST`` instructions, at least one."""
    starts = sorted(item.begin - begin for unit in UNITS for item in tracks[unit])
    if len(starts) <= MOST:
        return cycles
    ends = [layer["end"] for layer in _layers(tracks, layer_of, begin, cycles)] or [starts[MOST]]
    fitting = [end for end in ends if sum(start < end for start in starts) <= MOST]
    return max(fitting or ends[:1])
