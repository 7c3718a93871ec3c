"""``trilobit estimate``: tokens/s of a geometry on a core, before anything is built."""

import click

from trilobit.output import json_option, print_json, print_table, quantity


@click.command(name="estimate")
@click.argument("geometry")
@click.option(
    "--core", "core_name", default="axi512", show_default=True, metavar="PRESET", help="Core preset, or a YAML file with core parameters."
)
@click.option("--memory", type=click.Choice(["ideal"]), default="ideal", show_default=True, help="Memory timing.")
@click.option("--clock", type=float, default=None, metavar="MHZ", help="Clock; by default the core's.")
@json_option
def command(geometry: str, core_name: str, memory: str, clock: float | None, as_json: bool) -> None:
    """Estimate GEOMETRY (370m, 1.3b, 2.7b, tales, or H/L/I/V) on a core: cycles, tokens/s, share of the roofline."""
    from trilobit.errors import ConfigError
    from trilobit.isa.core import load_core
    from trilobit.sim.estimate import estimate
    from trilobit.sim.geometry import parse_geometry

    if clock is not None and not clock > 0:
        raise ConfigError(f"expected a clock above 0 MHz, got {clock!r}")
    core = load_core(core_name)
    result = estimate(parse_geometry(geometry), core, clock_mhz=clock)
    data = result.to_dict() | {"memory": memory}
    if as_json:
        print_json(data)
        return
    if not data["fits_registers"]:
        longest = max(result.geometry.H, result.geometry.I)
        click.echo(f"note: the longest vector has {longest} elements; core {core.name} holds {core.max_length}", err=True)
    g = result.geometry
    print_table({
        "geometry": f"H={g.H} L={g.L} I={g.I} V={g.V}, {quantity(g.ternary_weights, 'ternary weights')}",
        "core": f"{core.name}, {core.beat_bytes} bytes a clock, {result.clock_mhz:g} MHz, {memory} memory",
        "cycles a token": f"{result.cycles_per_token:,}",
        "tokens/s": f"{result.tokens_per_second:.4g}",
        "roofline share": f"{result.roofline:.1%}",
        "bytes a token": f"{data['bytes_per_token']:,} ({data['weight_bytes_per_token']:,} of weights)",
        "stream waits": f"{result.exposed:,} cycles",
        "on-chip memory": f"{quantity(result.on_chip_bits, 'bit')}",
        "evidence": data["evidence"],
    })  # fmt: skip
