"""``trilobit run`` of a bundle: text as it comes, the same for a seed, and messages for what is wrong."""

import json

import pytest
import tokenizers
from click.testing import CliRunner
from run_support import VOCABULARY, byte_tokenizer, make_bundle

from trilobit.assembler.bundle import Logits
from trilobit.cli import main
from trilobit.errors import ModelError
from trilobit.text import TextStream, Tokenizer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "bytes", byte_tokenizer(folder))


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


def test_tokens_by_number_are_the_prompt_as_they_are(tmp_path, bundle):
    tokens = json.loads(run(bundle, "--prompt", "xyzab", "-n", "5", "--json").stdout)["prompt_tokens"]
    data = json.loads(run(bundle, "--push", ",".join(map(str, tokens)), "-n", "5", "--json").stdout)
    assert data["prompt_tokens"] == tokens and data["text"] == "cdefg"
    folder = make_bundle(tmp_path / "b", None)  # no tokenizer, and no token to begin with
    assert run(folder, "--push", "3,9", "-n", "3").stdout == "10 11 12 \n"
    assert "expected --push N,N,...; this model has no token to begin with" in run(folder, code=2).stderr
    begins = make_bundle(tmp_path / "c", None, bos_token_id=7)
    assert json.loads(run(begins, "--push", "3", "-n", "1", "--json").stdout)["prompt_tokens"] == [3]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "expected --prompt TEXT"),
        (["--push", "1", "--prompt", "a"], "expected --prompt TEXT or --push N,N,..., got both"),
        (["--push", f"0,{VOCABULARY}"], f"--push: expected tokens from 0 to {VOCABULARY - 1}"),
        (["--push", "1", "--push", "1"], "expected at most 1 prompt, got 2"),
        (["--prompt", "a", "--dump", "v0"], "expected PROG.s or PROG.bin with --dump"),
        (["--prompt", "a", "--set", "v0=x.npy"], "expected PROG.s or PROG.bin with --set"),
        (["--prompt", "a", "--temperature", "-1"], "expected a temperature of 0 (greedy) or at least 0.01, got -1.0"),
        (["--prompt", "a", "-n", "0"], "0 is not in the range"),
        (["--prompt", "a", "--waves", "x.fst"], "expected --backend rtl with --waves"),
        (["--prompt", "a", "--trace", "x.trace"], "expected the cycles or rtl backend for a timeline"),
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
