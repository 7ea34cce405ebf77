"""Threads that meet inside compiled code."""

from collections.abc import Iterator

import numpy as np
import pytest
from numba import njit

from w2v_inf.models.cpu import threads


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    threads.use_threads(4)
    yield
    threads.use_threads(1)


@njit(nogil=True)
def relay(
    rank: int, num_threads: int, sync: np.ndarray, board: np.ndarray, seen: np.ndarray
) -> None:
    """Each round everyone writes, meets, and reads what everyone wrote."""
    for turn in range(len(seen)):
        board[turn % 2, rank] = turn + rank
        threads.barrier(sync, num_threads * (turn + 1), num_threads)
        seen[turn, rank] = board[turn % 2].sum()


def test_nobody_passes_a_meeting_before_all_are_there() -> None:
    board, seen = np.zeros((2, 4), np.int64), np.zeros((20_000, 4), np.int64)
    threads.run(relay, 4, board, seen)
    np.testing.assert_array_equal(seen, np.tile(4 * np.arange(20_000)[:, None] + 6, 4))


@pytest.mark.parametrize("who", [0, 2])
def test_an_error_in_one_ends_all(who: int) -> None:
    def fail_or_wait(rank: int, num_threads: int, sync: np.ndarray) -> None:
        if rank == who:
            raise MemoryError("no room")
        threads.barrier(sync, num_threads, num_threads)

    with pytest.raises(MemoryError, match="no room"):
        threads.run(fail_or_wait, 4)
    board, seen = np.zeros((2, 4), np.int64), np.zeros((3, 4), np.int64)
    threads.run(relay, 4, board, seen)
    assert seen[2].tolist() == [14] * 4
