"""Text to batches: the stream of examples on which every model trains.

Terms:
- A block is `BLOCK` tokens of the corpus. Blocks are read one at a time, so memory does not grow
  with the corpus.
- A sentence is at most `MAX_SENTENCE` kept words of one document and one block. No window crosses
  its ends.
- A batch holds the examples of one SGD step.

Decisions:
- Random numbers come from Philox generators keyed by (seed, use, epoch, block). So the stream is
  the same for every model, width and device, and any block can be drawn alone.
- A block draws a float64 per in-vocabulary word (which is kept if the draw is below its
  probability), a uint8 radius per kept word, and a float64 per negative, batch by batch.
- Negatives invert the CDF of count^0.75 at those float64s. word2vec.c rounds it to a table of
  repeated words; we do not. A guide table replaces the binary search by about two steps.
- Skip-gram is CBOW with one context word: the stream expands a position into pairs of context word
  and centre word. So no model asks which architecture it trains.
- A batch takes its positions from `interleave` distant places of a block. Neighbours share most
  of their context words, and a step would add all their gradients to the same few rows.
- The learning rate falls with the number of in-vocabulary words before subsampling, as in
  word2vec.c. Batch t of a block has the learning rate of batch t in the order of the text.
- numpy and the compiled functions handle many small batches per call, and batches are views of the
  result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numba import njit

from w2v_inf import kernel_cache
from w2v_inf.config import Architecture, Config, StreamConfig
from w2v_inf.corpus.load import EncodedCorpus
from w2v_inf.corpus.vocabulary import Vocabulary

kernel_cache.register()  # before the first kernel

BLOCK = 1 << 18
MAX_SENTENCE = 1000
"""As in word2vec.c and TP4's program."""
IDS_PER_CALL = 1 << 17
"""Batches are expanded together up to so many context slots or negatives: about a cache's worth."""
NS_EXPONENT = 0.75
MIN_LR_SHARE = 1e-4


@dataclass(slots=True)
class Batch:
    """The examples of one SGD step, on the host.

    The arrays are C-contiguous views of larger ones. Batches share them: do not write to them.

    context: word ids, [B, C] int32; -1 for an empty slot, at least one id per row; C = 1 for
      skip-gram.
    target: word ids, [B] int32.
    negatives: word ids, [N, S] int32. The model skips a negative that equals the target.
    negatives_row: [B] int32, ascending from 0: the row of `negatives` that each example uses.
    negative_weight: K/S, the weight of one negative.
    lr: learning rate, dimensionless.
    words_seen: in-vocabulary words before the first example of this batch, or, with
      `interleave` > 1, of the batch that has its number in the order of the text.
    """

    context: np.ndarray
    target: np.ndarray
    negatives: np.ndarray
    negatives_row: np.ndarray
    negative_weight: float
    lr: float
    words_seen: int


@dataclass
class Stream:
    """Batches over a corpus of word ids. Ids of V and above are out of vocabulary, and dropped.

    tokens [T] int32, documents [N + 1] int64: first token of each document, then T.
    counts: occurrences of each word of the vocabulary, [V] int64.
    config: as `Config` completes it.
    """

    tokens: np.ndarray
    documents: np.ndarray
    counts: np.ndarray
    config: StreamConfig
    epochs: int
    lr: float
    seed: int

    def __post_init__(self) -> None:
        config = self.config
        self.words_per_epoch = int(self.counts.sum())
        self._words_before = [0]  # in-vocabulary words of an epoch before each block counted so far
        self._p_keep = keep_probability(self.counts, config.subsample_threshold)
        self._negatives_cdf = negatives_cdf(self.counts)
        self._guide = guide_table(self._negatives_cdf)
        self._is_skipgram = config.architecture is Architecture.skipgram
        self._is_shared = config.group_size != 1
        self._num_samples = config.shared_negatives if self._is_shared else config.num_negatives
        group = np.arange(config.batch_size, dtype=np.int32) // config.group_size
        num_slots = len(group) * 2 * config.window
        num_rows = int(group[-1]) + 1 if self._is_shared or not self._is_skipgram else num_slots
        ids_per_batch = max(num_slots, num_rows * self._num_samples)
        self._batches_per_call = max(1, IDS_PER_CALL // ids_per_batch)
        self._group_of_position = np.tile(group, self._batches_per_call)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch `epoch` (from 0) without the first `skip`, block by block.

        Cost of skipping: about 0.02 us per skipped word, and at most one block's examples.
        """
        for block in range(self.num_blocks):
            positions = self._positions(epoch, block)
            num_batches = len(positions[2])
            if skip < num_batches:
                yield from islice(self._batches(epoch, block, *positions), skip, None)
            skip = max(0, skip - num_batches)

    def block(self, epoch: int, block: int) -> Iterator[Batch]:
        """The batches of one block, the same as in `epoch`."""
        return self._batches(epoch, block, *self._positions(epoch, block))

    @property
    def num_blocks(self) -> int:
        """Blocks per epoch."""
        return -(-len(self.tokens) // BLOCK)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(epoch, block) of every block of the training, in order."""
        return ((epoch, block) for epoch in range(self.epochs) for block in range(self.num_blocks))

    def _positions(self, epoch: int, block: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Kept ids of a block, windows [P, 3] of its positions, words seen before each batch."""
        start = block * BLOCK
        tokens = np.array(self.tokens[start : start + BLOCK], dtype=np.int32)
        words_before_block = self._count_before(block)
        num_words = self._count_before(block + 1) - words_before_block
        draws = self._generator("subsample", epoch, block).random(num_words)
        documents = self._documents_in(start, len(tokens))
        ids, words_before, sentences = keep_words(
            tokens, documents, self._p_keep, draws, MAX_SENTENCE
        )
        # A radius is at most 100, and bytes are cheap to draw.
        radius = self._generator("window", epoch, block).integers(
            1, self.config.window + 1, len(ids), np.uint8
        )
        windows = place_windows(sentences, radius)
        size = self.config.batch_size
        seen = epoch * self.words_per_epoch + words_before_block
        words_seen = (seen + words_before[windows[::size, 0]]).tolist()
        order = interleaved(len(windows), size, self.config.interleave)
        return ids, windows[order], words_seen

    def _count_before(self, block: int) -> int:
        """In-vocabulary words of an epoch before `block`; the text up to it is counted once."""
        while len(self._words_before) <= block:
            start = BLOCK * (len(self._words_before) - 1)
            num_words = np.count_nonzero(self.tokens[start : start + BLOCK] < len(self.counts))
            self._words_before.append(self._words_before[-1] + int(num_words))
        return self._words_before[block]

    def _generator(self, use: str, epoch: int, block: int) -> np.random.Generator:
        uses = {"subsample": 0, "window": 1, "negatives": 2}
        key = np.random.SeedSequence([self.seed, uses[use], epoch, block])
        return np.random.Generator(np.random.Philox(key))

    def _documents_in(self, start: int, num_tokens: int) -> np.ndarray:
        """First tokens of documents in the block at `start`, counted from there, then its end."""
        first, last = np.searchsorted(self.documents, [start + 1, start + num_tokens])
        return np.concatenate([[0], self.documents[first:last] - start, [num_tokens]])

    def _batches(
        self, epoch: int, block: int, ids: np.ndarray, windows: np.ndarray, words_seen: list[int]
    ) -> Iterator[Batch]:
        """The batches of a block, from what `_positions` returns."""
        generator = self._generator("negatives", epoch, block)
        size, per_call = self.config.batch_size, self._batches_per_call
        for i in range(0, len(words_seen), per_call):
            some = windows[i * size : (i + per_call) * size]
            yield from self._expand(ids, some, words_seen[i : i + per_call], generator)

    def _expand(
        self,
        ids: np.ndarray,
        windows: np.ndarray,
        words_seen: list[int],
        generator: np.random.Generator,
    ) -> Iterator[Batch]:
        """Some batches: all their examples and negatives in one array each, then views of them."""
        context, target, negatives_row, first_example = self._examples(ids, windows)
        # Rows ascend within a batch, so its last example tells their number.
        num_rows = negatives_row[first_example[1:] - 1] + 1
        first_row = np.append(0, np.cumsum(num_rows))
        uniform = generator.random((first_row[-1], self._num_samples))
        negatives = invert_cdf(self._negatives_cdf, self._guide, uniform)

        weight = self.config.num_negatives / self._num_samples
        num_words = self.epochs * self.words_per_epoch
        e, n = first_example.tolist(), first_row.tolist()
        for b, seen in enumerate(words_seen):
            examples, rows = slice(e[b], e[b + 1]), slice(n[b], n[b + 1])
            arrays = context[examples], target[examples], negatives[rows], negatives_row[examples]
            yield Batch(*arrays, weight, scheduled_lr(self.lr, seen, num_words), seen)

    def _examples(
        self, ids: np.ndarray, windows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """context [E, C], target [E], negatives_row [E]; and each batch's first example, then E."""
        edges = np.append(np.arange(0, len(windows), self.config.batch_size), len(windows))
        negatives_row = self._group_of_position[: len(windows)]
        if self._is_skipgram:
            context, target, negatives_row, first_pair = expand_pairs(ids, windows, negatives_row)
            edges = first_pair[edges]
        else:
            context, target = gather_contexts(ids, windows, self.config.window)
        if not self._is_shared:
            row = np.arange(len(target)) - np.repeat(edges[:-1], np.diff(edges))
            negatives_row = row.astype(np.int32)
        return context, target, negatives_row, edges


def scheduled_lr(lr: float, words_seen: int, num_words: int) -> float:
    """lr x max(1e-4, 1 - words_seen / num_words), in-vocabulary words, as in word2vec.c."""
    return lr * max(MIN_LR_SHARE, 1 - words_seen / num_words)


def keep_probability(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Probability that subsampling keeps each word: min(1, sqrt(t/f) + t/f); [V] float64.

    f is the word's share of the corpus (Mikolov et al. 2013, as in word2vec.c). A threshold t of 0
    keeps everything.
    """
    if threshold == 0:
        return np.ones(len(counts))
    ratio = threshold * counts.sum() / counts
    return np.minimum(1.0, np.sqrt(ratio) + ratio)


@njit(cache=True, nogil=True)
def keep_words(
    tokens: np.ndarray, documents: np.ndarray, p_keep: np.ndarray, draws: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subsample a block and cut it into sentences.

    A sentence ends with its document, or after `limit` kept words.

    Args:
      tokens: [T] int32; V and above are out of vocabulary.
      documents: first token of each document, then T; [N + 1] int64.
      p_keep: [V].    draws: uniform in [0, 1), one per in-vocabulary word.
    Returns: ids of the M kept words, [M] int32; in-vocabulary words of the block before each of
      them, [M] int64; first kept word of each sentence (some are empty), then M, int64.
    """
    ids, words_before = np.empty(len(draws), np.int32), np.empty(len(draws), np.int64)
    sentences = np.empty(len(documents) + len(draws) // limit, np.int64)
    num_words = num_kept = num_sentences = 0
    for d in range(len(documents) - 1):
        sentences[num_sentences] = num_kept
        num_sentences += 1
        for word in tokens[documents[d] : documents[d + 1]]:
            if word >= len(p_keep):
                continue
            if draws[num_words] < p_keep[word]:
                if num_kept - sentences[num_sentences - 1] == limit:
                    sentences[num_sentences] = num_kept
                    num_sentences += 1
                ids[num_kept], words_before[num_kept] = word, num_words
                num_kept += 1
            num_words += 1
    sentences[num_sentences] = num_kept
    return ids[:num_kept], words_before[:num_kept], sentences[: num_sentences + 1]


@njit(cache=True, nogil=True)
def place_windows(sentences: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The window (i, left, right) of each kept word i that has a context, [P, 3] int32.

    Its context is the kept words left to right - 1, without i.
    sentences: as `keep_words` returns them.    radius: in kept words, [M].
    """
    windows = np.empty((len(radius), 3), np.int32)
    num_windows = 0
    for k in range(len(sentences) - 1):
        start, end = sentences[k], sentences[k + 1]
        if end - start < 2:
            continue
        for i in range(start, end):
            windows[num_windows, 0] = i
            windows[num_windows, 1] = max(start, i - radius[i])
            windows[num_windows, 2] = min(end, i + radius[i] + 1)
            num_windows += 1
    return windows[:num_windows]


def interleaved(num_positions: int, batch_size: int, num_places: int) -> np.ndarray:
    """The order in which a block's positions are taken, [P] int64.

    The block is cut into `num_places` equal parts. Each batch takes the next
    batch_size / num_places positions of every part.
    """
    run = batch_size // num_places
    num_batches = -(-num_positions // batch_size)
    parts = np.arange(num_places * num_batches * run).reshape(num_places, num_batches, run)
    order = parts.swapaxes(0, 1).ravel()
    return order[order < num_positions]


@njit(cache=True, nogil=True)
def gather_contexts(
    ids: np.ndarray, windows: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """CBOW's examples: contexts [P, 2 window] and targets [P], int32.

    Slots are the distances -window to -1, then 1 to window; -1 stands where the position's own
    window is shorter.
    """
    context = np.full((len(windows), 2 * window), -1, np.int32)
    target = np.empty(len(windows), np.int32)
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
    """Skip-gram's examples: the pairs (context word, centre word) of each position.

    Returns: context words [E, 1], centre words [E] and the `negatives_row` [E] of their position,
      int32; first pair of each position, then E, [P + 1] int64.
    """
    first_pair = np.zeros(len(windows) + 1, np.int64)
    for p in range(len(windows)):
        first_pair[p + 1] = first_pair[p] + windows[p, 2] - windows[p, 1] - 1
    num_pairs = first_pair[-1]
    context, target = np.empty((num_pairs, 1), np.int32), np.empty(num_pairs, np.int32)
    row_of_pair = np.empty(num_pairs, np.int32)
    for p in range(len(windows)):
        i, left, right = windows[p]
        pair = first_pair[p]
        for j in range(left, right):
            if j != i:
                context[pair, 0], target[pair], row_of_pair[pair] = ids[j], ids[i], negatives_row[p]
                pair += 1
    return context, target, row_of_pair, first_pair


def negatives_cdf(counts: np.ndarray) -> np.ndarray:
    """P(negative <= id) for P(id) ~ count^0.75 (Mikolov et al. 2013), [V] float64; ends at 1."""
    cdf = np.cumsum(counts.astype(np.float64) ** NS_EXPONENT)
    return cdf / cdf[-1]


def guide_table(cdf: np.ndarray) -> np.ndarray:
    """The first id with cdf > j/G for each j, [G] int32: where searches in [j/G, (j + 1)/G) start.

    Chen & Asau 1974. G is the first power of two from 2 V on: then bins are exact, and a search
    takes a step or two.
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
    """The stream of all epochs, as configured."""
    arrays = corpus.tokens, corpus.documents, vocab.counts
    return Stream(*arrays, config.stream, config.train.epochs, config.train.lr, config.seed)
