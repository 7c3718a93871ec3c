"""Batches as parallel streams through one long text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trilobit.errors import ConfigError, ModelError
from trilobit.model.distributed import Processes
from trilobit.model.training_config import TrainingConfig

__all__ = ["Batches"]

_RESIDENT = 1 << 28  # tokens, 4 bytes each, that are kept on a GPU; a longer text is read from its files batch by batch


class Batches:
    """The batch of a step depends on the step alone, so a run can be resumed and shared among processes.

    Every row of the batch is a stream of its own through the text, cut at other places in every epoch.

    Args:
        ids: [N] token ids, an array or :class:`trilobit.model.token_shards.TokenShards`.
        config: how to train.
        vocab_size: for random tokens.
        processes: who shares the rows.

    Raises:
        ModelError: less text than one batch; ConfigError: rows that the processes cannot share evenly.
    """

    def __init__(self, ids: Sequence[Any] | np.ndarray, config: TrainingConfig, vocab_size: int, processes: Processes):
        self.config, self.vocab_size, self.device = config, vocab_size, processes.device
        rows, world = config.batch_size, processes.world
        if rows % (world * config.accumulate):
            raise ConfigError(f"training: batch_size must be a multiple of {world} processes x accumulate {config.accumulate}, got {rows}")
        self.rows = slice(processes.rank * rows // world, (processes.rank + 1) * rows // world)
        self.length = (len(ids) - 1 - config.context) // rows  # tokens of one stream in an epoch
        self.steps = self.length // config.context
        if self.steps < 1:
            raise ModelError(
                f"training text: expected more than {rows * config.context} tokens (batch_size x context),"
                f" got {len(ids)}; use more text or a smaller batch"
            )
        self.tokens = len(ids)
        self._ids, self._resident = ids, None
        if self.device.type == "cuda" and len(ids) <= _RESIDENT:
            self._resident = torch.from_numpy(np.asarray(ids[: len(ids)], dtype=np.int32)).to(self.device)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and targets [B, T], and [B, 1] of 1 where the state is carried on and 0 where it starts anew."""
        config = self.config
        epoch, position = divmod(step, self.steps)
        # Every epoch cuts the text at other places, and pairs other places in a batch.
        phase = int(np.random.default_rng([config.seed, epoch]).integers(config.context))
        starts = (np.arange(config.batch_size) * self.length + phase + position * config.context)[self.rows]
        keep = np.random.default_rng([config.seed, epoch, position]).random((config.batch_size, 1)) >= config.restart
        keep = (keep & (position > 0))[self.rows]
        both = self._read(starts)
        x, y = both[:, :-1], both[:, 1:]
        if config.token_dropout:
            # Drawn for the whole batch in every process, so that their number changes nothing.
            random = torch.Generator(self.device).manual_seed((config.seed << 32) + step)
            whole = (config.batch_size, config.context)
            lost = torch.rand(whole, generator=random, device=self.device)[self.rows] < config.token_dropout
            x = torch.where(lost, torch.randint(self.vocab_size, whole, generator=random, device=self.device)[self.rows], x)
        return x, y, torch.from_numpy(keep.astype(np.float32)).to(self.device)

    def _read(self, starts: np.ndarray) -> Tensor:
        """[B, T + 1] ids from these places."""
        T = self.config.context
        if self._resident is not None:
            at = torch.from_numpy(starts).to(self.device)[:, None] + torch.arange(T + 1, device=self.device)
            return self._resident[at].long()
        rows = torch.from_numpy(np.stack([np.asarray(self._ids[s : s + T + 1], dtype=np.int64) for s in starts.tolist()]))
        return rows.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else rows
