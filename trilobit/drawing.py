"""Inline SVG as data: rectangles, lines and text in pixels, which the template of ``trilobit report`` writes and escapes."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Drawing", "Span", "ink", "lanes", "ticks"]

Span = dict[str, Any]
"""``begin`` and ``cycles``, among others."""

CHARACTER = 7.2  # pixels that a character of the charts' text takes at most


def ink(fill: str) -> str:
    """Black or white, whichever can be read on a colour ``#rrggbb``."""
    red, green, blue = (int(fill[at : at + 2], 16) for at in (1, 3, 5))
    return "#111827" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def ticks(begin: float, end: float, most: int) -> list[int]:
    """At most so many round numbers from ``begin`` to ``end``, 1, 2 or 5 times a power of ten apart."""
    step = 1
    while (end - begin) / step > most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(-(-int(begin) // step) * step, int(end) + 1, step))


def lanes(spans: list[Span]) -> list[list[Span]]:
    """Spans, ordered by their begin, in lanes that keep them apart: each in the first lane that is free."""
    found: list[list[Span]] = []
    for span in spans:
        lane = next((lane for lane in found if lane[-1]["begin"] + lane[-1]["cycles"] <= span["begin"]), None)
        if lane is None:
            found.append(lane := [])
        lane.append(span)
    return found


@dataclass
class Drawing:
    """A picture of ``width`` pixels; its height follows from what is drawn.

    Attributes:
        label: what it shows, for those who can't see it.
        shapes: in the order in which they are drawn; each has ``kind`` and its numbers.
    """

    width: int
    label: str
    height: float = 0
    shapes: list[dict[str, Any]] = field(default_factory=list)

    def rect(self, x: float, y: float, width: float, height: float, fill: str, title: str = "", texts: tuple[str, ...] = (),
             opacity: float = 1) -> None:  # fmt: skip
        """A rectangle with a tooltip and, inside it, the first of the texts for which there is room.

        ``fill``: ``#rrggbb``, or a class of the page's style.
        """
        shown = next((text for text in texts if len(text) * CHARACTER + 6 <= width), "")
        colour = fill if fill.startswith("#") else None
        self.shapes.append({
            "kind": "rect", "x": round(x, 2), "y": round(y, 2), "width": round(max(width, 0.4), 2), "height": round(height, 2),
            "fill": colour, "style": None if colour else fill, "opacity": round(opacity, 2), "title": title, "text": shown,
            "ink": ink(colour) if colour else None,
        })  # fmt: skip
        self.height = max(self.height, y + height)

    def line(self, x: float, y: float, bottom: float, style: str = "grid") -> None:
        """A vertical line."""
        self.shapes.append({"kind": "line", "x": round(x, 2), "y": round(y, 2), "bottom": round(bottom, 2), "style": style})

    def text(self, x: float, y: float, text: str, anchor: str = "start", style: str = "") -> None:
        """A line of text whose middle stands at ``y``."""
        self.shapes.append({"kind": "text", "x": round(x, 2), "y": round(y, 2), "text": text, "anchor": anchor, "style": style})
        self.height = max(self.height, y + 10)
