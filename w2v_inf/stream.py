"""The stream of examples that every model sees: subsampling, shrinking windows, chunks, negatives, batches.

Decisions:
- The corpus is read in blocks of `BLOCK` tokens; memory does not grow with it. A block's end also ends a chunk. A block
  is expanded a stretch of batches at a time: numpy and the kernels below are called once for many small batches.
- Random numbers come from Philox generators keyed by (seed, use, epoch, block): the stream is the same for every
  model, width and device, and any block can be drawn again alone. A block draws a float64 for each in-vocabulary word
  (kept if below its probability), a uint8 window for each kept word and a float64 for each negative, batch by batch.
- Negatives invert the CDF of count^0.75 at those float64s, exact where word2vec.c's table of repeated words rounds.
  A guide table gives the answer of a binary search in about two steps.
- Skip-gram is CBOW with one context word: the stream expands a position into its (context word, centre) pairs, so
  that no model asks which architecture it trains.
- A word's own lr schedule counts in-vocabulary words before subsampling, as word2vec.c does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice

import numpy as np
from numba import njit

from w2v_inf import kernel_cache
from w2v_inf.config import Architecture, Config, StreamConfig
from w2v_inf.corpus.load import EncodedCorpus
from w2v_inf.corpus.vocabulary import Vocabulary

kernel_cache.register()  # before the first kernel

BLOCK = 1 << 18
STRETCH = 1 << 17
"""Context slots or negatives (whichever are more) of a stretch at most, but for a single batch: about a cache's worth."""
CHUNK = 1000
"""Kept words in a chunk at most; no window crosses a chunk (TP4's sentence length)."""
NS_EXPONENT = 0.75
MIN_LR_SHARE = 1e-4


@dataclass(slots=True)
class Batch:
    """One step's examples, on the host; the arrays are C-contiguous, and views that batches share: to be read only.

    context: word ids, [B, C] int32, -1 for an empty slot, at least one id a row (skip-gram: C = 1).
    target: word ids, [B] int32.
    noise: negatives, [N, S] int32; negatives_row [B] int32, ascending from 0, says which row an example uses; each sample
      counts `negative_weight` = K/S times. A negative equal to the target is skipped by the model.
    lr: step size, dimensionless.    words_seen: in-vocabulary words up to this batch's first example.
    """

    context: np.ndarray
    target: np.ndarray
    noise: np.ndarray
    negatives_row: np.ndarray
    negative_weight: float
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
        self._noise_cdf = negatives_cdf(self.counts)
        self._noise_guide = guide_table(self._noise_cdf)
        self._skipgram = self.config.architecture is Architecture.skipgram
        self._own_noise = self.config.group_size == 1
        self._num_samples = (
            self.config.num_negatives if self._own_noise else self.config.shared_negatives
        )
        group = np.arange(self.config.batch_size, dtype=np.int32) // self.config.group_size
        slots = len(group) * 2 * self.config.window
        negatives = (
            slots if self._own_noise and self._skipgram else int(group[-1]) + 1
        ) * self._num_samples
        self._batches_at_once = max(1, STRETCH // max(slots, negatives))
        self._group_of_position = np.tile(group, self._batches_at_once)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (counted from 0) but for the first `skip`, in the order of the text.

        Cost of skipping: subsampling and windows of what is skipped, about 0.02 us a word, and at most a block's examples.
        """
        seen = epoch * self.words_per_epoch
        for block in range(self.num_blocks):
            ids, windows, first_words, num_words = self._windows_of(epoch, block, seen)
            seen += num_words
            if skip < len(first_words):
                batches = self._batches(
                    ids, windows, first_words.tolist(), self._generator("noise", epoch, block)
                )
                yield from islice(batches, skip, None)
            skip = max(0, skip - len(first_words))

    @property
    def num_blocks(self) -> int:
        """Blocks of text in an epoch."""
        return -(-len(self.tokens) // BLOCK)

    def places(self) -> Iterator[tuple[int, int]]:
        """(epoch, block) of all blocks of the training, in its order."""
        return ((epoch, block) for epoch in range(self.epochs) for block in range(self.num_blocks))

    def block(self, epoch: int, block: int) -> Iterator[Batch]:
        """The batches of one block, as `epoch` gives them."""
        seen = epoch * self.words_per_epoch + self._words_before_block[block]
        ids, windows, first_words, _ = self._windows_of(epoch, block, seen)
        return self._batches(
            ids, windows, first_words.tolist(), self._generator("noise", epoch, block)
        )

    def _windows_of(
        self, epoch: int, block: int, seen: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Of a block that starts with `seen` words: kept ids, windows [P, 3], words seen at each batch's start, and its words."""
        start = block * BLOCK
        tokens = np.array(self.tokens[start : start + BLOCK], dtype=np.int32)
        num_words = int(np.count_nonzero(tokens < len(self.counts)))
        keep_draws = self._generator("subsample", epoch, block).random(num_words)
        ids, words_before, chunk_edges = keep_words(
            tokens, self._documents_in(start, len(tokens)), self._p_keep, keep_draws, CHUNK
        )
        # Windows are at most 100: bytes are cheap to draw.
        radius = self._generator("window", epoch, block).integers(
            1, self.config.window + 1, len(ids), np.uint8
        )
        windows = place_windows(chunk_edges, radius)
        return ids, windows, seen + words_before[windows[:: self.config.batch_size, 0]], num_words

    @cached_property
    def _words_before_block(self) -> list[int]:
        """In-vocabulary words before each block of an epoch."""
        starts = range(0, len(self.tokens), BLOCK)
        return [
            0,
            *accumulate(
                int(np.count_nonzero(self.tokens[start : start + BLOCK] < len(self.counts)))
                for start in starts
            ),
        ]

    def _generator(self, use: str, epoch: int, block: int) -> np.random.Generator:
        uses = {"subsample": 0, "window": 1, "noise": 2}
        key = np.random.SeedSequence([self.seed, uses[use], epoch, block])
        return np.random.Generator(np.random.Philox(key))

    def _documents_in(self, start: int, num_tokens: int) -> np.ndarray:
        """Edges of the documents in the block at `start`, counted from it, from 0 to its end; int64."""
        first, last = np.searchsorted(self.documents, [start + 1, start + num_tokens])
        return np.concatenate([[0], self.documents[first:last] - start, [num_tokens]])

    def _batches(
        self,
        ids: np.ndarray,
        windows: np.ndarray,
        words_seen: list[int],
        noise: np.random.Generator,
    ) -> Iterator[Batch]:
        """Batches of a block, given the windows of its positions [P, 3] and the words seen at each batch."""
        size, at_once = self.config.batch_size, self._batches_at_once
        for i in range(0, len(words_seen), at_once):
            yield from self._stretch(
                ids, windows[i * size : (i + at_once) * size], words_seen[i : i + at_once], noise
            )

    def _stretch(
        self,
        ids: np.ndarray,
        windows: np.ndarray,
        words_seen: list[int],
        generator: np.random.Generator,
    ) -> Iterator[Batch]:
        """A few batches: all their examples and negatives in one array each, then views of them."""
        context, target, negatives_row, edges = self._examples(ids, windows)
        # Rows ascend within a batch: its last example's says how many it has.
        noise_edges = np.append(0, np.cumsum(negatives_row[edges[1:] - 1] + 1))
        uniform = generator.random((noise_edges[-1], self._num_samples))
        noise = invert_cdf(self._noise_cdf, self._noise_guide, uniform)

        weight, total = (
            self.config.num_negatives / self._num_samples,
            self.epochs * self.words_per_epoch,
        )
        e, n = edges.tolist(), noise_edges.tolist()
        for b, seen in enumerate(words_seen):
            here, lr = slice(e[b], e[b + 1]), scheduled_lr(self.lr, seen, total)
            yield Batch(
                context[here],
                target[here],
                noise[n[b] : n[b + 1]],
                negatives_row[here],
                weight,
                lr,
                seen,
            )

    def _examples(
        self, ids: np.ndarray, windows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """context [E, C], target [E] and negatives_row [E] of all examples, and each batch's first example, then E."""
        edges = np.append(np.arange(0, len(windows), self.config.batch_size), len(windows))
        negatives_row = self._group_of_position[: len(windows)]
        if self._skipgram:
            context, target, negatives_row, first_pair = expand_pairs(ids, windows, negatives_row)
            edges = first_pair[edges]
        else:
            context, target = gather_contexts(ids, windows, self.config.window)
        if self._own_noise:
            negatives_row = (np.arange(len(target)) - np.repeat(edges[:-1], np.diff(edges))).astype(
                np.int32
            )
        return context, target, negatives_row, edges


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


@njit(cache=True, nogil=True)
def keep_words(
    tokens: np.ndarray, documents: np.ndarray, p_keep: np.ndarray, draws: np.ndarray, chunk: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subsample a block and cut it into chunks, which end with their document and after `chunk` kept words.

    tokens: [T] int32, V and above are out of vocabulary.  documents: first token of each, then T; [N + 1] int64.
    p_keep: [V].  draws: in [0, 1), one for each in-vocabulary word.
    Returns: ids of the M kept words, [M] int32; in-vocabulary words before each in the block, [M] int64; first kept
      word of each chunk (some are empty), then M, int64.
    """
    ids, words_before = np.empty(len(draws), np.int32), np.empty(len(draws), np.int64)
    chunk_edges = np.empty(len(documents) + len(draws) // chunk, np.int64)
    num_words = num_kept = num_chunks = 0
    for d in range(len(documents) - 1):
        chunk_edges[num_chunks] = num_kept
        num_chunks += 1
        for word in tokens[documents[d] : documents[d + 1]]:
            if word >= len(p_keep):
                continue
            if draws[num_words] < p_keep[word]:
                if num_kept - chunk_edges[num_chunks - 1] == chunk:
                    chunk_edges[num_chunks] = num_kept
                    num_chunks += 1
                ids[num_kept], words_before[num_kept] = word, num_words
                num_kept += 1
            num_words += 1
    chunk_edges[num_chunks] = num_kept
    return ids[:num_kept], words_before[:num_kept], chunk_edges[: num_chunks + 1]


@njit(cache=True, nogil=True)
def place_windows(chunk_edges: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Windows of the kept words that have a context, as (position, left, right): words left to right - 1 less itself.

    chunk_edges as `keep_words` gives them; radius in kept words, [M]; no window leaves its chunk.  Returns: [P, 3] int32.
    """
    windows = np.empty((len(radius), 3), np.int32)
    num_windows = 0
    for k in range(len(chunk_edges) - 1):
        start, end = chunk_edges[k], chunk_edges[k + 1]
        if end - start < 2:
            continue
        for i in range(start, end):
            windows[num_windows, 0] = i
            windows[num_windows, 1] = max(start, i - radius[i])
            windows[num_windows, 2] = min(end, i + radius[i] + 1)
            num_windows += 1
    return windows[:num_windows]


@njit(cache=True, nogil=True)
def gather_contexts(
    ids: np.ndarray, windows: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """CBOW's examples: contexts [P, 2 window] and targets [P], int32.

    A slot is a distance, from -window to -1, then 1 to window; -1 where the position's own window is shorter.
    """
    context, target = (
        np.full((len(windows), 2 * window), -1, np.int32),
        np.empty(len(windows), np.int32),
    )
    for p in range(len(windows)):
        i, left, right = windows[p]
        target[p] = ids[i]
        for j in range(left, i):
            context[p, window - i + j] = ids[j]
        for j in range(i + 1, right):
            context[p, window - 1 - i + j] = ids[j]
    return context, target


@njit(cache=True, nogil=True)
def expand_pairs(
    ids: np.ndarray, windows: np.ndarray, negatives_row: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Skip-gram's examples: each position's (context word, centre) pairs.

    Returns: context words [E, 1], centres [E] and their position's `negatives_row` [E], int32; each position's first pair, then E,
      [P + 1] int64.
    """
    first_pair = np.zeros(len(windows) + 1, np.int64)
    for p in range(len(windows)):
        first_pair[p + 1] = first_pair[p] + windows[p, 2] - windows[p, 1] - 1
    num_pairs = first_pair[-1]
    context, target, row_of_pair = (
        np.empty((num_pairs, 1), np.int32),
        np.empty(num_pairs, np.int32),
        np.empty(num_pairs, np.int32),
    )
    for p in range(len(windows)):
        i, left, right = windows[p]
        pair = first_pair[p]
        for j in range(left, right):
            if j != i:
                context[pair, 0], target[pair], row_of_pair[pair] = ids[j], ids[i], negatives_row[p]
                pair += 1
    return context, target, row_of_pair, first_pair


def negatives_cdf(counts: np.ndarray) -> np.ndarray:
    """P(negative <= id) for negatives ~ count^0.75 (Mikolov et al. 2013); ascends to exactly 1; [V] float64."""
    cdf = np.cumsum(counts.astype(np.float64) ** NS_EXPONENT)
    return cdf / cdf[-1]


def guide_table(cdf: np.ndarray) -> np.ndarray:
    """Where the search for a draw in [j/G, (j + 1)/G) starts, for each j: the first id with cdf > j/G; [G] int32.

    Chen & Asau 1974. G is the power of two from 2 V up: a draw's bin is exact, and a step or two ends the search.
    """
    size = 1 << (2 * len(cdf) - 1).bit_length()
    return np.searchsorted(cdf, np.arange(size) / size, side="right").astype(np.int32)


@njit(cache=True, nogil=True)
def invert_cdf(cdf: np.ndarray, guide: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """`np.searchsorted(cdf, uniform, side="right")` for draws in [0, 1), [N, S]; int32."""
    drawn = np.empty(uniform.shape, np.int32)
    for n in range(uniform.shape[0]):
        for s in range(uniform.shape[1]):
            u = uniform[n, s]
            word = guide[int(u * len(guide))]
            while cdf[word] <= u:
                word += 1
            drawn[n, s] = word
    return drawn


def build_stream(config: Config, corpus: EncodedCorpus, vocab: Vocabulary) -> Stream:
    """The examples of all epochs."""
    return Stream(
        corpus.tokens,
        corpus.documents,
        vocab.counts,
        config.stream,
        config.train.epochs,
        config.train.lr,
        config.seed,
    )
