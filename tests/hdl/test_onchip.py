"""Block RAM behind a core's memory port, and a core with nothing outside, against the simulators."""

import json

import numpy as np
import pytest
from support import run_cocotb
from tiny_model import language_model

from trilobit.hdl.onchip import BakedModel, OnChipCore
from trilobit.hdl.onchip_memory import BLOCK_BITS, LATENCY, OUTSTANDING, OnChipMemory, bank_sizes, memory_blocks
from trilobit.hdl.onchip_text import GO, TextPort
from trilobit.isa.core import load_core
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles_backend import CycleBackend

DIVISOR = 4
LENGTH = 24
MEMORY = f"latency:{LATENCY},outstanding={OUTSTANDING}"


@pytest.mark.parametrize(("beat_bytes", "size", "write_start"), [(2, 36 * 200, 36 * 190), (4, 70_000, 69_000)])
def test_the_memory_answers_as_the_cycle_model_assumes(seed, beat_bytes, size, write_start):
    """Several banks, one bank; contents from power-on, writes by bytes, every cycle of every signal."""
    config = load_core("tiny").replace(beat_bytes=beat_bytes, lanes=1)
    image = np.random.default_rng(seed).integers(0, 256, size - 3 * beat_bytes).astype(np.uint8).tobytes()
    component = OnChipMemory(config, image, size=size, write_start=write_start)
    env = {"BEAT_BYTES": beat_bytes, "SIZE": size, "WRITE_START": write_start, "IMAGE": seed}
    run_cocotb(component, "onchip_memory", "cocotb_onchip_memory", env=env, simulators=("verilator",), seed=seed)


@pytest.mark.parametrize("beat_bytes", [1, 2, 4])
def test_banks_waste_less_than_a_block_and_need_no_selection_within(beat_bytes):
    config = load_core("tiny").replace(beat_bytes=beat_bytes, lanes=1)
    for size in (1, 2048, 2049, 72_592, 117_104, 131_072):
        banks = bank_sizes(config, size)
        blocks = memory_blocks(size)
        assert sum(banks) * 8 * beat_bytes == blocks * BLOCK_BITS and 0 <= blocks * BLOCK_BITS - 8 * size < BLOCK_BITS
        assert all(bank & bank - 1 == 0 and bank <= BLOCK_BITS for bank in banks) and banks == sorted(banks, reverse=True)
        starts = np.cumsum([0, *banks[:-1]])
        assert all(start % bank == 0 for start, bank in zip(starts.tolist(), banks, strict=True))


def _run(config, program, prompt: list[int], limit: int):
    machine = CycleBackend(config, program, None, HostSettings(limit=limit, eos=0), memory_model=MEMORY)
    machine.push(prompt)
    result = machine.run()
    assert result.halted
    return result


def _answers(config, program, encode, decode, limit: int) -> list[dict]:
    """What the simulators answer to some prompts, with their cycles."""
    answers = []
    for k, prompt in enumerate(("abc\n", "", "hello?", "z" * 70)):  # the last fills the queue, and starts by that
        tokens = [0, *(encode.get(ord(character), 1) for character in prompt)][:64]
        result = _run(config, program, tokens, limit)
        answer = "".join(decode.get(token, "") for token in result.tokens)
        answers.append({"prompt": prompt, "gap": k % 2 * 300, "answer": answer, "cycles": result.cycles})
    return answers


def test_prompts_are_answered_over_the_line(seed, tmp_path):
    """Text in, text out, the simulators' tokens and cycles; Control-C; a fault. The program is there from power-on."""
    rng = np.random.default_rng(seed)
    config, limit = load_core("tiny"), 12
    encode = {0x0A: 2} | {ord("a") + k: 3 + k for k in range(LENGTH - 4)}  # a token without a character is left over
    encode[ord("!")] = LENGTH  # which the embedding has no row for
    decode = {token: chr(byte) for byte, token in encode.items()}
    for _ in range(100):  # until the model has something to say: of some weights every answer ends at once
        program = language_model(rng, config, LENGTH)
        answers = _answers(config, program, encode, decode, limit)
        if max(len(case["answer"]) for case in answers) > 4:
            break
    else:
        raise AssertionError("expected a model with something to say")
    memory = program.memory()
    model = BakedModel(
        name="test", config=config, program=program.code, image=memory.tobytes(), window_size=program.window_size,
        write_start=program.write_start, encode=encode, unknown=1, first=0, eos=0, limit=limit,
    )  # fmt: skip
    cases = tmp_path / "cases.json"
    stopped = max(answers, key=lambda case: len(case["answer"]))
    cases.write_text(json.dumps({"answers": answers, "stopped": {k: stopped[k] for k in ("prompt", "answer")}, "faulty": "a!"}))
    component = OnChipCore(model, divisor=DIVISOR)
    run_cocotb(component, "onchip_core", "cocotb_onchip", env={"DIVISOR": DIVISOR, "CASES": cases}, simulators=("verilator",), seed=seed)


@pytest.mark.slow  # half a minute to build, 1.5 million cycles
def test_the_model_that_ships_writes_what_the_simulators_write(seed, tmp_path):
    """The whole of onchip_25f but its pins: shakespeare-onchip, sampled, a prompt over the line; characters and cycles."""
    from trilobit.assembler.bundle import load_bundle
    from trilobit.assembler.compiler import compile_model
    from trilobit.bitstreams.onchip import bake

    compile_model("shakespeare-onchip", load_core("onchip"), tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    model = bake(bundle, temperature=0.8, seed=7, limit=24)
    decode = {token: chr(byte) for byte, token in model.encode.items()}
    answers = []
    for k, prompt in enumerate(("ROMEO:\n", "O")):
        settings = HostSettings(limit=24, eos=model.eos, temperature=0.8, seed=7 + k)
        machine = CycleBackend(bundle.core, bundle.program, bundle.memory(), settings, memory_model=MEMORY)
        machine.push([model.first, *(model.encode[ord(character)] for character in prompt)])
        result = machine.run()
        assert result.halted
        answer = "".join(decode.get(token, "") for token in result.tokens)
        answers.append({"prompt": prompt, "gap": 0, "answer": answer, "cycles": result.cycles})
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps({"answers": answers}))
    run_cocotb(OnChipCore(model, divisor=8), "onchip_shipped", "cocotb_onchip", env={"DIVISOR": 8, "CASES": cases},
               simulators=("verilator",), seed=seed)  # fmt: skip


def test_what_cannot_be_built_is_refused():
    config = load_core("tiny")
    with pytest.raises(ValueError, match="expected an image of 1 to 64 bytes, got 65"):
        OnChipMemory(config, bytes(65), size=64, write_start=0)
    with pytest.raises(ValueError, match="expected write_start as a multiple of 4 up to 64, got 6"):
        OnChipMemory(config, bytes(64), size=64, write_start=6)
    with pytest.raises(ValueError, match="expected no character 0x0d: it means something else here"):
        TextPort(encode={GO: 1}, unknown=0, first=None)
    with pytest.raises(ValueError, match="a token of its own each"):
        TextPort(encode={65: 1, 66: 1}, unknown=0, first=None)
    model = BakedModel(
        name="long", config=config, program=[0] * 257, image=bytes(64), window_size=64, write_start=0, encode={65: 1}, unknown=0,
        first=None, eos=0, limit=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="expected at most 256 instructions, got 257"):
        OnChipCore(model, divisor=4)
