"""``trilobit export``: a packed checkpoint back in the published layout."""

from pathlib import Path

import click

from trilobit.errors import ModelError
from trilobit.output import json_option, print_json, print_table, progress, quantity

__all__ = ["command"]

_PATH = click.Path(path_type=Path)


@click.command(name="export", short_help="Write a packed checkpoint back in the published layout.")
@click.argument("packed", type=_PATH)
@click.option("-o", "--output", metavar="FOLDER", type=_PATH, required=True, help="A new folder.")
@click.option("--shard-bytes", default=2_000_000_000, show_default=True, metavar="N", type=click.IntRange(1), help="Largest file.")
@json_option
def command(packed: Path, output: Path, shard_bytes: int, as_json: bool) -> None:
    """Write a PACKED checkpoint as safetensors that the published implementation loads.

    The opposite of `trilobit import`: config.json, fp32 weights that quantise to the same trits and scales, the tokenizer.
    PACKED may be the name of a model that ships.
    """
    from trilobit.assembler.compiler.pipeline import shipped_or_path
    from trilobit.model.packed import open_packed
    from trilobit.model.publishing import publish

    packed = shipped_or_path(packed)
    if not packed.exists():
        raise ModelError(f"{packed}: no such folder, and no model of that name ships with Trilobit; expected a packed checkpoint")
    with progress(quiet=as_json) as bar:
        task = bar.add_task("Unpacking", total=len(open_packed(packed).specs))
        checkpoint = publish(packed, output, shard_bytes=shard_bytes, progress=lambda name: bar.advance(task))
    files = sorted(output.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    parameters = sum(spec.size for spec in checkpoint.specs)
    if as_json:
        print_json({"folder": output, "parameters": parameters, "files": [file.name for file in files], "bytes": size})
        return
    print_table({"written": str(output), "parameters": f"{parameters:,}", "files": f"{len(files)}, {quantity(size, 'B')} of fp32"})
