"""``trilobit import``: a published checkpoint, quantised and packed."""

from pathlib import Path

import click

from trilobit.output import json_option, print_json, print_table, progress, quantity

__all__ = ["command"]

_PATH = click.Path(path_type=Path)


@click.command(name="import", short_help="Import a published checkpoint, 1.6 bits a weight.")
@click.argument("folder", type=_PATH)
@click.option("-o", "--output", metavar="PACKED", type=_PATH, required=True, help="Folder of the packed checkpoint.")
@click.option("--tokenizer", metavar="tokenizer.json", type=_PATH, help="Tokenizer to carry along; default: the folder's.")
@click.option("--padded-vocabulary", is_flag=True, help="Accept a tokenizer with fewer tokens than the model has rows.")
@click.option("--calibrate", metavar="TEXT", type=_PATH,
              help="Text to measure ranges on; without one they are estimated from the weights.")  # fmt: skip
@click.option("--calibrate-tokens", default=1024, show_default=True, metavar="N", type=click.IntRange(1), help="Tokens of that text.")
@json_option
def command(
    folder: Path,
    output: Path,
    tokenizer: Path | None,
    padded_vocabulary: bool,
    calibrate: Path | None,
    calibrate_tokens: int,
    as_json: bool,
) -> None:
    """Import a MatMul-free LM from a Hugging Face FOLDER.

    FOLDER holds config.json (model type hgrn_bit), model.safetensors or shards with their index, and the tokenizer's files. The
    weights are quantised to 1.6 bits tensor by tensor; `trilobit compile PACKED` goes on from there. Pickle files are never opened.
    """
    import time

    from trilobit.model.importing import import_checkpoint, open_checkpoint

    start = time.perf_counter()
    with progress(quiet=as_json) as bar:
        packing = bar.add_task("Quantising", total=len(open_checkpoint(folder).specs))
        ranges = bar.add_task("Measuring ranges", total=1, visible=False)
        result = import_checkpoint(
            folder, output, tokenizer=tokenizer, padded_vocabulary=padded_vocabulary, calibrate=calibrate,
            calibrate_tokens=calibrate_tokens, progress=lambda name: bar.advance(packing),
            calibration_progress=lambda done, all_: bar.update(ranges, completed=done, total=all_, visible=True),
        )  # fmt: skip
    measured = result.calibration
    seconds = time.perf_counter() - start - (measured.seconds if measured else 0)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    config = result.config
    if as_json:
        print_json({
            "packed": output, "geometry": config.to_dict() | {"intermediate_size": config.mlp_size}, "tokenizer": result.tokenizer,
            "source_bytes": result.source_bytes, "packed_bytes": result.packed_bytes, "seconds": seconds, "notes": result.notes,
            "calibration": None if measured is None else vars(measured),
        })  # fmt: skip
        return
    rows = {
        "written": str(output),
        "model": f"H {config.hidden_size}, L {config.num_hidden_layers}, I {config.mlp_size}, V {config.vocab_size}",
        "weights": f"{quantity(result.source_bytes, 'B')} to {quantity(result.packed_bytes, 'B')} in {seconds:.1f} s",
        "tokenizer": "carried along" if result.tokenizer else "none",
        "ranges": "estimated from the weights",
    }
    if measured is not None:
        rows["ranges"] = f"measured on {measured.tokens} tokens of {measured.source} in {measured.seconds:.1f} s"
    print_table(rows)
