"""The tokenizer that belongs to a model folder, and whether its vocabulary is the model's. Needs ``tokenizers`` alone."""

from pathlib import Path

from trilobit.errors import ModelError
from trilobit.text import Tokenizer

__all__ = ["check_vocabulary", "find_tokenizer"]


def find_tokenizer(folder: Path, given: str | Path | None = None) -> tuple[Path | None, list[str]]:
    """The tokenizer.json to carry along: the given one, else the folder's, else none; and notes for the user.

    Raises:
        ModelError: the given file is not there.
    """
    if given is not None:
        if not Path(given).is_file():
            raise ModelError(f"{given}: no such file; expected a tokenizer.json")
        return Path(given), []
    path = folder / "tokenizer.json"
    if path.is_file():
        return path, []
    if (folder / "tokenizer.model").is_file():
        return None, [
            f"{folder}: tokenizer.model alone is not read; for text in and out, convert it once with transformers: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes the tokenizer.json to give as --tokenizer"
        ]
    return None, [f"{folder}: no tokenizer.json; without one a model takes and gives tokens by number"]


def check_vocabulary(path: Path, vocab_size: int, *, padded: bool = False) -> None:
    """Refuse a tokenizer that is not of a model's vocabulary.

    Args:
        path: a tokenizer.json.
        vocab_size: rows of the model's embedding.
        padded: fewer tokens than rows are well.

    Raises:
        ModelError: no tokenizer, a token beyond the embedding, or another number of tokens.
    """
    tokenizer = Tokenizer(path)
    size, highest = tokenizer.size, tokenizer.highest
    if highest >= vocab_size:
        raise ModelError(
            f"{path}: expected tokens below the model's vocab_size {vocab_size}, got token {highest}; this is another model's "
            "tokenizer: give the right one with --tokenizer"
        )
    if size != vocab_size and not padded:
        raise ModelError(
            f"{path}: expected {vocab_size} tokens, the model's vocab_size, got {size}; give the model's own tokenizer with "
            "--tokenizer, or allow rows without a token with --padded-vocabulary"
        )
