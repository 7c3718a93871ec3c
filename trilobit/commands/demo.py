"""``trilobit demo``: a trained model writes a story on the simulated accelerator."""

import sys
import tempfile
import textwrap
from pathlib import Path

import click

from trilobit.output import json_option, memory_option, print_json, print_table, quantity

PROMPT = "Once upon a time"
MEASURED = "measured in RTL simulation"


class _Terminal:
    """The story and a progress line below it, redrawn in place; without a terminal, the story's pieces as they come."""

    def __init__(self, prompt: str, count: int, quiet: bool):
        from rich.console import Console
        from rich.live import Live

        self.count, self.done, self.text, self.quiet = count, 0, prompt, quiet
        console = Console(highlight=False)
        self.live = Live(console=console, refresh_per_second=8) if console.is_terminal and not quiet else None

    def start(self) -> None:
        if self.live:
            self.live.start()
            self._draw()
        elif not self.quiet:
            click.echo(self.text, nl=False)

    def push(self, piece: str, tokens: int) -> None:
        self.text += piece
        self.done += tokens
        if self.live:
            self._draw()
        elif not self.quiet:
            click.echo(piece, nl=False)
            sys.stdout.flush()
            if tokens and self.done % 16 == 0:
                click.echo(f"[{self.done} of {self.count} tokens]", err=True)

    def stop(self) -> None:
        if self.live:
            self._draw()
            self.live.stop()
        elif not self.quiet:
            click.echo()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=self.count, completed=self.done, width=40), f"{self.done} of {self.count} tokens from the RTL")
        assert self.live is not None
        self.live.update(Group(Text(self.text), Text(""), bar))


@click.command(name="demo", short_help="Let a trained model write a story on the simulated hardware.")
@click.option("--model", default="tales", show_default=True, help="A model that ships with Trilobit, or a folder with graph.json.")
@click.option("--core", "core_name", default="ulx3s", show_default=True, metavar="PRESET", help="Core preset or YAML file.")
@click.option("--prompt", default=PROMPT, show_default=True, metavar="TEXT", help="How the story begins.")
@click.option("-n", "--tokens", "count", default=72, show_default=True, metavar="N", type=click.IntRange(2), help="Tokens to write.")
@click.option("--temperature", default=0.7, show_default=True, metavar="T", help="0 takes the likeliest token.")
@click.option("--seed", default=1, show_default=True, metavar="S", type=click.IntRange(0, 2**32 - 1), help="The same seed, the same story.")
@memory_option
@json_option
def command(
    model: str, core_name: str, prompt: str, count: int, temperature: float, seed: int, memory_model: str | None, as_json: bool
) -> None:  # fmt: skip
    """Let a trained model write a story on the simulated hardware, and show how fast it would be."""
    from trilobit.assembler.bundle import load_bundle
    from trilobit.assembler.compiler.pipeline import compile_model
    from trilobit.errors import ModelError
    from trilobit.isa.core import load_core
    from trilobit.run_bundle import prompt_tokens
    from trilobit.sim.backend import HostSettings
    from trilobit.sim.rtl_build import require_tools
    from trilobit.story import clock_evidence, story_power, write_story
    from trilobit.text import TextStream, Tokenizer

    core = load_core(core_name)
    HostSettings(seed=seed, temperature=temperature)  # checked before anything is compiled or shown
    require_tools()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bundle"
        compile_model(model, core, folder)
        bundle = load_bundle(folder)
        if bundle.tokenizer is None:
            raise ModelError(f"{model}: expected a tokenizer.json to write text, got none")
        if not as_json:
            click.echo(f"{bundle.manifest.name}: {bundle.manifest.weights_per_token:,} ternary weights a token, compiled to "
                       f"{len(bundle.program.code)} instructions for core {core.name}\n")  # fmt: skip
        tokenizer = Tokenizer(bundle.tokenizer)
        stream = TextStream(tokenizer, prompt_tokens(bundle, tokenizer, prompt))
        terminal = _Terminal(prompt, count, as_json)
        try:
            story = write_story(bundle, tokenizer, prompt, count=count, temperature=temperature, seed=seed,
                                on_token=lambda token: terminal.push(stream.push(token), 1), on_ready=terminal.start,
                                memory_model=memory_model or "ideal")  # fmt: skip
            terminal.push(stream.finish(), 0)
        finally:
            terminal.stop()
    power = story_power(core, story)
    if as_json:
        print_json({
            "model": bundle.manifest.name, "core": core.name, "memory": memory_model or "ideal", "prompt": prompt, "text": terminal.text,
            "tokens": story.tokens, "seed": seed, "temperature": temperature, "equal_to_functional": True,
            "cycles": story.cycles, "cycles_per_token": story.cycles_per_token,
            "clock_mhz": core.clock_mhz, "tokens_per_second": story.tokens_per_second, "roofline_share": story.roofline_share,
            "power": None if power is None else power[0].to_dict() | {"device": power[1]}, "seconds": story.seconds,
            "weights_per_second": story.weights_per_second,
            "functional_weights_per_second": story.functional_weights / story.functional_seconds, "counters": story.counters,
            "evidence": {
                "cycles_per_token": MEASURED, "roofline_share": MEASURED, "power": "estimated",
                "tokens_per_second": f"from the measured cycles, at clock_mhz; {clock_evidence(core)}",
            },
        })  # fmt: skip
        return
    rows = {
        "tokens": f"{len(story.tokens)}, each equal to the functional simulator's",
        "cycles a token": f"{story.cycles_per_token:,.0f}, {MEASURED}",
        "tokens/s": f"{story.tokens_per_second:.1f} at {core.clock_mhz:g} MHz (cycles from the RTL; {clock_evidence(core)})",
        "roofline share": f"{story.roofline_share:.1%} of {core.beat_bytes} bytes a clock",
    }
    if power is None:
        rows["power"] = f"unknown: no board of core {core.name}, or no place-and-route report of it, is kept"
    else:
        estimate, device = power
        rows["power"] = f"{estimate.low_mw / 1e3:.2f} to {estimate.high_mw / 1e3:.2f} W, estimated for {device} and its memory:"
        rows |= {f"  {term.name}": f"{term.low_mw:.0f} to {term.high_mw:.0f} mW" for term in estimate.terms}
    rows["simulation"] = (f"{quantity(story.weights_per_second, 'weights/s')} on the RTL ({story.seconds:.0f} s), "
                          f"{quantity(story.functional_weights / story.functional_seconds, 'weights/s')} functional")  # fmt: skip
    click.echo()
    print_table(rows)
    if power is not None:
        click.echo("sources of the power's terms:")
        for term in power[0].terms:
            click.echo(
                textwrap.fill(f"{term.name}: {term.source}", 120, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
            )
