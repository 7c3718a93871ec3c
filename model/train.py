"""Training a language model on text files: the MatMul-free LM, or a baseline (:mod:`trilobit.model.baselines`).

What the paper says and what is done here: AdamW, a cosine schedule that is halved midway (arXiv 2406.02528, after
BitNet b1.58's two stages), learning rates ten times those of a full-precision model, straight-through gradients.

The text becomes memory-mapped token shards; its last part is kept apart to watch the loss. One step is
:class:`trilobit.model.trainer.Run`'s; several GPUs or hosts train together under torchrun.
"""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from tokenizers import Tokenizer

from trilobit.errors import ConfigError, ModelError, TrilobitError
from trilobit.model.baselines import model_config
from trilobit.model.data import END, character_tokenizer, load_tokenizer, train_tokenizer
from trilobit.model.distributed import Processes, joined
from trilobit.model.evaluate import bits_per_character, mean_loss
from trilobit.model.files import atomic_folder
from trilobit.model.fused import unfuse
from trilobit.model.graph import UnsupportedOperation
from trilobit.model.loss_plot import plot_log
from trilobit.model.token_shards import TokenShards, documents, write_shards
from trilobit.model.trainer import Run
from trilobit.model.training_config import TrainingConfig, read_sections
from trilobit.output import output_folder

__all__ = ["TrainingConfig", "calibration_sample", "load_config", "main", "train"]

CALIBRATION_TOKENS = 20_480
COUNTED_TOKENS = 1 << 20  # of the held-out part, whose characters a token are counted
# The record before the first step.
_START: dict[str, Any] = {
    "step": 0,
    "tokens": 0,
    "seconds": 0.0,
    "held_out_loss": None,
    "held_out_step": 0,
    "best_loss": None,
    "best_step": 0,
}


def load_config(path: str | Path) -> tuple[Any, TrainingConfig]:
    """Read a YAML file with the sections ``model`` (keys of config.json; ``model_type`` for a baseline) and ``training``.

    Args:
        path: a file, or the name of a preset in ``model/configs`` ("small", "small.yaml").

    Returns:
        The model's configuration (:class:`.ModelConfig` or :class:`.BaselineConfig`) and the training's.

    Raises:
        ConfigError: no such file or preset, not that shape, an unknown key, or a value out of range.
    """
    path = Path(path)
    values = read_sections(path)
    known = {item.name for item in fields(TrainingConfig)}
    unknown = sorted(map(str, set(values["training"]) - known))
    if unknown:
        raise ConfigError(f"{path}: training: unknown key {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        return model_config(values["model"]), TrainingConfig(**values["training"])
    except (ModelError, ConfigError, TypeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def train(
    ids: np.ndarray | TokenShards,
    model_config: Any,
    config: TrainingConfig,
    out: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    quiet: bool = False,
    processes: Processes | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Train on a stream of token ids.

    Args:
        ids: [N] token ids; the last part (``config.held_out``) is not trained on.
        model_config, config: the architecture's geometry, and how to train.
        out: folder for ``log.jsonl`` and ``checkpoint/``.
        resume: go on from the checkpoint in ``out``; what follows is what would have followed without the break.
        device: "cuda", "cpu"; default: a GPU if there is one.
        quiet: no progress bar.
        processes: of :func:`.joined`, where several train together; the default is this one alone.

    Returns:
        The model in eval mode on the CPU, and a record: steps, tokens, seconds, tokens per second, losses.

    Raises:
        ModelError: too little text, no checkpoint to resume, or the loss became NaN.
    """
    if processes is None:
        with joined(device) as processes:
            return train(ids, model_config, config, out, resume=resume, quiet=quiet, processes=processes)
    out = Path(out)
    output_folder(out)
    torch.set_float32_matmul_precision("highest" if config.precision == "fp32" else "high")
    cut = config.split(len(ids))
    run = Run(model_config, config, _Part(ids, cut), processes)
    held_out = torch.from_numpy(np.asarray(ids[cut : len(ids)], dtype=np.int64)).to(processes.device)
    first, record = 0, dict(_START)
    if resume:
        record = _START | run.resume(out)  # older checkpoints may have no tokens
        first = record["step"]
    started = time.monotonic() - record["seconds"]
    log_path = out / "log.jsonl"
    if resume:
        _cut_log(log_path, first)
    elif processes.is_first:
        log_path.write_text("", encoding="utf-8")
    with _progress(quiet or not processes.is_first) as progress:
        task = progress.add_task("training", total=config.steps, completed=first, note="")
        for step in range(first, config.steps):
            run.step(step)
            done = step + 1
            last = done == config.steps
            evaluated = done % config.evaluate_every == 0 or last
            if done % 20 == 0 or evaluated:
                run.wait()
                loss = float(processes.mean(run.loss))
                record = _record(run, done, loss, time.monotonic() - started, record)
                if evaluated and processes.is_first:
                    _evaluate(run, held_out, done, record)
                if processes.is_first:
                    with log_path.open("a", encoding="utf-8") as log:
                        log.write(json.dumps(record) + "\n")
                progress.update(task, note=f"loss {loss:.3f}")
            if done % config.checkpoint_every == 0 or last:
                run.wait()
                run.save(out, record | _place(run, done, time.monotonic() - started, record))
            progress.update(task, completed=done)
    run.wait()
    run.load(run.result)
    if run.best is not None:
        record |= {"held_out_loss": record["best_loss"], "held_out_step": record["best_step"]}
    model = run.model.cpu().eval()
    for layer in model.layers:
        layer._compiled_call_impl = None  # what follows runs, and is traced, as it is written
    return unfuse(model), record


class _Part(Sequence):
    """The first ``length`` tokens."""

    def __init__(self, ids: Any, length: int):
        self._ids, self._length = ids, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, where: Any) -> Any:
        return self._ids[where]


def _evaluate(run: Run, held_out: torch.Tensor, step: int, record: dict[str, Any]) -> None:
    rows = max(1, min(16, len(held_out) // 512))
    with run.weights(run.average) as model:
        loss = mean_loss(model, held_out, rows, context=run.config.context)
    record |= {"held_out_loss": loss, "held_out_step": step}
    if record["best_loss"] is None or loss < record["best_loss"]:
        record |= {"best_loss": loss, "best_step": step}
        if run.config.keep_best:
            run.remember()


def _record(run: Run, done: int, loss: float, seconds: float, before: dict[str, Any]) -> dict[str, Any]:
    if not math.isfinite(loss):
        raise ModelError(f"training: the loss is {loss} after {done} steps; lower learning_rate or raise warmup_steps")
    place = _place(run, done, seconds, before)
    kept = {key: before[key] for key in ("held_out_loss", "held_out_step", "best_loss", "best_step")}
    return {
        **place,
        "loss": loss,
        "gradient_norm": float(run.norm),
        "learning_rate": run.config.learning_rate_at(done - 1),
        "tokens_per_second": round((place["tokens"] - before["tokens"]) / max(seconds - before["seconds"], 1e-9)),
        **kept,
    }


def _place(run: Run, done: int, seconds: float, before: dict[str, Any]) -> dict[str, Any]:
    """How far a run is: what the rate of the next line counts from, also where a checkpoint lies between two lines."""
    tokens = before["tokens"] + (done - before["step"]) * run.config.batch_size * run.config.context
    return {"step": done, "tokens": tokens, "epochs": round(tokens / run.batches.tokens, 3), "seconds": round(seconds, 3)}


def _cut_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint: those steps are run again."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), disable=quiet)


def calibration_sample(ids: np.ndarray | TokenShards, tokens: int = CALIBRATION_TOKENS, piece: int = 1024) -> np.ndarray:
    """``tokens`` ids as pieces spread evenly over a text (all of a shorter one)."""
    if len(ids) <= tokens:
        return np.asarray(ids[: len(ids)])
    starts = np.linspace(0, len(ids) - piece, tokens // piece).astype(int)
    return np.concatenate([ids[start : start + piece] for start in starts.tolist()])


def _model_card(model: Any, config: TrainingConfig, record: dict[str, Any], texts: str) -> str:
    kinds = {"bpe": "byte-pair tokens, printable ASCII", "characters": "tokens, the text's characters"}
    decay = f"weight decay {config.weight_decay:g}" + (f" up to {config.decay_until:.0%} of the steps" if config.decay_until < 1 else "")
    settings = [decay, f"dropout {config.dropout:g}"]
    if config.token_dropout:
        settings.append(f"{config.token_dropout:.1%} random input tokens")
    if config.ema:
        settings.append(f"weights averaged ({config.ema:g} a step)")
    return f"""# Model card

A language model (`{model.model_type}`; the MatMul-free LM is `hgrn_bit`) trained with `trilobit train`.

| | |
|---|---|
| text | {texts} |
| vocabulary | {model.vocab_size} {kinds[config.vocabulary]} |
| geometry | hidden {model.hidden_size}, layers {model.num_hidden_layers}, intermediate {model.mlp_size} |
| training | {record["step"]} steps of {config.batch_size} x {config.context} tokens ({record["epochs"]} epochs), AdamW, \
learning rate {config.learning_rate:g} (cosine, halved after {config.halve_at:.0%}), {", ".join(settings)}, precision \
{config.precision}, seed {config.seed} |
| time | {record["seconds"]:.0f} s, {record["tokens"]:,} tokens |
| held-out loss | {record["held_out_loss"]:.4f} nats per token, \
{record["held_out_bits_per_character"]:.4f} bits per character (the last {config.held_out:.0%} of the text) |

It writes in the manner of its text and knows nothing else; it was not made to be accurate or safe.
"""


def main(
    text_files: Sequence[str | Path],
    config_path: str | Path,
    out: str | Path,
    resume: bool = False,
    *,
    device: str | None = None,
    tokenizer: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a model on text files and leave it, calibrated and ready to compile, in a folder (``trilobit train``).

    Args:
        text_files: UTF-8 texts; documents closed by lines ``<|end|>`` (a file is one document otherwise).
        config_path: a YAML file or a preset's name (:func:`load_config`).
        out: the folder: packed layout, ``graph.json``, ``tokenizer.json``, ``MODEL_CARD.md``, ``log.jsonl``,
            ``loss.svg`` (with matplotlib), ``tokens/`` (the text's shards), ``checkpoint/``.
        resume: go on from ``out``'s checkpoint, with its vocabulary and tokens.
        device: "cuda" or "cpu"; default: a GPU if there is one.
        tokenizer: a ``tokenizer.json`` to use; default: one trained on the text.
        quiet: no progress bar.

    Returns:
        The record of :func:`train`, with ``held_out_bits_per_character``, and ``not_compilable``: why a baseline has
        no graph, else null.

    Raises:
        ConfigError, ModelError: see :func:`load_config`, :func:`train`.
    """
    out = Path(out)
    geometry, config = load_config(config_path)
    with joined(device) as processes:
        if processes.is_first:
            made = not out.exists()
            output_folder(out)
            try:
                _prepare(text_files, geometry, config, out, resume, tokenizer)
            except TrilobitError:
                if made:
                    shutil.rmtree(out)
                raise
        processes.wait()
        ids = TokenShards(out / "tokens")
        model, record = train(ids, geometry, config, out, resume=resume, quiet=quiet, processes=processes)
        if processes.is_first:
            cut = config.split(len(ids))
            held_out = np.asarray(ids[cut : min(cut + COUNTED_TOKENS, len(ids))])
            characters = len(load_tokenizer(out / "tokenizer.json").decode(held_out.tolist(), skip_special_tokens=False))
            record["held_out_bits_per_character"] = bits_per_character(record["held_out_loss"], len(held_out), characters)
            record["not_compilable"] = _export(model, ids, out)
            names = ", ".join(Path(path).name for path in text_files)
            (out / "MODEL_CARD.md").write_text(_model_card(geometry, config, record, names), encoding="utf-8")
            plot_log(out)
        processes.wait()
    return record


def _prepare(
    files: Sequence[str | Path], geometry: Any, config: TrainingConfig, out: Path, resume: bool, tokenizer: str | Path | None
) -> None:
    """Vocabulary and token shards."""
    vocabulary = out / "tokenizer.json"
    trained = _vocabulary(files, geometry.vocab_size, config, tokenizer or (vocabulary if resume else None))
    trained.save(str(vocabulary))
    if not (resume and (out / "tokens" / "shards.json").exists()):
        write_shards(trained, documents(files), out / "tokens", first=geometry.eos_token_id)


def _vocabulary(files: Sequence[str | Path], size: int, config: TrainingConfig, given: str | Path | None) -> Tokenizer:
    if given is not None:
        trained = load_tokenizer(given)
    elif config.vocabulary == "characters":
        # The end mark, which closes each file, is one token, not characters of the text.
        trained = character_tokenizer("".join(sorted(set().union(*(piece.replace(END, "") for piece in documents(files))))))
    else:
        return train_tokenizer(documents(files), size)
    if trained.get_vocab_size() != size:
        where = given or "characters of the text, and two special tokens"
        raise ModelError(f"{where}: expected vocab_size {size} tokens, got {trained.get_vocab_size()}")
    return trained


def _export(model: Any, ids: TokenShards, out: Path) -> str | None:
    """Leave the model in its folder: packed and as a graph; a baseline that has no graph keeps its weights alone."""
    from trilobit.model.export import export_graph  # here: training itself does without the graph

    packed = model.pack() if hasattr(model, "pack") else model
    try:
        export_graph(packed, out, calibration_ids=calibration_sample(ids), source="pieces of the training text, evenly spaced")
    except UnsupportedOperation as error:
        with atomic_folder(out) as temporary:
            values = model.config.to_dict() | {"not_compilable": str(error)}  # what the compiler then says of the folder
            (temporary / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary / "model.safetensors")
        return str(error)
    return None
