"""Reading and writing model folders: nothing half-written, nothing unexplained. Needs no torch."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from trilobit.errors import ModelError

__all__ = ["NOT_FINITE", "atomic_folder", "open_tensors"]

NOT_FINITE = "holds NaN or infinity: the file is damaged or the training diverged; copy or download it again, or take an earlier checkpoint"


@contextlib.contextmanager
def atomic_folder(folder: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``folder`` to write into; moved there if the block ends without an exception.

    A new folder appears in one step. Into an existing one the files move one by one, each replacing its namesake;
    other files there stay. With ``replace`` the old folder goes as a whole, after the new one is complete.

    Raises:
        ModelError: ``replace``, and ``folder`` is the working folder, which would go from under its user.
    """
    if replace and Path(folder).resolve() == Path.cwd():
        raise ModelError(f"{folder}: expected a new folder, got the one that this runs in")
    folder = Path(folder).absolute()  # so that "." has a name
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            path.chmod(0o644)  # safetensors writes files for the owner alone
        if not folder.exists():
            temporary.rename(folder)
        elif replace:
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            for path in sorted(temporary.iterdir()):
                os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def open_tensors(path: str | Path, framework: str) -> Iterator[safe_open]:
    """Open a safetensors file (``framework``: "np" or "pt"); raises ModelError if missing, truncated or damaged."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected the weights as safetensors: copy or download them")
    try:
        handle = safe_open(path, framework)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: expected a complete safetensors file, got {path.stat().st_size} bytes that are truncated or "
            f"damaged ({error}); copy or download it again"
        ) from error
    with handle:
        yield handle
