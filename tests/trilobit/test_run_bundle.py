"""``trilobit run`` of a bundle: text as it comes, the same for a seed, and messages for what is wrong.

The bundle is made by hand: a "model" over bytes whose next byte is the last one plus one, with a byte-level tokenizer.
"""

import json

import numpy as np
import pytest
import tokenizers
from click.testing import CliRunner

from trilobit import __version__
from trilobit.assembler import assemble, disassemble
from trilobit.assembler.bundle import Logits, Manifest, core_parameters, save_bundle
from trilobit.cli import main
from trilobit.errors import ModelError
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA
from trilobit.text import TextStream, Tokenizer

VOCABULARY = 256
EMPTY = {"points": {}, "regions": [], "geometry": {"vocab_size": VOCABULARY}, "calibration": None}


def byte_tokenizer(folder):
    """One token a byte; ids are the alphabet's order, so encode and decode are only looked at together."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(folder / "bytes.json"))
    return folder / "bytes.json"


def successor_program():
    """Rows of the table are one-hot in two parts of 16: token = 16 high + low; logits come from 16 + 16 activations.

    Token t's successor has the largest of 256 logits in four tiles of 64.
    """
    table = np.zeros((VOCABULARY, 32), dtype=int)
    heads = []
    for token in range(VOCABULARY):
        table[token, token // 16] = table[token, 16 + token % 16] = 1000
    for token in range(VOCABULARY):
        before = (token - 1) % VOCABULARY
        row = np.full(32, "0")
        row[[before // 16, 16 + before % 16]] = "+"
        heads.append("".join(row))
    rows = "\n".join("  .i16 " + ", ".join(map(str, row)) for row in table)
    matrices = "\n".join(
        f"m{k}:\n  .ternary 64, 32, scale=1/127\n" + "\n".join("    " + r for r in heads[64 * k : 64 * k + 64]) for k in range(4)
    )
    tiles = "\n".join(
        f"    tmatmul v1, a0, [m{k}], len=64, bp=0\n"
        f"    argmax v1, len=64, base={64 * k}, sha=9, noise{', first' * (k == 0)}{', last' * (k == 3)}"
        for k in range(4)
    )
    return assemble(
        f""".core tiny
.region table, readonly, i16
{rows}
.region weights, readonly, stream
{matrices}
    wait
token:
    poll
    bprompt token
    emb v0, [table], len=32, pitch=64, rows=256
    stream [weights], beats=weights.beats
    normq a0, v0, s0, len=32
{tiles}
    emit
    bdone end
    jump token
end:
    halt
"""
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "bytes", byte_tokenizer(folder))


def make_bundle(folder, tokenizer, **changes):
    program = successor_program()
    values = {
        "name": "bytes", "trilobit": __version__, "isa": ISA.version, "core": core_parameters(load_core("tiny")),
        "window_size": program.window_size, "write_start": program.write_start, "logits": Logits(VOCABULARY, 9, None),
        "weights_per_token": VOCABULARY * 32, "prompt_weights": 0, "bos_token_id": None, "eos_token_id": None,
        "tokenizer": "tokenizer.json" if tokenizer else None,
    } | EMPTY | changes  # fmt: skip
    return save_bundle(
        folder, program=program, source=disassemble(program), image=program.memory()[: program.write_start], report={},
        tokenizer=tokenizer, manifest=lambda checksums: Manifest(checksums=checksums, **values),
    )  # fmt: skip


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["run", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_text_goes_on_from_the_prompt(bundle):
    result = run(bundle, "--prompt", "xyzab", "-n", "5")
    assert result.stdout == "xyzabcdefg\n"
    assert "5 tokens in" in result.stderr and "simulated (functional)" in result.stderr


def test_json_is_one_object_with_tokens_and_text(bundle):
    data = json.loads(run(bundle, "--prompt", "a", "-n", "3", "--json").stdout)
    assert data["text"] == "bcd" and len(data["tokens"]) == 3 and data["halted"]
    assert data["weights"] == 3 * VOCABULARY * 32
    assert data["prompt_tokens"] == [data["tokens"][0] - 1]


def test_a_seed_gives_the_same_text_again_and_another_seed_another(bundle):
    arguments = [bundle, "--prompt", "a", "-n", "30", "--temperature", "0.7", "--json", "--seed"]
    texts = [json.loads(run(*arguments, seed).stdout)["tokens"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_bos_comes_first_and_eos_ends(bundle, tmp_path):
    tokenizer = Tokenizer(bundle / "tokenizer.json")
    (start,), (end,) = tokenizer.encode("p"), tokenizer.encode("t")
    folder = make_bundle(tmp_path / "b", bundle / "tokenizer.json", bos_token_id=start, eos_token_id=end)
    data = json.loads(run(folder, "--json").stdout)
    assert data["prompt_tokens"] == [start] and data["text"] == "qrst"
    assert json.loads(run(folder, "--json", "--prompt", "xa").stdout)["prompt_tokens"][0] == start


def test_without_a_tokenizer_tokens_are_numbers(tmp_path):
    folder = make_bundle(tmp_path / "b", None, bos_token_id=7)
    assert run(folder, "-n", "3").stdout == "8 9 10 \n"
    assert json.loads(run(folder, "-n", "3", "--json").stdout)["text"] is None
    assert "expected a tokenizer.json for --prompt" in run(folder, "--prompt", "a", code=2).stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "expected --prompt TEXT"),
        (["--prompt", "a", "--dump", "v0"], "expected PROG.s or PROG.bin with --dump"),
        (["--prompt", "a", "--set", "v0=x.npy"], "expected PROG.s or PROG.bin with --set"),
        (["--prompt", "a", "--temperature", "-1"], "expected a temperature of 0 (greedy) or at least 0.01, got -1.0"),
        (["--prompt", "a", "-n", "0"], "0 is not in the range"),
    ],
)
def test_wrong_options_get_one_message_and_exit_code_2(bundle, arguments, message):
    result = run(bundle, *arguments, code=2)
    assert message in result.stderr and result.stdout == ""


def test_a_damaged_bundle_and_a_tokenizer_that_does_not_fit_are_refused(tmp_path, bundle):
    assert "expected a bundle" in run(tmp_path, code=2).stderr
    folder = make_bundle(tmp_path / "small", bundle / "tokenizer.json", logits=Logits(10, 9, None))
    assert "not this model's tokenizer" in run(folder, "--prompt", "a", code=2).stderr
    (folder / "image.bin").write_bytes(b"")
    assert "image.bin: damaged" in run(folder, "--prompt", "a", code=2).stderr


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語と€ and 🦊🦊!", "a\n\n b  c", ""])
def test_streamed_text_is_the_text_and_never_half_a_character(text, tmp_path):
    tokenizer = Tokenizer(byte_tokenizer(tmp_path))
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) + stream.finish() == text
    assert len(pieces) == len(text.encode())


def test_a_character_cut_off_at_the_end_is_not_shown(tmp_path):
    tokenizer = Tokenizer(byte_tokenizer(tmp_path))
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode("ab🦊")[:-1]]
    assert "".join(pieces) + stream.finish() == "ab"


def test_streaming_keeps_the_spaces_of_a_vocabulary_that_marks_words(tmp_path):
    """Metaspace decoders drop the first space of what they decode; the stream must not lose those within the text."""
    vocabulary = {"▁one": 0, "▁two": 1, "s": 2, "<unk>": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    tokenizer.save(str(tmp_path / "words.json"))
    stream = TextStream(Tokenizer(tmp_path / "words.json"))
    assert [stream.push(token) for token in (0, 2, 1, 1, 2)] == ["one", "s", " two", " two", "s"]


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ModelError, match=r"t\.json: expected a tokenizer\.json of the tokenizers library"):
        Tokenizer(tmp_path / "t.json")
