"""What the verbs print: JSON for programs, aligned text for people, progress on stderr."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from trilobit.atomic import replacing
from trilobit.errors import ConfigError

__all__ = [
    "activity_option",
    "batch_option",
    "check_output_folder",
    "clock_option",
    "json_option",
    "memory_option",
    "new_output_folder",
    "output_folder",
    "print_json",
    "print_table",
    "progress",
    "quantity",
    "status_line",
    "write_text",
]

stderr = Console(stderr=True)


def json_option(function: Callable) -> Callable:
    """The option ``--json``, which every verb has; the function gets it as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of text.")(function)


def batch_option(function: Callable) -> Callable:
    """The option ``--batch``, which replaces the core's; the function gets it as ``batch``, None if it is not given."""
    text = "Sequences that share a pass over the weights, 1, 2, 4 or 8, instead of the core's own number."
    return click.option("--batch", metavar="N", type=int, default=None, callback=_batch, help=text)(function)


def _batch(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    if value not in (None, 1, 2, 4, 8):
        raise ConfigError(f"expected --batch 1, 2, 4 or 8, got {value}")
    return value


def memory_option(function: Callable) -> Callable:
    """The option ``--memory``, the timing of a simulated memory; the function gets it as ``memory_model``, None if it is not given."""
    text = "Timing of the memory: ideal (default), latency:N[,outstanding=M], sdram, ddr3-667, ddr4-2400[-hot|-x4] or a YAML file."
    return click.option("--memory", "memory_model", metavar="MEMORY", default=None, help=text)(function)


def activity_option(function: Callable) -> Callable:
    """The option ``--activity``, a SAIF file; the function gets it as ``activity_path``, None if it is not given."""
    path = click.Path(path_type=Path, dir_okay=False)
    text = "Measured switching activity, from run --backend rtl --waves FILE.saif; else an assumed range."
    return click.option("--activity", "activity_path", metavar="FILE.saif", type=path, help=text)(function)


def clock_option(function: Callable) -> Callable:
    """The option ``--clock``, MHz that figures in seconds follow from; the function gets it as ``clock``, None if it is not given."""
    text = "Clock; by default the core's."
    return click.option("--clock", metavar="MHZ", type=float, default=None, callback=_clock, help=text)(function)


def _clock(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"expected a clock above 0 MHz, got {value!r}")
    return value


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on stdout. Values that JSON does not know (NumPy numbers, paths) are converted."""
    click.echo(json.dumps(data, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_table(rows: Mapping[str, str]) -> None:
    """Names and values in two aligned columns."""
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        click.echo(f"{name:<{width}}  {value}")


def quantity(value: float, unit: str = "") -> str:
    """A number with three significant digits and an SI prefix: ``quantity(15.2e6, "weights/s")`` is ``15.2 Mweights/s``."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def progress(*, quiet: bool = False) -> Progress:
    """A progress bar on stderr; nothing is drawn if stderr is no terminal."""
    return Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
                    TimeElapsedColumn(), console=stderr, transient=True, disable=quiet or not stderr.is_terminal)  # fmt: skip


@contextmanager
def status_line(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that shows a tool's latest line on stderr, in place of the one before; nothing if stderr is no terminal."""
    if quiet or not stderr.is_terminal:
        yield lambda text: None
        return
    with stderr.status("") as status:
        yield lambda text: status.update(escape(text.strip()[: max(stderr.width - 4, 20)]))


def check_output_folder(path: Path) -> None:
    """Whether :func:`output_folder` could make this folder: to be asked before long work. Makes nothing.

    Raises:
        ConfigError: it can't be made, or can't be written into.
    """
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise ConfigError(f"{path}: expected a folder to write into, can't make it: {there} is no folder; choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: expected a folder to write into, but {there} may not be written; choose another place")


def output_folder(path: Path) -> None:
    """Make a folder to write into, with those above it, unless it is there.

    Raises:
        ConfigError: it can't be made, or can't be written into.
    """
    check_output_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: expected a folder to write into, can't make it: {error.strerror}; choose another place") from error


@contextmanager
def new_output_folder(path: Path) -> Iterator[None]:
    """:func:`output_folder`; one that it made goes again if the block ends with an exception (Ctrl-C, too) and left nothing in it."""
    made = not path.exists()
    output_folder(path)
    try:
        yield
    except BaseException:
        if made and not any(path.iterdir()):
            path.rmdir()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 under a temporary name, then rename it, so that a reader never sees half of it."""
    with replacing(path) as file:
        file.write(text.encode())
