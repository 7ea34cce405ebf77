"""Awkward little batches, and a little real text, shared by the model tests."""

from pathlib import Path

import numpy as np

from w2v_inf.config import Architecture, Config, Sample, StreamConfig
from w2v_inf.corpus import open_corpus, prepare, select_vocabulary
from w2v_inf.stream import Batch, Stream


def toy_batch(seed: int, vocab_size: int, num_examples: int, slots: int, num_noise: int, group: int, lr: float = 0.1) -> Batch:
    """Random ids with repeats, padding, id 0, negatives that equal the target; groups of `group` share their noise."""
    rng = np.random.default_rng(seed)
    context = rng.integers(0, vocab_size, (num_examples, slots))
    context[:, 1:][rng.random((num_examples, slots - 1)) < 0.4] = -1
    context = np.take_along_axis(context, rng.permuted(np.tile(np.arange(slots), (num_examples, 1)), axis=1), axis=1)
    target = rng.integers(0, vocab_size, num_examples)
    noise_row = np.arange(num_examples) // group
    noise = rng.integers(0, vocab_size, (noise_row[-1] + 1, num_noise))
    noise[0, 0] = target[0]
    weight = 1.0 if group == 1 else 25 / num_noise
    ids = (a.astype(np.int32) for a in (context, target, noise, noise_row))
    return Batch(*ids, noise_weight=weight, lr=lr, words_seen=0)


def arrays(batch: Batch) -> dict:
    """The batch as the reference takes it."""
    return {
        "context": batch.context,
        "target": batch.target,
        "noise": batch.noise,
        "noise_row": batch.noise_row,
        "noise_weight": batch.noise_weight,
        "lr": batch.lr,
    }


SHAPES = [
    # vocab_size, num_examples, slots, num_noise, group
    (7, 5, 4, 3, 1),
    (7, 5, 4, 3, 2),
    (13, 9, 6, 1, 9),
    (3, 8, 1, 4, 1),
    (11, 17, 1, 6, 5),
    (2, 1, 2, 1, 1),
]


def sample_stream(architecture: Architecture, tmp_path: Path, epochs: int = 1, **stream: int) -> tuple[Stream, int]:
    """The sample corpus at its 300 commonest words."""
    options = Sample(max_vocab=300)
    config = Config(corpus=options, stream=StreamConfig(architecture=architecture, subsample_threshold=1e-3, num_negatives=5, **stream))
    corpus = open_corpus(prepare(options, tmp_path))
    counts = select_vocabulary(corpus, options).counts
    return Stream(corpus.tokens, corpus.documents, counts, config.stream, epochs, config.train.lr, 0), len(counts)
