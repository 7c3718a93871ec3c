"""Text in, text out: vocabularies of bytes and of marked words, split anywhere, streamed without half a character."""

import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from trilobit.text import TextStream, Tokenizer

CORPUS = ["Once upon a time", "there was a króna, an € and a 🦊", "日本語の話 naïve café", "one two  three\n four"] * 3
# Texts of characters with one to four bytes, of which some are in the vocabulary as a whole.
TEXTS = st.text(st.sampled_from("aeno tO.,\nóé€日話🦊👩‍🚀\u0301") | st.characters(exclude_categories=["Cs"]), max_size=40)


def byte_level(size: int) -> tokenizers.Tokenizer:
    """As GPT-2's: every byte is a token, merges may end within a character."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece() -> tokenizers.Tokenizer:
    """As Llama's and Mistral's: spaces are ▁, one stands in front of every text, unknown characters fall back to bytes."""
    words = ["▁", *"aeno.,tO\n", "▁a", "▁t", "▁th", "re", "▁Once", "日"]
    vocabulary = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)} | {"<unk>": 0, "<s>": 1, "</s>": 2}
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    merges = [("▁", "a"), ("▁", "t")]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def open_tokenizer(tokenizer: tokenizers.Tokenizer, folder) -> Tokenizer:
    tokenizer.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder / "tokenizer.json")


def all_tokenizers(folder) -> dict[str, Tokenizer]:
    made = {"bytes": byte_level(256), "merges": byte_level(300), "sentencepiece": sentencepiece()}
    return {name: open_tokenizer(tokenizer, folder) for name, tokenizer in made.items()}


def streamed(tokenizer: Tokenizer, tokens: list[int], prompt: list[int]) -> str:
    stream = TextStream(tokenizer, prompt)
    pieces = [stream.push(token) for token in tokens]
    for piece in pieces:
        piece.encode()  # no lone surrogate
        assert "\ufffd" not in piece
    return "".join(pieces) + stream.finish()


def test_streams_are_the_text_wherever_the_prompt_ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    known = all_tokenizers(folder)

    @settings(max_examples=150, deadline=None)
    @given(text=TEXTS, share=st.floats(0, 1), name=st.sampled_from(sorted(known)))
    def check(text: str, share: float, name: str) -> None:
        tokenizer = known[name]
        text = text.replace("▁", "").replace("\ufffd", "")
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        split = round(share * len(tokens))
        while split < len(tokens) and tokenizer.decode(tokens[:split]).endswith("\ufffd"):
            split += 1  # a prompt is a text: it ends with a whole character
        prompt, rest = tokens[:split], tokens[split:]
        assert tokenizer.decode(prompt) + streamed(tokenizer, rest, prompt) == text

    check()


def test_any_tokens_at_all_never_show_half_a_character_and_lose_no_whole_one(tmp_path):
    """A model may emit any tokens: what waits is what ends within a character, and all whole characters come, in their order."""

    @settings(max_examples=300, deadline=None)
    @given(data=st.data(), name=st.sampled_from(sorted(known := all_tokenizers(tmp_path))))
    def check(data: st.DataObject, name: str) -> None:
        tokenizer = known[name]
        pieces = st.sampled_from([tokenizer.encode(text) for text in ("€", "🦊", "日", "a t", " ", "é")])
        broken = st.lists(st.integers(0, tokenizer.size - 1), min_size=1, max_size=4)
        tokens = [token for piece in data.draw(st.lists(pieces | broken, max_size=8)) for token in piece]
        stream = TextStream(tokenizer)
        shown = [stream.push(token) for token in tokens]
        assert not any(piece.endswith("\ufffd") for piece in shown)
        got = iter("".join([*shown, stream.finish()]).replace("\ufffd", ""))
        # A byte-fallback decoder marks a whole run of bytes if its end is no character: the stream may have shown more of it.
        assert all(character in got for character in tokenizer.decode(tokens).replace("\ufffd", ""))

    check()


def test_the_space_behind_the_prompt_stays(tmp_path):
    tokenizer = open_tokenizer(sentencepiece(), tmp_path)
    prompt = [1, *tokenizer.encode("Once")]
    more = tokenizer.encode("a tree")
    assert streamed(tokenizer, more, prompt) == " a tree"
    assert streamed(tokenizer, more, [1]) == "a tree"  # at the beginning of a text there is none


def test_special_tokens_say_nothing_and_break_nothing(tmp_path):
    tokenizer = open_tokenizer(sentencepiece(), tmp_path)
    one, two = tokenizer.encode("one"), tokenizer.encode("🦊 tea")
    assert streamed(tokenizer, [*one, 2, *two, 2], [1]) == "one 🦊 tea"


def test_a_character_in_bytes_appears_with_its_last_one(tmp_path):
    for made in (byte_level(256), sentencepiece()):
        tokenizer = open_tokenizer(made, tmp_path)
        stream = TextStream(tokenizer, tokenizer.encode("a"))
        tokens = tokenizer.encode("a🦊")[-4:] + tokenizer.encode("aß")[-2:]
        assert [stream.push(token) for token in tokens] == ["", "", "", "🦊", "", "ß"]


def test_bytes_that_are_no_character_do_not_stop_the_stream(tmp_path):
    """A model may emit anything: a lead byte without its followers shows as one mark when the next character is whole."""
    tokenizer = open_tokenizer(byte_level(256), tmp_path)
    lead = tokenizer.encode("€")[:1]
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in [*tokenizer.encode("a"), *lead, *tokenizer.encode("bc")]]
    assert pieces == ["a", "", "\ufffdb", "c"]
    assert TextStream(tokenizer).finish() == ""
