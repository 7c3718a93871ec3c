"""Files that appear whole: written under a temporary name beside their own, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that is at ``path`` once the block ends; after an exception what was there before still is, and nothing else.

    A link stays a link: the file that it leads to is replaced. What is no regular file (a pipe, ``/dev/null``, ``/dev/stdout``) is written
    as it is: renaming would put a file in place of the device.

    Raises:
        OSError: the folder or the file can't be written.
    """
    path = Path(path).absolute()
    if path.parts[1:2] == ("dev",) or (path.exists() and not path.is_file()):
        with open(path, "wb") as device:
            yield device
        return
    path = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk's names none
            error.filename = str(path)
        raise
