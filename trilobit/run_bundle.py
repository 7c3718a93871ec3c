"""``trilobit run`` of a bundle: a prompt in, text out as the machine emits tokens."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from trilobit.assembler.bundle import Bundle, load_bundle
from trilobit.errors import BundleError, ConfigError
from trilobit.output import print_json, quantity
from trilobit.running import make_backend, raise_fault, result_json, write_timeline
from trilobit.sim.backend import Backend, HostSettings, RunResult
from trilobit.text import TextStream, Tokenizer

__all__ = ["BundleRun", "bundle_settings", "generate", "prompt_tokens"]


def bundle_settings(bundle: Bundle, *, count: int, temperature: float, seed: int) -> HostSettings:
    """The host's settings for a bundle: its end-of-sequence token if it has one, ``count`` tokens at most."""
    eos = {} if bundle.manifest.eos_token_id is None else {"eos": bundle.manifest.eos_token_id}
    return HostSettings(seed=seed, temperature=temperature, limit=count, **eos)


def prompt_tokens(bundle: Bundle, tokenizer: Tokenizer | None, prompt: str) -> list[int]:
    """The tokens the host pushes: the beginning-of-sequence token if the bundle has one, then the prompt's.

    Raises:
        BundleError: a text, but no tokenizer; or a token outside the model's vocabulary.
        ConfigError: nothing at all to begin with.
    """
    bos = bundle.manifest.bos_token_id
    tokens = [] if bos is None else [bos]
    if prompt and tokenizer is None:
        raise BundleError(f"{bundle.folder}: expected a tokenizer.json for --prompt TEXT, got none; compile with one")
    if prompt and tokenizer is not None:
        tokens += tokenizer.encode(prompt)
    if not tokens:
        raise ConfigError(f"{bundle.folder}: expected --prompt TEXT; this model has no token to begin with")
    size = bundle.manifest.logits.length
    if max(tokens) >= size:
        raise BundleError(f"{bundle.folder}: expected tokens below {size}, got {max(tokens)}: not this model's tokenizer")
    return tokens


def generate(
    bundle: Bundle,
    backend: str,
    settings: HostSettings,
    prompt: list[int],
    on_token: Callable[[int], None] | None = None,
    waves: Path | None = None,
    memory_model: str | None = None,
    machine: Backend | None = None,
    trace: Path | None = None,
) -> RunResult:
    """Run a bundle's program on a backend (or on ``machine``) until it has emitted what the settings ask for.

    Raises:
        FaultError: the machine faulted.
    """
    made = machine or make_backend(backend, bundle.core, bundle.program, bundle.memory(), settings, waves, memory_model, trace)
    with made:
        made.push(prompt)
        result = made.run(on_token)
        write_timeline(trace, made)
        raise_fault(made, result)
    return result


@dataclass(kw_only=True)
class BundleRun:
    """The options of a run; :meth:`execute` does it and prints."""

    folder: Path
    backend: str
    prompt: str
    count: int
    temperature: float
    seed: int
    waves: Path | None = None
    memory_model: str | None = None
    trace: Path | None = None
    target: str | None = None
    port: str | None = None
    as_json: bool = False

    def execute(self) -> None:
        """Text on stdout as it comes (or one JSON object), figures of the run on stderr."""
        settings = HostSettings(seed=self.seed, temperature=self.temperature, limit=self.count)  # checked before the files
        bundle = load_bundle(self.folder)
        settings = bundle_settings(bundle, count=self.count, temperature=self.temperature, seed=self.seed)
        tokenizer = Tokenizer(bundle.tokenizer) if bundle.tokenizer else None
        tokens = prompt_tokens(bundle, tokenizer, self.prompt)
        stream = TextStream(tokenizer, tokens) if tokenizer else None
        machine = self._board(bundle, settings)
        pieces: list[str] = []

        def show(piece: str) -> None:
            pieces.append(piece)
            if not self.as_json:
                click.echo(piece, nl=False)
                sys.stdout.flush()

        if not self.as_json:
            click.echo(self.prompt, nl=False)
        start = time.perf_counter()
        result = generate(
            bundle, self.backend, settings, tokens,
            lambda token: show(stream.push(token) if stream else f"{token} "), self.waves, self.memory_model,
            machine, self.trace,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if stream:
            show(stream.finish())
        if self.as_json:
            data = {
                "bundle": str(self.folder), "model": bundle.manifest.name, "core": bundle.core.name, "backend": self.target or self.backend,
                "memory": self._memory,
                "prompt": self.prompt, "prompt_tokens": tokens, "text": "".join(pieces) if stream else None,
                "seed": self.seed, "temperature": self.temperature, "seconds": seconds,
            }  # fmt: skip
            print_json(data | result_json(result))
            return
        click.echo()
        click.echo(self._summary(bundle, result, seconds), err=True)

    def _board(self, bundle: Bundle, settings: HostSettings) -> Backend | None:
        """The board that ``--target`` names, ready for the program."""
        if self.target is None:
            if self.port is not None:
                raise ConfigError("expected --target with --port, such as --target ulx3s")
            return None
        if self.waves is not None or self.memory_model is not None or self.trace is not None:
            raise ConfigError("expected no --waves, --trace or --memory with --target: a board has its own memory and shows no signals")
        from trilobit.host.targets import open_target

        return open_target(self.target, self.port, bundle.core, bundle.program, bundle.memory(), settings)

    @property
    def _memory(self) -> str:
        return "the board's" if self.target else self.memory_model or "ideal"

    def _summary(self, bundle: Bundle, result: RunResult, seconds: float) -> str:
        """What was simulated and how fast; the clock's figures only where there is a clock."""
        parts = [f"{len(result.tokens)} tokens in {seconds:.1f} s"]
        if self.target is None:
            parts.append(f"{quantity(result.weights / seconds, 'weights/s')} simulated ({self.backend})")
        else:
            parts.append(f"on {self.target}")
        if result.cycles:
            clock = bundle.core.clock_mhz * 1e6
            rate = len(result.tokens) / (result.cycles / clock)
            parts.append(
                f"{result.cycles} cycles with the prompt: {rate:.2f} tokens/s at {bundle.core.clock_mhz:g} MHz, memory {self._memory}"
            )
        return "; ".join(parts)
