"""Threads that run one compiled function together, with barriers inside it.

Decisions:
- Starting and ending a parallel loop costs tens of microseconds, and a step takes 100. So a thread
  keeps its columns through many batches; a barrier is an atomic addition and a read.
- A waiting thread yields its core after a short spin. On cores with other jobs, pure spinning made
  two threads 20 to 60 times slower than one.
- A process that is forked after a training has no threads, but OpenMP counts on those it had, and a
  parallel loop would wait for them for ever. So the child computes on one thread.
- BLAS calls inside compiled code run on one thread: the parallelism is ours. Outside, BLAS and
  torch keep the threads they are given.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - numba's BLAS: loaded before it can be limited
import torch
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from threadpoolctl import ThreadpoolController

from w2v_inf import distributed
from w2v_inf.models.device import usable_cores

SPINS = 2000
"""Reads before a waiting thread yields its core: some microseconds."""
ALL_ARRIVED = 1 << 62
"""More arrivals than any barrier waits for."""
S = TypeVar("S")
T = TypeVar("T")
num_cores = usable_cores
"""Cores that this process may keep busy, by its CPU affinity and the quotas of its cgroups."""
_blas = ThreadpoolController().select(user_api="blas")
_size = 1
_pool = ThreadPoolExecutor(max_workers=1)
_blas_is_serial = False


@contextmanager
def training_threads(num_threads: int | None) -> Iterator[None]:
    """Use `num_threads` CPU threads inside: our own, torch's and BLAS's; all restored at the end.

    None takes this process's share of the cores; torch then keeps its own number, unless several
    processes share the machine.
    """
    global _size, _pool
    _keep_children_alive()
    processes = distributed.local_world_size()
    before, torch_before = (_size, _pool), torch.get_num_threads()
    _size = num_threads or max(1, num_cores() // processes)
    _pool = ThreadPoolExecutor(max_workers=_size)
    if num_threads or processes > 1:
        torch.set_num_threads(_size)
    try:
        with _blas.limit(limits=_size):
            yield
    finally:
        _pool.shutdown()
        _size, _pool = before
        torch.set_num_threads(torch_before)


@cache
def _keep_children_alive() -> None:
    """Once per process, and not on import: a process that never trains is left as it is."""
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def size() -> int:
    """Threads to train on: 1 outside `training_threads`."""
    return _size


def run(function: Callable[..., None], num_threads: int, *arguments: object) -> None:
    """Call function(thread_id, num_threads, sync, *arguments) on each thread; wait for all.

    This thread has thread_id 0. `sync` is for `barrier`.
    Raises: the exception of one of them, once all have returned. An exception lets the others pass
      their barriers; the results are then void.
    """
    sync = np.zeros(8, np.int64)  # a cache line

    def call(thread_id: int) -> None:
        try:
            function(thread_id, num_threads, sync, *arguments)
        except BaseException:
            sync[0] = ALL_ARRIVED
            raise

    with serial_blas():
        others = [_pool.submit(call, thread_id) for thread_id in range(1, num_threads)]
        try:
            call(0)
        finally:
            wait(others)
    for other in others:
        other.result()


@contextmanager
def serial_blas() -> Iterator[None]:
    """BLAS on one thread inside; free inside another `serial_blas`."""
    global _blas_is_serial
    if _blas_is_serial:
        yield
        return
    _blas_is_serial = True
    try:
        with _blas.limit(limits=1):
            yield
    finally:
        _blas_is_serial = False


def prefetch(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """function(item) of each item in order; the pool computes the next while the caller works."""
    return _pool.map(function, items)


@intrinsic
def fetch_add(typing_context, array, value):
    """array[0] += value as one atomic, sequentially consistent step; returns the old value."""

    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        zero = context.get_constant(types.intp, 0)
        pointer = cgutils.get_item_pointer(context, builder, signature.args[0], view, [zero])
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(array, types.int64), generate


def _unowned(typing_context, array):
    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        for name in ("meminfo", "parent"):
            setattr(view, name, cgutils.get_null_value(getattr(view, name).type))
        return view._getvalue()

    return array(array), generate


unowned: Any = intrinsic(_unowned)
"""For compiled code: the array without its reference count; its owner must outlive it.

A slice adds one to the count of its array, and takes it off later, by atomic steps. Threads that
slice one array would pass its cache line to and fro all the time.
"""
_yield_core = types.ExternalFunction("sched_yield", types.int32())


@njit(cache=True, nogil=True)
def column_slice(thread_id: int, num_threads: int, num_columns: int) -> tuple[int, int]:
    """First column of a thread, and the one after its last."""
    return thread_id * num_columns // num_threads, (thread_id + 1) * num_columns // num_threads


@njit(cache=True, nogil=True)
def barrier(sync: np.ndarray, arrivals: int, num_threads: int) -> None:
    """Wait for all threads. `arrivals`: threads x barriers so far, with this one."""
    if num_threads == 1:
        return
    fetch_add(sync, 1)  # pyright: ignore[reportCallIssue]
    spins = 0
    while fetch_add(sync, 0) < arrivals:  # pyright: ignore[reportCallIssue]
        spins += 1
        if spins > SPINS:
            _yield_core()
