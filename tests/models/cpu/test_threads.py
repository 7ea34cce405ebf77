"""Threads that wait for each other inside compiled code, and the limits set for a training."""

import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numba import njit
from threadpoolctl import threadpool_info

from w2v_inf import distributed
from w2v_inf.models.cpu import threads


@pytest.fixture
def four_threads() -> Iterator[None]:
    with threads.training_threads(4):
        yield


@njit(cache=True, nogil=True)
def relay(
    thread_id: int, num_threads: int, sync: np.ndarray, board: np.ndarray, seen: np.ndarray
) -> None:
    """Each round all write, wait for each other, and read what all wrote."""
    for turn in range(len(seen)):
        board[turn % 2, thread_id] = turn + thread_id
        threads.barrier(sync, num_threads * (turn + 1), num_threads)
        seen[turn, thread_id] = board[turn % 2].sum()


@pytest.mark.slow  # compiles kernels of its own
@pytest.mark.usefixtures("four_threads")
def test_no_thread_passes_a_barrier_before_all_arrive() -> None:
    board, seen = np.zeros((2, 4), np.int64), np.zeros((20_000, 4), np.int64)
    threads.run(relay, 4, board, seen)
    np.testing.assert_array_equal(seen, np.tile(4 * np.arange(20_000)[:, None] + 6, 4))


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_in_one_ends_all(failing: int) -> None:
    """The error is raised once all threads have returned."""
    returned = []

    def fail_or_wait(thread_id: int, num_threads: int, sync: np.ndarray) -> None:
        if thread_id == failing:
            raise MemoryError("no room")
        threads.barrier(sync, num_threads, num_threads)
        time.sleep(0.05)
        returned.append(thread_id)

    with pytest.raises(MemoryError, match="no room"):
        threads.run(fail_or_wait, 4)
    assert sorted(returned) == [thread_id for thread_id in range(4) if thread_id != failing]
    board, seen = np.zeros((2, 4), np.int64), np.zeros((3, 4), np.int64)
    threads.run(relay, 4, board, seen)
    assert seen[2].tolist() == [14] * 4


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_limits_hold_inside_and_are_restored() -> None:
    """torch and BLAS have our threads in a training; BLAS has one while ours run."""
    before, inside = (threads.size(), torch.get_num_threads(), blas_threads()), []
    with pytest.raises(KeyError), threads.training_threads(3):
        assert (threads.size(), torch.get_num_threads()) == (3, 3)
        assert max(blas_threads()) <= 3
        threads.run(lambda *_: inside.append(blas_threads()), 1)
        assert inside == [{1}] and max(blas_threads()) <= 3
        raise KeyError
    assert (threads.size(), torch.get_num_threads(), blas_threads()) == before


FORK = """
import os, signal, torch
from w2v_inf.models.cpu.threads import training_threads
x = torch.ones(1500, 1500)
with training_threads(2):
    torch.sort(x @ x)
if child := os.fork():
    raise SystemExit(os.waitpid(child, 0)[1])
signal.alarm(30)
torch.sort(x @ x)
os._exit(0)
"""


def test_a_child_forked_after_a_training_does_not_hang() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True)


def test_zero_takes_this_processs_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "num_cores", lambda: 6)
    with threads.training_threads(0):
        assert threads.size() == 6
    monkeypatch.setattr(distributed, "local_world_size", lambda: 4)
    with threads.training_threads(0):
        assert threads.size() == torch.get_num_threads() == 1


def test_prefetch_keeps_the_order() -> None:
    assert list(threads.prefetch(lambda x: x * x, range(9))) == [x * x for x in range(9)]
