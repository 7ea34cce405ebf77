"""A team of threads that run one compiled function together and meet inside it.

Decisions:
- Compiled parallel loops start and end a team for each loop, tens of microseconds apart from a step's 100. Here a thread keeps
  its share of the columns through many batches, and meeting costs an atomic addition and a look at it.
- Whoever waits gives its core away after a short spin: on cores with other jobs, pure spinning made two threads 20 to 60
  times slower than one.
- BLAS inside compiled code stays single-threaded: the threads are ours.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - the BLAS that numba calls; it must be loaded before its threads can be limited
import torch
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from threadpoolctl import threadpool_limits

from w2v_inf import distributed
from w2v_inf.config import Config
from w2v_inf.models.cpu import threads

SPINS = 2000
"""Looks before a waiting thread gives its core away: some microseconds."""
EVERYBODY = 1 << 62
"""More arrivals than any meeting waits for."""
S = TypeVar("S")
T = TypeVar("T")
_size = 1
_pool = ThreadPoolExecutor(max_workers=1)


def use_threads(num_threads: int | None) -> None:
    """Train on `num_threads` CPU threads from now on, or on all cores if None."""
    global _size, _pool
    _size = num_threads or num_cores()
    _pool.shutdown()
    _pool = ThreadPoolExecutor(max_workers=_size)
    threadpool_limits(1, user_api="blas")


def num_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def size() -> int:
    """Threads to train on."""
    return _size


def run(function: Callable[..., None], num_threads: int, *arguments: object) -> None:
    """Call function(rank, num_threads, sync, *arguments) on `num_threads` threads, this one as rank 0, and wait for all.

    Raises: what one of them raised; the others are then let through their meetings to the end, and what they wrote is void.
    """
    sync = np.zeros(8, np.int64)  # a cache line

    def call(rank: int) -> None:
        try:
            function(rank, num_threads, sync, *arguments)
        except BaseException:
            sync[0] = EVERYBODY
            raise

    others = [_pool.submit(call, rank) for rank in range(1, num_threads)]
    call(0)
    for other in others:
        other.result()


def prefetch(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """function(item) of each item in order, worked out ahead of whoever asks by the team's threads."""
    return _pool.map(function, items)


@intrinsic
def fetch_add(typing_context, array, value):
    """array[0] += value as one atomic, sequentially consistent step; returns what was there before."""

    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        zero = context.get_constant(types.intp, 0)
        pointer = cgutils.get_item_pointer(context, builder, signature.args[0], view, [zero])
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(array, types.int64), generate


_give_core_away = types.ExternalFunction("sched_yield", types.int32())


@njit(cache=True, nogil=True)
def column_slice(rank: int, num_threads: int, num_columns: int) -> tuple[int, int]:
    """Where the columns of thread `rank` start and stop."""
    return rank * num_columns // num_threads, (rank + 1) * num_columns // num_threads


@njit(cache=True, nogil=True)
def barrier(sync: np.ndarray, arrivals: int, num_threads: int) -> None:
    """Wait until all threads are here: `arrivals` so far, counted over all meetings, x threads."""
    if num_threads == 1:
        return
    fetch_add(sync, 1)  # pyright: ignore[reportCallIssue]
    spins = 0
    while fetch_add(sync, 0) < arrivals:  # pyright: ignore[reportCallIssue]
        spins += 1
        if spins > SPINS:
            _give_core_away()


def set_threads(config: Config) -> None:
    """Take `num_threads` CPU threads, in torch and in our own loops, or every core (the ranks of a machine share them) if None."""
    num_threads = config.num_threads
    if not num_threads and distributed.local_world_size() > 1:
        num_threads = max(1, threads.num_cores() // distributed.local_world_size())
    if num_threads:
        torch.set_num_threads(num_threads)
    threads.use_threads(num_threads)
