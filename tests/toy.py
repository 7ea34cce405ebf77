"""Awkward little batches, and a little real text, shared by the model tests."""

from pathlib import Path

import numpy as np
import pytest
import torch

from w2v_inf.config import Architecture, Config, Sample, StreamConfig
from w2v_inf.corpus.load import open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.models.batch_counts import dense_batch_counts
from w2v_inf.models.step import exact_logit, sgd_step, tp4_logit
from w2v_inf.reference import updates as reference
from w2v_inf.stream import Batch, Stream

FACTORS = (0.7, 1.3)


def toy_batch(
    seed: int,
    vocab_size: int,
    num_examples: int,
    slots: int,
    num_negatives: int,
    group: int,
    lr: float = 0.1,
) -> Batch:
    """Random ids with repeats, padding, id 0, negatives that equal the target; groups of `group` share their noise."""
    rng = np.random.default_rng(seed)
    context = rng.integers(0, vocab_size, (num_examples, slots))
    context[:, 1:][rng.random((num_examples, slots - 1)) < 0.4] = -1
    context = np.take_along_axis(
        context, rng.permuted(np.tile(np.arange(slots), (num_examples, 1)), axis=1), axis=1
    )
    target = rng.integers(0, vocab_size, num_examples)
    negatives_row = np.arange(num_examples) // group
    noise = rng.integers(0, vocab_size, (negatives_row[-1] + 1, num_negatives))
    noise[0, 0] = target[0]
    weight = 1.0 if group == 1 else 25 / num_negatives
    ids = (a.astype(np.int32) for a in (context, target, noise, negatives_row))
    return Batch(*ids, negative_weight=weight, lr=lr, words_seen=0)


def arrays(batch: Batch) -> dict:
    """The batch as the reference takes it."""
    return {
        "context": batch.context,
        "target": batch.target,
        "noise": batch.negatives,
        "negatives_row": batch.negatives_row,
        "negative_weight": batch.negative_weight,
        "lr": batch.lr,
    }


class Twins:
    """The torch step and the slow twin from one start: step sizes of u and w by 0.7 and 1.3, weight decay 0.2; float64 on the CPU."""

    def __init__(self, u: torch.Tensor, w: torch.Tensor, tp4: bool, whole: bool) -> None:
        self.dense = [u.cpu().clone(), w.cpu().clone()]
        self.slow = [table.numpy().copy() for table in self.dense]
        self.tp4, self.whole = tp4, whole

    def step(self, batch: Batch, loss: float, rel: float) -> None:
        """Take the step of `batch`, whose loss is compared."""
        counts = dense_batch_counts(batch, torch.float64, torch.device("cpu"))
        logit = tp4_logit if self.tp4 else exact_logit
        dense_loss = float(sgd_step(*self.dense, counts, batch.lr, 0.2, FACTORS, logit, self.whole))
        how = {"weight_decay": 0.2, "lr_factors": FACTORS, "tp4": self.tp4, "whole": self.whole}
        *self.slow, slow_loss = reference.linear_update(*self.slow, **arrays(batch), **how)
        assert loss == pytest.approx(dense_loss, rel=rel) and loss == pytest.approx(
            slow_loss, rel=rel
        )

    def compare(self, u: torch.Tensor, w: torch.Tensor, atol: float) -> None:
        """Compare both tables."""
        for fast, dense, slow in zip((u.cpu(), w.cpu()), self.dense, self.slow, strict=True):
            torch.testing.assert_close(fast, dense, rtol=1e-10, atol=atol)
            np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=atol)


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
