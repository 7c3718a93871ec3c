"""Full-size checkpoints with random weights in the published layout, for benchmarks where no model can be had.

Written tensor by tensor into shards as transformers writes them: ``config.json``, ``model-00001-of-0000N.safetensors``,
``model.safetensors.index.json``. The same seed gives the same bytes.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trilobit.errors import ModelError
from trilobit.model.config import ModelConfig
from trilobit.model.files import atomic_folder
from trilobit.model.published import TensorSpec, tensor_specs
from trilobit.model.tensorfile import Entry, TensorWriter

__all__ = ["DTYPES", "plan_shards", "published_json", "synthesize", "write_published"]

DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
SHARD_BYTES = 2_000_000_000
_BLOCK = 1 << 22  # elements drawn at once


def published_json(config: ModelConfig, dtype: str) -> dict[str, object]:
    """``config.json`` as the published models have it, for weights of a type of :data:`DTYPES`."""
    names = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
    return {
        "architectures": ["HGRNBitForCausalLM"], "attn_mode": "fused_recurrent", "conv_size": 4, "share_conv_kernel": True,
        "max_position_embeddings": 2048, "initializer_range": 0.02, "use_cache": True, "fuse_cross_entropy": True,
        "torch_dtype": names[dtype], **config.to_dict(),
    }  # fmt: skip


def plan_shards(specs: list[TensorSpec], dtype: str, shard_bytes: int) -> list[list[TensorSpec]]:
    """Tensors in their order, cut into files of at most ``shard_bytes`` (a larger tensor is a file of its own)."""
    shards: list[list[TensorSpec]] = [[]]
    size = 0
    for spec in specs:
        nbytes = Entry(DTYPES[dtype], spec.shape).nbytes
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(spec)
        size += nbytes
    return shards


def write_published(
    config: ModelConfig,
    folder: Path,
    dtype: str,
    values: "Callable[[TensorSpec, Callable[[int, np.ndarray], None]], None]",
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write configuration, shards and index into a folder that is there.

    Args:
        config, dtype: of the checkpoint; a type of :data:`DTYPES`.
        folder: to write into.
        values: gives a tensor by calling back with (first row, fp32 rows) for successive blocks of its rows, or with
            (0, vector) for a vector.
        shard_bytes: largest file, unless one tensor is larger.
        progress: called with a tensor's key when it is written.
    """
    shards = plan_shards(tensor_specs(config), dtype, shard_bytes)
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))]
    places, total = {}, 0
    for name, specs in zip(names, shards, strict=True):
        entries = {spec.name: Entry(DTYPES[dtype], spec.shape) for spec in specs}
        total += sum(entry.nbytes for entry in entries.values())
        with TensorWriter(folder / name, entries, {"format": "pt"}) as writer:
            for spec in specs:
                values(spec, lambda start, rows, key=spec.name: writer.write_rows(key, start, _as(rows, dtype)))  # type: ignore[misc]  # a default
                places[spec.name] = name
                if progress is not None:
                    progress(spec.name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(published_json(config, dtype), indent=2) + "\n", encoding="utf-8")


def _as(values: np.ndarray, dtype: str) -> np.ndarray:
    """fp32 values in the type of the file; bfloat16 as its bits, rounded half to even."""
    if dtype != "bf16":
        return values.astype(np.float16 if dtype == "fp16" else np.float32, copy=False)
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def synthesize(
    config: ModelConfig,
    folder: str | Path,
    *,
    seed: int = 0,
    dtype: str = "bf16",
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write a checkpoint with random weights.

    Matrices are normal with the deviation of an untrained model (columns to the power -1/2), embeddings standard normal,
    gains uniform from 0.5 to 1.5, lower bounds normal.

    Args:
        config: the geometry; :func:`trilobit.model.published.published_config` has the published ones.
        folder: a new one, or an empty one.
        seed: of everything.
        dtype: a key of :data:`DTYPES`.
        shard_bytes: largest file, unless one tensor is larger.
        progress: called with a tensor's key when it is written.

    Raises:
        ModelError: the folder exists and holds something, or can't be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder}: exists; expected a new folder for a synthetic checkpoint")
    generator = np.random.Generator(np.random.SFC64(seed))

    def values(spec: TensorSpec, write: Callable[[int, np.ndarray], None]) -> None:
        step = spec.shape[0] if len(spec.shape) == 1 else max(_BLOCK // spec.shape[1], 1)
        for start in range(0, spec.shape[0], step):
            shape = (min(step, spec.shape[0] - start), *spec.shape[1:])
            if spec.kind == "gain":
                rows = generator.random(shape, dtype=np.float32) + np.float32(0.5)
            else:
                rows = generator.standard_normal(shape, dtype=np.float32)
                if spec.ternary:
                    rows *= np.float32(spec.shape[1] ** -0.5)
            write(start, rows)

    try:
        with atomic_folder(folder, replace=True) as temporary:
            write_published(config, temporary, dtype, values, shard_bytes=shard_bytes, progress=progress)
    except OSError as error:
        raise ModelError(f"{folder}: can't be written: {error.strerror or error}") from error
