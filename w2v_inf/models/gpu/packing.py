"""The counts of many batches in a few flat arrays, for one transfer to the GPU; compiled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf.models.batch_counts import BatchCounts, StackedBatches, count_stacked, stack
from w2v_inf.stream import Batch


class Packed(NamedTuple):
    """n batches one after another, with I inputs, O outputs and E hidden vectors each.

    The names are those of `BatchCounts` and `DenseBatchCounts`. Floats are all of one type.
    edges [5, n + 1] int64: where each batch's inputs, outputs, hidden vectors, bag and counts
      start, then their ends.
    inputs, outputs: word ids, int32.  u_decay, w_decay: of each row, (1 - lr wd)^m.
    num_words: context words of each hidden vector.
    bag: [E, I] per batch; empty if in all batches the hidden vectors are the inputs.
    positive_counts, negative_counts: [E, O] per batch.
    """

    edges: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    u_decay: np.ndarray
    w_decay: np.ndarray
    num_words: np.ndarray
    bag: np.ndarray
    positive_counts: np.ndarray
    negative_counts: np.ndarray

    def max_sizes(self) -> tuple[int, int, int]:
        """The largest I, O and E of all batches."""
        inputs, outputs, hidden = np.diff(self.edges[:3], axis=1).max(axis=1).tolist()
        return inputs, outputs, hidden


def pack(batches: Sequence[Batch], weight_decay: float, vocab_size: int, dtype: type) -> Packed:
    """Count batches of one stream; floats in `dtype`.

    Cost: O(B (C + S) + E (I + O)) per batch on one core, without the interpreter lock.
    """
    stacked, zero = stack(batches), np.zeros(1, dtype)
    log_decay = np.log1p(-stacked.lr * weight_decay)
    # pyright does not know how long the list is.
    return Packed(*_pack(stacked, log_decay, vocab_size, zero))  # pyright: ignore[reportCallIssue]


@njit(cache=True, nogil=True)
def _pack(batches: StackedBatches, log_decay: np.ndarray, vocab_size: int, zero: np.ndarray):
    """Count, then copy to arrays of the right size; `zero`, for the type of the floats."""
    index_of = np.full(vocab_size, -1, np.int32)
    counted = [count_stacked(batches, b, index_of) for b in range(len(log_decay))]
    edges, bagged = _edges(counted)
    num_inputs, num_outputs, num_hidden, bag_size, num_counts = edges[:, -1]
    inputs, outputs = np.empty(num_inputs, np.int32), np.empty(num_outputs, np.int32)
    u_decay, w_decay = np.empty(num_inputs, zero.dtype), np.empty(num_outputs, zero.dtype)
    num_words = np.ones(num_hidden, zero.dtype)
    bag = np.zeros(bag_size if bagged else 0, zero.dtype)
    positives, negatives = np.zeros(num_counts, zero.dtype), np.zeros(num_counts, zero.dtype)
    for b in range(len(counted)):
        counts, first = counted[b], edges[:, b]
        own_inputs = slice(first[0], first[0] + len(counts.inputs))
        own_outputs = slice(first[1], first[1] + len(counts.outputs))
        inputs[own_inputs], outputs[own_outputs] = counts.inputs, counts.outputs
        u_decay[own_inputs] = np.exp(log_decay[b] * counts.input_update_counts)
        w_decay[own_outputs] = np.exp(log_decay[b] * counts.output_update_counts)
        if bagged:
            _fill_bag(counts, num_words[first[2] :], bag[first[3] :])
        _fill_counts(counts, positives[first[4] :], negatives[first[4] :])
    return edges, inputs, outputs, u_decay, w_decay, num_words, bag, positives, negatives


@njit(cache=True, nogil=True)
def _edges(counted: list[BatchCounts]) -> tuple[np.ndarray, bool]:
    """`Packed.edges`, and whether some hidden vector is a mean."""
    edges, bagged = np.zeros((5, len(counted) + 1), np.int64), False
    for b in range(len(counted)):
        counts = counted[b]
        i, o, e = len(counts.inputs), len(counts.outputs), len(counts.negative_counts)
        edges[:, b + 1] = edges[:, b] + np.array([i, o, e, e * i, e * o])
        bagged |= len(counts.slots) != len(counts.pair_output)
    return edges, bagged


@njit(cache=True, nogil=True)
def _fill_bag(counts: BatchCounts, num_words: np.ndarray, bag: np.ndarray) -> None:
    """Shares of the inputs; a hidden vector that is an input has the whole of it."""
    num_inputs = len(counts.inputs)
    if len(counts.slots) == len(counts.pair_output):
        for i in range(num_inputs):
            bag[i * num_inputs + i] = 1
        return
    for e in range(len(counts.negative_counts)):
        words = counts.slots[counts.first_slot[e] : counts.first_slot[e + 1]]
        num_words[e] = len(words)
        for i in words:
            bag[e * num_inputs + i] += 1 / len(words)


@njit(cache=True, nogil=True)
def _fill_counts(counts: BatchCounts, positives: np.ndarray, negatives: np.ndarray) -> None:
    """How often each hidden vector has each output as its target, and as a negative."""
    num_outputs, num_negatives = len(counts.outputs), counts.negative_counts.shape[1]
    for e in range(len(counts.negative_counts)):
        first = e * num_outputs
        negatives[first : first + num_negatives] = counts.negative_counts[e]
    for b in range(len(counts.pair_output)):
        positives[counts.pair_hidden[b] * num_outputs + counts.pair_output[b]] += 1
