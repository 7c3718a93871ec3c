"""What a checkpoint holds: geometry, sizes, share of zeros and scales by kind of matrix, tokenizer. Needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trilobit.errors import ModelError
from trilobit.model.graph import load_graph
from trilobit.model.importing import Source, is_packed, open_checkpoint, read_config
from trilobit.model.packed import PackedCheckpoint, open_packed
from trilobit.model.published import TensorSpec
from trilobit.model.quantise import Counts, count_trits
from trilobit.text import Tokenizer

__all__ = ["inspect_checkpoint"]

Progress = Callable[[str], None]


def inspect_checkpoint(folder: str | Path, progress: Progress | None = None) -> dict[str, Any]:
    """Everything that ``trilobit inspect`` says of a checkpoint.

    Args:
        folder: a packed or a published checkpoint. A published one is quantised in passing, to say what would become of it.
        progress: called with each tensor's key.

    Returns:
        ``kind`` ("packed" or "published"), ``geometry``, ``parameters``, ``ternary_weights`` (read for each token),
        ``bytes`` and ``files`` of the weights, ``dtypes`` of the published form's tensors (null for packed), ``matrices``:
        for each kind of ternary matrix their number, ``shape``, ``share_of_zeros`` and ``scale`` (mean |W|) as [lowest, mean,
        highest]; ``tokenizer`` (``tokens``) or null, ``calibration`` of a packed one's graph or null.

    Raises:
        ModelError: no checkpoint, or one that import or compile would refuse.
    """
    folder = Path(folder)
    if (folder / "graph.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: holds a graph of its own (graph.json), no published checkpoint; compile it and inspect the bundle")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: expected a checkpoint (a folder with config.json) or a bundle, got neither")
    config, raw = read_config(folder)
    packed = is_packed(raw, folder / "config.json")
    source: PackedCheckpoint | Source = open_packed(folder) if packed else open_checkpoint(folder)
    readers = {source.reader} if isinstance(source, PackedCheckpoint) else set(source.files.values())
    rows: dict[str, list[tuple[Counts, float]]] = {}
    for spec in source.specs:
        if spec.ternary:
            rows.setdefault(spec.kind, []).append(_measure(source, spec))
        if progress is not None:
            progress(spec.name)
    shapes = {spec.kind: spec.shape for spec in source.specs}
    dtypes = None
    if isinstance(source, Source):
        dtypes = sorted({entry.dtype for reader in readers for entry in reader.entries.values()})
    return {
        "kind": "packed" if packed else "published",
        "folder": folder,
        "geometry": config.to_dict() | {"intermediate_size": config.mlp_size},
        "parameters": sum(spec.size for spec in source.specs),
        "ternary_weights": sum(spec.size for spec in source.specs if spec.ternary),
        "bytes": sum(reader.path.stat().st_size for reader in readers),
        "files": sorted(reader.path.name for reader in readers),
        "dtypes": dtypes,
        "matrices": {kind: _summary(shapes[kind], found) for kind, found in rows.items()},
        "tokenizer": _tokenizer(folder / "tokenizer.json"),
        "calibration": _calibration(folder) if packed else None,
    }


def _measure(source: PackedCheckpoint | Source, spec: TensorSpec) -> tuple[Counts, float]:
    if isinstance(source, PackedCheckpoint):
        return count_trits(source.packed(spec), spec.shape[0]), source.scale(spec)
    weight, scale = source.quantise(spec)
    return count_trits(weight, spec.shape[0]), float(scale)


def _summary(shape: tuple[int, ...], found: list[tuple[Counts, float]]) -> dict[str, Any]:
    def spread(values: list[float]) -> list[float]:
        return [min(values), sum(values) / len(values), max(values)]

    return {
        "count": len(found),
        "shape": list(shape),
        "share_of_zeros": spread([counts.share_of_zeros for counts, _ in found]),
        "scale": spread([scale for _, scale in found]),
    }


def _tokenizer(path: Path) -> dict[str, Any] | None:
    return {"file": path.name, "tokens": Tokenizer(path).size} if path.is_file() else None


def _calibration(folder: Path) -> dict[str, Any] | None:
    if not (folder / "graph.json").is_file():
        return None
    found = load_graph(folder).calibration
    return None if found is None else {"tokens": found.tokens, "source": found.source}
