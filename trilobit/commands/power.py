"""``trilobit power``: watts of a core on its board, and joules a token, as a range with its terms."""

import textwrap
from pathlib import Path

import click

from trilobit.output import activity_option, clock_option, json_option, memory_option, print_json, print_table

DEFAULT_CORE = "ulx3s"
WIDTH = 120


@click.command(name="power", short_help="Estimate watts and joules a token, as a range with its terms.")
@click.argument("what", metavar="GEOMETRY|MODEL|BUNDLE")
@click.option("--core", "core_name", metavar="PRESET",
              help=f"Core preset, or a YAML file with core parameters; {DEFAULT_CORE} if not given. A bundle has its own.")  # fmt: skip
@memory_option
@clock_option
@activity_option
@json_option
def command(
    what: str, core_name: str | None, memory_model: str | None, clock: float | None, activity_path: Path | None, as_json: bool
) -> None:
    """The power of a core that makes token after token of a geometry, a model or a bundle (as `trilobit estimate` takes them): a range,
    estimated, and the joules of a token.

    Cycles and bytes are exact, from the cycle model. The core's resources are those of its kept place-and-route report, the coefficients
    published or assumed (sim/data/power.yaml); each term names its source. No board was measured.
    """
    from trilobit.estimating import figures, load_subject
    from trilobit.power import known_resources, measured_activity, token_power

    subject = load_subject(what, core_name, DEFAULT_CORE)
    known_resources(subject.core)  # before anything is simulated
    activity = None if activity_path is None else measured_activity(subject.core, activity_path)
    found = token_power(subject.core, figures(subject, memory=memory_model or "ideal", clock_mhz=clock), activity)
    data = subject.details | found.to_dict()
    if as_json:
        print_json(data)
        return
    width = max(len(term.name) for term in found.power.terms)
    click.echo(f"{'term':<{width}}  {'low, mW':>8}  {'high, mW':>8}  source")
    for term in found.power.terms:
        _print_row(width, term.name, term.low_mw, term.high_mw, term.source)
    _print_row(width, "total", found.power.low_mw, found.power.high_mw, "estimated: every coefficient at its lower end, or at its upper")
    click.echo()
    if activity is not None:
        click.echo(
            f"{'unit':<{width}}  {'bits':>8}  {'toggle':>8}  register bits that change in a clock, measured over {activity.cycles:,} cycles"
        )
        for name, unit in activity.units.items():
            click.echo(f"{name:<{width}}  {unit.bits:>8,}  {unit.share:>8.2%}")
        click.echo(f"{'total':<{width}}  {activity.bits:>8,}  {activity.share:>8.2%}\n")
    joules, tokens = data["joules_per_token"], data["tokens_per_joule"]
    print_table({
        "core": f"{subject.core.name} on {found.device}, {data['clock_mhz']:g} MHz, memory {data['memory']}",
        "power": f"{found.power.low_mw / 1e3:.2f} to {found.power.high_mw / 1e3:.2f} W, estimated",
        "joules a token": f"{joules['low'] * 1e3:.3g} to {joules['high'] * 1e3:.3g} mJ, estimated",
        "tokens a joule": f"{tokens['low']:.4g} to {tokens['high']:.4g}, estimated; the same as tokens/s a watt",
        "tokens/s": f"{data['tokens_per_second']:.4g}, exact cycles at that clock; {found.clock}",
        "cycles a token": f"{data['cycles_per_token']:,}, exact: cycle model, equal to the RTL",
        "bytes a token": f"{data['bytes_per_token']:,} through the memory port, exact",
        "resources": data["evidence_of"]["resources"],
    })  # fmt: skip


def _print_row(width: int, name: str, low_mw: float, high_mw: float, source: str) -> None:
    begin = f"{name:<{width}}  {low_mw:>8.1f}  {high_mw:>8.1f}  "
    click.echo(textwrap.fill(source, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin), break_on_hyphens=False))
