"""``trilobit compile``: a model to a bundle for one core."""

from pathlib import Path

import click
from rich.progress import TaskID

from trilobit.assembler.compiler import Check, Compiled, check_model, compile_model
from trilobit.assembler.compiler.points import Policy
from trilobit.errors import CompileError
from trilobit.isa.core import load_core
from trilobit.output import batch_option, json_option, print_json, print_table, progress, quantity

__all__ = ["command"]

_PATH = click.Path(path_type=Path)


@click.command(name="compile", short_help="Compile a model into a bundle for a core.")
@click.argument("spec")
@click.option("--core", metavar="PRESET", help="Core preset or YAML file; needed unless --check.")
@batch_option
@click.option("-o", "--output", metavar="BUNDLE", type=_PATH, help="The bundle's folder; needed unless --check.")
@click.option("--check", "check_only", is_flag=True, help="List mapped and unmapped operations; compile nothing.")
@click.option("--weights", metavar="W.safetensors", type=_PATH, help="Weights of an own model.")
@click.option("--calibrate", metavar="TEXT", type=_PATH, help="Text to measure ranges on.")
@click.option("--range-tokens", default=1024, show_default=True, metavar="N", type=click.IntRange(1),
              help="Tokens of that text for a folder; an own model takes all of it.")  # fmt: skip
@click.option("--tokenizer", metavar="tokenizer.json", type=_PATH,
              help="Tokenizer to put into the bundle; default: one beside the model or its weights.")  # fmt: skip
@click.option("--name", metavar="NAME", help="The model's name in the bundle.")
@click.option("--store-logits", is_flag=True, help="Also store each token's logits to memory.")
@click.option("--wide", is_flag=True, help="32 bits for every vector, not only for the residual stream, state and logits.")
@click.option("--calibrate-report", "report_text", metavar="TEXT", type=_PATH,
              help="Run the program over a text and report saturated elements per tensor (default: the --calibrate text).")  # fmt: skip
@click.option("--calibrate-tokens", default=256, show_default=True, metavar="N", type=click.IntRange(1), help="Tokens of that run.")
@json_option
def command(
    spec: str,
    core: str | None,
    batch: int | None,
    output: Path | None,
    check_only: bool,
    weights: Path | None,
    calibrate: Path | None,
    range_tokens: int,
    tokenizer: Path | None,
    name: str | None,
    store_logits: bool,
    wide: bool,
    report_text: Path | None,
    calibrate_tokens: int,
    as_json: bool,
) -> None:
    """Compile SPEC into a bundle.

    SPEC is a folder with graph.json, the name of a model that ships with Trilobit (tales, shakespeare, shakespeare-tiny,
    shakespeare-onchip), or FILE.py:FUNCTION, where FUNCTION returns your torch module.

    A bundle is a folder with program, weights and tokenizer, for one core; `trilobit run BUNDLE` runs it.
    """
    if check_only:
        _print_check(check_model(spec, weights), as_json)
        return
    if core is None or output is None:
        raise click.UsageError("expected --core PRESET and -o BUNDLE (or --check)")
    config = load_core(core, batch)
    with progress(quiet=as_json) as bar:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        compiled = compile_model(
        spec, config, output, weights=weights, calibrate=calibrate, tokenizer=tokenizer, name=name, store_logits=store_logits,
        policy=Policy(wide=wide), report_text=report_text or calibrate, report_tokens=calibrate_tokens,
        range_tokens=range_tokens, progress=told,
    )  # fmt: skip
    _print_result(compiled, output, as_json)


def _print_check(found: Check, as_json: bool) -> None:
    counts: dict[str, int] = {}
    for operation in found.mapped:
        counts[operation.operation] = counts.get(operation.operation, 0) + 1
    if as_json:
        unmapped = [{"operation": o.operation, "module": o.module, "reason": o.reason} for o in found.unmapped]
        print_json({"ok": found.ok, "mapped": counts, "unmapped": unmapped})
    else:
        for name, count in sorted(counts.items()):
            click.echo(f"mapped    {name:<14} {count}")
        for missing in found.unmapped:
            click.echo(f"UNMAPPED  {missing.operation:<14} in {missing.module or 'the model'}: {missing.reason}")
    if not found.ok:
        raise CompileError(f"{len(found.unmapped)} of {len(found.unmapped) + len(found.mapped)} operations can't be mapped")


def _print_result(compiled: Compiled, output: Path, as_json: bool) -> None:
    report = compiled.report()
    if as_json:
        print_json({"bundle": output, **report})
        return
    tensors = report["tensors"]
    rows = {
        "written": str(output),
        "core": compiled.core.name if compiled.core.batch == 1 else f"{compiled.core.name}, {compiled.core.batch} sequences a pass",
        "instructions": f"{len(compiled.program.code)} of {compiled.core.program_words}",
        "memory window": quantity(compiled.program.window_size, "B"),
        "weights a token": f"{report['weights_per_token']:,}",
        "vectors": f"{len(tensors)}, {sum(t['bits'] == 32 for t in tensors)} of them 32 bits wide; {report['spills']} spilled",
    }
    if compiled.calibration_seconds is not None and compiled.graph.calibration is not None:
        tokens, source = compiled.graph.calibration.tokens, compiled.graph.calibration.source
        rows["ranges"] = f"measured on {tokens} tokens of {source} in {compiled.calibration_seconds:.1f} s"
    if compiled.saturated is not None:
        total = sum(compiled.saturated.values())
        rows["saturated elements"] = f"{total} over {compiled.checked_tokens} tokens"
        worst = sorted(compiled.saturated.items(), key=lambda item: -item[1])[:5]
        rows |= {f"  {vector}": str(count) for vector, count in worst}
    print_table(rows)
