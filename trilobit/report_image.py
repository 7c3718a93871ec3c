"""The parts of ``trilobit report`` that a bundle itself answers: its program, its memory image, its vectors."""

import re
from collections import Counter
from typing import Any

import numpy as np

from trilobit.assembler.bundle import SOURCE, Bundle
from trilobit.assembler.layers import layer_of_module, layer_report
from trilobit.isa.segments import header_bytes, parse_segment
from trilobit.isa.spec import ISA
from trilobit.sim.cycles_decode import stream_segments
from trilobit.sim.geometry import BITS_PER_WEIGHT, GAIN_BYTES

__all__ = ["image_part", "layers_of_code", "program_part", "vectors_part"]

LINES = 48  # of the excerpt
VECTOR = ("name", "operation", "module", "length", "range", "rms", "point", "bits", "headroom_bits", "saturations")
HOLDS = {
    "body": "weight stream of a token: matrices and gains of all layers, in the order in which they are read",
    "head": "weight stream of the logits, which prompt tokens skip",
    "constants": "vectors that do not change, such as lower bounds of the forget gates",
    "embedding": "a row for each token of the vocabulary",
    "state": "what the model remembers: a vector a recurrence",
    "scratch": "vectors for which no register was free",
    "logits": "the last token's logits, for the host",
}  # fmt: skip


def _code_lines(bundle: Bundle) -> list[tuple[int, str]] | None:
    """Line number and text of each instruction in the bundle's assembly; None if it is not one line a word."""
    text = (bundle.folder / SOURCE).read_text(encoding="utf-8")
    known = set(ISA.by_name)
    lines = [(number, line) for number, line in enumerate(text.splitlines())
             if (words := line.partition(";")[0].split()) and words[0] in known]  # fmt: skip
    return lines if len(lines) == len(bundle.program.code) else None


def layers_of_code(bundle: Bundle) -> list[int | None]:
    """The model's layer that each instruction belongs to, from the module paths in the assembly's comments; None: to none, or unknown."""
    lines = _code_lines(bundle)
    if lines is None:
        return [None] * len(bundle.program.code)
    modules = (re.search(r"\(([^()]*)\)\s*$", line) for _, line in lines)
    return [layer_of_module(found.group(1)) if found else None for found in modules]


def program_part(bundle: Bundle, in_flight: dict[str, int]) -> dict[str, Any]:
    """The program: words of how many, instructions by mnemonic, and the assembly of one layer.

    Args:
        in_flight: cycles from issue to retirement by mnemonic.
    """
    mix = Counter(ISA.decode(word).name for word in bundle.program.code)
    order = list(ISA.by_name)
    return {
        "words": len(bundle.program.code), "room": bundle.core.program_words,
        "mix": [
            {"name": name, "unit": ISA.by_name[name].unit, "count": count, "cycles": in_flight.get(name),
             "text": ISA.by_name[name].text.split(". ")[0].rstrip(".")}
            for name, count in sorted(mix.items(), key=lambda item: (-item[1], order.index(item[0])))
        ],
        "excerpt": _excerpt(bundle),
    }  # fmt: skip


def _excerpt(bundle: Bundle) -> dict[str, Any]:
    """A layer's lines of assembly: of layer 1 if there is one, whose gates have a lower bound, else the first."""
    text = (bundle.folder / SOURCE).read_text(encoding="utf-8").splitlines()
    lines, layers = _code_lines(bundle), layers_of_code(bundle)
    known = sorted({layer for layer in layers if layer is not None})
    if lines is None or not known:
        code = text[lines[0][0] if lines else 0 :]  # behind the regions' data
        return {"layer": None, "lines": code[:LINES], "more": max(len(code) - LINES, 0)}
    layer = 1 if 1 in known else known[0]
    numbers = [number for (number, _), of in zip(lines, layers, strict=True) if of == layer]
    first, last = numbers[0], numbers[-1]
    while first > 0 and text[first - 1].startswith(";"):  # the comment that heads it
        first -= 1
    return {"layer": layer, "lines": text[first : min(last + 1, first + LINES)], "more": max(last + 1 - first - LINES, 0)}


def image_part(bundle: Bundle, memory: np.ndarray) -> dict[str, Any]:
    """The memory window: its regions, and what the bytes of the weight stream are.

    Args:
        memory: [window_size] of uint8.

    Returns:
        ``window_size``, ``write_start``, ``regions``, and ``stream``: ``bytes`` of all segments, and ``parts``, which make them up.
    """
    manifest, beat = bundle.manifest, bundle.core.beat_bytes
    counts: Counter[str] = Counter()
    weights = matrices = gains = 0
    for entry in stream_segments(bundle.program, bundle.core, memory):
        if not entry.kind:
            continue
        segment = parse_segment(memory, entry.addr, beat)
        payload = segment.beats * beat
        counts["headers"] += header_bytes(beat)
        if segment.kind == "ternary":
            matrices, weights = matrices + 1, weights + segment.rows * segment.columns
            counts["matrices"] += payload
        else:
            gains += 1
            counts["gains"] += GAIN_BYTES * segment.columns
            counts["padding of gains"] += payload - GAIN_BYTES * segment.columns
    trits = BITS_PER_WEIGHT * weights / 8
    total = sum(counts.values())
    parts = {
        "ternary weights": (trits, f"{weights:,} weights of {matrices} matrices, five in a byte"),
        "padding of matrices": (counts["matrices"] - trits, "zero trits that fill the last five rows, and columns to whole beats"),
        "gains": (counts["gains"], f"{gains} vectors of the norms, 16 bits each"),
        "padding of gains": (counts["padding of gains"], "to whole beats"),
        "headers": (counts["headers"], f"one for each of {matrices + gains} segments: shape, scale, check"),
    }  # fmt: skip
    return {
        "window_size": manifest.window_size, "write_start": manifest.write_start,
        "regions": [
            {"name": region.name, "addr": region.addr, "size": region.size, "element": region.element, "writable": region.writable,
             "share": region.size / manifest.window_size, "text": HOLDS.get(region.name, "")}
            for region in manifest.regions
        ],
        "stream": {"bytes": total, "parts": [
            {"part": part, "bytes": size, "share": size / total, "text": text}
            for part, (size, text) in parts.items() if size
        ]},
    }  # fmt: skip


def vectors_part(bundle: Bundle) -> dict[str, Any]:
    """Ranges and saturations as the compiler reported them; empty lists for a bundle without."""
    report = bundle.report
    tensors, run = report.get("tensors", []), report.get("saturation_run")
    return {
        "calibration": bundle.manifest.calibration, "saturation_run": run,
        "layers": report.get("layers") or (layer_report(tensors, run["saturated"] if run else None) if tensors else []),
        "tensors": [{key: tensor.get(key) for key in VECTOR} for tensor in tensors],  # older releases know fewer
    }  # fmt: skip
