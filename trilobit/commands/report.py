"""``trilobit report``: one page about a compiled bundle on its core."""

from pathlib import Path

import click

from trilobit.output import (
    activity_option,
    clock_option,
    json_option,
    memory_option,
    print_json,
    print_table,
    quantity,
    status_line,
    write_text,
)


@click.command(name="report", short_help="Write a page about a bundle: timeline, resources, power.")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="The page: one HTML file that needs nothing beside it.")  # fmt: skip
@memory_option
@clock_option
@activity_option
@json_option
def command(bundle: Path, output: Path, memory_model: str | None, clock: float | None, activity_path: Path | None,
            as_json: bool) -> None:  # fmt: skip
    """Write one HTML page about a compiled BUNDLE on its core: what it is, how fast and why, a timeline of a token, its program and
    memory image, ranges of its vectors, resources and power of the board. Each figure says how it is known, and which command shows it.
    """
    from trilobit.errors import ConfigError, ToolError

    try:
        from trilobit.report_page import page
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe"):
            raise
        raise ToolError('expected the package jinja2 to write a report, found none; pip install "trilobit[report]" brings it') from error
    from trilobit.reporting import bundle_report

    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output}: expected a file in a folder that is there, got none of that name; make it first")
    with status_line(quiet=as_json) as say:
        data = bundle_report(bundle, memory=memory_model or "ideal", clock_mhz=clock, activity=activity_path, say=say)
        say("drawing")
        text = page(data)
    try:
        write_text(output, text)
    except OSError as error:
        raise ConfigError(f"{output}: expected to write a page there, can't: {error.strerror}") from error
    if as_json:
        print_json(data)
        return
    found = data["estimate"]
    print_table({
        "page": f"{output}, {quantity(len(text.encode()), 'B')}",
        "bundle": f"{data['bundle']['name']} on {found['core']}, {found['clock_mhz']:g} MHz, memory {found['memory']}",
        "tokens/s": f"{found['tokens_per_second']:,.1f}, exact cycles at that clock",
    })  # fmt: skip
