"""``python -m trilobit.bitstreams.parts NAME``: place and route one unit of the core out of context and keep its report."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
from amaranth.lib import wiring

from trilobit.bitstreams.ecp5 import route_out_of_context
from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.rmsnorm import RMSNorm
from trilobit.hdl.rowwise import RowWise
from trilobit.isa.core import CoreConfig, load_core

__all__ = ["PARTS", "Part"]


class Part(NamedTuple):
    """A unit, the core that it is built for, and the clock that it must reach, in MHz."""

    unit: Callable[[CoreConfig], wiring.Component]
    config: CoreConfig
    clock_mhz: float


PARTS = {
    "matmul16": Part(TernaryMatmul, load_core("ulx3s").replace(beat_bytes=16), 100.0),
    "rowwise": Part(RowWise, load_core("ulx3s"), 60.0),
    "rmsnorm": Part(RMSNorm, load_core("ulx3s"), 60.0),
}


@click.command()
@click.argument("name", type=click.Choice(sorted(PARTS)))
@click.option("--seed", default=1, show_default=True, help="Placement seed.")
def main(name: str, seed: int) -> None:
    """Place and route unit NAME for an ECP5-85F (a few minutes) and write bitstreams/NAME/report.json."""
    part = PARTS[name]
    folder = Path(__file__).parent / name
    report = route_out_of_context(part.unit(part.config), name, part.config, folder, target_mhz=part.clock_mhz, seed=seed, unit=True,
                                  say=click.echo)  # fmt: skip
    click.echo(f"{report['fmax_mhz']} MHz, {report['resources']}")


if __name__ == "__main__":
    main()
