"""``trilobit train``: train a model on text; the arguments are those of :mod:`trilobit.model.train`."""

import click


@click.command(name="train", context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
@click.pass_context
def command(ctx: click.Context) -> None:
    """Train a MatMul-free model on text (needs PyTorch)."""
    from trilobit.errors import ToolError

    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise ToolError('expected PyTorch to train, found none; install it with pip install "trilobit[model]"') from error
    from trilobit.model.train import main

    ctx.exit(main(ctx.args) or 0)
