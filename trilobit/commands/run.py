"""``trilobit run``: a bundle writes text, or a program runs and shows its registers."""

from pathlib import Path

import click

from trilobit.errors import ConfigError
from trilobit.output import batch_option, json_option, memory_option

__all__ = ["command"]

_PROGRAM_ONLY = ("core", "batch", "sets", "mems", "dump", "out", "step")


def _numbers(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[list[int]]:
    try:
        return [[int(piece, 0) for piece in value.split(",")] for value in values]
    except ValueError as error:
        raise click.BadParameter(f"expected tokens as numbers with commas, got {', '.join(map(repr, values))}") from error


def _check_there(what: Path) -> None:
    if what.is_file() or (what / "manifest.json").is_file():
        return
    from trilobit.assembler.compiler.pipeline import resolve

    if resolve(what) is not None:
        raise ConfigError(f"expected a bundle or a program, got the model {str(what)!r}; compile it for a core first: "
                          f"trilobit compile {what} --core ulx3s -o build/{what.name}")  # fmt: skip
    if not what.exists():
        raise ConfigError(
            f"{what}: no such file or folder; expected a bundle (the folder that `trilobit compile` writes), PROG.s or PROG.bin"
        )


@click.command(name="run", short_help="Run a bundle or a program: simulated, or on a board.")
@click.argument("what", metavar="BUNDLE|PROG.s|PROG.bin", type=click.Path(path_type=Path))
@click.option("--backend", type=click.Choice(["functional", "cycles", "rtl"]), default="functional", show_default=True,
              help="Bit-exact simulator; the same with exact cycles; or the hardware itself in simulation.")  # fmt: skip
@click.option("--prompt", "prompts", metavar="TEXT", multiple=True,
              help="Text to go on from (bundle); as often as the bundle's batch has sequences.")  # fmt: skip
@click.option(
    "--prompts", "prompts_file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="More of them, one a line."
)
@click.option("-n", "--tokens", "count", metavar="N", type=click.IntRange(1, 2**32 - 1), default=None,
              help="Tokens to emit at most; 64 for a bundle.")  # fmt: skip
@click.option("--temperature", metavar="T", type=float, default=0.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--seed", metavar="S", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
              help="The same seed gives the same text on every backend.")  # fmt: skip
@click.option("--core", metavar="PRESET", help="Core preset or YAML file (program); else the one it names.")
@click.option("--set", "sets", metavar="v0=FILE.npy", multiple=True, help="Fill a register first (program).")
@click.option("--mem", "mems", metavar="NAME=FILE.npy", multiple=True, help="Fill a memory region first (program).")
@click.option("--push", metavar="N,N,...", callback=_numbers, multiple=True,
              help="Prompt tokens by number, as they are; once for each sequence of a batch, the last for all further ones.")  # fmt: skip
@batch_option
@click.option("--dump", metavar="v0-v7,mem:NAME", help="Registers and regions to print in full (program).")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Write the dump as .npy files too (program).")  # fmt: skip
@click.option("--step", is_flag=True, help="Show each instruction as it finishes (program).")
@click.option(
    "--waves",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write waves (FST), or to FILE.saif switching activity (rtl).",
)
@click.option("--trace", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Write a timeline for ui.perfetto.dev (cycles, rtl).")  # fmt: skip
@click.option("--target", metavar="BOARD|sim:BOARD|axi:DEVICE",
              help="Run a bundle on a board, the whole board in simulation, or a core on this machine's AXI bus.")  # fmt: skip
@click.option("--port", metavar="DEVICE", help="Serial port of the board, such as /dev/ttyUSB0.")
@memory_option
@json_option
def command(
    what: Path, backend: str, prompts: tuple[str, ...], prompts_file: Path | None, count: int | None, temperature: float, seed: int,
    as_json: bool, waves: Path | None, trace: Path | None, memory_model: str | None, target: str | None, port: str | None, **program_options
) -> None:  # fmt: skip
    """Let a compiled model write text, or run a program and show its registers.

    BUNDLE is the folder that `trilobit compile` writes. Options marked (program) are for PROG.s and PROG.bin, (bundle) for bundles,
    (rtl) and (cycles) for those backends.
    """
    from trilobit.sim.backend import HostSettings

    _check_there(what)
    if what.is_dir():
        given = [name for name in _PROGRAM_ONLY if program_options[name]]
        if given:
            flag = {"sets": "set", "mems": "mem"}.get(given[0], given[0])
            raise ConfigError(f"expected PROG.s or PROG.bin with --{flag}, got the bundle {str(what)!r}")
        from trilobit.run_bundle import BundleRun, read_prompts

        pushed = program_options["push"]
        if pushed and (prompts or prompts_file):
            raise ConfigError("expected --prompt TEXT or --push N,N,..., got both")
        texts = [*prompts, *(read_prompts(prompts_file) if prompts_file else [])]
        BundleRun(
            folder=what, backend=backend, prompts=texts, pushed=list(pushed), count=count or 64, temperature=temperature, seed=seed,
            waves=waves, trace=trace, memory_model=memory_model, target=target, port=port, as_json=as_json,
        ).execute()  # fmt: skip
        return
    if target is not None or port is not None:
        raise ConfigError(f"expected a bundle with --{'target' if target else 'port'}, got the program {str(what)!r}")
    if prompts or prompts_file:
        raise ConfigError("expected a bundle with --prompt; a program takes tokens by number, --push N,N,...")
    from trilobit.run_program import ProgramRun

    limit = {} if count is None else {"limit": count}
    settings = HostSettings(seed=seed, temperature=temperature, **limit)
    ProgramRun(
        path=what, backend=backend, settings=settings, waves=waves, trace=trace, memory_model=memory_model, as_json=as_json,
        **program_options,
    ).execute()  # fmt: skip
