"""``trilobit run`` of several sequences a pass: prompts to slots, the text of each in its place, and the same tokens as alone."""

import gc
import json
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from run_support import byte_tokenizer, make_bundle

from trilobit.assembler.bundle import core_parameters, load_bundle
from trilobit.cli import main
from trilobit.isa.core import load_core
from trilobit.sequences import Sequences
from trilobit.text import Tokenizer

PROMPTS = ["xyzab", "k", "12"]
GIVEN = [word for prompt in PROMPTS for word in ("--prompt", prompt)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, tokenizer):
    """The successor of bytes for batch 1 and 4: its program has no vectors in memory, so one fits both."""
    folder = tmp_path_factory.mktemp("bundles")
    return {n: make_bundle(folder / f"b{n}", tokenizer, core=core_parameters(load_core("tiny", n))) for n in (1, 4)}


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_the_text_of_each_sequence_stands_under_its_heading(bundles):
    result = invoke("run", bundles[4], *GIVEN, "-n", "4", "--seed", "9")
    assert result.stdout == "--- 1 of 3, seed 9\nxyzabcdef\n\n--- 2 of 3, seed 10\nklmno\n\n--- 3 of 3, seed 11\n123456\n"
    assert "12 tokens in" in result.stderr and "3 sequences together" in result.stderr


def test_a_single_prompt_has_no_heading_and_the_other_slots_are_not_shown(bundles):
    assert invoke("run", bundles[4], "--prompt", "a", "-n", "3").stdout == "abcd\n"


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_json_lists_the_sequences_with_the_tokens_that_each_would_get_alone(bundles, temperature):
    options = ["-n", "7", "--temperature", temperature, "--json", "--seed"]
    data = json.loads(invoke("run", bundles[4], *GIVEN, *options, 2**32 - 2).stdout)
    assert data["batch"] == 4 and len(data["sequences"]) == 3 and len(data["tokens"]) == len(data["slots"]) == 4 * 7
    for slot, (prompt, seed) in enumerate(zip(PROMPTS, (2**32 - 2, 2**32 - 1, 0), strict=True)):
        alone = json.loads(invoke("run", bundles[1], "--prompt", prompt, *options, seed).stdout)
        together = data["sequences"][slot]
        assert together == {key: alone[key] for key in ("prompt", "prompt_tokens", "seed", "tokens", "text")}
        assert alone["sequences"] == [together] and alone["slots"] == [0] * 7


def test_prompts_come_from_a_file_too(bundles, tmp_path):
    (tmp_path / "p.txt").write_text("k\n\n12\n")
    out = invoke("run", bundles[4], "--prompt", "xyzab", "--prompts", tmp_path / "p.txt", "-n", "4").stdout
    assert out == invoke("run", bundles[4], *GIVEN, "-n", "4").stdout
    (tmp_path / "none.txt").write_text("\n \n")
    assert "expected a prompt a line in" in invoke("run", bundles[4], "--prompts", tmp_path / "none.txt", code=2).stderr
    assert "one prompt a line; can't read" in invoke("run", bundles[4], "--prompts", tmp_path / "nothing", code=2).stderr


def test_nothing_but_a_line_end_parts_prompts_of_a_file_and_a_mark_at_its_start_is_no_text(bundles, tmp_path):
    """Form feeds and the separators of Unicode are characters of a prompt; Windows' editors begin a file with a byte order mark."""
    prompts = ["a\x0cb", "c\u2028d\x1ee", " f"]
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(prompts).encode() + b"\r\n")
    data = json.loads(invoke("run", bundles[4], "--prompts", tmp_path / "p.txt", "-n", "2", "--json").stdout)
    assert [sequence["prompt"] for sequence in data["sequences"]] == prompts


def test_more_prompts_than_slots_are_refused(bundles):
    message = invoke("run", bundles[4], *GIVEN, *GIVEN, code=2).stderr
    assert "expected at most 4 prompts, got 6; compile it with a larger --batch" in message
    assert "expected at most 1 prompt, got 3; compile it with --batch for several" in invoke("run", bundles[1], *GIVEN, code=2).stderr


def test_an_end_of_sequence_ends_its_own_sequence(tmp_path, tokenizer):
    (end,) = Tokenizer(tokenizer).encode("e")
    folder = make_bundle(tmp_path / "b", tokenizer, core=core_parameters(load_core("tiny", 2)), eos_token_id=end)
    data = json.loads(invoke("run", folder, "--prompt", "a", "--prompt", "s", "-n", "6", "--json").stdout)
    assert [sequence["text"] for sequence in data["sequences"]] == ["bcde", "tuvwxy"]


def test_without_a_tokenizer_tokens_are_numbers(tmp_path):
    folder = make_bundle(tmp_path / "b", None, bos_token_id=7, core=core_parameters(load_core("tiny", 2)))
    assert invoke("run", folder, "-n", "3").stdout == "8 9 10 \n"


def test_boards_are_refused(bundles):
    message = invoke("run", bundles[4], "--prompt", "a", "--target", "sim:ulx3s", code=2).stderr
    assert "expected a bundle for a batch of 1 with --target" in message


def test_the_first_sequence_streams_and_the_next_follow_when_it_has_ended(capsys, tokenizer):
    words = Tokenizer(tokenizer)
    shown = Sequences(["a", "k"], [words.encode("a"), words.encode("k")], words, lambda tokens: len(tokens) == 2, [0, 1])
    shown.start()
    seen = [capsys.readouterr().out]
    for token, slot in [("b", 0), ("l", 1), ("x", 2), ("c", 0), ("m", 1)]:
        shown.push(words.encode(token)[0], slot)
        seen.append(capsys.readouterr().out)
    shown.finish()
    assert seen == ["--- 1 of 2, seed 0\na", "b", "", "", "c\n\n--- 2 of 2, seed 1\nkl", "m"]
    assert capsys.readouterr().out == "\n" and shown.texts == ["bc", "lm"]


SOURCE = """.core tiny
.region x, readonly, i16
  .i16 {words}
.region y, writable, i16, size={size}
    wait
    ldv v0, [x], len=4
    add v2, v0, v1, len=4
    sv [y], v2, len=4
    emit
    halt
"""


def test_a_program_runs_on_a_core_of_several_slots(tmp_path):
    path, v1 = tmp_path / "p.s", tmp_path / "v1.npy"
    path.write_text(SOURCE.format(words="1, 2, 21, 22, 3, 4, 23, 24", size=16))  # words of two lanes, slot after slot
    np.save(v1, np.array([100, 200, 300, 400]))
    options = ["--push", "5", "--push", "6", "--set", f"v1={v1}", "--dump", "v2,mem:y", "--json"]
    data = json.loads(invoke("run", path, "--batch", 2, *options).stdout)
    assert [row[:4] for row in data["registers"]["v2"]] == [[101, 202, 303, 404], [121, 222, 323, 424]]
    assert data["memory"]["y"] == [101, 202, 121, 222, 303, 404, 323, 424]
    assert (data["tokens"], data["slots"], data["batch"]) == ([5, 6], [0, 1], 2)
    out = invoke("run", path, "--batch", 2, "--push", "5", "--step").stdout
    assert "v0 slot 0 = 1 2 3 4" in out and "v0 slot 1 = 21 22 23 24" in out and "tokens of slot 1 5" in out
    assert "at most 2 times" in invoke("run", path, "--batch", 2, "--push", "1", "--push", "1", "--push", "1", code=2).stderr


@pytest.mark.parametrize("batch", [3, 16])
def test_other_batches_are_refused(tmp_path, batch):
    assert (
        f"expected --batch 1, 2, 4 or 8, got {batch}"
        in invoke("compile", "tales", "--core", "ulx3s", "--batch", batch, "-o", tmp_path / "b", code=2).stderr
    )


def test_compile_overrides_the_presets_batch(tmp_path):
    toy = Path(__file__).parents[1] / "model" / "data" / "toy"
    data = json.loads(invoke("compile", toy, "--core", "tiny", "--batch", 2, "-o", tmp_path / "b", "--json").stdout)
    assert data["core"] == "tiny" and load_bundle(tmp_path / "b").core == load_core("tiny", 2)
    assert "2 sequences a pass" in invoke("compile", toy, "--core", "tiny", "--batch", 2, "-o", tmp_path / "b").stdout


@pytest.mark.parametrize("arguments", [["--board", "ulx3s_85f"], ["--wrapper", "axi", "--core", "ddr128"]])
def test_boards_and_the_wrapper_have_one_sequence(tmp_path, arguments):
    message = invoke("verilog", *arguments, "--batch", 2, "-o", tmp_path, code=2).stderr
    assert "board tops and the AXI wrapper serve one sequence" in message and not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--board", "ulx3s_85f"], ["--wrapper", "axi"]])
def test_a_core_of_several_sequences_is_refused_before_any_of_its_hardware_is_made(tmp_path, arguments):
    """A line of the tool's own and nothing of Amaranth's about parts that were not used."""
    (tmp_path / "core.yaml").write_text((files("trilobit.isa") / "presets" / "ulx3s.yaml").read_text() + "batch: 2\n")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        message = invoke("verilog", *arguments, "--core", tmp_path / "core.yaml", "-o", tmp_path / "out", code=2).stderr
        gc.collect()
    assert "serve one sequence" in message and not (tmp_path / "out").exists()
    assert [str(warning.message) for warning in seen] == []
