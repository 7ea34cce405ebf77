"""Compiled copies of rows and arithmetic on them, against numpy."""

import numpy as np
import pytest
from numba import njit

from w2v_inf.models.cpu import rows as module
from w2v_inf.models.cpu.rows import load_rows, store_rows


@njit(cache=True)
def load(table: np.ndarray, ids: np.ndarray, start: int, rows: np.ndarray) -> None:
    load_rows(table, ids, start, rows)


@njit(cache=True)
def store(rows: np.ndarray, table: np.ndarray, ids: np.ndarray, start: int, seed: int) -> None:
    store_rows(rows, table, ids, start, seed)


@pytest.mark.parametrize("num_rows", [1, 4, 7])
def test_rows_go_to_scratch_memory_and_back(num_rows: int) -> None:
    """Whole groups of four rows and the rest; columns beside the slice stay as they are."""
    rng = np.random.default_rng(0)
    table, rows = rng.normal(size=(9, 8)), np.empty((num_rows, 5))
    before, ids = table.copy(), rng.permutation(9)[:num_rows].astype(np.int32)
    load(table, ids, 2, rows)
    np.testing.assert_array_equal(rows, before[ids, 2:7])
    store(rows + 1, table, ids, 2, 0)
    before[ids, 2:7] += 1
    np.testing.assert_array_equal(table, before)


def test_bfloat16_rounds_to_a_neighbour_and_repeats() -> None:
    """The upper half of float32, or one more; the same seed gives the same bits in any slice."""
    rows = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    ids, tables = np.array([4, 0, 2], np.int32), []
    for cuts in ([0, 40], [0, 16, 40], [0, 40]):
        tables.append(table := np.zeros((5, 40), np.uint16))
        for start, stop in zip(cuts, cuts[1:], strict=False):
            store(np.ascontiguousarray(rows[:, start:stop]), table, ids, start, 7)
    assert all(np.array_equal(table, tables[0]) for table in tables)
    cut = (rows.view(np.uint32) >> 16).astype(int)
    up = tables[0][ids].astype(int) - cut
    assert set(up.ravel()) == {0, 1}
    store(rows, table := np.zeros((5, 40), np.uint16), ids, 0, 8)
    assert not np.array_equal(table, tables[0])
    loaded = np.empty_like(rows)
    load(table, ids, 0, loaded)
    np.testing.assert_allclose(loaded, rows, rtol=2**-7)


@njit(cache=True)
def mean(table, ids, scale, slots, first_slot, start, out):  # type: ignore[no-untyped-def]
    module.mean_rows(table, ids, scale, slots, first_slot, start, out)


@njit(cache=True)
def update(table, ids, factor, unscale, shares, gradients, first_use, users, start):  # type: ignore[no-untyped-def]
    module.update_rows(table, ids, factor, unscale, shares, gradients, first_use, users, start, 0)


def test_means_of_one_to_nine_rows() -> None:
    """Whole groups of four rows, and the rest."""
    rng = np.random.default_rng(0)
    table, ids = rng.normal(size=(9, 8)), rng.permutation(9)[:6].astype(np.int32)
    first_slot = np.cumsum([0, 1, 4, 6, 9]).astype(np.int32)
    slots = rng.integers(0, 6, 20).astype(np.int32)
    mean(table, ids, np.empty(0), slots, first_slot, 2, out := np.empty((4, 5)))
    for e, row in enumerate(out):
        words = ids[slots[first_slot[e] : first_slot[e + 1]]]
        np.testing.assert_allclose(row, table[words, 2:7].mean(0), rtol=1e-12)


@pytest.mark.parametrize("num_rows", [1, 6])
def test_updates_touch_their_rows_and_columns_alone(num_rows: int) -> None:
    """Rows of one user and of several; a user may count twice."""
    rng = np.random.default_rng(0)
    table, ids = rng.normal(size=(9, 8)), rng.permutation(9)[:num_rows].astype(np.int32)
    first_use = np.arange(num_rows + 1).cumsum().astype(np.int32) + np.arange(num_rows + 1)
    first_use = first_use.astype(np.int32)
    users = rng.integers(0, 3, first_use[-1]).astype(np.int32)
    factor, shares, gradients = rng.random(num_rows), rng.random(3), rng.normal(size=(3, 5))
    expected = table.copy()
    for i, word in enumerate(ids):
        expected[word, 2:7] *= factor[i]
        for e in users[first_use[i] : first_use[i + 1]]:
            expected[word, 2:7] += shares[e] * gradients[e]
    update(table, ids, factor, np.empty(0), shares, gradients, first_use, users, 2)
    np.testing.assert_allclose(table, expected, rtol=1e-12)


def test_bfloat16_means_and_updates_follow_the_scales() -> None:
    """Of tables in 16 bits to their precision: scale x row before, scale x row after."""
    rng = np.random.default_rng(0)
    values, ids = rng.normal(size=(5, 40)).astype(np.float32), np.array([3, 0], np.int32)
    store(values, table := np.zeros((5, 40), np.uint16), np.arange(5, dtype=np.int32), 0, 1)
    scale, after = np.array([2, 0.5], np.float32), np.array([1.5, 0.25], np.float32)
    slots, first_slot = np.array([0, 1, 1], np.int32), np.array([0, 1, 3], np.int32)
    mean(table, ids, scale, slots, first_slot, 0, out := np.empty((2, 40), np.float32))
    np.testing.assert_allclose(out, [2 * values[3], 0.5 * values[0]], rtol=2**-7)
    gradients = rng.normal(size=(2, 40)).astype(np.float32)
    shares, users = np.array([0.1, 0.3], np.float32), np.array([0, 1, 1], np.int32)
    update(table, ids, scale * 0.9, 1 / after, shares, gradients, first_slot, users, 0)
    load(table, ids, 0, rows := np.empty((2, 40), np.float32))
    expected = [
        1.8 * values[3] + 0.1 * gradients[0],
        0.45 * values[0] + 0.6 * gradients[1],
    ]
    np.testing.assert_allclose(rows * after[:, None], expected, rtol=2**-6, atol=2**-6)


def test_arithmetic() -> None:
    rng = np.random.default_rng(0)
    rows, x, factor = rng.normal(size=(4, 5)), rng.normal(size=(6, 5)), rng.random(7)
    to, source = rng.integers(0, 4, 7), rng.integers(0, 6, 7)
    expected = rows.copy()
    np.add.at(expected, to, 0.3 * factor[:, None] * x[source])
    module.add_rows(0.3, factor, x, source, z := rows.copy(), to)
    np.testing.assert_allclose(z, expected, rtol=1e-12)
    module.decay_and_add_rows(factor, z := rows.copy(), 0.2, x[:3])
    np.testing.assert_allclose(z[:3], factor[:3, None] * rows[:3] + 0.2 * x[:3], rtol=1e-12)
    np.testing.assert_array_equal(z[3], rows[3])
    module.multiply_rows(factor[:4], z := rows.copy())
    np.testing.assert_allclose(z, factor[:4, None] * rows, rtol=1e-12)
    module.multiply_rows(factor[:0], z)
    module.add_dots(rows, to, x, source, out := np.ones(7))
    np.testing.assert_allclose(out, 1 + (rows[to] * x[source]).sum(1), rtol=1e-12)
    module.add(0.3, x[0], y := x[1].copy())
    np.testing.assert_allclose(y, x[1] + 0.3 * x[0], rtol=1e-12)
    module.multiply(0.5, y)
    np.testing.assert_allclose(y, 0.5 * x[1] + 0.15 * x[0], rtol=1e-12)
    assert module.dot(x[0], x[1]) == pytest.approx(x[0] @ x[1], rel=1e-12)
