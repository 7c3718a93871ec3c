"""``trilobit eval``: loss of a compiled model on a text, and its distance from the reference."""

import time
from pathlib import Path

import click

from trilobit.output import json_option, print_json, print_table, progress


@click.command(name="eval", short_help="Score a compiled model on a text.")
@click.option("--bundle", "folder", metavar="BUNDLE", required=True, type=click.Path(path_type=Path), help="Compiled with --store-logits.")
@click.option("--text", "text_file", metavar="FILE", required=True, type=click.Path(path_type=Path), help="UTF-8 text to predict.")
@click.option("--backend", type=click.Choice(["functional", "torch"]), default="functional", show_default=True,
              help="The compiled program, or the reference that it was compiled from.")  # fmt: skip
@click.option("--reference", metavar="MODEL", default=None,
              help="Folder or name of the reference; default: the shipped model of the bundle's name. 'none' leaves it out.")  # fmt: skip
@click.option("-n", "--tokens", "limit", metavar="N", type=click.IntRange(1), default=None, help="Only the text's first N tokens.")
@click.option("--streams", metavar="B", type=click.IntRange(1), default=None,
              help="Read the text as B equal parts side by side, from the zero state: sooner. Default: the bundle's batch.")  # fmt: skip
@json_option
def command(
    folder: Path, text_file: Path, backend: str, reference: str | None, limit: int | None, streams: int | None, as_json: bool
) -> None:  # fmt: skip
    """Score a compiled model on a text, teacher-forced: bits per character, KL and top-1 agreement with the reference.

    The backend torch scores the reference, and compares it with itself under noise of 1e-6 on its embeddings: the floor
    below which KL and agreement mean nothing.
    """
    from trilobit.assembler.bundle import load_bundle
    from trilobit.assembler.compiler.pipeline import resolve
    from trilobit.errors import BundleError, ModelError, ToolError
    from trilobit.evaluation import FLOOR_NOISE, Tally, read_text, score

    bundle = load_bundle(folder)
    batch = bundle.core.batch
    streams = batch if streams is None else streams
    if batch > 1 and streams != batch:
        raise BundleError(f"{folder}: expected --streams {batch}, as it was compiled for a batch of {batch}, got {streams}; leave it out")
    if bundle.tokenizer is None:
        raise BundleError(f"{folder}: expected a tokenizer.json to score a text, got none; compile with one")
    first = bundle.manifest.bos_token_id if bundle.manifest.bos_token_id is not None else bundle.manifest.eos_token_id
    if first is None:
        raise BundleError(f"{folder}: expected a token to begin with (bos or eos), this model has none")
    text = read_text(text_file, bundle.tokenizer, first, limit, streams)
    compared = backend == "torch" or reference != "none"
    model = resolve(reference or bundle.manifest.name) if compared else None
    if compared and model is None:
        raise ModelError(f"expected a reference for {bundle.manifest.name!r}, found none; give --reference FOLDER, or --reference none")

    logits = None
    reference_seconds = 0.0
    if model is not None:
        try:
            from trilobit.model.evaluate import reference_logits
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "torch":
                raise
            raise ToolError('expected PyTorch for the reference, found none; pip install "trilobit[model]", or --reference none') from error
        begin = time.perf_counter()
        logits = reference_logits(model, text.inputs, streams=streams)
        reference_seconds = time.perf_counter() - begin

    with progress(quiet=as_json) as bar:
        task = bar.add_task("scoring", total=len(text.targets))
        if backend == "functional":
            result, cost = score(bundle, text, logits, lambda: bar.advance(task), streams=streams)
            seconds, saturated = cost.seconds, cost.saturated
        else:
            assert logits is not None and model is not None
            tally, seconds, saturated = Tally(), reference_seconds, None
            disturbed = reference_logits(model, text.inputs, noise=FLOOR_NOISE, streams=streams)
            for row, other, target in zip(logits, disturbed, text.targets.tolist(), strict=True):
                tally.add(other, target, row)
                bar.advance(task)
            result = tally.score(text.characters, compared=True).of_reference()

    data = {
        "bundle": folder, "model": bundle.manifest.name, "core": bundle.core.name, "backend": backend, "text": text_file,
        "streams": streams, "tokens": result.tokens, "characters": result.characters, "loss": result.loss,
        "bits_per_character": result.bits_per_character, "reference_bits_per_character": result.reference_bits_per_character,
        "kl": result.kl, "top1_agreement": result.top1, "saturations": saturated, "seconds": seconds,
    }  # fmt: skip
    if as_json:
        print_json(data)
        return
    rows = {
        "model": f"{bundle.manifest.name} on {bundle.core.name}, {backend}",
        "predictions": f"{result.tokens} tokens, {result.characters} characters",
        "loss": f"{result.loss:.5f} nats a token",
        "bits per character": f"{result.bits_per_character:.5f}",
    }
    if backend == "torch":
        rows |= {
            f"KL to itself, {FLOOR_NOISE:g} noise": f"{result.kl:.3e} nats",
            f"top-1 with itself, {FLOOR_NOISE:g} noise": f"{result.top1:.3%}",
        }
    elif result.reference_bits_per_character is not None:
        change = result.bits_per_character / result.reference_bits_per_character - 1
        rows |= {
            "reference": f"{result.reference_bits_per_character:.5f} bits per character ({change:+.3%})",
            "KL": f"{result.kl:.3e} nats",
            "top-1 agreement": f"{result.top1:.3%}",
        }
    if saturated is not None:
        rows |= {"saturations": f"{saturated}"}
    print_table(rows | {"time": f"{seconds:.1f} s, {result.tokens / seconds:.1f} tokens/s"})
