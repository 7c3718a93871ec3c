"""Matrix products on several cores without fighting over them.

BLAS starts a thread a core, and its threads wait for one another by spinning: beside another busy process a product takes ten
times as long. Here each product runs on one thread, and independent products side by side.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import threadpoolctl

__all__ = ["one_blas_thread", "side_by_side"]


@cache
def _controller() -> threadpoolctl.ThreadpoolController:
    import numpy  # noqa: F401 - its BLAS must be there to be found

    return threadpoolctl.ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it BLAS uses one thread (for the whole process; put back afterwards)."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "trilobit")


def side_by_side(function: Callable[[int], None], arguments: Iterable[int]) -> None:
    """Call a function for each argument, on as many threads as there are cores, BLAS on one thread each."""
    arguments = list(arguments)
    with one_blas_thread():
        if len(arguments) < 2:
            for argument in arguments:
                function(argument)
        else:
            list(_pool().map(function, arguments))
