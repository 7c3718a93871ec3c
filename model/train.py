"""Training a MatMul-free language model on text files.

What the paper says and what is done here: AdamW, a cosine schedule that is halved midway (arXiv 2406.02528, after
BitNet b1.58's two stages), learning rates ten times those of a full-precision model, straight-through gradients.

Every sequence of the batch is a stream of its own through the text, and the recurrent state is carried from step to
step (gradients stop there), because the accelerator, too, keeps its state for as long as it writes; at random a stream
starts again from the zero state, as a prompt does. The last 2% of the text is kept apart to watch the loss.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import Tensor

from trilobit.errors import ConfigError, ModelError
from trilobit.model.data import encode, load_tokenizer, read_texts, train_tokenizer
from trilobit.model.evaluate import bits_per_character
from trilobit.model.files import atomic_folder, open_tensors
from trilobit.model.reference import BitLinear, MatMulFreeLM, ModelConfig

__all__ = ["TrainingConfig", "load_config", "main", "train"]

_START: dict[str, Any] = {"seconds": 0.0, "held_out_loss": None}  # the record before the first step
HELD_OUT = 0.02  # share of the tokens, at the end of the text, that is not trained on
CALIBRATION_TOKENS = 20_480
_PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train; the ``training`` section of the YAML file.

    Attributes:
        steps: optimiser steps.
        batch_size, context: sequences a step, and tokens of each.
        learning_rate: at the end of the warm-up.
        warmup_steps: of linear rise.
        halve_at: share of the steps after which the cosine is halved; 1 for never.
        final_lr: share of the learning rate that the cosine ends on.
        weight_decay: on matrices; gains and lower bounds have none.
        beta1, beta2: AdamW's.
        clip: largest norm of the gradient.
        dropout: on the residual branches.
        restart: probability that a stream starts from the zero state at a step.
        precision: of the products: fp32, tf32 (the same integers, exact) or bf16 (results rounded to 8 bits).
        compile: use torch.compile.
        evaluate_every, checkpoint_every: in steps.
        seed: of weights, order and dropout.
    """

    steps: int
    batch_size: int
    context: int
    learning_rate: float
    warmup_steps: int = 100
    halve_at: float = 0.5
    final_lr: float = 0.02
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    dropout: float = 0.0
    restart: float = 0.1
    precision: str = "fp32"
    compile: bool = False
    evaluate_every: int = 200
    checkpoint_every: int = 1000
    seed: int = 1

    def __post_init__(self) -> None:
        def need(good: bool, name: str, expected: str) -> None:
            if not good:
                raise ConfigError(f"training: {name} must be {expected}, got {getattr(self, name)!r}")

        for item in fields(self):
            value = getattr(self, item.name)
            if item.type is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, item.name, float(value))  # YAML reads 1 as an integer
            else:
                need(type(value) is item.type, item.name, f"of type {item.type.__name__}")  # type: ignore[union-attr]
        for name in ("steps", "batch_size", "context", "evaluate_every", "checkpoint_every"):
            need(getattr(self, name) > 0, name, "positive")
        for name in ("halve_at", "final_lr", "dropout", "restart", "beta1", "beta2"):
            need(0 <= getattr(self, name) <= 1, name, "between 0 and 1")
        need(self.learning_rate > 0 and self.clip > 0 and self.weight_decay >= 0, "learning_rate", "positive")
        need(0 <= self.warmup_steps < self.steps, "warmup_steps", f"fewer than the {self.steps} steps")
        need(self.precision in _PRECISIONS, "precision", f"one of {', '.join(_PRECISIONS)}")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, cosine, halved from ``halve_at`` on."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        cosine = self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * share))
        return self.learning_rate * cosine * (0.5 if step >= self.halve_at * self.steps else 1.0)


def load_config(path: str | Path) -> tuple[ModelConfig, TrainingConfig]:
    """Read a YAML file with the sections ``model`` (keys of config.json) and ``training``.

    Args:
        path: a file, or the name of a preset in ``model/configs`` ("small", "small.yaml").

    Raises:
        ConfigError: no such file or preset, not that shape, an unknown key, or a value out of range.
    """
    path = Path(path)
    presets = resources.files("trilobit.model") / "configs"
    if not path.is_file():
        names = sorted(entry.name.removesuffix(".yaml") for entry in presets.iterdir() if entry.name.endswith(".yaml"))
        if path.name.removesuffix(".yaml") not in names:
            raise ConfigError(f"{path}: no such file, and no preset of that name; presets: {', '.join(names)}")
        text = (presets / f"{path.name.removesuffix('.yaml')}.yaml").read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML ({error})") from error
    if not isinstance(values, dict) or set(values) != {"model", "training"}:
        got = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ConfigError(f"{path}: expected the two sections model and training, got {got}")
    for section, kind in (("model", ModelConfig), ("training", TrainingConfig)):
        if not isinstance(values[section], dict):
            raise ConfigError(f"{path}: {section}: expected a mapping, got {values[section]!r}")
        known = {item.name for item in fields(kind)}
        unknown = sorted(map(str, set(values[section]) - known))
        if unknown:
            raise ConfigError(f"{path}: {section}: unknown key {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        model = ModelConfig(**{"bos_token_id": 0, "eos_token_id": 0, **values["model"]})
        return model, TrainingConfig(**values["training"])
    except (ModelError, ConfigError, TypeError) as error:
        raise ConfigError(f"{path}: {error}") from error


class _Streams:
    """Batches as parallel streams through one long text: the same for the same step, so that a run can be resumed."""

    def __init__(self, ids: np.ndarray, config: TrainingConfig, device: torch.device):
        self.config = config
        self.rows = config.batch_size
        self.length = (len(ids) - 1 - config.context) // self.rows  # tokens of one stream in an epoch
        self.steps = self.length // config.context
        if self.steps < 1:
            raise ModelError(
                f"training text: expected more than {config.batch_size * config.context} tokens (batch_size x context),"
                f" got {len(ids)}; use more text or a smaller batch"
            )
        self.ids = torch.from_numpy(ids).to(device)
        self.device = device

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and targets [B, T], and [B, 1] of 1 where the state is carried on and 0 where it starts anew."""
        epoch, position = divmod(step, self.steps)
        # Every epoch cuts the text at other places, and pairs other places in a batch.
        phase = int(np.random.default_rng([self.config.seed, epoch]).integers(self.config.context))
        starts = torch.arange(self.rows, device=self.device) * self.length + phase + position * self.config.context
        at = starts[:, None] + torch.arange(self.config.context, device=self.device)
        keep = np.random.default_rng([self.config.seed, epoch, position]).random((self.rows, 1)) >= self.config.restart
        keep = keep & (position > 0)
        return self.ids[at], self.ids[at + 1], torch.from_numpy(keep.astype(np.float32)).to(self.device)


@torch.no_grad()
def _held_out_loss(model: MatMulFreeLM, ids: Tensor, rows: int, chunk: int = 256) -> float:
    """Mean loss, nats per token, over ids read as ``rows`` parallel streams; in eval mode, exact products."""
    length = (len(ids) - 1) // rows
    x = ids[: rows * length].view(rows, length)
    y = ids[1 : rows * length + 1].view(rows, length)
    model.eval()
    state, total = model.init_state(rows), 0.0
    for start in range(0, length, chunk):
        logits, _, state = model.forward_all(x[:, start : start + chunk], state)
        target = y[:, start : start + chunk].reshape(-1)
        total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), target, reduction="sum"))
    model.train()
    return total / (rows * length)


def _optimiser(model: MatMulFreeLM, config: TrainingConfig) -> torch.optim.AdamW:
    named = list(model.named_parameters())
    decayed = [p for n, p in named if p.ndim == 2 and not n.endswith("lower_bounds")]
    rest = [p for n, p in named if p.ndim != 2 or n.endswith("lower_bounds")]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    fused = named[0][1].is_cuda
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=fused)


def _save_checkpoint(folder: Path, model: MatMulFreeLM, optimiser: torch.optim.AdamW, progress: dict[str, Any]) -> None:
    """Everything to go on from: ``checkpoint/state.safetensors`` and ``checkpoint/progress.json``."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"weights/{name}"] = parameter.detach()
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.detach().clone()
    with atomic_folder(folder / "checkpoint") as temporary:
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "progress.json").write_text(json.dumps(progress, indent=1), encoding="utf-8")


def _load_checkpoint(folder: Path, model: MatMulFreeLM, optimiser: torch.optim.AdamW) -> dict[str, Any]:
    path = folder / "checkpoint"
    try:
        progress = json.loads((path / "progress.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: no checkpoint to resume from ({error}); start without resume") from error
    with open_tensors(path / "state.safetensors", "pt") as handle, torch.no_grad():
        held = set(handle.keys())
        for name, parameter in model.named_parameters():
            key = f"weights/{name}"
            if key not in held or handle.get_slice(key).get_shape() != list(parameter.shape):
                raise ModelError(f"{path}: {name} is missing or of another shape; was it another configuration?")
            parameter.copy_(handle.get_tensor(key))
            device = parameter.device
            optimiser.state[parameter] = {
                part: handle.get_tensor(f"{part}/{name}").to(device) for part in ("step", "exp_avg", "exp_avg_sq")
            }
    return progress


@dataclass
class _Run:
    """The parts of a training run that its steps share."""

    model: MatMulFreeLM
    config: TrainingConfig
    streams: _Streams
    optimiser: torch.optim.AdamW
    loss: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    state: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.model.init_state(self.config.batch_size)

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One optimiser step; returns the loss and the gradient's norm, still on the device."""
        x, y, keep = self.streams.batch(step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate_at(step)
        loss, state = self.loss(x, y, self.state * keep)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.state = state.detach()
        return loss.detach(), norm


def _loss_function(model: MatMulFreeLM) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    def loss(x: Tensor, y: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, _, state = model.forward_all(x, state)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()), state

    return loss


def train(
    ids: np.ndarray,
    model_config: ModelConfig,
    config: TrainingConfig,
    out: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> tuple[MatMulFreeLM, dict[str, Any]]:
    """Train on a stream of token ids.

    Args:
        ids: [N] int64; the last 2% are held out.
        model_config, config: the geometry, and how to train.
        out: folder for ``log.jsonl`` and ``checkpoint/``.
        resume: go on from the checkpoint in ``out``.
        device: "cuda", "cpu"; default: a GPU if there is one.
        quiet: no progress bar.

    Returns:
        The model in eval mode on the CPU, and a record: steps, tokens, seconds, tokens per second, losses.

    Raises:
        ModelError: too little text, no checkpoint to resume, or the loss became NaN.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("highest" if config.precision == "fp32" else "high")
    model = MatMulFreeLM(model_config, config.dropout).to(where).train()
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.product_dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    cut = int(len(ids) * (1 - HELD_OUT))
    streams = _Streams(ids[:cut], config, where)
    held_out = torch.from_numpy(ids[cut:]).to(where)
    rows = max(1, min(16, len(held_out) // 512))
    loss = _loss_function(model)
    run = _Run(model, config, streams, _optimiser(model, config), torch.compile(loss) if config.compile else loss)
    first, record = 0, _START
    if resume:
        record = _load_checkpoint(out, model, run.optimiser)
        first = record["step"]
    started = time.monotonic() - record["seconds"]
    with (out / "log.jsonl").open("a" if resume else "w", encoding="utf-8") as log, _progress(quiet) as progress:
        task = progress.add_task("training", total=config.steps, completed=first, note="")
        for step in range(first, config.steps):
            value, norm = run.step(step)
            done = step + 1
            last = done == config.steps
            if done % 20 == 0 or last:
                record = _record(run, done, float(value), float(norm), time.monotonic() - started, record)
                if done % config.evaluate_every == 0 or last:
                    record["held_out_loss"] = _held_out_loss(model, held_out, rows)
                log.write(json.dumps(record) + "\n")
                log.flush()
            if done % config.checkpoint_every == 0 or last:
                _save_checkpoint(out, model, run.optimiser, {**record, "step": done})
            progress.update(task, completed=done, note=f"loss {record.get('loss', math.nan):.3f}")
    return model.cpu().eval(), record


def _record(run: _Run, done: int, loss: float, norm: float, seconds: float, before: dict[str, Any]) -> dict[str, Any]:
    if not math.isfinite(loss):
        raise ModelError(f"training: the loss is {loss} after {done} steps; lower learning_rate or raise warmup_steps")
    tokens = done * run.config.batch_size * run.config.context
    return {
        "step": done,
        "tokens": tokens,
        "epochs": round(tokens / len(run.streams.ids), 3),
        "loss": loss,
        "gradient_norm": norm,
        "learning_rate": run.config.learning_rate_at(done - 1),
        "seconds": round(seconds, 3),
        "tokens_per_second": round((tokens - before.get("tokens", 0)) / max(seconds - before["seconds"], 1e-9)),
        "held_out_loss": before["held_out_loss"],
    }


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), disable=quiet)


def calibration_sample(ids: np.ndarray, tokens: int = CALIBRATION_TOKENS, piece: int = 1024) -> np.ndarray:
    """``tokens`` ids as pieces spread evenly over a text (all of a shorter one)."""
    if len(ids) <= tokens:
        return ids
    starts = np.linspace(0, len(ids) - piece, tokens // piece).astype(int)
    return np.concatenate([ids[start : start + piece] for start in starts])


def _model_card(model: ModelConfig, config: TrainingConfig, record: dict[str, Any], texts: str) -> str:
    return f"""# Model card

A MatMul-free language model (ternary weights, gated linear recurrence) trained with `trilobit train`.

| | |
|---|---|
| text | {texts} |
| vocabulary | {model.vocab_size} byte-pair tokens, printable ASCII |
| geometry | hidden {model.hidden_size}, layers {model.num_hidden_layers}, intermediate {model.mlp_size} |
| training | {record["step"]} steps of {config.batch_size} x {config.context} tokens ({record["epochs"]} epochs), AdamW, \
learning rate {config.learning_rate:g} (cosine, halved after {config.halve_at:.0%}), weight decay \
{config.weight_decay:g}, dropout {config.dropout:g}, precision {config.precision} |
| time | {record["seconds"]:.0f} s, {record["tokens"]:,} tokens |
| held-out loss | {record["held_out_loss"]:.4f} nats per token, \
{record["held_out_bits_per_character"]:.4f} bits per character (the last {HELD_OUT:.0%} of the text) |

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
            ``checkpoint/``.
        resume: go on from ``out``'s checkpoint, with its vocabulary.
        device: "cuda" or "cpu"; default: a GPU if there is one.
        tokenizer: a ``tokenizer.json`` to use; default: one trained on the text.
        quiet: no progress bar.

    Returns:
        The record of :func:`train`, with ``held_out_bits_per_character``.

    Raises:
        ConfigError, ModelError: see :func:`load_config`, :func:`train`.
    """
    from trilobit.model.export import export_graph  # here: training itself does without the graph

    out = Path(out)
    model_config, config = load_config(config_path)
    text = read_texts(text_files)
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = out / "tokenizer.json"
    if tokenizer is not None or resume:
        trained = load_tokenizer(tokenizer or vocabulary)
        if trained.get_vocab_size() != model_config.vocab_size:
            raise ModelError(
                f"{tokenizer or vocabulary}: expected vocab_size {model_config.vocab_size} tokens, got {trained.get_vocab_size()}"
            )
    else:
        trained = train_tokenizer(text, model_config.vocab_size)
    trained.save(str(vocabulary))
    ids = np.concatenate([[model_config.eos_token_id], encode(trained, text)])
    model, record = train(ids, model_config, config, out, resume=resume, device=device, quiet=quiet)
    export_graph(
        model.pack(),
        out,
        calibration_ids=calibration_sample(ids),
        source="pieces of the training text, evenly spaced",
    )
    per_token = len(text) / len(ids)
    record["held_out_bits_per_character"] = bits_per_character(record["held_out_loss"], 1000, round(1000 * per_token))
    names = ", ".join(Path(path).name for path in text_files)
    (out / "MODEL_CARD.md").write_text(_model_card(model_config, config, record, names), encoding="utf-8")
    return record
