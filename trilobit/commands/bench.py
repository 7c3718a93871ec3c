"""``trilobit bench``: measurements that check what they measure."""

import json
from pathlib import Path

import click

from trilobit.output import batch_option, json_option, memory_option, print_json, print_table, quantity, stderr, write_text


@click.group(name="bench", short_help="Measure whole tokens on the RTL, and check them.")
def command() -> None:
    """Measure what the hardware would do, and check what is measured."""


@command.command(name="rtl", short_help="Run tokens of a geometry with random weights.")
@click.option("--geometry", required=True, metavar="GEOMETRY", help="370m, 1.3b, 2.7b, tales, or H/L/I/V.")
@click.option("--core", "core_name", default="axi512", show_default=True, metavar="PRESET", help="Core preset or YAML file.")
@batch_option
@memory_option
@click.option("--clock", type=click.FloatRange(0, min_open=True), metavar="MHZ", help="The core's clock; by default the preset's.")
@click.option("--tokens", default=2, show_default=True, metavar="N", type=click.IntRange(2), help="Tokens to generate, of each sequence.")
@click.option("--seed", default=0, show_default=True, metavar="S", type=click.IntRange(0), help="Of the random weights.")
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="Keep the figures in DIR, in a file named by what was run.")  # fmt: skip
@json_option
def rtl(geometry: str, core_name: str, batch: int | None, memory_model: str | None, clock: float | None, tokens: int, seed: int,
        keep: Path | None, as_json: bool) -> None:  # fmt: skip
    """Whole tokens of a geometry with random weights on the RTL: bit-exact, cycle-equal, timed."""
    from trilobit.isa.core import load_core
    from trilobit.rtl_bench import bench_rtl
    from trilobit.sim.memory import parse_memory

    config, memory = load_core(core_name, batch), parse_memory(memory_model or "ideal")
    if clock is not None:
        config = config.replace(clock_mhz=clock)
    data = bench_rtl(geometry, config, memory, tokens=tokens, seed=seed, report=lambda what: stderr.print(what, highlight=False))
    if keep is not None:
        core = config.name if config.batch == 1 else f"{config.name}-b{config.batch}"
        name = "-".join(["rtl", geometry.lower().replace("/", "x"), core, memory.name.replace(":", "-").replace(",", "-")])
        write_text(keep / f"{name}{'' if clock is None else f'-{clock:g}mhz'}.json", json.dumps(data, indent=2) + "\n")
    if as_json:
        print_json(data)
        return
    print_table({
        "geometry": f"H={data['H']} L={data['L']} I={data['I']} V={data['V']}, random weights",
        "core": f"{config.name}, {config.beat_bytes} bytes a clock, {config.batch} a pass, memory {memory.name}",
        f"cycles a {'token' if config.batch == 1 else 'pass'}":
            f"{data['cycles_per_token']:,.0f}, each instruction's equal to the cycle model's",
        "tokens": f"{len(data['generated'])}, with all registers and memory equal to the functional simulator's",
        "tokens/s": f"{data['tokens_per_second']:.1f} at {config.clock_mhz:g} MHz",
        "roofline share": f"{data['roofline_share']:.2%} of the port",
        "required bytes": f"{data['required_share_of_peak']:.2%} of the peak, {data['peak_bytes_per_cycle']:.4g} bytes a cycle",
        "simulation": f"{quantity(data['weights_per_second'], 'weights/s')}, {data['seconds']['rtl']:.1f} s",
        "memory used": quantity(data["peak_memory_bytes"], "B"),
    })  # fmt: skip
