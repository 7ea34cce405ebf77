"""Compiled copies of rows and arithmetic on them, against numpy."""

import numpy as np
import pytest
from numba import njit

from w2v_inf.models.cpu import rows as module
from w2v_inf.models.cpu.rows import load_rows, store_rows

load = njit(lambda table, ids, start, rows: load_rows(table, ids, start, rows))
store = njit(lambda rows, table, ids, start, seed: store_rows(rows, table, ids, start, seed))


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


@pytest.mark.parametrize("num_words", [1, 4, 6])
def test_arithmetic(num_words: int) -> None:
    rng = np.random.default_rng(0)
    rows, x, y = rng.normal(size=(8, 5)), rng.normal(size=5), rng.normal(size=5)
    indices = rng.integers(0, 8, num_words).astype(np.int32)
    module.mean_rows(rows, indices, out := np.empty(5))
    np.testing.assert_allclose(out, rows[indices].mean(0), rtol=1e-12)
    expected = rows.copy()
    np.add.at(expected, indices, 0.3 * x)
    module.add_to_rows(0.3, x, indices, rows)
    np.testing.assert_allclose(rows, expected, rtol=1e-12)
    module.decay_and_add(0.9, z := y.copy(), 0.2, x)
    np.testing.assert_allclose(z, 0.9 * y + 0.2 * x, rtol=1e-12)
    module.multiply(0.5, z)
    np.testing.assert_allclose(z, 0.45 * y + 0.1 * x, rtol=1e-12)
    assert module.dot(x, y) == pytest.approx(x @ y, rel=1e-12)
