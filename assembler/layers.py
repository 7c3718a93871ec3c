"""How well 16 bits hold a model: a compiler's report, layer by layer."""

import math
import re
from typing import Any

__all__ = ["layer_of_module", "layer_report"]

_EXACT = ("const", "emb")  # known to the last element: they need no headroom
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)(?:\.|$)")


def layer_of_module(module: str) -> int | None:
    """The number of the layer that a module's path names, ``model.layers.3.mlp``; None if it names none."""
    found = _LAYER.search(module)
    return int(found.group(1)) if found else None


def _place(module: str) -> str:
    layer = layer_of_module(module)
    return "other" if layer is None else str(layer)


def layer_report(tensors: list[dict[str, Any]], saturated: dict[str, int] | None) -> list[dict[str, Any]]:
    """One entry a layer, in their order, and ``other`` for what stands outside of them.

    Args:
        tensors: as in report.json.
        saturated: saturated elements by name, also of a product's activations and mean square; None without a run.

    Returns:
        Dictionaries with ``layer``; ``vectors_16`` and ``vectors_32``, how many have so many bits; of those with 16 that
        are computed ``headroom_bits``, the smallest distance from the range to the limit, ``resolution_bits``, the smallest number of
        bits that the root mean square has above the last place, and ``narrowest``, the vector that has it;
        ``saturated``, elements in the run (null without one), and ``most``, the name with the most of them.
    """
    module_of = {t["name"]: t["module"] or "" for t in tensors}
    layers: dict[str, dict[str, Any]] = {}
    for t in tensors:
        layer = layers.setdefault(_place(t["module"] or ""), {
            "vectors_16": 0, "vectors_32": 0, "headroom_bits": None, "resolution_bits": None, "narrowest": None,
            "saturated": None if saturated is None else 0, "most": None,
        })  # fmt: skip
        layer[f"vectors_{t['bits']}"] += 1
        if t["bits"] != 16 or t["operation"] in _EXACT:
            continue
        if t["headroom_bits"] is not None:
            known = layer["headroom_bits"]
            layer["headroom_bits"] = t["headroom_bits"] if known is None else min(known, t["headroom_bits"])
        if t.get("rms"):
            bits = round(math.log2(t["rms"]) + t["point"], 2)
            if layer["resolution_bits"] is None or bits < layer["resolution_bits"]:
                layer["resolution_bits"], layer["narrowest"] = bits, t["name"]
    worst: dict[str, int] = {}
    for name, count in (saturated or {}).items():
        # A product's activations and mean square are named after it; they are no vectors and have no entry of their own.
        module = module_of.get(name, module_of.get(name.rpartition(".")[0], ""))
        place = _place(module)
        if place in layers:
            layer = layers[place]
            layer["saturated"] += count
            if count > worst.get(place, 0):
                worst[place], layer["most"] = count, name
    order = sorted(layers, key=lambda place: (place == "other", int(place) if place != "other" else 0))
    return [{"layer": int(place) if place != "other" else place, **layers[place]} for place in order]
