"""``trilobit estimate``: cycles and tokens/s of a model on a core, before anything is built."""

from pathlib import Path
from typing import Any

import click

from trilobit.output import batch_option, clock_option, json_option, memory_option, print_json, print_table, quantity

DEFAULT_CORE = "axi512"


@click.command(name="estimate", short_help="Count the cycles and tokens/s of a geometry, model or bundle.")
@click.argument("what", metavar="GEOMETRY|MODEL|BUNDLE")
@click.option("--core", "core_name", metavar="PRESET",
              help=f"Core preset, or a YAML file with core parameters; {DEFAULT_CORE} if not given. A bundle has its own.")  # fmt: skip
@batch_option
@memory_option
@clock_option
@click.option("--trace", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Write a timeline of a token for ui.perfetto.dev.")  # fmt: skip
@json_option
def command(what: str, core_name: str | None, batch: int | None, memory_model: str | None, clock: float | None,
            trace: Path | None, as_json: bool) -> None:  # fmt: skip
    """Cycles, tokens/s and share of the roofline of a geometry (370m, 1.3b, 2.7b, or H/L/I/V), of a model (its folder, or the name of
    one that ships: tales, shakespeare, shakespeare-tiny, shakespeare-onchip), or of a bundle; exact, from the cycle model.

    H/L/I/V: width, layers, width of the channel mixer, vocabulary, such as 1024/24/2816/32000. Share of the roofline: the time that reading
    the weights alone would take, at 1.6 bits each, of the time that a token takes.
    """
    from trilobit.estimating import figures, load_subject

    subject = load_subject(what, core_name, DEFAULT_CORE, batch)
    data = figures(subject, memory=memory_model or "ideal", clock_mhz=clock, trace=trace)
    if as_json:
        print_json(data)
    else:
        _print(subject.kind, subject.details, data)


def _print(kind: str, details: dict[str, Any], data: dict[str, Any]) -> None:
    board, batch = data["board"], data["batch"]
    rows = {
        kind: ", ".join(" ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
                        for value in details.values()),
        "ternary weights": f"{data['ternary_weights_per_token']:,} a token",
        "core": f"{data['core']}, {data['clock_mhz']:g} MHz, memory {data['memory']}",
        f"cycles a {'token' if batch == 1 else 'pass'}": f"{data['cycles_per_token']:,}",
        "tokens/s": f"{data['tokens_per_second']:.4g} at that clock",
    }  # fmt: skip
    if batch > 1:
        rows["tokens/s"] += f", of {batch} sequences together; {data['tokens_per_second_per_sequence']:.4g} of each"
    rows |= {
        "roofline share": f"{data['roofline_share']:.2%}",
        f"bytes a {'token' if batch == 1 else 'pass'}": f"{data['bytes_per_token']:,} ({data['weight_bytes_per_token']:,} of weights)",
        "bytes a clock": f"{data['required_bytes_per_cycle']:.4g} of {data['peak_bytes_per_cycle']:.4g} ({data['memory_share']:.2%})",
        "on-chip memory": quantity(data["on_chip_bits"], "bit"),
        "board": "this core is meant for no device that is known" if board is None else _fit(board),
        **({"board known by": board["evidence"]} if board else {}),
        "evidence": f"{data['evidence']}: {data['evidence_text']}",
    }  # fmt: skip
    print_table(rows)
    click.echo(f"\n{'unit':<9}{'busy':>12}  waits, in cycles a {'token' if batch == 1 else 'pass'}")
    for unit, row in data["units"].items():
        waits = ", ".join(f"{cause} {cycles:,.4g}" if isinstance(cycles, float) else f"{cause} {cycles:,}"
                          for cause, cycles in sorted(row["stalls"].items(), key=lambda item: -item[1]) if cycles)  # fmt: skip
        busy = f"{row['busy']:,.1f}" if isinstance(row["busy"], float) else f"{row['busy']:,}"
        click.echo(f"{unit:<9}{busy:>12}  {waits or '-'}")


def _fit(board: dict[str, Any]) -> str:
    """Whether the core fits its device."""
    used, room, device = board["used"], board["available"], board["device"]
    if "luts" not in used:
        said = "memories fit" if board["fits"] is None else "does not fit"
        return f"{device}: {said}, {quantity(used['memory_bits'], 'bit')} of {quantity(room['memory_bits'], 'bit')}"
    kinds = {"luts": "LUTs", "dsps": "multipliers", "brams": "block RAMs"}
    counts = ", ".join(f"{used[key]:,} of {room[key]:,} {kind}" for key, kind in kinds.items())
    return f"{device}: {'fits' if board['fits'] else 'does not fit'}, {counts}"
