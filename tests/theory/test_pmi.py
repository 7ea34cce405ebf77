"""The logits of the NTK limit converge to shifted PMI."""

from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from toy import toy_batch

from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.models.dense_batch_counts import dense_batch_counts
from w2v_inf.models.ntk_limit import init_ntk_limit
from w2v_inf.stream import Batch, Stream, negatives_cdf
from w2v_inf.theory.ntk import limit_logits
from w2v_inf.theory.pmi import (
    LR,
    STREAM,
    LogitHistory,
    correlation,
    deviations,
    learn,
    shifted_pmi,
    training_options,
)

pytestmark = pytest.mark.slow  # trains to convergence


def test_each_logit_converges_to_its_own_optimum() -> None:
    """One batch repeated, in float64: log of positives over negatives, pair by pair."""
    batch, limit = (
        toy_batch(3, 5, 120, 1, 4, 1),
        init_ntk_limit(5, 0.0, torch.Generator(), torch.float64),
    )
    counts = dense_batch_counts(batch, torch.float64, torch.device("cpu"))
    for _ in range(1500):
        limit.update(batch)
    inputs, outputs = counts.inputs, counts.outputs
    assert counts.bag is None
    positives, negatives = (
        counts.positive_counts,
        counts.negative_counts,
    )  # [I, O]: examples of one input are added up
    both = (positives > 0) & (negatives > 0)
    assert both.sum() >= 15
    logits = limit_logits(limit)[inputs[:, None], outputs]
    torch.testing.assert_close(
        logits[both], (positives / negatives).log()[both], rtol=1e-10, atol=1e-10
    )


def test_the_formula() -> None:
    """Levy and Goldberg's without skipping; skipping adds -log(1 - N_io / N_i).

    The gradient of the expected loss vanishes there.
    """
    rng = np.random.default_rng(0)
    counts, p = rng.integers(1, 50, (6, 6)).astype(float), rng.dirichlet(np.ones(6))
    total = counts.sum(1, keepdims=True)
    optimum, plain = shifted_pmi(counts, p, 5), shifted_pmi(counts, p, 5, skipped=False)
    np.testing.assert_allclose(plain, np.log(counts / total / p) - np.log(5), rtol=1e-12)
    np.testing.assert_allclose(optimum - plain, -np.log(1 - counts / total), rtol=1e-10)
    sigma = 1 / (1 + np.exp(-optimum))
    np.testing.assert_allclose(counts * (1 - sigma), 5 * p * (total - counts) * sigma, rtol=1e-10)


def test_constant_steps_on_independent_examples_leave_the_predicted_noise() -> None:
    rng, lr, squares = np.random.default_rng(0), 0.05, []
    joint, p = rng.dirichlet(np.full(9, 5.0)).reshape(3, 3), np.array([0.5, 0.3, 0.2])
    optimum = shifted_pmi(joint, p, 3)
    limit = init_ntk_limit(3, 0.0, torch.Generator(), torch.float64)
    for step in range(6000):
        pairs, noise = rng.choice(9, 8, p=joint.ravel()), rng.choice(3, (8, 3), p=p)
        context, target = (a.astype(np.int32) for a in (pairs[:, None] // 3, pairs % 3))
        limit.update(
            Batch(context, target, noise.astype(np.int32), np.arange(8, dtype=np.int32), 1.0, lr, 0)
        )
        if step >= 1000 and step % 10 == 0:
            squares.append(np.square(limit_logits(limit).numpy() - optimum))
    predicted = lr / 2 * (1 + 2 * p / (1 + np.exp(-optimum)))  # K - 1 = 2
    assert 0.9 < np.mean(squares) / predicted.mean() < 1.1


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> LogitHistory:
    return learn(config_of(f"data_dir={tmp_path_factory.mktemp('data')}", "num_threads=1"), 20, 3)


def test_training_converges_to_it(history: LogitHistory) -> None:
    falling = deviations(history)
    assert (np.diff(falling) < 0).all() and falling[-1] < 0.12
    assert correlation(history, -1) > 0.99
    assert deviations(history, skipped=False)[-1] > 1.2 * falling[-1]


def test_negatives_are_as_many_as_the_formula_says(history: LogitHistory, tmp_path: Path) -> None:
    options = training_options(config_of(f"data_dir={tmp_path}", "num_threads=1"), 20, 0)
    encoded, vocab = load_corpus(options)
    drawn, counts = np.zeros((20, 20)), np.zeros((20, 20))
    for batch in Stream(encoded.tokens, encoded.documents, vocab.counts, STREAM, 1, LR, 0).epoch(0):
        words, negatives = batch.context[:, 0], batch.negatives[batch.negatives_row]
        np.add.at(counts, (words, batch.target), 1)
        kept = negatives != batch.target[:, None]
        np.add.at(
            drawn, (np.broadcast_to(words[:, None], negatives.shape)[kept], negatives[kept]), 1
        )
    p = np.diff(negatives_cdf(vocab.counts), prepend=0)
    expected = STREAM.num_negatives * p * (counts.sum(1, keepdims=True) - counts)
    np.testing.assert_allclose(p, history.p)
    assert (np.abs(drawn - expected) < 5 * np.sqrt(expected)).all()
