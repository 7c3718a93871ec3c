"""Where compiled simulators are kept: a folder of files named by the content that they were built from.

It is ``$TRILOBIT_CACHE``, else ``$XDG_CACHE_HOME/trilobit``, else ``~/.cache/trilobit``; it can be deleted at any time.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from trilobit.errors import ToolError

__all__ = ["build_once", "cache_folder", "content_hash", "temporary_folder"]


def cache_folder() -> Path:
    """Where builds are kept; made if it is not there."""
    base = os.environ.get("TRILOBIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trilobit"
    folder = Path(base)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(f"expected a cache folder at {folder}, can't make it: {error.strerror}; set TRILOBIT_CACHE") from error
    return folder


def content_hash(*parts: object) -> str:
    """A name for what is made from these parts (bytes, or what ``str`` makes of them): 24 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder beside the result, so that the result can be renamed into place; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="build-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build_once(library: Path, what: str, build: Callable[[Path, Path], Path]) -> Path:
    """The library, built if it is not there; processes that want the same one wait for the first.

    Args:
        library: its path in the cache.
        what: told to the user while it is built.
        build: takes an empty folder and a file for the log; returns the library's path in that folder.

    Raises:
        ToolError: ``build`` did; its log is kept and named.
    """
    if library.exists():
        return library
    with _lock(library.with_suffix(".lock")):
        if library.exists():  # another process built it meanwhile
            return library
        with temporary_folder(library.parent) as work, _progress(what):
            log = library.with_suffix(".log")
            try:
                made = build(work, log)
            except ToolError as error:
                raise ToolError(f"{error}\nThe whole log is {log}") from error
            os.replace(made, library)
            log.unlink(missing_ok=True)
    return library


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(what: str) -> Iterator[None]:
    console = Console(file=sys.stderr)
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        print(what, file=sys.stderr, flush=True)
        yield
