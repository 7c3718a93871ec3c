"""The host's side of a program: prompt, emitted tokens, end of sequence, sampling."""

import numpy as np
import pytest
from functional_support import TINY, machine

from trilobit.errors import ConfigError
from trilobit.isa import semantics
from trilobit.sim.backend import HostSettings

VOCABULARY = 50
# A "model" whose logits do not depend on the token: prompt tokens are taken without sampling, then tokens are emitted.
SAMPLER = (
    "wait",
    "poll",
    ("bprompt", {"target": 1}),
    ("argmax", {"va": 0, "len": 30, "sha": 4, "first": 1, "noise": 1}),
    ("argmax", {"va": 1, "len": 20, "sha": 4, "base": 30, "last": 1, "noise": 1}),
    "emit",
    ("bdone", {"target": 8}),
    ("jump", {"target": 1}),
    "halt",
)


def sampler(logits, prompt=(1,), **settings):
    sim = machine(*SAMPLER, settings=HostSettings(**settings))
    sim.set_register(0, logits[:30])
    sim.set_register(1, logits[30:])
    sim.push(prompt)
    return sim


def expected_tokens(logits, temperature, seed, count):
    """Straight from the definition: one draw over the whole vocabulary a position."""
    scalar = HostSettings(temperature=temperature).temperature_scalar()
    tokens = []
    for position in range(count):
        scores = semantics.argmax_scores(
            logits, sha=4, noise=1, temperature=scalar, seed=seed, position=position
        )  # fmt: skip
        tokens.append(int(np.argmax(scores)))
    return tokens


@pytest.mark.parametrize("temperature", [0.0, 0.8, 2.0])
def test_sampling_in_tiles_gives_the_tokens_of_one_draw_over_all(temperature, rng):
    logits = rng.integers(-60, 60, VOCABULARY)
    streamed = []
    result = sampler(logits, temperature=temperature, seed=77, limit=20).run(streamed.append)
    assert result.halted and len(result.tokens) == 20
    assert streamed == result.tokens == expected_tokens(logits, temperature, 77, 20)


def test_a_seed_gives_the_same_tokens_again_and_another_seed_others(rng):
    logits = rng.integers(-60, 60, VOCABULARY)
    runs = [sampler(logits, temperature=1.0, seed=seed, limit=30).run().tokens for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_prompt_tokens_are_consumed_before_the_first_sample_and_do_not_move_its_noise(rng):
    logits = rng.integers(-60, 60, VOCABULARY)
    long = sampler(logits, prompt=range(100), temperature=1.0, seed=3, limit=5).run()
    short = sampler(logits, prompt=[9], temperature=1.0, seed=3, limit=5).run()
    assert long.tokens == short.tokens
    assert long.retired == short.retired + 2 * 99


def test_end_of_sequence_stops_before_the_limit(rng):
    logits = rng.integers(-60, 60, VOCABULARY)
    tokens = expected_tokens(logits, 1.0, 8, 40)
    eos = tokens[12]
    result = sampler(logits, temperature=1.0, seed=8, limit=40, eos=eos).run()
    assert result.tokens == tokens[: tokens.index(eos) + 1]


def test_wait_comes_back_and_goes_on_after_a_push():
    sim = machine("wait", "emit", ("jump", {"target": 0}))
    result = sim.run()
    assert result.waiting and not result.halted and result.retired == 0
    assert sim.step() is None
    sim.push([7, 8])
    result = sim.run()
    assert result.tokens == [7, 8] and result.waiting
    sim.push([9])
    assert sim.run().tokens == [7, 8, 9]


def test_poll_sets_and_clears_the_flag_and_keeps_the_token_if_none_waits():
    sim = machine("poll", ("bprompt", {"target": 3}), "halt", "emit", ("jump", {"target": 0}))
    sim.push([4, 5])
    result = sim.run()
    assert result.halted and result.tokens == [4, 5]


def test_limit_of_zero_is_reached_at_once_and_the_next_test_is_on_equality():
    program = (("bdone", {"target": 3}), "emit", ("jump", {"target": 0}), "halt")
    assert machine(*program, settings=HostSettings(limit=0)).run().tokens == []
    assert machine(*program, settings=HostSettings(limit=3)).run().tokens == [0, 0, 0]


def test_max_instructions_returns_early_and_the_run_goes_on():
    sim = machine("emit", ("bdone", {"target": 3}), ("jump", {"target": 0}), "halt", settings=HostSettings(limit=4))
    result = sim.run(max_instructions=4)
    assert (result.retired, result.tokens, result.halted) == (4, [0, 0], False)
    assert sim.run().tokens == [0] * 4


def test_argmax_ties_go_to_the_lowest_index_within_and_across_tiles():
    logits = np.full(VOCABULARY, -5)
    logits[[17, 20, 33]] = 9
    assert sampler(logits, limit=1).run().tokens == [17]
    logits[[17, 20]] = 8
    assert sampler(logits, limit=1).run().tokens == [33]


def test_argmax_takes_all_32_bits():
    logits = np.full(VOCABULARY, -(1 << 31))
    assert sampler(logits, limit=1).run().tokens == [0]
    logits[40] += 1
    assert sampler(logits, limit=1).run().tokens == [40]


def test_prompt_tokens_are_checked():
    with pytest.raises(ConfigError, match="from 0 to 16777215, got 16777216"):
        machine("halt").push([1 << 24])
    with pytest.raises(ConfigError, match="no clock"):
        machine("halt").run(max_cycles=5)


def test_closing_twice_is_fine():
    with machine("halt") as sim:
        assert sim.run().halted
        assert sim.config is TINY
    sim.close()
