"""The memory of word pairs against a dictionary."""

import numpy as np
import pytest

from w2v_inf.models.lowrank import pair_table as fast
from w2v_inf.models.lowrank.pair_table import PairTable, make_memory

V = 40


def dense(memory: PairTable) -> np.ndarray:
    """All entries, [V_out, V_in], by asking for each."""
    out = np.zeros((V, V))
    fast.recall_block(memory, np.arange(V), np.arange(V, dtype=np.int32), out)
    return out


def filled(
    num_calls: int = 600, num_slots: int = 1 << 14, seed: int = 0
) -> tuple[PairTable, np.ndarray]:
    """A memory after random additions and decays, and what it should hold."""
    rng = np.random.default_rng(seed)
    memory, twin = make_memory(V, num_slots, np.float64), np.zeros((V, V))
    for _ in range(num_calls):
        word = int(V * rng.random() ** 3)
        if rng.random() < 0.3:
            factor = rng.random()
            fast.decay(memory, word, factor)
            twin[word] *= factor
        inputs, shares = rng.permutation(V)[:5].astype(np.int32), rng.normal(size=5)
        which = rng.integers(0, 5, 4).astype(np.int32)  # with repeats
        fast.remember(memory, word, inputs, which, 0.5, shares, 0)
        for i in which:
            twin[word, inputs[i]] += 0.5 * shares[i]
    return memory, twin


def test_holds_what_was_added_and_decayed() -> None:
    """Tables grow, take over others' old tables, and fold a scale that has decayed by e^-100 and more into their entries."""
    memory, twin = filled()
    np.testing.assert_allclose(dense(memory), twin, rtol=1e-10, atol=1e-14)
    assert memory.num_pairs.tolist() == (twin != 0).sum(1).tolist()
    assert memory.log2.max() == 6 and memory.end[1] == 0
    assert float(memory.scale.min()) >= fast.MIN_SCALE


def test_grown_tables_are_used_again() -> None:
    memory, _ = filled(2000)
    in_use = (1 << memory.log2[memory.log2 >= 0]).sum()
    assert memory.end[0] < 1.5 * in_use


def test_products_with_matrices() -> None:
    memory, twin = filled(seed=1)
    rng = np.random.default_rng(2)
    x, out = rng.normal(size=(V, 3)), np.empty((V, 3))
    fast.project(memory, np.arange(V), x, out)
    np.testing.assert_allclose(out, twin @ x, rtol=1e-10, atol=1e-12)
    fast.project_back(memory, x, out)
    np.testing.assert_allclose(out, twin.T @ x, rtol=1e-10, atol=1e-12)
    rows, words = np.empty((V, 2)), np.array([3, 0])
    fast.expand(memory, words, rows)
    np.testing.assert_allclose(rows, twin[words].T, rtol=1e-10, atol=1e-14)
    squares, diagonal = np.empty(V), np.empty(V)
    fast.squared_lengths(memory, squares)
    fast.recall_diagonal(memory, diagonal)
    np.testing.assert_allclose(squares, (twin**2).sum(1), rtol=1e-10)
    np.testing.assert_allclose(diagonal, twin.diagonal(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_packs_and_unpacks_slot_by_slot(num_threads: int) -> None:
    memory, _ = filled(seed=3)
    again = fast.unpack(fast.pack(memory), 1 << 14, num_threads)
    for name, packed in fast.pack(memory).items():
        np.testing.assert_array_equal(packed, fast.pack(again)[name])
    assert np.array_equal(dense(memory), dense(again))
    fast.remember(
        again,
        5,
        np.arange(V, dtype=np.int32),
        np.arange(V, dtype=np.int32),
        1.0,
        np.ones(V),
        num_threads - 1,
    )
    np.testing.assert_allclose(dense(again)[5], dense(memory)[5] + 1, rtol=1e-12)


def test_an_empty_memory_packs() -> None:
    memory = fast.unpack(fast.pack(make_memory(V, 64, np.float64)), 64, 1)
    assert not dense(memory).any()


def test_a_full_arena_is_noted_and_nothing_is_lost() -> None:
    memory, twin = filled(600, 64)
    assert memory.end[1] == 1
    held = dense(memory)
    assert set(np.unique(held[twin == 0])) <= {0.0}
    assert 0 < memory.num_pairs.sum() < (twin != 0).sum()
