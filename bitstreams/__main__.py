"""``python -m trilobit.bitstreams PRESET``: place and route a core out of context and keep its report beside this file."""

from pathlib import Path

import click

from trilobit.bitstreams.ecp5 import route_out_of_context
from trilobit.hdl.machine import build_core
from trilobit.isa.core import load_core


@click.command()
@click.argument("preset")
@click.option("--seed", default=2, show_default=True, help="Placement seed; with this one the ulx3s core met its clock.")
def main(preset: str, seed: int) -> None:
    """Place and route core PRESET for an ECP5-85F (a quarter of an hour) and write bitstreams/PRESET-core/report.json."""
    config = load_core(preset)
    folder = Path(__file__).parent / f"{preset}-core"
    core = build_core(config)
    report = route_out_of_context(core, "trilobit_core", config, folder, target_mhz=config.clock_mhz, seed=seed, say=click.echo)
    click.echo(f"{report['fmax_mhz']} MHz, {report['resources']}")


if __name__ == "__main__":
    main()
