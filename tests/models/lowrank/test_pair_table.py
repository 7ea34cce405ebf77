"""The pair table against a dense matrix."""

import numpy as np
import pytest

from w2v_inf.models.lowrank import pair_table
from w2v_inf.models.lowrank.pair_table import PairTable, empty_pair_table

V = 40


def dense(pairs: PairTable) -> np.ndarray:
    """M^T [V_out, V_in], by looking up each entry."""
    out = np.zeros((V, V))
    pair_table.lookup_block(pairs, np.arange(V), np.arange(V, dtype=np.int32), out)
    return out


def filled(
    num_calls: int = 600, num_slots: int = 1 << 14, seed: int = 0
) -> tuple[PairTable, np.ndarray]:
    """A pair table after random additions and decays, and the dense M^T."""
    rng = np.random.default_rng(seed)
    pairs, expected = empty_pair_table(V, num_slots, np.float64), np.zeros((V, V))
    for _ in range(num_calls):
        word = int(V * rng.random() ** 3)
        if rng.random() < 0.3:
            factor = rng.random()
            pair_table.decay(pairs, word, factor)
            expected[word] *= factor
        inputs, x = rng.permutation(V)[:5].astype(np.int32), rng.normal(size=5)
        which = rng.integers(0, 5, 4).astype(np.int32)  # with repeats
        pair_table.add(pairs, word, inputs, which, 0.5, x, 0)
        for k in which:
            expected[word, inputs[k]] += 0.5 * x[k]
    return pairs, expected


def test_holds_what_was_added_and_decayed() -> None:
    """Hash tables grow and reuse free slots; scales that decayed by e^-100 are folded in."""
    pairs, expected = filled()
    np.testing.assert_allclose(dense(pairs), expected, rtol=1e-10, atol=1e-14)
    assert pairs.num_pairs.tolist() == (expected != 0).sum(1).tolist()
    assert pairs.log2_size.max() == 6 and pairs.end[1] == 0
    assert float(pairs.scale.min()) >= pair_table.MIN_SCALE


def test_slots_of_outgrown_tables_are_reused() -> None:
    pairs, _ = filled(2000)
    in_use = (1 << pairs.log2_size[pairs.log2_size >= 0]).sum()
    assert in_use == pair_table.count_slots(pairs)
    assert pairs.end[0] < 1.5 * in_use


def test_products_with_matrices() -> None:
    pairs, expected = filled(seed=1)
    rng = np.random.default_rng(2)
    x, out = rng.normal(size=(V, 3)), np.empty((V, 3))
    pair_table.transpose_matmul(pairs, np.arange(V), x, out)
    np.testing.assert_allclose(out, expected @ x, rtol=1e-10, atol=1e-12)
    pair_table.matmul(pairs, x, out)
    np.testing.assert_allclose(out, expected.T @ x, rtol=1e-10, atol=1e-12)
    columns, words = np.empty((V, 2)), np.array([3, 0])
    pair_table.columns(pairs, words, columns)
    np.testing.assert_allclose(columns, expected[words].T, rtol=1e-10, atol=1e-14)
    squares, diagonal = np.empty(V), np.empty(V)
    pair_table.squared_norms(pairs, squares)
    pair_table.diagonal(pairs, diagonal)
    np.testing.assert_allclose(squares, (expected**2).sum(1), rtol=1e-10)
    np.testing.assert_allclose(diagonal, expected.diagonal(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_packs_and_unpacks_slot_by_slot(num_threads: int) -> None:
    pairs, _ = filled(seed=3)
    again = pair_table.unpack(pair_table.pack(pairs), 1 << 14, num_threads)
    for name, packed in pair_table.pack(pairs).items():
        np.testing.assert_array_equal(packed, pair_table.pack(again)[name])
    assert np.array_equal(dense(pairs), dense(again))
    words = np.arange(V, dtype=np.int32)
    pair_table.add(again, 5, words, words, 1.0, np.ones(V), num_threads - 1)
    np.testing.assert_allclose(dense(again)[5], dense(pairs)[5] + 1, rtol=1e-12)


def test_an_empty_pair_table_packs() -> None:
    packed = pair_table.pack(empty_pair_table(V, 64, np.float64))
    assert not dense(pair_table.unpack(packed, 64, 1)).any()


def test_a_full_arena_is_noted_and_nothing_is_lost() -> None:
    pairs, expected = filled(600, 64)
    assert pairs.end[1] == 1
    held = dense(pairs)
    assert set(np.unique(held[expected == 0])) <= {0.0}
    assert 0 < pairs.num_pairs.sum() < (expected != 0).sum()
