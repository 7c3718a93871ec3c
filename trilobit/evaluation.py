"""How well a compiled model predicts a text, and how close it stays to its reference: teacher-forced, position by position."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trilobit.assembler.bundle import Bundle, logit_places, teacher_forced
from trilobit.errors import BundleError, ModelError
from trilobit.running import raise_fault

__all__ = ["FLOOR_NOISE", "Cost", "Score", "Tally", "Text", "batched_logits", "functional_logits", "read_text", "score"]

FLOOR_NOISE = 1e-6  # on the reference's embeddings: what it then differs from itself is its floor


@dataclass(frozen=True)
class Text:
    """A text as a stream of predictions.

    Attributes:
        inputs: [T] tokens fed, from the end mark on; targets: [T] the tokens that follow.
        characters: of the text that the targets spell.
    """

    inputs: np.ndarray
    targets: np.ndarray
    characters: int


class Cost(NamedTuple):
    """What a run on the functional simulator took: seconds, and the elements that saturated in all of its instructions."""

    seconds: float
    saturated: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """What was measured over a text.

    Attributes:
        tokens: predictions. characters: of the text.
        loss: mean cross-entropy, nats a token.
        bits_per_character: all cross-entropy in bits over all characters.
        kl: mean Kullback-Leibler divergence from the reference's prediction, nats; None without a reference.
        top1: share of positions at which the likeliest token is the reference's; None without a reference.
        reference_bits_per_character, reference_loss: the reference's own.
    """

    tokens: int
    characters: int
    loss: float
    bits_per_character: float
    kl: float | None = None
    top1: float | None = None
    reference_bits_per_character: float | None = None
    reference_loss: float | None = None

    def of_reference(self) -> "Score":
        """The reference's own loss and bits, with the same divergence and agreement."""
        if self.reference_loss is None or self.reference_bits_per_character is None:
            raise ValueError("expected a score that was compared with a reference")
        return replace(self, loss=self.reference_loss, bits_per_character=self.reference_bits_per_character)


def read_text(path: Path, tokenizer_file: Path, start: int, limit: int | None = None, streams: int = 1) -> Text:
    """A text file as tokens.

    Args:
        path: UTF-8 text.
        tokenizer_file: the model's tokenizer.json.
        start: token before the first.
        limit: predictions at most.
        streams: their number is a multiple of it: a few at the end may be left out.

    Raises:
        ModelError: a file that can't be read, or a text with fewer tokens than streams.
    """
    from trilobit.model.data import characters_of, encode, load_tokenizer

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: expected a UTF-8 text file ({error})") from error
    tokenizer = load_tokenizer(tokenizer_file)
    targets = encode(tokenizer, text)
    characters = len(text)
    limit = len(targets) if limit is None else min(limit, len(targets))
    limit -= limit % streams
    if limit < len(targets):
        targets = targets[:limit]
        characters = characters_of(tokenizer, text, limit)
    if not len(targets):
        raise ModelError(f"{path}: expected a text of at least {streams} tokens to score, got an empty or a shorter one")
    return Text(np.concatenate([[start], targets[:-1]]), targets, characters)


def functional_logits(bundle: Bundle, inputs: np.ndarray, each: Callable[[int, np.ndarray], None]) -> Cost:
    """Feed tokens one by one through the compiled program on the functional simulator, a stream to each sequence of its batch.

    Args:
        bundle: compiled with ``--store-logits``.
        inputs: [batch, T] tokens.
        each: called with the position in the streams and their logits, [batch, V] of float64 (a copy).

    Returns:
        the time in the simulator, and saturations.

    Raises:
        BundleError: the bundle stores no logits, or a token outside its vocabulary.
        FaultError: the program faulted.
    """
    from trilobit.sim.functional import FunctionalSimulator

    places, scale = _stored_logits(bundle, inputs)
    seconds, saturated = 0.0, 0
    with FunctionalSimulator(bundle.core, teacher_forced(bundle.program), bundle.memory()) as machine:
        words = np.asarray(machine.memory).view("<i4")
        for position, tokens in enumerate(inputs.T.tolist()):
            begin = time.perf_counter()
            for slot, token in enumerate(tokens):
                machine.push([token], slot=slot)
            result = machine.run()
            seconds += time.perf_counter() - begin
            raise_fault(machine, result)
            saturated = sum(result.saturated.values())
            each(position, words[places] * scale)
    return Cost(seconds, saturated)


def _stored_logits(bundle: Bundle, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """Where in memory a bundle stores its logits, [batch, V] in words of 32 bits, and what one is worth.

    Raises:
        BundleError: nowhere, or a token is outside its vocabulary.
    """
    where = bundle.manifest.logits
    if where.addr is None:
        raise BundleError(f"{bundle.folder}: expected a bundle that stores its logits; compile it with --store-logits")
    if int(inputs.max()) >= where.length:
        raise BundleError(f"{bundle.folder}: expected tokens below {where.length}, got {int(inputs.max())}: not this model's tokenizer")
    return logit_places(where, bundle.core) + where.addr // 4, 2.0**-where.point


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class Tally:
    """Sums over positions, so that no more than one position's logits are held."""

    def __init__(self):
        self.tokens = 0
        self.nats = self.reference_nats = self.divergence = 0.0
        self.agreed = 0

    def add(self, logits: np.ndarray, target: int, reference: np.ndarray | None) -> None:
        """One position: its logits [V], the token that follows, and the reference's logits."""
        log_p = log_softmax(logits)
        self.tokens += 1
        self.nats -= float(log_p[target])
        if reference is not None:
            log_r = log_softmax(reference)
            self.reference_nats -= float(log_r[target])
            self.divergence += float(np.exp(log_r) @ (log_r - log_p))
            self.agreed += int(logits.argmax() == reference.argmax())

    def score(self, characters: int, compared: bool) -> Score:
        bits = 1 / (math.log(2) * characters)
        return Score(
            tokens=self.tokens, characters=characters, loss=self.nats / self.tokens, bits_per_character=self.nats * bits,
            kl=self.divergence / self.tokens if compared else None,
            top1=self.agreed / self.tokens if compared else None,
            reference_bits_per_character=self.reference_nats * bits if compared else None,
            reference_loss=self.reference_nats / self.tokens if compared else None,
        )  # fmt: skip


def batched_logits(bundle: Bundle, inputs: np.ndarray, each: Callable[[int, np.ndarray], None]) -> Cost:
    """As :func:`functional_logits`, for several streams of a program of batch 1 at once: the same integers, sooner.

    Args:
        inputs: [B, T] tokens.
        each: called with the position in the streams and their logits, [B, V].
    """
    from trilobit.batched import BatchedSimulator

    _stored_logits(bundle, inputs)
    seconds = 0.0
    machine = BatchedSimulator(bundle.core, bundle.program, bundle.memory(), bundle.manifest.logits, len(inputs))
    for position, tokens in enumerate(inputs.T):
        begin = time.perf_counter()
        logits = machine.step(tokens)
        seconds += time.perf_counter() - begin
        each(position, logits)
    return Cost(seconds, machine.saturated)


def score(
    bundle: Bundle, text: Text, reference: np.ndarray | None, advance: Callable[[], None] = lambda: None, *, streams: int = 1
) -> tuple[Score, Cost]:
    """Score a bundle on a text with the functional simulator.

    Args:
        reference: the reference's logits [T, V], or None; over the same streams.
        advance: called after each position.
        streams: read the text as so many equal parts side by side, each from the zero state; T is a multiple of it. The batch of
            a program that has one above 1.

    Returns:
        the score and what it took. Raises as :func:`functional_logits`.
    """
    tally = Tally()

    def each(position: int, logits: np.ndarray) -> None:
        tally.add(logits, int(text.targets[position]), None if reference is None else reference[position])
        advance()

    inputs = text.inputs.reshape(streams, -1)
    length = inputs.shape[1]

    def each_of_all(position: int, logits: np.ndarray) -> None:
        for stream, row in enumerate(logits):
            each(stream * length + position, row)

    run = functional_logits if streams == bundle.core.batch else batched_logits
    cost = run(bundle, inputs, each_of_all)
    return tally.score(text.characters, reference is not None), cost
