"""``trilobit train``: a model from text."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from trilobit.output import json_option, print_json, print_table


@click.command(name="train", short_help="Train a model on text files.")
@click.argument("texts", metavar="[TEXT]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--text", "more_texts", metavar="FILE", multiple=True, type=click.Path(path_type=Path), help="A text; may be repeated.")
@click.option("--config", required=True, metavar="NAME|FILE.yaml", help="Preset (tales, shakespeare, ...) or YAML file of a training run.")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False), help="Where the model goes."
)
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("--device", metavar="cuda|cpu", default=None, help="Default: a GPU if there is one.")
@click.option(
    "--tokenizer", metavar="tokenizer.json", type=click.Path(path_type=Path), help="Vocabulary; default: one trained on the text."
)
@json_option
def command(
    texts: tuple[Path, ...],
    more_texts: tuple[Path, ...],
    config: str,
    output: Path,
    resume: bool,
    device: str | None,
    tokenizer: Path | None,
    as_json: bool,
) -> None:
    """Train a model on TEXT files (needs PyTorch) and leave it calibrated, ready to compile.

    Presets of --config: small (minutes on a CPU), tales, shakespeare, shakespeare-tiny, shakespeare-onchip; docs/how-to/train.md has the
    keys of a YAML file.

    Several GPUs or hosts: start it with torchrun, as docs/training.md says.
    """
    from trilobit.errors import ToolError

    texts = (*more_texts, *texts)
    if not texts:
        raise click.UsageError("expected at least one text file (--text FILE), got none")
    try:
        from trilobit.model.train import main
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "torch":
            raise
        raise ToolError('expected PyTorch to train, found none; install it with pip install "trilobit[model]"') from error
    record = main(texts, config, output, resume, device=device, tokenizer=tokenizer, quiet=as_json)
    if not int(os.environ.get("RANK", "0")):  # one process of several reports
        _report(output, record, as_json)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # PyTorch's threads can outlive the interpreter they call into, which aborts the process now and then; all is written, so leave.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _report(output: Path, record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"model": output, **record})
        return
    numbers = {key: value for key, value in record.items() if isinstance(value, str | int | float)}
    print_table(
        {"model": str(output)} | {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in numbers.items()}
    )
