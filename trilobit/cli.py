"""The command line: ``trilobit VERB``. A verb is a module of :mod:`trilobit.commands`, imported when it is called.

Exit codes: 0 done, 1 stopped by the user or a check that did not hold, 2 wrong input (the message says what to do).
"""

import importlib
import keyword
import pkgutil
from importlib.metadata import version
from typing import IO, Any

import click

from trilobit import commands
from trilobit.errors import TrilobitError

__all__ = ["main"]


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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version("trilobit"), prog_name="trilobit")
def main() -> None:
    """A MatMul-free language model, from PyTorch to tokens out of its own accelerator."""
