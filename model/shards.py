"""Which files a model folder's weights are in: one safetensors file, or shards with their index."""

import json
from pathlib import Path

from trilobit.errors import ModelError

__all__ = ["weight_files"]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: str | Path) -> dict[Path, set[str] | None]:
    """The files to read, each with the keys that the index promises (None without an index).

    Args:
        folder: a model folder, or one ``.safetensors`` file.

    Raises:
        ModelError: no weights, weights as pickle only, shards without an index, an index that can't be used or that
            names a file outside the folder or one that is missing.
    """
    folder = Path(folder)
    if folder.is_file() or folder.suffix == ".safetensors":
        return {folder: None}
    single, index = folder / _SINGLE, folder / _INDEX
    if single.exists():
        return {single: None}
    if index.exists():
        return _indexed(index)
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    if shards:
        raise ModelError(f"{index}: no such file; expected the index of the shards ({shards[0].name} and others): copy it too")
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder}: expected {_SINGLE} or shards with {_INDEX}, got {pickles[0]}; pickle files can run code and are "
            "never opened: convert the model where you trust it, with save_pretrained(FOLDER, safe_serialization=True)"
        )
    return {single: None}


def _indexed(index: Path) -> dict[Path, set[str] | None]:
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        files: dict[str, set[str]] = {}
        for key, name in places.items():
            if not isinstance(name, str):
                raise TypeError(f"{key}: {name!r} is no file name")
            files.setdefault(name, set()).add(key)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: expected a weight_map of keys to files, could not use it: {error!r}") from error
    for name in files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise ModelError(
                f"{index}: expected a weight_map of keys to files of this folder, got {name!r}; such an index could read any "
                "file: do not use this checkpoint"
            )
        if not name.endswith(".safetensors"):
            raise ModelError(f"{index}: expected safetensors files, got {name!r}; pickle files can run code and are never opened")
    if not files:
        raise ModelError(f"{index}: expected a weight_map of keys to files, got none")
    missing = sorted(name for name in files if not (index.parent / name).is_file())
    if missing:
        more = f" (nor {', '.join(missing[1:4])}{' and others' if len(missing) > 4 else ''})" if missing[1:] else ""
        raise ModelError(
            f"{index.parent / missing[0]}: no such file{more}; expected all {len(files)} shards that {index.name} names: "
            "copy or download what is missing"
        )
    return {index.parent / name: keys for name, keys in files.items()}
