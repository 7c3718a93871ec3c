"""The page of ``trilobit report``: one HTML file, from the data alone. Charts are inline SVG; all text is escaped."""

from collections.abc import Iterable
from importlib import resources
from typing import Any

import jinja2

from trilobit.drawing import Drawing, Span, lanes, ticks
from trilobit.isa.spec import ISA
from trilobit.output import quantity
from trilobit.report_cycles import UNITS

__all__ = ["page"]

WIDTH = 1100  # of the charts, in pixels
LEFT = 150  # of the charts' bars
UNIT_COLOURS = {
    "tmatmul": "#2563eb", "rmsnorm": "#ea580c", "rowwise": "#059669", "ldst": "#db2777", "stream": "#0891b2", "issue": "#6b7280",
}  # fmt: skip
# Shades of the units' colours, for their mnemonics in the order of the instruction set.
SHADES = {
    "tmatmul": ["#2563eb"], "rmsnorm": ["#c2410c", "#9a3412", "#fb923c"], "ldst": ["#ec4899", "#9d174d", "#f9a8d4", "#831843"],
    "rowwise": ["#84cc16", "#4d7c0f", "#10b981", "#115e59", "#5eead4", "#0f766e", "#15803d", "#a7f3d0", "#facc15", "#a3a635", "#86efac",
                "#bef264", "#365314", "#7c3aed"],
    "control": ["#9ca3af"],
}  # fmt: skip
CAUSES = {
    "weights": "#b91c1c", "memory": "#b91c1c", "gains": "#be185d", "registers": "#f59e0b", "register": "#f59e0b", "read_port": "#f59e0b",
    "write_port": "#b45309", "activations": "#8b5cf6", "scalars": "#a16207", "output": "#64748b", "queue_full": "#a5b4c3",
    "unit_tmatmul": "#60a5fa", "unit_rmsnorm": "#fdba74", "unit_rowwise": "#6ee7b7", "unit_ldst": "#f9a8d4", "token": "#67e8f9",
    "fetch": "#78716c", "stream_queue": "#475569", "host": "#334155", "drain": "#1f2937",
}  # fmt: skip
REGIONS = ["#2563eb", "#60a5fa", "#a16207", "#059669", "#db2777", "#8b5cf6", "#64748b"]
PARTS = {
    "ternary weights": "#2563eb", "padding of matrices": "#93c5fd", "gains": "#ea580c", "padding of gains": "#fdba74", "headers": "#64748b",
}  # fmt: skip
KINDS = {"luts": "LUTs", "registers": "registers", "dsps": "multipliers", "brams": "block RAMs", "memory_bits": "memory, bits"}


def page(data: dict[str, Any]) -> str:
    """The HTML of a report.

    Args:
        data: of :func:`trilobit.reporting.bundle_report`.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True)
    environment.filters |= {"number": _number, "percent": _percent, "quantity": quantity, "figure": _figure, "bits": _bits}
    template = environment.from_string(resources.files("trilobit").joinpath("templates/report.html.j2").read_text(encoding="utf-8"))
    timeline, estimate, image = data["timeline"], data["estimate"], data["image"]
    layer = _detail_layer(timeline)
    regions = [(region["name"], region["size"]) for region in image["regions"]]
    parts = [(part["part"], part["bytes"]) for part in image["stream"]["parts"]]
    return template.render(
        data, each="token" if estimate["batch"] == 1 else "pass",
        units=_units(data["cycles"], estimate["cycles_per_token"]),
        gantt=_gantt(data, 0, timeline["end"]), detail_layer=layer, detail=layer and _gantt(data, layer["begin"], layer["end"]),
        mnemonics=_mnemonics(timeline), colour_of=_colours(),
        causes=_causes(part["part"] for unit in data["cycles"] for part in unit["parts"] if part["cycles"]),
        timeline_causes=_causes(span["name"] for track in ("tmatmul waits", "stalls") for span in timeline["tracks"][track]),
        colours={"units": UNIT_COLOURS, "causes": CAUSES, "parts": PARTS, "regions": REGIONS}, kinds=KINDS,
        regions=_stacked(regions, REGIONS, "regions of the memory window"),
        stream=_stacked(parts, [PARTS[name] for name, _ in parts], "bytes of the weight stream"),
        excerpt=[line.partition(";") for line in data["program"]["excerpt"]["lines"]],
    )  # fmt: skip


def _number(value: float | None) -> str:
    """Whole numbers with commas, others with what is left of four digits."""
    if value is None:
        return "-"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share >= 0.001 or share == 0 else "< 0.1%"


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _figure(card: dict[str, Any]) -> str:
    """The value of a card of the headline."""
    value = card["value"]
    if isinstance(value, list):
        return " to ".join(f"{part:.3g}" for part in value)
    return f"{100 * value:.2f}" if card["unit"] == "%" else _number(value)


def _colours() -> dict[str, str]:
    """By mnemonic."""
    found: dict[str, str] = {}
    for name, opcode in ISA.by_name.items():
        shades = SHADES[opcode.unit]
        found[name] = shades[sum(ISA.by_name[other].unit == opcode.unit for other in found) % len(shades)]
    return found


def _part_colour(unit: str, part: str) -> str:
    return "idle" if part == "idle" else UNIT_COLOURS[unit] if part == "works" else CAUSES.get(part, "#94a3b8")


def _units(cycles: list[dict[str, Any]], total: float) -> Drawing:
    """A bar a unit: the parts of a token's cycles."""
    drawing = Drawing(WIDTH, "cycles of each unit by what it does")
    width = WIDTH - LEFT - 10
    for row, unit in enumerate(cycles):
        y = row * 36 + 4 + 12 * (unit["unit"] in ("stream", "issue")) + 12 * (unit["unit"] == "issue")
        drawing.text(0, y + 9, unit["unit"], style="strong")
        drawing.text(0, y + 22, unit["called"], style="small")
        x = float(LEFT)
        for part in unit["parts"]:
            size = width * part["cycles"] / total
            title = f"{unit['unit']} {part['part']}: {_number(part['cycles'])} cycles, {_percent(part['share'])}: {part['meaning']}"
            labels = (f"{part['part']} {_percent(part['share'])}", _percent(part["share"]))
            drawing.rect(x, y, size, 28, _part_colour(unit["unit"], part["part"]), title, labels)
            x += size
    return drawing


def _detail_layer(timeline: dict[str, Any]) -> dict[str, Any] | None:
    """The layer that is drawn large: the second, as one of many; None if there is but one or nothing is known of layers."""
    layers = timeline["layers"]
    return layers[1] if len(layers) > 1 else None


def _gantt(data: dict[str, Any], begin: int, end: int) -> Drawing:
    """Rows of the units and of what they wait for, over the cycles from ``begin`` to ``end``."""
    timeline, colours, large = data["timeline"], _colours(), begin > 0
    drawing = Drawing(WIDTH, "timeline of the units' instructions")
    scale = (WIDTH - LEFT - 10) / (end - begin)
    height, y = 24 if large else 20, 24.0

    def draw(spans: list[Span], name: str, y: float, height: float, fill: str | None = None) -> None:
        for span in spans:
            start, stop, instruction = span["begin"], span["begin"] + span["cycles"], "pc" in span
            what = f"pc {span['pc']} {span['name']}" if instruction else span["name"]
            x, width = LEFT + (max(start, begin) - begin) * scale, (min(stop, end) - max(start, begin)) * scale
            colour = fill or (colours[span["name"]] if instruction else CAUSES.get(span["name"], "#94a3b8"))
            held = span.get("held", span["cycles"])
            title = f"{name}: {what}, cycles {start:,} to {stop:,} ({held:,}{f' of {stop - start:,}' if held < stop - start else ''})"
            texts = (span["name"],) if instruction else ()
            drawing.rect(x, y, width - 0.5 * instruction, height, colour, title, texts, max(held / span["cycles"], 0.15))

    for unit in UNITS:
        drawing.text(0, y + height / 2, unit, style="strong")
        for lane in lanes(_within(timeline["tracks"][unit], begin, end)) or [[]]:
            draw(lane, unit, y, height)
            y += height + 2
        if unit == "tmatmul":
            drawing.text(0, y + 6, "waits for", style="small")
            draw(_within(timeline["tracks"]["tmatmul waits"], begin, end), "tmatmul waits for", y, 11)
            y += 14
        y += 7
    for track, text, fill in (("stream", "weights arrive", UNIT_COLOURS["stream"]), ("stalls", "issue waits for", None)):
        drawing.text(0, y + 7, text, style="small")
        draw(_within(timeline["tracks"][track], begin, end), text, y, 13, fill)
        y += 18
    drawing.height = max(drawing.height, y)
    _axis(drawing, timeline["layers"], begin, end, scale, y, data["estimate"]["clock_mhz"])
    return drawing


def _within(spans: list[Span], begin: int, end: int) -> list[Span]:
    return [span for span in spans if span["begin"] < end and span["begin"] + span["cycles"] > begin]


def _axis(drawing: Drawing, layers: list[dict[str, Any]], begin: int, end: int, scale: float, y: float, clock_mhz: float) -> None:
    """Layers above, cycles and microseconds below."""
    for layer in layers:
        at, until = max(layer["begin"], begin), min(layer["end"], end)
        if until <= at:
            continue
        x = LEFT + (at - begin) * scale
        name = f"layer {layer['layer']}" if (until - at) * scale > 56 else str(layer["layer"])
        drawing.line(x, 4, y, "layer")
        drawing.text(x + 4, 10, name, style="small")
    for at in ticks(begin, end, 8):
        x = LEFT + (at - begin) * scale
        drawing.line(x, y, y + 5, "grid")
        last = WIDTH - x < 60
        drawing.text(x, y + 14, f"{at:,}", "end" if last else "middle", "small")
        drawing.text(x, y + 28, f"{at / clock_mhz:,.4g} µs", "end" if last else "middle", "small")
    drawing.text(0, y + 14, "cycles", style="small")
    drawing.text(0, y + 28, f"at {clock_mhz:g} MHz", style="small")


def _mnemonics(timeline: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, colour and meaning of the mnemonics of a timeline, in the instruction set's order."""
    seen = {span["name"] for unit in UNITS for span in timeline["tracks"][unit]}
    colours = _colours()
    return [(name, colours[name], ISA.by_name[name].text.split(". ")[0].rstrip(".")) for name in ISA.by_name if name in seen]


def _causes(seen: Iterable[str]) -> list[tuple[str, str]]:
    """Cause and colour of the waits that are seen, in one order."""
    known = set(seen)
    return [(name, colour) for name, colour in CAUSES.items() if name in known]


def _stacked(parts: list[tuple[str, float]], colours: list[str], label: str) -> Drawing:
    """Parts of a whole as one bar."""
    drawing, total, x = Drawing(WIDTH, label), sum(size for _, size in parts) or 1, 0.0
    for number, (name, size) in enumerate(parts):
        width = (WIDTH - 1) * size / total
        title = f"{name}: {quantity(size, 'B')}, {_percent(size / total)}"
        drawing.rect(x, 2, width, 30, colours[number % len(colours)], title, (f"{name} {_percent(size / total)}", name))
        x += width
    drawing.height = 34
    return drawing
