"""One training run: a model, its optimiser, its place in the text, and everything a checkpoint must hold of them."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trilobit.errors import ModelError
from trilobit.model.baselines import build_model
from trilobit.model.batches import Batches
from trilobit.model.distributed import Processes
from trilobit.model.files import atomic_folder, open_tensors
from trilobit.model.fused import fuse
from trilobit.model.training_config import TrainingConfig

__all__ = ["Run"]

_PROGRESS = "progress"  # key of a checkpoint's record in the metadata of its file
_EAGER_STEPS = 3  # before a CUDA graph is captured: kernels are compiled and the optimiser's state is made in them


def _progress(metadata: dict[str, str], beside: Path) -> dict[str, Any]:
    """A checkpoint's record: its own, or the file beside it of one that was written before checkpoints had their own."""
    try:
        return json.loads(metadata[_PROGRESS] if _PROGRESS in metadata else beside.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{beside}: expected the checkpoint's record ({error}); train without --resume") from error


class _Loss(nn.Module):
    """Mean cross-entropy of a batch, nats per token, and the state after it."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, _, state = self.model.forward_all(x, state)
        return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()), state.detach()


class Run:
    """The parts of a run that its steps share.

    Every row of the batch carries its recurrent state to the next step (gradients stop there), because the accelerator,
    too, keeps its state for as long as it writes; at random a row starts again from the zero state, as a prompt does.

    Args:
        model_config: the architecture and its geometry.
        config: how to train it.
        ids: the training tokens.
        processes: this process among those that train together.
    """

    def __init__(self, model_config: Any, config: TrainingConfig, ids: Any, processes: Processes):
        self.config, self.processes, self.device = config, processes, processes.device
        self._as_graph = config.cuda_graph and self.device.type == "cuda" and processes.world == 1
        torch.manual_seed(config.seed)  # the same weights in every process
        self.model = build_model(model_config, config.dropout, config.embedding_dropout).to(self.device).train()
        self.model.set_precision(config.precision)
        if config.fused:
            fuse(self.model)
        self.batches = Batches(ids, config, model_config.vocab_size, processes)
        torch.manual_seed(config.seed + 1_000_003 * processes.rank)  # other dropout in each
        if config.compile:
            torch._dynamo.config.recompile_limit = 256  # one compiled layer a shape, however many models a process trains
            for layer in self.model.layers:
                layer.compile(dynamic=False)
        # A graph is captured on a stream of its own; several runs of one process then share the GPU.
        self._stream = torch.cuda.Stream(self.device) if self._as_graph else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_left = _EAGER_STEPS
        self._loss: nn.Module = _Loss(self.model)
        if processes.world > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            # One layer has no use for its lower bound; DDP would wait for its gradient.
            unused = model_config.num_hidden_layers == 1
            self._loss = nn.parallel.DistributedDataParallel(self._loss, devices, find_unused_parameters=unused)
        self.optimiser = self._make_optimiser()
        self._parameters = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self._parameters] if config.ema else None
        self.best: list[Tensor] | None = None
        rows = config.batch_size // processes.world
        self.state = self.model.init_state(rows)
        self.loss = torch.zeros((), device=self.device)
        self.norm = torch.zeros((), device=self.device)

    def _make_optimiser(self) -> torch.optim.AdamW:
        config = self.config
        named = list(self.model.named_parameters())
        decayed = [p for n, p in named if p.ndim == 2 and not n.endswith("lower_bounds")]
        rest = [p for n, p in named if p.ndim != 2 or n.endswith("lower_bounds")]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay, "decays": True},
            {"params": rest, "weight_decay": 0.0, "decays": False},
        ]
        on_gpu = self.device.type == "cuda"
        rate: Any = torch.tensor(config.learning_rate, device=self.device) if self._as_graph else config.learning_rate
        return torch.optim.AdamW(groups, lr=rate, betas=(config.beta1, config.beta2), fused=on_gpu, capturable=self._as_graph)

    # ---- a step ----------------------------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """One optimiser step; ``loss`` and ``norm`` (of the gradient) then hold its values, on the device."""
        with torch.cuda.stream(self._stream):  # no effect where there is none
            inputs = self.batches.batch(step)
            rate = self.config.learning_rate_at(step)
            for group in self.optimiser.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
                decay = self.config.weight_decay_at(step) if group["decays"] else 0.0
                if group["weight_decay"] != decay:
                    group["weight_decay"] = decay
                    self._graph = None  # the captured step has the old one in it
            if self._as_graph:
                self._replay(inputs)
            else:
                self._work(*inputs)

    def wait(self) -> None:
        """Until the steps so far are done, so that another stream may read what they wrote."""
        if self._stream is not None:
            self._stream.synchronize()

    def _work(self, x: Tensor, y: Tensor, keep: Tensor) -> None:
        pieces = self.config.accumulate
        size = len(x) // pieces
        start = self.state * keep
        self.loss.zero_()
        for n in range(pieces):
            rows = slice(n * size, (n + 1) * size)
            with self._unsynchronised(n < pieces - 1):
                loss, state = self._loss(x[rows], y[rows], start[:, rows])
                (loss / pieces).backward()
            self.state[:, rows].copy_(state)
            self.loss.add_(loss.detach() / pieces)
        self.norm.copy_(nn.utils.clip_grad_norm_(self._parameters, self.config.clip))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self._parameters, 1 - self.config.ema)

    def _unsynchronised(self, wanted: bool) -> contextlib.AbstractContextManager:
        ddp = self._loss
        return ddp.no_sync() if wanted and isinstance(ddp, nn.parallel.DistributedDataParallel) else contextlib.nullcontext()

    def _replay(self, inputs: tuple[Tensor, ...]) -> None:
        """The first steps run as they are, on the stream that will be captured; then the step is captured and replayed."""
        if self._eager_left:
            self._eager_left -= 1
            self._work(*inputs)
            return
        if self._graph is None:
            self._inputs = tuple(x.clone() for x in inputs)
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._work(*self._inputs)
        for kept, new in zip(self._inputs, inputs, strict=True):
            kept.copy_(new)
        self._graph.replay()

    # ---- weights to evaluate and keep ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def weights(self, values: list[Tensor] | None) -> Iterator[Any]:
        """The model in eval mode with these weights (None: its own) while the block runs."""
        self.wait()
        own = [p.detach().clone() for p in self._parameters] if values is not None else None
        self.load(values)
        self.model.eval()
        try:
            with torch.compiler.set_stance("force_eager"):
                yield self.model
        finally:
            self.load(own)
            self.model.train()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

    @torch.no_grad()
    def load(self, values: list[Tensor] | None) -> None:
        """Copy these into the model's parameters, if given."""
        for parameter, value in zip(self._parameters, values or self._parameters, strict=True):
            parameter.copy_(value)

    @torch.no_grad()
    def remember(self) -> None:
        """Keep the weights that were just evaluated as the best so far."""
        self.best = [p.detach().clone() for p in self.average or self._parameters]

    @property
    def result(self) -> list[Tensor] | None:
        """The weights to keep at the end: the best, or the averaged ones, or (None) the model's own."""
        return self.best if self.best is not None else self.average

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def save(self, folder: Path, progress: dict[str, Any]) -> None:
        """Everything to go on from, as ``checkpoint/state.safetensors``; its record also as ``checkpoint/progress.json``, to look at.

        The record goes into the same file as the tensors, so that no interruption can leave a step beside another step's weights.
        Called in every process: recurrent states and random generators are each process's own; the first one writes.
        """
        self.wait()
        tensors: dict[str, Tensor] = {}
        for n, state in enumerate(self.processes.gather(self.state)):
            tensors[f"state/{n}"] = state
        for n, state in enumerate(self.processes.gather(torch.get_rng_state())):
            tensors[f"random_cpu/{n}"] = state
        if self.device.type == "cuda":
            for n, state in enumerate(self.processes.gather(torch.cuda.get_rng_state(self.device))):
                tensors[f"random_cuda/{n}"] = state
        for n, (name, parameter) in enumerate(self.model.named_parameters()):
            tensors[f"weights/{name}"] = parameter.detach()
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value.detach().clone()
            if self.average is not None:
                tensors[f"average/{name}"] = self.average[n]
            if self.best is not None:
                tensors[f"best/{name}"] = self.best[n]
        if self.processes.is_first:
            record = json.dumps(progress, indent=1)
            with atomic_folder(folder / "checkpoint") as temporary:
                held = {key: value.contiguous().cpu() for key, value in tensors.items()}
                save_file(held, temporary / "state.safetensors", {_PROGRESS: record})
                (temporary / "progress.json").write_text(record, encoding="utf-8")

    def resume(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns its progress.

        Raises:
            ModelError: there is none, or it is of another configuration or number of processes.
        """
        path = folder / "checkpoint"
        if not (path / "state.safetensors").is_file():
            raise ModelError(f"{path}: expected a checkpoint to resume from, found none; train without --resume")
        with open_tensors(path / "state.safetensors", "pt") as handle, torch.no_grad():
            held = set(handle.keys())
            progress = _progress(handle.metadata() or {}, path / "progress.json")

            def get(key: str, like: Tensor) -> Tensor:
                if key not in held or handle.get_slice(key).get_shape() != list(like.shape):
                    raise ModelError(f"{path}: {key} is missing or of another shape; was it another configuration?")
                return handle.get_tensor(key)

            for n, (name, parameter) in enumerate(self.model.named_parameters()):
                parameter.copy_(get(f"weights/{name}", parameter))
                if self.average is not None:
                    self.average[n].copy_(get(f"average/{name}", parameter))
                if f"step/{name}" in held:  # a parameter that never had a gradient has no state
                    moments = {key: get(f"{key}/{name}", parameter).to(self.device) for key in ("exp_avg", "exp_avg_sq")}
                    count = handle.get_tensor(f"step/{name}")
                    self.optimiser.state[parameter] = {"step": count.to(self.device if self.device.type == "cuda" else "cpu"), **moments}
            if any(key.startswith("best/") for key in held):
                self.best = [get(f"best/{name}", p).to(self.device) for name, p in self.model.named_parameters()]
            rank = self.processes.rank
            self.state.copy_(get(f"state/{rank}", self.state))
            torch.set_rng_state(handle.get_tensor(f"random_cpu/{rank}"))
            if self.device.type == "cuda" and f"random_cuda/{rank}" in held:
                torch.cuda.set_rng_state(handle.get_tensor(f"random_cuda/{rank}"), self.device)
        return progress
