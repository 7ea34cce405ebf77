"""The stream of examples that every model sees: subsampling, shrinking windows, chunks, negatives, batches.

Decisions:
- The corpus is read in blocks of `BLOCK` tokens; memory does not grow with it. A block's end also ends a chunk.
- Random numbers come from Philox generators keyed by (seed, use, epoch, block): the stream is the same for every
  model, width and device, and any block can be drawn again alone.
- Skip-gram is CBOW with one context word: the stream expands a position into its (context word, centre) pairs, so
  that no model asks which architecture it trains.
- A word's own lr schedule counts in-vocabulary words before subsampling, as word2vec.c does.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from w2v_inf.config import Architecture, StreamConfig

BLOCK = 1 << 18
CHUNK = 1000
"""Kept words in a chunk at most; no window crosses a chunk (TP4's sentence length)."""
NS_EXPONENT = 0.75
MIN_LR_SHARE = 1e-4


@dataclass
class Batch:
    """One step's examples.

    context: word ids, [B, C] int64, -1 for an empty slot, at least one id a row (skip-gram: C = 1).
    target: word ids, [B] int64.
    noise: negatives, [N, S] int64; noise_row [B] int64 says which row an example uses; each sample counts
      `noise_weight` = K/S times. A negative equal to the target is skipped by the model.
    lr: step size, dimensionless.    words_seen: in-vocabulary words up to this batch's first example.
    """

    context: Tensor
    target: Tensor
    noise: Tensor
    noise_row: Tensor
    noise_weight: float
    lr: float
    words_seen: int


@dataclass
class Stream:
    """Batches over a corpus of word ids; ids of `len(counts)` and above are out of vocabulary and dropped.

    tokens [T] int32 and documents [N + 1] int64 (start of each document, then T) as in `corpus.encode`;
    counts [V] int64 of the vocabulary.
    """

    tokens: np.ndarray
    documents: np.ndarray
    counts: np.ndarray
    config: StreamConfig
    epochs: int
    lr: float
    seed: int

    def __post_init__(self) -> None:
        self.words_per_epoch = int(self.counts.sum())
        self._p_keep = keep_probability(self.counts, self.config.subsample_threshold)
        p_noise = self.counts.astype(np.float64) ** NS_EXPONENT
        self._noise_cdf = np.cumsum(p_noise / p_noise.sum())
        # Rounding may leave the last step below 1; a uniform draw above it would fall outside the vocabulary.
        self._noise_cdf[-1] = 1.0

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """All batches of one epoch (counted from 0), in the order of the text."""
        seen = epoch * self.words_per_epoch
        for block, start in enumerate(range(0, len(self.tokens), BLOCK)):
            ids, chunk_of, word_index = self._kept_words(epoch, block, start)
            yield from self._batches(epoch, block, ids, chunk_of, seen + word_index)
            in_block = np.asarray(self.tokens[start : start + BLOCK])
            seen += int(np.count_nonzero(in_block < len(self.counts)))

    def _generator(self, use: str, epoch: int, block: int) -> np.random.Generator:
        uses = {"subsample": 0, "window": 1, "noise": 2}
        key = np.random.SeedSequence([self.seed, uses[use], epoch, block])
        return np.random.Generator(np.random.Philox(key))

    def _kept_words(self, epoch: int, block: int, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids of the words that subsampling keeps, the first kept index of each one's chunk, and its place among all words."""
        tokens = np.asarray(self.tokens[start : start + BLOCK])
        in_vocab = np.flatnonzero(tokens < len(self.counts))
        ids = tokens[in_vocab].astype(np.int64)
        kept = np.flatnonzero(self._generator("subsample", epoch, block).random(len(ids)) < self._p_keep[ids])
        document = np.searchsorted(self.documents, start + in_vocab[kept], side="right")
        return ids[kept], chunk_starts(document), kept

    def _batches(self, epoch: int, block: int, ids: np.ndarray, chunk_of: np.ndarray, seen: np.ndarray) -> Iterator[Batch]:
        radius = self._generator("window", epoch, block).integers(1, self.config.window + 1, len(ids))
        context = context_windows(ids, chunk_of, radius, self.config.window)
        positions = np.flatnonzero((context >= 0).any(axis=1))
        noise_generator = self._generator("noise", epoch, block)
        for i in range(0, len(positions), self.config.batch_size):
            rows = positions[i : i + self.config.batch_size]
            words_seen = int(seen[rows[0]])
            yield self._batch(context[rows], ids[rows], noise_generator, words_seen)

    def _batch(self, context: np.ndarray, target: np.ndarray, generator: np.random.Generator, words_seen: int) -> Batch:
        group = np.arange(len(target)) // self.config.group_size
        if self.config.architecture is Architecture.skipgram:
            position, slot = np.nonzero(context >= 0)
            context, target, group = context[position, slot][:, None], target[position], group[position]
        own = self.config.group_size == 1
        if own:
            group = np.arange(len(target))
        num_samples = self.config.num_negatives if own else self.config.shared_negatives
        uniform = generator.random((int(group[-1]) + 1, num_samples))
        noise = np.searchsorted(self._noise_cdf, uniform, side="right")
        return Batch(
            context=torch.from_numpy(context),
            target=torch.from_numpy(target),
            noise=torch.from_numpy(noise),
            noise_row=torch.from_numpy(group),
            noise_weight=self.config.num_negatives / num_samples,
            lr=scheduled_lr(self.lr, words_seen, self.epochs * self.words_per_epoch),
            words_seen=words_seen,
        )


def scheduled_lr(lr: float, words_seen: int, words_total: int) -> float:
    """lr x max(1e-4, 1 - seen / total), as word2vec.c; words are in-vocabulary, before subsampling."""
    return lr * max(MIN_LR_SHARE, 1 - words_seen / words_total)


def keep_probability(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Chance that subsampling keeps a word: min(1, sqrt(t/f) + t/f), f its share of the corpus; [V] float64.

    Mikolov et al. 2013 as word2vec.c computes it. A threshold of 0 keeps everything.
    """
    if threshold == 0:
        return np.ones(len(counts))
    ratio = threshold * counts.sum() / counts
    return np.minimum(1.0, np.sqrt(ratio) + ratio)


def chunk_starts(document: np.ndarray) -> np.ndarray:
    """First index of each word's chunk: a chunk ends with its document and after `CHUNK` kept words; [N] int64.

    document: document number of each kept word, ascending, [N].
    """
    index = np.arange(len(document))
    first = np.ones(len(document), dtype=bool)
    first[1:] = document[1:] != document[:-1]
    document_start = np.maximum.accumulate(np.where(first, index, 0))
    return index - (index - document_start) % CHUNK


def context_windows(ids: np.ndarray, chunk_of: np.ndarray, radius: np.ndarray, window: int) -> np.ndarray:
    """Context ids of every position, -1 where a slot is empty; [N, 2 window] int64.

    Slots run from -window to -1, then 1 to window. A slot is filled when it lies within the position's own
    `radius` [N] and in its chunk.
    """
    n = len(ids)
    context = np.full((n, 2 * window), -1, dtype=np.int64)
    for offset in range(1, min(window, n - 1) + 1):
        same = chunk_of[offset:] == chunk_of[:-offset]
        before = same & (radius[offset:] >= offset)
        after = same & (radius[:-offset] >= offset)
        context[offset:, window - offset][before] = ids[:-offset][before]
        context[:-offset, window + offset - 1][after] = ids[offset:][after]
    return context
