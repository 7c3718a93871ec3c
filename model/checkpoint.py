"""Reading and writing models: the published layout and the packed one.

Published: ``config.json`` and ``model.safetensors`` (or shards with ``model.safetensors.index.json``), full-precision
weights under the keys of the public implementation. Packed: the same keys, but every ternary ``<name>.weight`` is uint8
[ceil(rows / 5), cols] (``trilobit.isa.trits``) with an fp32 ``<name>.scale`` [1]; embeddings fp16, gains and lower
bounds fp32; ``config.json`` says ``"trilobit": {"layout": "packed", "version": 1}``. Tensors named ``constant.*``
belong to the exported graph and are passed over here.

Only safetensors and JSON are read: nothing in a model folder can run code.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from trilobit.errors import ModelError
from trilobit.model.files import NOT_FINITE, atomic_folder, open_tensors
from trilobit.model.importing import PACKED_LAYOUT, is_packed
from trilobit.model.reference import BitLinear, MatMulFreeLM, ModelConfig
from trilobit.model.shards import weight_files

__all__ = ["load_pretrained", "load_weights", "packed_tensors", "save_packed", "write_config"]

_UNPACK_AT_EVERY_CALL_ABOVE = 100_000_000  # parameters: beyond it, fp32 copies of all matrices take too much memory


def load_pretrained(folder: str | Path, *, form: str | None = None) -> MatMulFreeLM:
    """Load a model, in eval mode, on the CPU.

    Args:
        folder: in the published or in the packed layout.
        form: "training" (fp32 weights), "packed", or None for the form of the layout. A published checkpoint is
            packed tensor by tensor, so that memory holds one unpacked matrix at a time.

    Returns:
        The model; calling it with ``input_ids`` [B, T] gives logits [B, T, V].

    Raises:
        ModelError: a file is missing, truncated or of another model; a key is missing or unknown; a tensor has the
            wrong shape or type, or holds NaN or infinity. The message names the file and the key.
    """
    folder = Path(folder)
    config = ModelConfig.from_json(folder / "config.json")
    packed = _is_packed(folder / "config.json")
    if form not in (None, "training", "packed"):
        raise ValueError(f"form: expected 'training', 'packed' or None, got {form!r}")
    if packed and form == "training":
        raise ModelError(f"{folder}: holds ternary weights only; the training form needs the full-precision checkpoint")
    to_packed = packed or form == "packed"
    with torch.device("meta"):  # shapes only; every tensor then comes from the files
        model = MatMulFreeLM(config)
    load_weights(model, folder, packed=packed, to_packed=to_packed)
    if sum(module.weight.numel() for module in _bitlinears(model).values()) > _UNPACK_AT_EVERY_CALL_ABOVE // 5:
        for module in _bitlinears(model).values():
            module.keep_unpacked = not to_packed
    return model.eval()


def load_weights(model: torch.nn.Module, folder: str | Path, *, packed: bool, to_packed: bool = False) -> None:
    """Fill a model's parameters from a folder's (or one file's) safetensors; every key must fit.

    Args:
        model: on the device "meta" or any other; its parameters are replaced.
        folder: a folder, or one ``.safetensors`` file.
        packed: the file holds the packed layout.
        to_packed: turn each BitLinear into its packed form as it is read.
    """
    bitlinears = _bitlinears(model)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if packed:
        for path, module in bitlinears.items():
            expected[f"{path}.weight"] = BitLinear.packed_shape(module.out_features, module.in_features)
            expected[f"{path}.scale"] = (1,)
    tied = bool(getattr(getattr(model, "config", None), "tie_word_embeddings", False)) and not packed
    seen: set[str] = set()
    halves: dict[str, dict[str, Tensor]] = {}  # weight and scale of a packed matrix, until both have come
    for file, name, tensor in _tensors(Path(folder)):
        if packed and name.startswith("constant."):
            continue
        if name not in expected:
            raise ModelError(f"{file}: unexpected key {name!r}; the configuration and the weights are of two models")
        _check(file, name, tensor, expected[name], packed)
        seen.add(name)
        path, _, leaf = name.rpartition(".")
        if packed and path in bitlinears:
            pair = halves.setdefault(path, {})
            pair[leaf] = tensor
            if len(pair) == 2:
                bitlinears[path].set_packed(pair["weight"], pair["scale"])
                del halves[path]
            continue
        _assign(model, name, tensor.float())
        if tied and name == "model.embeddings.weight":
            _assign(model, "lm_head.weight", tensor.float())
            seen.add("lm_head.weight")
        if to_packed and path in bitlinears:
            bitlinears[path].pack()
    missing = sorted(set(expected) - seen)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelError(f"{folder}: missing key {', '.join(missing[:3])}{more}; is the checkpoint complete?")
    if tied and to_packed:
        bitlinears["lm_head"].pack()


def _bitlinears(model: torch.nn.Module) -> dict[str, BitLinear]:
    return {path: module for path, module in model.named_modules() if isinstance(module, BitLinear)}


def _assign(model: torch.nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._parameters:
        setattr(module, leaf, torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
    else:
        module._buffers[leaf] = tensor


def _check(file: Path, name: str, tensor: Tensor, shape: tuple[int, ...], packed: bool) -> None:
    if tuple(tensor.shape) != shape:
        raise ModelError(f"{file}: {name}: expected shape {list(shape)}, got {list(tensor.shape)}")
    if tensor.dtype == torch.uint8 and packed:
        return
    if not tensor.is_floating_point():
        raise ModelError(f"{file}: {name}: expected floating point values, got {tensor.dtype}")
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError(f"{file}: {name}: {NOT_FINITE}")


def _tensors(folder: Path) -> Iterator[tuple[Path, str, Tensor]]:
    """Every tensor of a folder or file, one at a time: (file, key, tensor)."""
    for file, keys in weight_files(folder).items():
        with open_tensors(file, "pt") as handle:
            held = set(handle.keys())
            absent = sorted(set(keys or held) - held)
            if absent:
                raise ModelError(f"{file}: missing key {absent[0]}, which the index places there")
            for name in sorted(held):
                yield file, name, handle.get_tensor(name)


def _is_packed(config: Path) -> bool:
    return is_packed(json.loads(config.read_bytes()), config)


def packed_tensors(model: MatMulFreeLM) -> dict[str, np.ndarray]:
    """The packed layout's tensors of a model in either form."""
    bitlinears = _bitlinears(model)
    tensors: dict[str, np.ndarray] = {}
    for name, value in model.state_dict().items():
        path, _, leaf = name.rpartition(".")
        if path in bitlinears:
            if leaf == "weight":
                weight, scale = bitlinears[path].packed_weight()
                tensors[name], tensors[f"{path}.scale"] = weight.cpu().numpy(), scale.float().cpu().numpy()
            continue
        values = value.detach().float().cpu().contiguous().numpy()
        half = path == "model.embeddings" and np.abs(values).max() < 6e4
        tensors[name] = values.astype(np.float16) if half else values
    return tensors


def write_config(config: ModelConfig, folder: Path) -> None:
    """``config.json`` of the packed layout."""
    values = {**config.to_dict(), "trilobit": PACKED_LAYOUT}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def save_packed(model: MatMulFreeLM, folder: str | Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` in the packed layout, all or nothing.

    ``trilobit.model.export_graph`` writes the same and the graph beside it.
    """
    with atomic_folder(folder) as temporary:
        write_config(model.config, temporary)
        save_file(packed_tensors(model), temporary / "model.safetensors")
