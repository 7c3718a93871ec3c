"""A model into an FPGA's own memory: from a bundle to what is built in, what of it fits, and the board's bitstream."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trilobit.assembler.bundle import Bundle, load_bundle
from trilobit.bitstreams.boards import CORE_UNITS, Build, build_files, require_tools
from trilobit.errors import ConfigError
from trilobit.hdl.boards import Board
from trilobit.hdl.onchip import BakedModel
from trilobit.hdl.onchip_boards import ONCHIP_BOARDS
from trilobit.hdl.onchip_memory import LATENCY, OUTSTANDING, memory_blocks
from trilobit.isa.core import load_core
from trilobit.sim.backend import HostSettings
from trilobit.sim.estimate import estimate

__all__ = ["CORE_BLOCKS", "MODEL", "OnChipModel", "bake", "build_onchip", "check_blocks", "find_onchip", "load_model"]

MODEL = "shakespeare-onchip"
"""The model that ships for these boards."""
TEMPERATURE, LIMIT = 0.8, 1000
MEMORY = f"latency:{LATENCY},outstanding={OUTSTANDING}"
CORE_BLOCKS = 19
"""Block RAMs that the core `onchip` takes at most: eight registers, four in tables, four of instructions (fewer where bits of all are
the same), and the buffers of activations, norms and gains."""
UNITS = [*(f"system.core.{unit}" for unit in CORE_UNITS), "system.core", "system.memory", "system.text", "system.receiver",
         "system.transmitter", "system"]  # fmt: skip


@dataclass(frozen=True)
class OnChipModel:
    """A model for these boards.

    Attributes:
        baked: what is built into the hardware.
        cycles_per_token: clocks from a character to the next one, exact: the cycle model, equal to the RTL.
        weights: ternary weights that a token reads.
    """

    baked: BakedModel
    cycles_per_token: float
    weights: int


def load_model(board: Board, folder: Path | None, *, temperature: float = TEMPERATURE, seed: int = 0,
               limit: int = LIMIT) -> OnChipModel:  # fmt: skip
    """A bundle, or the model that ships for these boards, compiled for the board's core.

    Args:
        folder: a bundle's; None for the model that ships. The rest is as :func:`bake` has it.

    Raises:
        BundleError: it is damaged. ConfigError: it can't be built into this board.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            from trilobit.assembler.compiler import compile_model

            folder = Path(scratch) / MODEL
            compile_model(MODEL, load_core(board.core), folder)
        bundle = load_bundle(folder)
        baked = bake(bundle, temperature=temperature, seed=seed, limit=limit)
        check_blocks(board, baked)
        weights = bundle.manifest.weights_per_token
        found = estimate(bundle.program, bundle.core, weights=weights, memory=MEMORY, image=bundle.memory())
    return OnChipModel(baked, found.cycles_per_token, weights)


def _characters(bundle: Bundle) -> dict[str, int]:
    """The vocabulary of a model whose tokens are characters: character -> token, special tokens left out.

    Raises:
        ConfigError: there is none, or its tokens are more than characters of a byte.
    """
    needs = f"expected a model whose tokens are single characters, got {bundle.folder}"
    if bundle.tokenizer is None:
        raise ConfigError(f"{needs} without a tokenizer.json")
    data = json.loads(bundle.tokenizer.read_text())
    special = {token["content"] for token in data.get("added_tokens", [])}
    words = {word: token for word, token in data["model"]["vocab"].items() if word not in special}
    longer = [word for word in words if len(word) != 1 or not 0 < ord(word) < 256]
    if longer or data["model"].get("merges"):
        raise ConfigError(f"{needs} with tokens such as {longer[0] if longer else data['model']['merges'][0]!r}")
    return words


def bake(bundle: Bundle, *, temperature: float = TEMPERATURE, seed: int = 0, limit: int = LIMIT) -> BakedModel:
    """What is built into the hardware for a bundle.

    Args:
        bundle: of a model of characters.
        temperature: 0 for the likeliest character; seed: of the first answer; limit: characters of an answer.

    Raises:
        ConfigError: its tokens are no characters.
    """
    words, manifest = _characters(bundle), bundle.manifest
    assert bundle.tokenizer is not None  # or there were no characters
    data = json.loads(bundle.tokenizer.read_text())["model"]
    unknown = data["vocab"].get(data.get("unk_token"), manifest.bos_token_id or 0)
    eos = HostSettings().eos if manifest.eos_token_id is None else manifest.eos_token_id
    settings = HostSettings(temperature=temperature, seed=seed, limit=limit, eos=eos)
    scalar = settings.temperature_scalar()
    return BakedModel(
        name=manifest.name, config=bundle.core, program=bundle.program.code, image=bytes(bundle.image), window_size=manifest.window_size,
        write_start=manifest.write_start, encode={ord(word): token for word, token in words.items()}, unknown=unknown,
        first=manifest.bos_token_id, eos=eos, limit=limit, seed=seed, temperature_m=scalar.mantissa, temperature_e=scalar.exponent,
    )  # fmt: skip


def check_blocks(board: Board, model: BakedModel) -> dict[str, int]:
    """Refuse a model that is too large for the board's FPGA, before anything that takes long.

    Returns:
        window_size (bytes), model_blocks, core_blocks, blocks (what the FPGA has).

    Raises:
        ConfigError: with the numbers.
    """
    blocks = memory_blocks(model.window_size)
    if blocks + CORE_BLOCKS > board.brams:
        raise ConfigError(f"expected a model that fits the block RAM of {board.title}, got {model.name!r}: {model.window_size:,} bytes "
                          f"take {blocks} block RAMs beside the core's {CORE_BLOCKS}, of {board.brams}; a model of at most "
                          f"{(board.brams - CORE_BLOCKS) * 2048:,} bytes fits")  # fmt: skip
    return {"window_size": model.window_size, "model_blocks": blocks, "core_blocks": CORE_BLOCKS, "blocks": board.brams}


def build_onchip(name: str, folder: Path, model: OnChipModel, *, seed: int | None = None, force: bool = False,
                 say: Callable[[str], None] = lambda text: None, progress: Callable[[str], None] = lambda text: None) -> Build:  # fmt: skip
    """Make the bitstream of a board with a model in it; the rest as :func:`trilobit.bitstreams.boards.build_board`.

    Raises:
        ConfigError: no such board, or the model doesn't fit.
        ToolError: a tool is missing or failed, or a clock was missed.
    """
    from trilobit.hdl.onchip_top import onchip_files, onchip_script

    board, baked = find_onchip(name), model.baked
    blocks = check_blocks(board, baked)
    require_tools()
    say(f"writing the top of {board.title} with {baked.name} in it")
    files = onchip_files(name, baked)
    speed = {"cycles_per_token": model.cycles_per_token, "tokens_per_second": board.clock_mhz * 1e6 / model.cycles_per_token,
             "evidence": "exact cycles (cycle model, equal to the RTL) at clock_mhz"}  # fmt: skip
    facts = {"core": baked.config.parameters(), "model": {"name": baked.name, "ternary_weights": model.weights, **blocks}, "speed": speed}
    return build_files(board, files, onchip_script(files.top), folder, what=f"{baked.name!r} with core {baked.config.name!r}", units=UNITS,
                       facts=facts, seed=seed, force=force, say=say, progress=progress)  # fmt: skip


def find_onchip(name: str) -> Board:
    """One of these boards by its name.

    Raises:
        ConfigError: there is no such board.
    """
    if name not in ONCHIP_BOARDS:
        raise ConfigError(f"expected a board ({', '.join(sorted(ONCHIP_BOARDS))}), got {name!r}")
    return ONCHIP_BOARDS[name]
