"""``trilobit run`` of a bundle: a prompt in, text out as the machine emits tokens."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from trilobit.assembler.bundle import Bundle, load_bundle
from trilobit.errors import BundleError, ConfigError
from trilobit.output import print_json, quantity
from trilobit.running import EVIDENCE, make_backend, raise_fault, result_json, write_timeline
from trilobit.sequences import Sequences
from trilobit.sim.backend import Backend, HostSettings, RunResult
from trilobit.text import Tokenizer

__all__ = ["BundleRun", "bundle_settings", "fill_slots", "generate", "prompt_tokens", "read_prompts"]


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
        raise BundleError(f"{bundle.folder}: expected a tokenizer.json for --prompt TEXT, got none; compile with one, "
                          "or give tokens by number: --push N,N,...")  # fmt: skip
    if prompt and tokenizer is not None:
        tokens += tokenizer.encode(prompt)
    if not tokens:
        instead = "--prompt TEXT" if tokenizer else "--push N,N,..."
        raise ConfigError(f"{bundle.folder}: expected {instead}; this model has no token to begin with")
    size = bundle.manifest.logits.length
    if max(tokens) >= size:
        raise BundleError(f"{bundle.folder}: expected tokens below {size}, got {max(tokens)}: not this model's tokenizer")
    return tokens


def _pushed_tokens(bundle: Bundle, tokens: list[int]) -> list[int]:
    """Prompt tokens by number, as they are: no token to begin with is put in front."""
    size = bundle.manifest.logits.length
    for token in tokens:
        if not 0 <= token < size:
            raise ConfigError(f"--push: expected tokens from 0 to {size - 1}, the vocabulary of {bundle.folder}, got {token}")
    return tokens


def fill_slots(bundle: Bundle, prompts: list[list[int]]) -> list[list[int]]:
    """The prompt of each of the core's slots: those given, then the last once more for every slot that is left.

    Raises:
        ConfigError: more prompts than slots.
    """
    batch = bundle.core.batch
    if len(prompts) > batch:
        hint = "compile it with --batch for several" if batch == 1 else "compile it with a larger --batch"
        raise ConfigError(f"{bundle.folder}: expected at most {batch} prompt{'s' * (batch > 1)}, got {len(prompts)}; {hint}")
    return prompts + prompts[-1:] * (batch - len(prompts))


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, one a line; empty lines are left out.

    Raises:
        ConfigError: not readable, or without a prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would cut at form feeds and the like
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--prompts: expected a UTF-8 text file, one prompt a line; can't read {path}: {error}") from error
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise ConfigError(f"--prompts: expected a prompt a line in {path}, found none")
    return prompts


def generate(
    bundle: Bundle,
    backend: str,
    settings: HostSettings,
    prompts: list[list[int]],
    on_slot_token: Callable[[int, int], None] | None = None,
    waves: Path | None = None,
    memory_model: str | None = None,
    machine: Backend | None = None,
    trace: Path | None = None,
) -> RunResult:
    """Run a bundle's program on a backend (or on ``machine``) until it has emitted what the settings ask for.

    Args:
        prompts: the tokens of each slot.
        on_slot_token: called with each token and its slot.

    Raises:
        FaultError: the machine faulted.
    """
    made = machine or make_backend(backend, bundle.core, bundle.program, bundle.memory(), settings, waves, memory_model, trace)
    with made:
        for slot, prompt in enumerate(prompts):
            made.push(prompt, slot=slot)
        result = made.run(on_slot_token=on_slot_token)
        write_timeline(trace, made)
        raise_fault(made, result)
    return result


@dataclass(kw_only=True)
class BundleRun:
    """The options of a run; :meth:`execute` does it and prints.

    Attributes:
        prompts: texts, one a sequence. pushed: tokens by number, one list a sequence, in the place of texts.
    """

    folder: Path
    backend: str
    prompts: list[str]
    pushed: list[list[int]] = field(default_factory=list)
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
        texts = self.prompts or [""] * max(len(self.pushed), 1)
        prompts = [_pushed_tokens(bundle, tokens) for tokens in self.pushed] or [prompt_tokens(bundle, tokenizer, text) for text in texts]
        slots = fill_slots(bundle, prompts)
        seeds = [(self.seed + slot) % 2**32 for slot in range(len(prompts))]
        # What is wrong with the options is said before any text is shown.
        machine = self._board(bundle, settings) or make_backend(
            self.backend, bundle.core, bundle.program, bundle.memory(), settings, self.waves, self.memory_model, self.trace
        )
        shown = Sequences(
            texts, prompts, tokenizer, lambda tokens: tokens[-1:] == [settings.eos] or len(tokens) >= self.count, seeds, self.as_json
        )
        shown.start()
        start = time.perf_counter()
        result = generate(bundle, self.backend, settings, slots, shown.push, machine=machine, trace=self.trace)
        seconds = time.perf_counter() - start
        shown.finish()
        if self.as_json:
            sequences = [
                {"prompt": text, "prompt_tokens": prompt, "seed": seed, "tokens": tokens,
                 "text": None if shown.texts is None else shown.texts[slot]}
                for slot, (text, prompt, seed, tokens) in enumerate(zip(texts, prompts, seeds, shown.tokens, strict=True))
            ]  # fmt: skip
            data = {
                "bundle": str(self.folder), "model": bundle.manifest.name, "core": bundle.core.name, "batch": bundle.core.batch,
                "backend": self.target or self.backend, "evidence": self._evidence, "memory": self._memory,
                "prompt": texts[0], "prompt_tokens": prompts[0], "text": sequences[0]["text"], "sequences": sequences,
                "seed": self.seed, "temperature": self.temperature, "seconds": seconds,
            }  # fmt: skip
            uncounted = {} if self.target is None else {"weights": None}
            print_json(data | result_json(result) | uncounted)
            return
        click.echo(self._summary(bundle, result, sum(map(len, shown.tokens)), len(prompts), seconds), err=True)

    def _board(self, bundle: Bundle, settings: HostSettings) -> Backend | None:
        """The board that ``--target`` names, ready for the program."""
        if self.target is None:
            if self.port is not None:
                raise ConfigError("expected --target with --port, such as --target ulx3s")
            return None
        if bundle.core.batch > 1:
            raise ConfigError(
                f"expected a bundle for a batch of 1 with --target, as boards run one sequence, got one for {bundle.core.batch}"
            )
        if self.waves is not None or self.memory_model is not None or self.trace is not None:
            raise ConfigError("expected no --waves, --trace or --memory with --target: a board has its own memory and shows no signals")
        from trilobit.host.targets import open_target

        return open_target(self.target, self.port, bundle.core, bundle.program, bundle.memory(), settings)

    @property
    def _evidence(self) -> str | None:
        if self.target is None:
            return EVIDENCE.get(self.backend)
        return "measured in RTL simulation of the whole board" if self.target.startswith("sim:") else "measured on the board"

    @property
    def _memory(self) -> str:
        return "the board's" if self.target else self.memory_model or "ideal"

    def _summary(self, bundle: Bundle, result: RunResult, tokens: int, sequences: int, seconds: float) -> str:
        """What was simulated and how fast, ``tokens`` of ``sequences`` shown; the clock's figures only where there is a clock."""
        together = f", {sequences} sequences together" if sequences > 1 else ""
        parts = [f"{tokens} tokens in {seconds:.1f} s{together}"]
        if self.target is None:
            parts.append(f"{quantity(result.weights / seconds, 'weights/s')} simulated ({self.backend})")
        else:
            parts.append(f"on {self.target}")
        if result.cycles:
            clock = bundle.core.clock_mhz * 1e6
            rate = tokens / (result.cycles / clock)
            parts.append(
                f"{result.cycles} cycles with the prompt: {rate:.2f} tokens/s at {bundle.core.clock_mhz:g} MHz, memory {self._memory}"
            )
        return "; ".join(parts)
