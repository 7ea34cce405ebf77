"""The low-rank step against its reference implementation and the dense limit."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from toy import SHAPES, arrays, toy_batch

from w2v_inf.config import Embedding, Sigmoid
from w2v_inf.models.cpu import step as cpu_step
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import init_mup_limit
from w2v_inf.models.lowrank.basis import start_on
from w2v_inf.models.lowrank.model import LowRankLimit
from w2v_inf.models.lowrank.pair_table import PairTable, empty_pair_table, lookup_block
from w2v_inf.models.lowrank.step import lowrank_steps
from w2v_inf.models.step import UpdateRule
from w2v_inf.reference import updates as reference

pytestmark = pytest.mark.slow  # compiles the low-rank kernels

RULES = [replace(rule, lr_factors=(1.0, 1.0)) for rule in toy.RULES]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with training_threads(1):
        yield


def orthonormal(vocab_size: int, rank: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).normal(size=(vocab_size, rank)))[0]


def dense(pairs: PairTable) -> np.ndarray:
    """M [V_in, V_out]."""
    words = np.arange(len(pairs.scale))
    out = np.empty((len(words), len(words)), pairs.values.dtype)
    lookup_block(pairs, words, words, out)
    return out.T


def tables(model: LowRankLimit) -> list[torch.Tensor]:
    """u and w over the V initial directions, [V, V] each."""
    return [model.vectors(slice(None), part) for part in (Embedding.input, Embedding.output)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rank", "tile"), [(1, 1), (2, 64), (5, 3)])
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_reference(
    shape: tuple[int, ...], rank: int, tile: int, rule: UpdateRule
) -> None:
    vocab_size, rank = shape[0], min(rank, shape[0])
    factors = start_on(orthonormal(vocab_size, rank))
    pairs = empty_pair_table(vocab_size, 1 << 12, np.float64)
    u, w, _, b, s, _ = (table.copy() for table in factors)
    m = np.zeros((vocab_size, vocab_size))
    for seed in range(4):
        batch = toy_batch(seed, *shape)
        loss = lowrank_steps(factors, pairs, [batch], rule, tile)[0]
        u, w, s, m, slow_loss = reference.lowrank_update(
            *(u, w, b, s, m),
            **arrays(batch),
            weight_decay=rule.weight_decay,
            tp4=rule.tp4,
            whole=rule.whole_gradient,
        )
        assert loss == pytest.approx(slow_loss, rel=1e-12)
        n = (b.T @ m).T
        for fast, slow in (*zip(factors, (u, w, n, b, s), strict=False), (dense(pairs), m)):
            np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_full_basis_is_the_dense_limit(shape: tuple[int, ...]) -> None:
    """With r = V nothing is outside the basis, whatever the basis."""
    vocab_size, rule = shape[0], RULES[0]
    factors = start_on(orthonormal(vocab_size, vocab_size))
    model = LowRankLimit(factors, empty_pair_table(vocab_size, 1 << 12, np.float64), rule)
    limit = init_mup_limit(vocab_size, 0.0, torch.float64, rule=rule)
    batches = [toy_batch(seed, *shape) for seed in range(20)]
    losses = limit.train_batches(batches)
    np.testing.assert_allclose(model.train_batches(batches), losses, rtol=1e-10)
    for table, exact in zip(tables(model), (limit.u, limit.w), strict=True):
        np.testing.assert_allclose(table, exact, atol=1e-10)


@pytest.mark.parametrize("sigmoid", Sigmoid)
def test_threads_share_columns_and_words(sigmoid: Sigmoid, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads equal one up to rounding, and themselves to the bit."""
    monkeypatch.setattr(cpu_step, "MIN_COLUMNS", 2)
    batches = [toy_batch(seed, 13, 9, 6, 4, 3) for seed in range(30)]
    models = []
    for num_threads in (1, 3, 3):
        with training_threads(num_threads):
            pairs = empty_pair_table(13, 1 << 12, np.float64, num_threads)
            rule = UpdateRule(0.2, sigmoid=sigmoid)
            models.append(LowRankLimit(start_on(orthonormal(13, 7)), pairs, rule))
            models[-1].train_batches(batches)
    for single, several, same in zip(*map(tables, models), strict=True):
        np.testing.assert_allclose(several, single, rtol=1e-10, atol=1e-12)
        assert torch.equal(several, same)
