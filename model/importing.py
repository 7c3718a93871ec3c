"""From a published checkpoint to the packed layout, one tensor at a time, without torch.

In memory is never more than one tensor as the file has it; everything else goes straight from shard to packed file. What
comes out is what ``trilobit.model.export_graph`` writes of the same model: a checkpoint for ``load_pretrained``, and the
graph, with ranges, for the compiler.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trilobit.errors import ModelError
from trilobit.model.calibration import DEFAULT_TOKENS, Measured, calibrate_on_text, text_tokens
from trilobit.model.config import ModelConfig
from trilobit.model.files import NOT_FINITE, atomic_folder
from trilobit.model.graph import load_tensors, save_graph
from trilobit.model.published import TensorSpec, graph_of, tensor_specs
from trilobit.model.quantise import Packed, quantise
from trilobit.model.ranges import estimate_ranges
from trilobit.model.shards import weight_files
from trilobit.model.tensorfile import FLOATS, Entry, TensorReader, TensorWriter, float32_of
from trilobit.model.vocabulary import check_vocabulary, find_tokenizer

__all__ = ["PACKED_LAYOUT", "TOKENIZER_FILES", "Imported", "Source", "import_checkpoint", "is_packed", "open_checkpoint", "read_config"]

PACKED_LAYOUT = {"layout": "packed", "version": 1}
_HALF_PRECISION = 2.0**-20  # an embedding that half precision changes by more, relative to its largest value, stays in fp32
_ROWS_AT_ONCE = 1 << 20  # elements of an embedding that are converted at once
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

Progress = Callable[[str], None]


@dataclass
class Source:
    """A published checkpoint, checked as far as its headers go.

    Attributes:
        folder: where it lies.
        config: its geometry; ``raw_config`` is the file as it is.
        specs: every tensor that the geometry asks for; a tied lm_head reads the embedding.
        files: the file of each key.
    """

    folder: Path
    config: ModelConfig
    raw_config: dict[str, Any]
    specs: list[TensorSpec]
    files: dict[str, TensorReader]

    def key(self, spec: TensorSpec) -> str:
        """The key in the files that a tensor is read from."""
        tied = self.config.tie_word_embeddings and spec.name == "lm_head.weight"  # whatever else the file may hold
        return "model.embeddings.weight" if tied else spec.name

    def read(self, spec: TensorSpec) -> tuple[np.ndarray, str]:
        """A tensor as its file has it, and its type by safetensors' name."""
        key = self.key(spec)
        reader = self.files[key]
        return reader.read(key), reader.entries[key].dtype

    def entry(self, spec: TensorSpec) -> Entry:
        """What the file's header says of a tensor."""
        key = self.key(spec)
        return self.files[key].entries[key]

    def quantise(self, spec: TensorSpec) -> Packed:
        """Read a ternary matrix and quantise it; ModelError if it holds NaN or infinity."""
        try:
            return quantise(*self.read(spec))
        except ValueError as error:
            raise self.not_finite(spec) from error

    def not_finite(self, spec: TensorSpec) -> ModelError:
        """The error for a tensor with NaN or infinity."""
        path = self.files[self.key(spec)].path
        return ModelError(f"{path}: {spec.name}: {NOT_FINITE}")


@dataclass
class Imported:
    """What an import made.

    Attributes:
        output: the packed checkpoint.
        config: its geometry.
        tokenizer: whether it has a tokenizer.
        source_bytes, packed_bytes: size of the weights before and after.
        scales: mean |W| of each ternary matrix by key.
        calibration: the run over a text that its ranges are from; None: they are estimated from the weights.
        notes: what the user should know.
    """

    output: Path
    config: ModelConfig
    tokenizer: bool
    source_bytes: int = 0
    packed_bytes: int = 0
    scales: dict[str, float] = field(default_factory=dict)
    calibration: Measured | None = None
    notes: list[str] = field(default_factory=list)


def read_config(folder: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """``config.json`` of a model folder, checked, and as it is; errors as :meth:`ModelConfig.from_json`."""
    config = ModelConfig.from_json(folder / "config.json")
    return config, json.loads((folder / "config.json").read_bytes())


def is_packed(raw_config: Mapping[str, Any], path: Path) -> bool:
    """Whether a ``config.json`` is of the packed layout; ModelError if that is of another version."""
    layout = raw_config.get("trilobit")
    if layout is None:
        return False
    if layout != PACKED_LAYOUT:
        raise ModelError(f"{path}: expected the packed layout, version {PACKED_LAYOUT['version']}, got {layout!r}; pack it again")
    return True


def open_checkpoint(folder: str | Path) -> Source:
    """Open a published checkpoint and check all that can be known without reading weights.

    Raises:
        ModelError: configuration of another model or with an unsupported option, a file missing, cut short or damaged, an
            index that does not fit its shards, a key missing, unknown or twice, a wrong shape or type.
    """
    folder = Path(folder)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise ModelError(f"{folder}: expected a model folder with config.json and safetensors, got {got}")
    config, raw = read_config(folder)
    if is_packed(raw, folder / "config.json"):
        raise ModelError(f"{folder}: is packed already; expected a published checkpoint in full precision (compile it as it is)")
    specs = tensor_specs(config)
    tied = config.tie_word_embeddings
    expected = {spec.name: spec for spec in specs}
    files: dict[str, TensorReader] = {}
    for path, promised in weight_files(folder).items():
        reader = TensorReader(path)
        if absent := sorted((promised or set()) - set(reader.entries)):
            raise ModelError(f"{path}: missing key {absent[0]}, which the index places there; copy or download the file again")
        for name, entry in reader.entries.items():
            if name not in expected:
                raise ModelError(f"{path}: unexpected key {name!r}; the configuration and the weights are of two models")
            if name in files:
                raise ModelError(f"{path}: key {name!r} is in {files[name].path.name} as well; expected each tensor once")
            if entry.shape != expected[name].shape:
                raise ModelError(f"{path}: {name}: expected shape {list(expected[name].shape)}, got {list(entry.shape)}")
            if entry.dtype not in FLOATS:
                raise ModelError(f"{path}: {name}: expected floating point values ({', '.join(FLOATS)}), got {entry.dtype}")
            files[name] = reader
    missing = [name for name in expected if name not in files and not (tied and name == "lm_head.weight")]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelError(f"{folder}: missing key {', '.join(missing[:3])}{more}; is the checkpoint complete?")
    return Source(folder, config, raw, specs, files)


def import_checkpoint(
    folder: str | Path,
    output: str | Path,
    *,
    tokenizer: str | Path | None = None,
    padded_vocabulary: bool = False,
    calibrate: str | Path | None = None,
    calibrate_tokens: int = DEFAULT_TOKENS,
    progress: Progress | None = None,
    calibration_progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Quantise and pack a published checkpoint.

    Args:
        folder: ``config.json``, ``model.safetensors`` or shards with their index, and usually ``tokenizer.json``.
        output: the packed checkpoint; replaced if it is one already, untouched if anything fails.
        tokenizer: a tokenizer.json to carry instead of the folder's.
        padded_vocabulary: allow a tokenizer with fewer tokens than the model has rows.
        calibrate: a text to measure ranges on, its first ``calibrate_tokens`` tokens; without one they are estimated from the
            weights.
        progress: called with a tensor's key when it is written.
        calibration_progress: called with steps done and steps to do.

    Raises:
        ModelError: as :func:`open_checkpoint`; NaN or infinity in a tensor; a tokenizer of another vocabulary; an output
            that exists and is no packed checkpoint, or can't be written.
    """
    source, output = open_checkpoint(folder), Path(output)
    _check_output(output, source.folder)
    found, notes = find_tokenizer(source.folder, tokenizer)
    if found is not None:
        check_vocabulary(found, source.config.vocab_size, padded=padded_vocabulary)
    if calibrate is not None:  # before minutes go by
        text_tokens(calibrate, calibrate_tokens, source.config.vocab_size, found)
    result = Imported(output, source.config, found is not None, notes=notes)
    result.source_bytes = sum(entry.nbytes for reader in set(source.files.values()) for entry in reader.entries.values())
    try:
        with atomic_folder(output, replace=True) as temporary:
            result.scales = _write_tensors(source, temporary / "model.safetensors", progress)
            result.packed_bytes = (temporary / "model.safetensors").stat().st_size
            values = {**source.raw_config, **source.config.to_dict(), "trilobit": PACKED_LAYOUT}
            (temporary / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            if found is not None:
                _copy_tokenizer(found, temporary)
            graph = graph_of(source.config, result.scales.__getitem__)
            tensors = load_tensors(graph, temporary)
            if calibrate is None:
                estimate_ranges(graph, tensors)
            else:
                result.calibration = calibrate_on_text(graph, tensors, calibrate, found, calibrate_tokens, calibration_progress)
            save_graph(graph, temporary)
    except OSError as error:
        raise ModelError(f"{output}: can't be written: {error.strerror or error}") from error
    return result


def _check_output(output: Path, source: Path) -> None:
    if output.resolve() == source.resolve():
        raise ModelError(f"{output}: expected another folder than the checkpoint's for the packed one")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        packed = output.is_dir() and "trilobit" in json.loads((output / "config.json").read_bytes())
    except (OSError, ValueError):
        packed = False
    if not packed:
        raise ModelError(f"{output}: exists and is no packed checkpoint; expected a new name or a packed checkpoint to replace")


def _copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    """The tokenizer, and what transformers keeps beside it, so that a later export is complete."""
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    for name in TOKENIZER_FILES[1:]:
        beside = tokenizer.parent / name
        if beside.is_file():
            shutil.copyfile(beside, folder / name)


def _write_tensors(source: Source, path: Path, progress: Progress | None) -> dict[str, float]:
    """Write every packed tensor and the graph's constants; returns the scales by key."""
    scales: dict[str, float] = {}
    entries = {}
    bounds: np.ndarray | None = None
    constants: dict[str, np.ndarray] = {}
    for spec in source.specs:
        match spec.kind:
            case "embedding":
                entries[spec.name] = Entry("F16" if _fits_half(source, spec) else "F32", spec.shape)
            case "gain":
                entries[spec.name] = Entry("F32", spec.shape)
            case "lower_bounds":
                entries[spec.name] = Entry("F32", spec.shape)
                bounds = _floats(source, spec)
                constants = _lower_bounds(bounds)
            case _:
                entries[spec.name] = Entry("U8", (-(-spec.shape[0] // 5), spec.shape[1]))
                entries[_scale_name(spec)] = Entry("F32", (1,))
    entries |= {name: Entry("F32", values.shape) for name, values in constants.items()}
    with TensorWriter(path, entries) as writer:
        for name, values in constants.items():
            writer.write(name, values)
        for spec in source.specs:
            if spec.ternary:
                packed = source.quantise(spec)
                writer.write(spec.name, packed.weight)
                writer.write(_scale_name(spec), np.array([packed.scale], dtype=np.float32))
                scales[spec.name] = float(packed.scale)
            elif spec.kind == "embedding":
                _write_embedding(source, spec, writer)
            else:
                writer.write(spec.name, _floats(source, spec))
            if progress is not None:
                progress(spec.name)
    return scales


def _scale_name(spec: TensorSpec) -> str:
    return spec.name.removesuffix("weight") + "scale"


def _floats(source: Source, spec: TensorSpec) -> np.ndarray:
    raw, dtype = source.read(spec)
    values = np.ascontiguousarray(float32_of(raw, dtype))
    if not np.isfinite(values).all():
        raise source.not_finite(spec)
    return values


def _row_blocks(raw: np.ndarray) -> list[slice]:
    step = max(_ROWS_AT_ONCE // max(raw.shape[1], 1), 1)
    return [slice(start, start + step) for start in range(0, len(raw), step)]


def _fits_half(source: Source, spec: TensorSpec) -> bool:
    """Whether half precision holds an embedding: what was bfloat16 or half, not what was fp32."""
    raw, dtype = source.read(spec)
    peak = error = 0.0
    for block in _row_blocks(raw):
        values = float32_of(raw[block], dtype)
        largest = float(np.abs(values).max())  # NaN if there is one
        if not np.isfinite(largest):
            raise source.not_finite(spec)
        peak = max(peak, largest)
        with np.errstate(over="ignore"):  # infinite beyond its range, and so is the error
            error = max(error, float(np.abs(values.astype(np.float16).astype(np.float32) - values).max()))
    return error <= _HALF_PRECISION * peak


def _write_embedding(source: Source, spec: TensorSpec, writer: TensorWriter) -> None:
    raw, dtype = source.read(spec)
    for block in _row_blocks(raw):
        writer.write_rows(spec.name, block.start, float32_of(raw[block], dtype))


def _lower_bounds(bounds: np.ndarray) -> dict[str, np.ndarray]:
    """The forget gates' lower bounds of every layer but the first, from ``model.lower_bounds`` [L, H], and 1 - them."""
    share = np.exp(bounds.astype(np.float64) - bounds.max(axis=0))
    share /= share.sum(axis=0)
    table = np.cumsum(share, axis=0) - share[0]
    constants = {}
    for n in range(1, len(bounds)):
        constants[f"constant.lower_bound_{n}"] = table[n].astype(np.float32)
        constants[f"constant.lower_bound_rest_{n}"] = (1 - table[n]).astype(np.float32)
    return constants
