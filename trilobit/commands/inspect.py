"""``trilobit inspect``: what a checkpoint or a bundle holds."""

import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from trilobit.errors import ModelError
from trilobit.output import json_option, print_json, print_table, progress, quantity

__all__ = ["command"]


@click.command(name="inspect", short_help="Show what a checkpoint or a bundle holds.")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def command(path: Path, as_json: bool) -> None:
    """Show what PATH holds: a published checkpoint, a packed one (or one that ships, by its name), or a bundle.

    A checkpoint: geometry, sizes, share of zeros and scales of the ternary weights, tokenizer. A bundle: core, sizes, and for each
    layer how well 16 bits hold it.
    """
    from trilobit.assembler.compiler.pipeline import shipped_or_path

    path = shipped_or_path(path)
    if not path.exists():
        raise ModelError(f"{path}: no such folder, and no model of that name ships with Trilobit; expected a checkpoint or a bundle")
    if (path / "manifest.json").is_file():
        found = _bundle(path)
        print_json(found) if as_json else _print_bundle(found)
        return
    from trilobit.model.inspecting import inspect_checkpoint

    with progress(quiet=as_json) as bar:
        task = bar.add_task("Reading weights", total=None)
        found = inspect_checkpoint(path, progress=lambda name: bar.advance(task))
    print_json(found) if as_json else _print_checkpoint(found)


def _print_checkpoint(found: dict[str, Any]) -> None:
    geometry = found["geometry"]
    types = f" of {', '.join(found['dtypes'])}" if found["dtypes"] else ""
    rows = {
        "checkpoint": f"{found['folder']}, {found['kind']}",
        "model": f"H {geometry['hidden_size']}, L {geometry['num_hidden_layers']}, I {geometry['intermediate_size']}, "
        f"V {geometry['vocab_size']}, {geometry['num_heads']} head{'s' * (geometry['num_heads'] > 1)}, "
        f"{'with' if geometry['use_lower_bound'] else 'without'} lower bounds, eps {geometry['rms_norm_eps']:g}",
        "parameters": f"{found['parameters']:,}; ternary weights a token: {found['ternary_weights']:,}",
        "weights": f"{quantity(found['bytes'], 'B')}{types} in {len(found['files'])} file{'s' * (len(found['files']) > 1)}",
        "tokenizer": f"{found['tokenizer']['tokens']} tokens" if found["tokenizer"] else "none",
    }
    if found["kind"] == "packed":
        rows["ranges"] = _ranges(found["calibration"])
    print_table(rows)
    table = Table("matrices", "number", "shape", "zeros, %", "scale (mean |W|)", box=None, pad_edge=False)
    for kind, m in found["matrices"].items():
        zeros = _spread([100 * share for share in m["share_of_zeros"]], ".1f")
        table.add_row(kind, str(m["count"]), f"{m['shape'][0]} x {m['shape'][1]}", zeros, _spread(m["scale"], ".3g"))
    Console(highlight=False).print(table)


def _spread(values: list[float], form: str) -> str:
    """Mean, and lowest to highest if they differ."""
    low, mean, high = (format(value, form) for value in values)
    return mean if low == high else f"{mean} ({low} to {high})"


def _bundle(path: Path) -> dict[str, Any]:
    from trilobit.assembler.bundle import load_bundle
    from trilobit.assembler.layers import layer_report

    bundle = load_bundle(path)
    manifest, report = bundle.manifest, bundle.report
    run = report["saturation_run"]
    return {
        "kind": "bundle", "folder": path, "name": manifest.name, "geometry": manifest.geometry,
        "core": bundle.core.name, "batch": bundle.core.batch,
        "instructions": len(bundle.program.code), "image_bytes": manifest.write_start, "window_bytes": manifest.window_size,
        "weights_per_token": manifest.weights_per_token, "tokenizer": manifest.tokenizer, "calibration": manifest.calibration,
        "saturation_run": None if run is None else {"tokens": run["tokens"]},
        "layers": report.get("layers") or layer_report(report["tensors"], None if run is None else run["saturated"]),
    }  # fmt: skip


def _print_bundle(found: dict[str, Any]) -> None:
    run = found["saturation_run"]
    print_table({
        "bundle": f"{found['folder']}: {found['name']}", "core": found["core"],
        "batch": f"{found['batch']} sequence{'s' * (found['batch'] > 1)} a pass", "instructions": str(found["instructions"]),
        "image": f"{quantity(found['image_bytes'], 'B')}, window {quantity(found['window_bytes'], 'B')}",
        "weights a token": f"{found['weights_per_token']:,}", "tokenizer": found["tokenizer"] or "none",
        "ranges": _ranges(found["calibration"]),
        "saturations": f"counted over {run['tokens']} tokens" if run else "not counted (compile with --calibrate-report TEXT)",
    })  # fmt: skip
    table = Table("layer", "16 bits", "32 bits", "headroom", "resolution", "narrowest", "saturated", box=None, pad_edge=False)
    for layer in found["layers"]:
        saturated = "-" if layer["saturated"] is None else str(layer["saturated"])
        if layer["most"]:
            saturated += f" ({_short(layer['most'])})"
        table.add_row(
            str(layer["layer"]), str(layer["vectors_16"]), str(layer["vectors_32"]), _bits(layer["headroom_bits"]),
            _bits(layer["resolution_bits"]), _short(layer["narrowest"]), saturated,
        )  # fmt: skip
    Console(highlight=False).print(table)


def _ranges(calibration: dict[str, Any] | None) -> str:
    if calibration is None:
        return "unknown"
    tokens, source = calibration["tokens"], calibration["source"]
    return f"measured on {tokens} tokens of {source}" if tokens else source.removeprefix("default policy: ")


def _short(name: str | None) -> str:
    """A vector's name without its layer, which has a column of its own."""
    return re.sub(r"^(model_layers_\d+_|layer\d+_)", "", name or "-")


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} bits"
