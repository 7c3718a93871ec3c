"""``trilobit synthesize``: a checkpoint of a published size with random weights."""

from pathlib import Path

import click

from trilobit.errors import ModelError
from trilobit.output import json_option, print_json, print_table, progress, quantity

__all__ = ["command"]


def _config(geometry: str):
    import re

    from trilobit.model.config import ModelConfig
    from trilobit.model.published import GEOMETRIES, published_config

    if geometry.lower() in GEOMETRIES:
        return published_config(geometry.lower())
    if match := re.fullmatch(r"(\d+)/(\d+)/(\d+)/(\d+)", geometry):
        hidden, layers, intermediate, vocabulary = map(int, match.groups())
        return ModelConfig(vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate)
    raise ModelError(f"expected a geometry ({', '.join(GEOMETRIES)}) or H/L/I/V such as 1024/24/2816/32000, got {geometry!r}")


@click.command(name="synthesize", short_help="Write a checkpoint with random weights, for benchmarks.")
@click.argument("geometry")
@click.option("-o", "--output", metavar="FOLDER", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--seed", default=0, show_default=True, metavar="S", type=click.IntRange(0), help="The same seed gives the same bytes.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), default="bf16", show_default=True, help="Type of the weights.")
@click.option("--shard-bytes", default=2_000_000_000, show_default=True, metavar="N", type=click.IntRange(1), help="Largest file.")
@json_option
def command(geometry: str, output: Path, seed: int, dtype: str, shard_bytes: int, as_json: bool) -> None:
    """Write a checkpoint with random weights, in the published layout, for benchmarks.

    GEOMETRY is 370m, 1.3b or 2.7b, or H/L/I/V. The result imports as a published model does; it says nothing that makes sense.
    """
    from trilobit.model.published import tensor_specs
    from trilobit.model.synthetic import synthesize

    config = _config(geometry)
    specs = tensor_specs(config)
    with progress(quiet=as_json) as bar:
        task = bar.add_task("Writing", total=len(specs))
        synthesize(config, output, seed=seed, dtype=dtype, shard_bytes=shard_bytes, progress=lambda name: bar.advance(task))
    files = sorted(output.glob("*.safetensors"))
    size, parameters = sum(file.stat().st_size for file in files), sum(spec.size for spec in specs)
    if as_json:
        names = [file.name for file in files]
        print_json({"folder": output, "parameters": parameters, "dtype": dtype, "seed": seed, "files": names, "bytes": size})
        return
    print_table({
        "written": str(output), "parameters": f"{parameters:,}, random, seed {seed}",
        "files": f"{len(files)}, {quantity(size, 'B')} of {dtype}",
    })  # fmt: skip
