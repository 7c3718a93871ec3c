"""Where compiled simulators are kept: a folder of files named by the content that they were built from.

It is ``$TRILOBIT_CACHE``, else ``$XDG_CACHE_HOME/trilobit``, else ``~/.cache/trilobit``; it can be deleted at any time.
"""

import errno
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
    try:
        base = os.environ.get("TRILOBIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trilobit"
    except RuntimeError as error:  # a user without an entry in passwd and without HOME, as in some containers
        raise ToolError("expected a home folder to keep builds in, found none; set TRILOBIT_CACHE to a folder") from error
    folder = Path(base).absolute()
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
    """A folder beside the result, so that the result can be renamed into place; gone afterwards.

    Raises:
        ToolError: ``parent`` can't be written.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="build-", dir=parent))
    except OSError as error:
        raise _unwritable(parent, error) from error
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
        ToolError: ``build`` did, and its log is kept and named; or the cache can't be written.
    """
    if library.exists():
        return library
    with _lock(library.with_suffix(".lock")):
        if library.exists():  # another process built it meanwhile
            return library
        # Verilator's makefile refuses folders with a space in their path.
        place = Path(tempfile.gettempdir()) if " " in str(library.parent) else library.parent
        with temporary_folder(place) as work, _progress(what):
            log = library.with_suffix(".log")
            try:
                made = build(work, log)
            except ToolError as error:
                raise ToolError(f"{error}\nThe whole log is {log}") from error
            except OSError as error:  # the disk is full
                raise _unwritable(library.parent, error) from error
            _into_place(made, library)
            log.unlink(missing_ok=True)
    return library


def _into_place(made: Path, library: Path) -> None:
    """Rename, or copy and rename if the two are on different file systems."""
    try:
        os.replace(made, library)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = library.with_suffix(".new")
        shutil.copyfile(made, beside)
        os.replace(beside, library)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        file = open(path, "w")  # noqa: SIM115 - what the block raises must not be taken for this
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unwritable(folder: Path, error: OSError) -> ToolError:
    return ToolError(f"expected a cache folder that can be written, got {folder}: {error.strerror}; set TRILOBIT_CACHE to another")


@contextmanager
def _progress(what: str) -> Iterator[None]:
    console = Console(file=sys.stderr)
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        print(what, file=sys.stderr, flush=True)
        yield
