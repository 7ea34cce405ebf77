"""Awkward little batches, rules, reference steps and a little real text for the model tests."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from w2v_inf.config import (
    PROJECT_ROOT,
    Architecture,
    Config,
    ContextGradient,
    Sample,
    Sigmoid,
    StreamConfig,
)
from w2v_inf.corpus.load import open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.models.dense_batch_counts import dense_batch_counts
from w2v_inf.models.step import UpdateRule, sgd_step
from w2v_inf.reference import updates as reference
from w2v_inf.stream import Batch, Stream

GOLDEN = PROJECT_ROOT / "tests" / "golden"
"""Recorded runs of the authors' program: see `golden_positions`."""


def toy_batch(
    seed: int,
    vocab_size: int,
    num_examples: int,
    slots: int,
    num_negatives: int,
    group: int,
    lr: float = 0.1,
) -> Batch:
    """Random ids with repeats, padding, id 0, and negatives that equal the target.

    Groups of `group` examples share their negatives.
    """
    rng = np.random.default_rng(seed)
    context = rng.integers(0, vocab_size, (num_examples, slots))
    context[:, 1:][rng.random((num_examples, slots - 1)) < 0.4] = -1
    context = np.take_along_axis(
        context, rng.permuted(np.tile(np.arange(slots), (num_examples, 1)), axis=1), axis=1
    )
    target = rng.integers(0, vocab_size, num_examples)
    negatives_row = np.arange(num_examples) // group
    negatives = rng.integers(0, vocab_size, (negatives_row[-1] + 1, num_negatives))
    negatives[0, 0] = target[0]
    weight = 1.0 if group == 1 else 25 / num_negatives
    ids = (a.astype(np.int32) for a in (context, target, negatives, negatives_row))
    return Batch(*ids, negative_weight=weight, lr=lr, words_seen=0)


def arrays(batch: Batch) -> dict:
    """The batch as the reference takes it."""
    return {
        "context": batch.context,
        "target": batch.target,
        "negatives": batch.negatives,
        "negatives_row": batch.negatives_row,
        "negative_weight": batch.negative_weight,
        "lr": batch.lr,
    }


class References:
    """The torch step and the reference implementation, step by step from one initialisation.

    float64 on the CPU.
    """

    def __init__(self, u: torch.Tensor, w: torch.Tensor, rule: UpdateRule) -> None:
        self.torch = [u.cpu().clone(), w.cpu().clone()]
        self.slow = [table.numpy().copy() for table in self.torch]
        self.rule = rule

    def step(self, batch: Batch, loss: float, rel: float) -> None:
        """Take the step of `batch` and compare its loss."""
        counts = dense_batch_counts(batch, torch.float64, torch.device("cpu"))
        torch_loss = float(sgd_step(*self.torch, counts, batch.lr, self.rule))
        *self.slow, slow_loss = reference.linear_update(
            *self.slow, **arrays(batch), **options(self.rule)
        )
        assert loss == pytest.approx(torch_loss, rel=rel)
        assert loss == pytest.approx(slow_loss, rel=rel)

    def compare(self, u: torch.Tensor, w: torch.Tensor, atol: float) -> None:
        """Compare both tables."""
        for fast, in_torch, slow in zip((u.cpu(), w.cpu()), self.torch, self.slow, strict=True):
            torch.testing.assert_close(fast, in_torch, rtol=1e-10, atol=atol)
            np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=atol)


def options(rule: UpdateRule) -> dict:
    """The rule as the reference takes it."""
    return {
        "weight_decay": rule.weight_decay,
        "lr_factors": rule.lr_factors,
        "tp4": rule.tp4,
        "whole": rule.whole_gradient,
    }


PLAIN = UpdateRule(0.2, (0.7, 1.3))
RULES = [
    PLAIN,
    replace(PLAIN, context_gradient=ContextGradient.whole),
    replace(PLAIN, sigmoid=Sigmoid.tp4),
]
"""Weight decay and learning-rate factors that would show; then each other choice as well."""

SHAPES = [
    # vocab_size, num_examples, slots, num_negatives, group
    (7, 5, 4, 3, 1),
    (7, 5, 4, 3, 2),
    (13, 9, 6, 1, 9),
    (3, 8, 1, 4, 1),
    (11, 17, 1, 6, 5),
    (2, 1, 2, 1, 1),
]


def sample_stream(
    architecture: Architecture, tmp_path: Path, epochs: int = 1, **stream: int
) -> tuple[Stream, int]:
    """The sample corpus at its 300 commonest words."""
    options = Sample(max_vocab=300)
    config = Config(
        corpus=options,
        stream=StreamConfig(
            architecture=architecture, subsample_threshold=1e-3, num_negatives=5, **stream
        ),
    )
    corpus = open_corpus(prepare(options, tmp_path))
    counts = select_vocabulary(corpus, options).counts
    return Stream(
        corpus.tokens, corpus.documents, counts, config.stream, epochs, config.train.lr, 0
    ), len(counts)


def golden_positions(file: str) -> Iterator[tuple[dict, float]]:
    """Positions that the authors' program was trained on, and their losses in nats.

    The file holds 3,000 of them, the weight decay, and both matrices before and after.
    """
    recorded = np.load(GOLDEN / file)
    columns = (recorded[name] for name in ("context", "target", "noise", "lr", "loss"))
    for context, target, negatives, lr, loss in zip(*columns, strict=True):
        position = {"context": context, "target": int(target), "negatives": negatives}
        yield position | {"lr": float(lr)}, float(loss)
