"""Several processes that train one model: what torchrun starts, as far as training needs to know of it.

    torchrun --nproc-per-node 8 -m trilobit train --text FILE --config CONFIG -o FOLDER

One process a GPU (NCCL), or without GPUs one a core or host (Gloo). Without torchrun there is one process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Processes", "joined"]


@dataclass(frozen=True)
class Processes:
    """This process among all: its rank, how many there are, and its device."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a device is a constant

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and the log."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over the processes."""
        if self.world == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def gather(self, value: Tensor) -> list[Tensor]:
        """Every process's tensor, of one shape, in the order of the ranks."""
        if self.world == 1:
            return [value]
        value = value.contiguous().to(self.device)
        parts = [torch.empty_like(value) for _ in range(self.world)]
        dist.all_gather(parts, value)
        return parts


@contextmanager
def joined(device: str | None = None) -> Iterator[Processes]:
    """Join the other processes that torchrun started, if it did.

    Args:
        device: "cuda" or "cpu"; default: a GPU if there is one.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(device=torch.device(kind))
        return
    where = torch.device(kind)
    if where.type == "cuda":
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(where)
    started = not dist.is_initialized()
    if started:  # tokenising a large corpus keeps the others waiting: not the default ten minutes
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield Processes(dist.get_rank(), world, where)
    finally:
        if started:
            dist.destroy_process_group()
