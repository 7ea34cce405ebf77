"""The distinct words of a batch, and how often each hidden vector is paired with each of them.

Decisions:
- Consecutive positions have few distinct words: 32 positions of window 8 have about 290 context
  slots but about 40 distinct context words. So each row is loaded and stored once per batch.
- Negatives become one dense matrix of counts between hidden vectors and distinct negatives. It
  covers samples that are shared, own, repeated or masked alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf.models.cpu.threads import barrier, unowned
from w2v_inf.stream import Batch


class BatchCounts(NamedTuple):
    """A batch of B examples over I distinct inputs, O distinct outputs and E hidden vectors.

    The N distinct negatives are the first of the outputs. A hidden vector is the mean context of
    an example (E = B). Where every example has one context word it is an input (E = I): skip-gram
    pairs with the same input share it.

    inputs [I], outputs [O]: word ids, int32.
    slots: the context words of all examples one after another, as indices into `inputs`;
      example b owns [first_slot[b], first_slot[b + 1]).
    pair_hidden [B], pair_output [B]: the positives, as indices of hidden vectors and of `outputs`.
    negative_counts [E, N]: how often hidden vector e has negative n, K/S per sample; float64.
    input_update_counts [I], output_update_counts [O]: how often decay acts on a row, float64.
    first_use, users: input i is in the hidden vectors users[first_use[i] : first_use[i + 1]], once
      per slot; int32.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    slots: np.ndarray
    first_slot: np.ndarray
    pair_hidden: np.ndarray
    pair_output: np.ndarray
    negative_counts: np.ndarray
    input_update_counts: np.ndarray
    output_update_counts: np.ndarray
    first_use: np.ndarray
    users: np.ndarray


class StackedBatches(NamedTuple):
    """Consecutive batches of one stream in one array per field, for compiled code.

    context, target, negatives, negatives_row: those of `Batch`, concatenated.
    first_example, first_negatives: where each batch starts in them, then their ends.
    lr: of each batch.  negative_weight: the same for all.
    """

    context: np.ndarray
    target: np.ndarray
    negatives: np.ndarray
    negatives_row: np.ndarray
    first_example: np.ndarray
    first_negatives: np.ndarray
    lr: np.ndarray
    negative_weight: float


def stack(batches: Sequence[Batch]) -> StackedBatches:
    """Copy the batches into one array per field."""
    first_example = np.cumsum([0] + [len(b.target) for b in batches])
    first_negatives = np.cumsum([0] + [len(b.negatives) for b in batches])
    context, target, negatives, negatives_row = (
        np.concatenate([getattr(b, name) for b in batches])
        for name in ("context", "target", "negatives", "negatives_row")
    )
    return StackedBatches(
        context,
        target,
        negatives,
        negatives_row,
        first_example,
        first_negatives,
        np.array([b.lr for b in batches]),
        batches[0].negative_weight,
    )


def batch_counts(batch: Batch) -> BatchCounts:
    """Count one batch. Cost: O(B (C + S)) on one CPU core, about 0.1 us per position."""
    arrays = batch.context, batch.target, batch.negatives, batch.negatives_row
    largest_id = max(ids.max() for ids in arrays[:3])
    index_of = np.full(largest_id + 1, -1, np.int32)
    return count_arrays(*arrays, batch.negative_weight, index_of)


@njit(cache=True, nogil=True)
def count_stacked(batches: StackedBatches, b: int, index_of: np.ndarray) -> BatchCounts:
    """Count batch `b` of a stack, for compiled callers; `index_of` as in `count_arrays`."""
    examples = slice(batches.first_example[b], batches.first_example[b + 1])
    rows = slice(batches.first_negatives[b], batches.first_negatives[b + 1])
    return count_arrays(
        batches.context[examples],
        batches.target[examples],
        batches.negatives[rows],
        batches.negatives_row[examples],
        batches.negative_weight,
        index_of,
    )


@njit(cache=True, nogil=True)
def count_arrays(
    context: np.ndarray,
    target: np.ndarray,
    negatives: np.ndarray,
    negatives_row: np.ndarray,
    negative_weight: float,
    index_of: np.ndarray,
) -> BatchCounts:
    """`batch_counts` on the arrays of a batch.

    index_of: scratch memory for a word's index among those found so far; [V] int32, -1 everywhere
      before and after.
    """
    inputs, slots, first_slot, input_update_counts, first_use, users = _count_inputs(
        context, index_of
    )
    if len(slots) == len(target):  # one context word each: the inputs are the hidden vectors
        pair_hidden, num_hidden = slots, len(inputs)
        first_use = np.arange(num_hidden + 1, dtype=np.int32)
        users = first_use[:num_hidden]
    else:
        pair_hidden, num_hidden = np.arange(len(target), dtype=np.int32), len(target)
    outputs, pair_output, negative_counts, output_update_counts = _count_outputs(
        target, negatives, negatives_row, negative_weight, pair_hidden, num_hidden, index_of
    )
    return BatchCounts(
        inputs,
        outputs,
        slots,
        first_slot,
        pair_hidden,
        pair_output,
        negative_counts,
        input_update_counts,
        output_update_counts,
        first_use,
        users,
    )


@njit(cache=True, nogil=True)
def _count_inputs(
    context: np.ndarray, index_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `BatchCounts` says of inputs: `inputs`, `slots`, `first_slot`, `input_update_counts`,
    `first_use` and `users`.
    """
    num_examples, num_slots = context.shape
    inputs, slots = np.empty(context.size, np.int32), np.empty(context.size, np.int32)
    first_slot, users = np.empty(num_examples + 1, np.int32), np.empty(context.size, np.int32)
    first_use = np.zeros(context.size + 2, np.int32)  # two later: first the uses of each input
    num_inputs = num_filled = 0
    for e in range(num_examples):
        first_slot[e] = num_filled
        for c in range(num_slots):
            word = context[e, c]
            if word >= 0:
                i = index_of[word]
                if i < 0:
                    i = np.int32(num_inputs)
                    index_of[word], inputs[num_inputs] = i, word
                    num_inputs += 1
                first_use[i + 2] += 1
                slots[num_filled] = i
                num_filled += 1
    first_slot[num_examples] = num_filled
    update_counts = np.empty(num_inputs)
    for i in range(num_inputs):
        index_of[inputs[i]] = -1
        update_counts[i] = first_use[i + 2]
        first_use[i + 2] += first_use[i + 1]
    for e in range(num_examples):
        for slot in range(first_slot[e], first_slot[e + 1]):
            i = slots[slot]
            users[first_use[i + 1]] = e
            first_use[i + 1] += 1
    inputs, slots, users = inputs[:num_inputs], slots[:num_filled], users[:num_filled]
    return inputs, slots, first_slot, update_counts, first_use[: num_inputs + 1], users


@njit(cache=True, nogil=True)
def _count_outputs(
    target: np.ndarray,
    negatives: np.ndarray,
    negatives_row: np.ndarray,
    negative_weight: float,
    pair_hidden: np.ndarray,
    num_hidden: int,
    index_of: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`outputs`, `pair_output`, `negative_counts` and `output_update_counts` of `BatchCounts`."""
    num_rows, num_samples = negatives.shape
    outputs, sample_output = (
        np.empty(negatives.size + len(target), np.int32),
        np.empty((num_rows, num_samples), np.int32),
    )
    num_outputs = 0
    for row in range(num_rows):
        for s in range(num_samples):
            word = negatives[row, s]
            o = index_of[word]
            if o < 0:
                o = np.int32(num_outputs)
                index_of[word], outputs[num_outputs] = o, word
                num_outputs += 1
            sample_output[row, s] = o

    num_negatives, pair_output = num_outputs, np.empty(len(target), np.int32)
    negative_counts = np.zeros((num_hidden, num_outputs))
    update_counts = np.zeros(num_outputs + len(target))
    for b in range(len(target)):
        word = target[b]
        positive = index_of[word]
        if positive < 0:
            positive = np.int32(num_outputs)
            index_of[word], outputs[num_outputs] = positive, word
            num_outputs += 1
        pair_output[b] = positive
        update_counts[positive] += 1
        e, row = np.uint32(pair_hidden[b]), np.uint32(negatives_row[b])
        for s in range(num_samples):
            o = np.uint32(sample_output[row, s])
            if o != positive:
                negative_counts[e, o] += negative_weight
    for e in range(num_hidden):
        for n in range(num_negatives):
            update_counts[n] += negative_counts[e, n]
    for o in range(num_outputs):
        index_of[outputs[o]] = -1
    return outputs[:num_outputs], pair_output, negative_counts, update_counts[:num_outputs]


class StoredCounts(NamedTuple):
    """Memory for the counts of some batches, which threads fill together and all read.

    ints, floats: the arrays of `BatchCounts` one after another, a row per batch.
    sizes [batches, 6]: I, O, slots, B, E and N of each.
    """

    ints: np.ndarray
    floats: np.ndarray
    sizes: np.ndarray


@njit(cache=True, nogil=True)
def unowned_batches(batches: StackedBatches) -> StackedBatches:
    """The same memory as `threads.unowned` arrays."""
    return StackedBatches(
        unowned(batches.context),
        unowned(batches.target),
        unowned(batches.negatives),
        unowned(batches.negatives_row),
        unowned(batches.first_example),
        unowned(batches.first_negatives),
        unowned(batches.lr),
        batches.negative_weight,
    )


@njit(cache=True, nogil=True)
def unowned_counts(stored: StoredCounts) -> StoredCounts:
    """The same memory as `threads.unowned` arrays."""
    return StoredCounts(unowned(stored.ints), unowned(stored.floats), unowned(stored.sizes))


def counts_sizes(batches: Sequence[Batch], vocab_size: int) -> tuple[int, int]:
    """The most int32 and float64 numbers that the counts of one of `batches` can take."""
    most_ints = most_floats = 0
    for b in batches:
        slots, pairs, negatives = b.context.size, len(b.target), b.negatives.size
        most_ints = max(most_ints, 4 * slots + negatives + 4 * pairs + 2)
        counts = pairs * min(negatives, vocab_size)
        most_floats = max(most_floats, counts + slots + negatives + pairs)
    return most_ints, most_floats


def stored_counts(batches: Sequence[Batch], vocab_size: int) -> StoredCounts:
    """Memory for the counts of `batches`."""
    num_ints, num_floats = counts_sizes(batches, vocab_size)
    return StoredCounts(
        np.empty((len(batches), num_ints), np.int32),
        np.empty((len(batches), num_floats)),
        np.empty((len(batches), 6), np.int64),
    )


@njit(cache=True, nogil=True)
def count_share(
    thread_id: int, num_threads: int, batches: StackedBatches, stored: StoredCounts, vocab_size: int
) -> None:
    """Count every `num_threads`-th batch into `stored`, from `thread_id` on."""
    batches, stored = unowned_batches(batches), unowned_counts(stored)
    index_of = np.full(vocab_size, -1, np.int32)
    for b in range(thread_id, len(batches.lr), num_threads):
        counts = count_stacked(batches, b, index_of)
        num_hidden, num_negatives = counts.negative_counts.shape
        stored.sizes[b, 0], stored.sizes[b, 1] = len(counts.inputs), len(counts.outputs)
        stored.sizes[b, 2], stored.sizes[b, 3] = len(counts.slots), len(counts.pair_output)
        stored.sizes[b, 4], stored.sizes[b, 5] = num_hidden, num_negatives
        views = counts_of(stored, b)
        views.inputs[:], views.outputs[:] = counts.inputs, counts.outputs
        views.slots[:], views.first_slot[:] = counts.slots, counts.first_slot
        views.pair_hidden[:], views.pair_output[:] = counts.pair_hidden, counts.pair_output
        views.first_use[:], views.users[:] = counts.first_use, counts.users
        views.negative_counts[:] = counts.negative_counts
        views.input_update_counts[:] = counts.input_update_counts
        views.output_update_counts[:] = counts.output_update_counts


@njit(cache=True, nogil=True)
def count_together(
    thread_id: int,
    num_threads: int,
    sync: np.ndarray,
    batches: StackedBatches,
    stored: StoredCounts,
    vocab_size: int,
) -> StoredCounts:
    """Count a share of the batches, and wait at the first barrier for the other threads.

    Returns: `stored` as `threads.unowned` arrays, complete.
    """
    count_share(thread_id, num_threads, batches, stored, vocab_size)
    barrier(sync, num_threads, num_threads)
    return unowned_counts(stored)


@njit(cache=True, nogil=True)
def counts_of(stored: StoredCounts, b: int) -> BatchCounts:
    """The stored counts of batch `b`; views, not copies."""
    num_inputs, num_outputs, num_slots, num_pairs, num_hidden, num_negatives = (
        stored.sizes[b, 0], stored.sizes[b, 1], stored.sizes[b, 2],
        stored.sizes[b, 3], stored.sizes[b, 4], stored.sizes[b, 5],
    )  # fmt: skip
    inputs, ints = _cut(stored.ints[b], num_inputs)
    outputs, ints = _cut(ints, num_outputs)
    slots, ints = _cut(ints, num_slots)
    first_slot, ints = _cut(ints, num_pairs + 1)
    pair_hidden, ints = _cut(ints, num_pairs)
    pair_output, ints = _cut(ints, num_pairs)
    first_use, ints = _cut(ints, num_inputs + 1)
    users, ints = _cut(ints, num_slots if num_slots != num_pairs else num_inputs)
    negative_counts, floats = _cut(stored.floats[b], num_hidden * num_negatives)
    input_update_counts, floats = _cut(floats, num_inputs)
    output_update_counts, floats = _cut(floats, num_outputs)
    return BatchCounts(
        inputs,
        outputs,
        slots,
        first_slot,
        pair_hidden,
        pair_output,
        negative_counts.reshape(num_hidden, num_negatives),
        input_update_counts,
        output_update_counts,
        first_use,
        users,
    )


@njit(cache=True, nogil=True)
def _cut(numbers: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `size` numbers, and the rest."""
    return numbers[:size], numbers[size:]
