"""What ``trilobit demo`` does: a shipped model writes a story on the RTL, and every token is compared with the functional simulator's."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from trilobit.assembler.bundle import Bundle
from trilobit.bitstreams.kept import core_shape
from trilobit.errors import ConfigError, TrilobitError
from trilobit.isa.core import CoreConfig
from trilobit.run_bundle import bundle_settings, prompt_tokens
from trilobit.running import raise_fault
from trilobit.sim.backend import HostSettings
from trilobit.sim.geometry import roofline_share
from trilobit.sim.memory import parse_memory
from trilobit.sim.power import BOARDS, PowerEstimate, Resources, estimate_power
from trilobit.text import Tokenizer

__all__ = ["DifferenceError", "Story", "kept_resources", "write_story"]


class DifferenceError(TrilobitError):
    """The RTL and the functional simulator emitted different tokens: a bug in one of them."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a demo measured.

    Attributes:
        tokens: emitted, all equal to the functional simulator's.
        cycles: clock cycles of the run, prompt included.
        cycles_per_token: between the first and the last emitted token.
        tokens_per_second: at the core's quoted clock.
        roofline_share: 1.6 bits a ternary weight over what memory could bring in those cycles.
        weights: ternary weights consumed; seconds: of simulating the RTL; functional_seconds: of the other.
    """

    tokens: list[int]
    cycles: int
    cycles_per_token: float
    tokens_per_second: float
    roofline_share: float
    weights: int
    seconds: float
    functional_weights: int
    functional_seconds: float
    counters: dict[str, int]

    @property
    def weights_per_second(self) -> float:
        """Ternary weights that the RTL simulation consumed a second of wall time."""
        return self.weights / self.seconds


def write_story(bundle: Bundle, tokenizer: Tokenizer, prompt: str, *, count: int, temperature: float, seed: int,
                on_token: Callable[[int], None], on_ready: Callable[[], None] = lambda: None,
                memory_model: str = "ideal") -> Story:  # fmt: skip
    """Write a story on both simulators, token by token.

    Args:
        bundle: a compiled model.
        tokenizer: its vocabulary.
        prompt: how the story begins.
        count: tokens to emit, at least 2; the story goes on behind an end-of-sequence token.
        temperature, seed: of the sampling.
        on_token: called with each token that the RTL has emitted, after it was compared.
        on_ready: called when the simulators are built and the RTL begins.
        memory_model: timing of the memory, as :func:`trilobit.sim.memory.parse_memory` takes it.

    Raises:
        DifferenceError: a token differs.
        FaultError: the machine faulted.
    """
    from trilobit.sim.functional import FunctionalSimulator
    from trilobit.sim.rtl import RtlSimulator

    memory = parse_memory(memory_model)
    if count < 2:
        raise ConfigError(f"expected at least 2 tokens, to measure the cycles between them, got {count}")
    if bundle.core.batch != 1:
        raise ConfigError(f"expected a core of batch 1 to write one story, got batch {bundle.core.batch}; trilobit run shows several")
    given = bundle_settings(bundle, count=count, temperature=temperature, seed=seed)
    settings = HostSettings(seed=given.seed, temperature=given.temperature, limit=given.limit)  # no end of sequence
    tokens = prompt_tokens(bundle, tokenizer, prompt)

    with FunctionalSimulator(bundle.core, bundle.program, bundle.memory(), settings) as functional:
        functional.push(tokens)
        begin = time.perf_counter()
        expected = functional.run()
        functional_seconds = time.perf_counter() - begin
        raise_fault(functional, expected)

    at: list[int] = []
    rtl = RtlSimulator(bundle.core, bundle.program, bundle.memory(), settings, memory_model=memory)
    with rtl:

        def compare(token: int) -> None:
            position = len(at)
            at.append(rtl.cycles)
            if position >= len(expected.tokens) or token != expected.tokens[position]:
                wanted = expected.tokens[position] if position < len(expected.tokens) else "none"
                raise DifferenceError(
                    f"token {position}: the RTL emitted {token}, the functional simulator {wanted}; this is a bug, please report it"
                )
            on_token(token)

        rtl.push(tokens)
        on_ready()
        begin = time.perf_counter()
        result = rtl.run(compare)
        seconds = time.perf_counter() - begin
        raise_fault(rtl, result)
    if result.tokens != expected.tokens:
        raise DifferenceError(
            f"the RTL emitted {len(result.tokens)} tokens, the functional simulator {len(expected.tokens)}; this is a bug"
        )
    cycles = (at[-1] - at[0]) / (len(at) - 1)
    return Story(
        tokens=result.tokens, cycles=at[-1], cycles_per_token=cycles, tokens_per_second=bundle.core.clock_mhz * 1e6 / cycles,
        roofline_share=roofline_share(bundle.manifest.weights_per_token, bundle.core.beat_bytes, cycles),
        weights=result.weights, seconds=seconds, functional_weights=expected.weights, functional_seconds=functional_seconds,
        counters=result.counters,
    )  # fmt: skip


def _kept_report(core: CoreConfig) -> dict[str, Any] | None:
    """A core's kept place-and-route report, if there is one: of a core of this name and these parameters."""
    path = resources.files("trilobit.bitstreams").joinpath(f"{core.name}-core", "report.json")
    if not path.is_file():
        return None
    report = json.loads(path.read_text())
    return report if core_shape(report["core"]) == core_shape(core.parameters()) else None


def kept_resources(core: CoreConfig) -> tuple[Resources, str] | None:
    """Resources of a core from its kept place-and-route report, and the report's device; None if there is none."""
    report = _kept_report(core)
    return (Resources(**report["resources"]), report["device"]) if report else None


def clock_evidence(core: CoreConfig) -> str:
    """Where a core's clock comes from: what the kept report reaches, or that it is a goal."""
    report = _kept_report(core)
    if report is None:
        return "the clock is a goal, not routed"
    return f"routed alone on {report['device']} the core reaches {report['fmax_mhz']:g} MHz"


def story_power(core: CoreConfig, story: Story) -> tuple[PowerEstimate, str] | None:
    """The power range of a core at its quoted clock with a story's memory traffic; None without a known board or a report of
    its resources."""
    kept = kept_resources(core)
    if kept is None or core.name not in BOARDS:
        return None
    counters = story.counters
    beats = counters["stream_read_beats"] + counters["ldst_read_beats"] + counters["write_beats"]
    rate = beats * core.beat_bytes / counters["cycles"] * core.clock_mhz * 1e6
    return estimate_power(core.name, kept[0], clock_mhz=core.clock_mhz, bytes_per_second=rate), kept[1]
