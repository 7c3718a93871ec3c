"""Several sequences a weight pass on the functional simulator: each slot does what it would do alone."""

import numpy as np
import pytest
from batch_programs import VOCABULARY, run_to_end, sampling_program
from functional_support import TINY, WINDOW, WRITE_START, code

from trilobit.errors import ConfigError
from trilobit.isa import slots as layout
from trilobit.isa.program import Program
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator

CORES = {"tiny": TINY, "n16-4lanes": TINY.replace(name="n16", beat_bytes=16, lanes=4)}


def simulator(*instructions, batch: int, config=TINY, window: np.ndarray | None = None, **settings) -> FunctionalSimulator:
    program = Program("test", code(*instructions), WINDOW, WRITE_START)
    return FunctionalSimulator(config.replace(batch=batch), program, window, HostSettings(**settings))


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("batch", [2, 4, 8])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_each_slot_emits_the_tokens_of_a_run_alone_with_its_seed(name, batch, temperature, seed):
    config = CORES[name]
    first_seed = (1 << 32) - 2  # the seeds of later slots wrap around
    for attempt in range(100):  # until the slots differ: of some weights all sequences are the same, or end at once
        rng = np.random.default_rng([seed, attempt])
        prompts = [rng.integers(0, VOCABULARY, int(rng.integers(1, 9))).tolist() for _ in range(batch)]
        prompts[1] *= 3  # one much longer than the others
        # A likely end of sequence, so that some slots are done early.
        settings = {"temperature": temperature, "limit": 12, "eos": int(rng.integers(0, VOCABULARY))}
        program = sampling_program(config, np.random.default_rng([seed, attempt, 1]))
        alone = []
        for slot, prompt in enumerate(prompts):
            sim = FunctionalSimulator(config, program, settings=HostSettings(seed=(first_seed + slot) % (1 << 32), **settings))
            alone.append(run_to_end(sim, [prompt]).tokens)
        if len(set(map(tuple, alone))) > 1 or not temperature:  # without noise sequences may meet
            break
    else:
        raise AssertionError("expected slots that differ")
    together = FunctionalSimulator(
        config.replace(batch=batch), sampling_program(config.replace(batch=batch), np.random.default_rng([seed, attempt, 1])),
        settings=HostSettings(seed=first_seed, **settings),
    )  # fmt: skip
    result = run_to_end(together, prompts)
    assert result.halted, result
    assert [result.tokens_of(slot) for slot in range(batch)] == alone


def test_weights_are_read_once_for_all_slots(seed):
    config = TINY.replace(batch=4)
    results = []
    for core in (TINY, config):
        program = sampling_program(core, np.random.default_rng(seed))
        sim = FunctionalSimulator(core, program, settings=HostSettings(limit=3))
        results.append(run_to_end(sim, [[7, 9]] * core.batch))
    alone, together = results
    assert together.weights == alone.weights and together.counters["bytes_streamed"] == alone.counters["bytes_streamed"]
    assert together.tokens == [token for token in alone.tokens for _ in range(4)] and together.slots == [0, 1, 2, 3] * 3


@pytest.mark.parametrize("wide", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_vectors_of_all_slots_stand_in_memory_word_by_word(wide, length, rng):
    config = TINY.replace(batch=2)
    values = rng.integers(-(1 << 20), 1 << 20, (2, 64))
    sim = simulator(
        ("sv", {"va": 1, "addr": WRITE_START, "len": length, "wide": wide}),
        ("ldv", {"vd": 2, "addr": WRITE_START, "len": length, "wide": wide}), "halt", batch=2)  # fmt: skip
    sim.set_register(1, values)
    before = rng.integers(-9, 9, (2, 64))
    sim.set_register(2, before)
    result = sim.run()
    limit = 1 << (31 if wide else 15)
    kept = np.clip(values, -limit, limit - 1)
    words = -(-length // config.lanes) * config.lanes
    stored = layout.interleave(config, kept[:, :words]).astype("<i4" if wide else "<i2")
    assert sim.memory[WRITE_START:][: stored.nbytes].tobytes() == stored.tobytes()
    assert not sim.memory[WRITE_START + stored.nbytes :].any()
    assert (sim.register(2)[:, :length] == kept[:, :length]).all() and (sim.register(2)[:, length:] == before[:, length:]).all()
    assert sum(result.saturated.values()) == np.count_nonzero(kept[:, :length] != values[:, :length])


def test_a_vector_of_all_slots_must_lie_in_the_window():
    for batch, fault in ((1, 0), (4, 3)):
        sim = simulator(("ldv", {"vd": 0, "addr": WINDOW - 128, "len": 61}), "halt", batch=batch)
        assert sim.run().fault == fault, batch


def test_wait_takes_a_token_of_every_slot():
    sim = simulator("wait", "emit", "halt", batch=2)
    sim.push([5, 6], 0)
    assert sim.run().waiting
    sim.push([7], 1)
    result = sim.run()
    assert result.halted and (result.tokens, result.slots) == ([5, 7], [0, 1])
    assert result.tokens_of(0) == [5] and result.tokens_of(1) == [7]


def test_a_slot_that_reads_its_prompt_while_others_generate_emits_nothing():
    """The flag is set only if every slot took a token, and argmax leaves a suppressed slot's token alone."""
    streamed = []
    sim = simulator("wait", "poll", ("bprompt", {"target": 6}), ("argmax", {"va": 0, "len": 4, "first": 1, "last": 1}), "emit",
                    "halt", ("seti", {"cnt": 0, "imm": 1}), "halt", batch=2)  # fmt: skip
    sim.set_register(0, np.array([[0, 3, 0, 0], [0, 0, 9, 0]]))
    sim.push([10, 11], 0)
    sim.push([20], 1)
    result = sim.run(on_slot_token=lambda token, slot: streamed.append((token, slot)))
    assert result.tokens == [2] and result.slots == [1] and streamed == [(2, 1)]
    assert sim.committed == [1, 2]


def test_a_row_beyond_the_table_of_any_slot_is_a_fault():
    sim = simulator("wait", ("emb", {"vd": 0, "addr": 0, "len": 4, "pitch": 8, "rows": 10}), "halt", batch=2)
    sim.push([9], 0)
    sim.push([10], 1)
    result = sim.run()
    assert (result.fault, result.fault_pc) == (7, 1)


def test_slots_that_the_core_does_not_have_and_vectors_of_another_shape_are_refused():
    sim = simulator("halt", batch=2)
    with pytest.raises(ConfigError, match="expected a slot from 0 to 1 on core 'tiny' of batch 2, got 2"):
        sim.push([1], 2)
    with pytest.raises(ConfigError, match=r"expected values of shape \[2, length\], got shape \(4,\)"):
        sim.set_register(0, np.zeros(4, dtype=int))
    with pytest.raises(ConfigError, match="expected a slot from 0 to 0"):
        simulator("halt", batch=1).push([1], 1)
