"""Batches for kernels that take many steps without asking the host: what `interactions` counts, in flat arrays, compiled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf.models.batch_counts import BatchCounts, count_arrays, stack
from w2v_inf.stream import Batch


class Packed(NamedTuple):
    """n batches one after another: I inputs, O outputs and E hidden vectors each, as in `BatchCounts`. Floats are all of one type.

    edges [5, n + 1] int64: where each batch's inputs, outputs, hidden vectors, bag and counts start, then their ends.
    inputs, outputs: word ids, int32.    u_decay, w_decay: of the row of each, (1 - lr wd)^touches.
    num_words: context words of each hidden vector.    bag: share of each input in each hidden vector, [E, I] a batch; empty if all
    hidden vectors of all batches are inputs.    positives, negatives: counts, [E, O] a batch.
    """

    edges: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    u_decay: np.ndarray
    w_decay: np.ndarray
    num_words: np.ndarray
    bag: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    def most(self) -> tuple[int, int, int]:
        """The largest I, O and E of all batches."""
        inputs, outputs, hidden = np.diff(self.edges[:3], axis=1).max(axis=1).tolist()
        return inputs, outputs, hidden


def pack(batches: Sequence[Batch], weight_decay: float, vocab_size: int, dtype: type) -> Packed:
    """`interactions` of batches of one stream. Cost: O(B (C + S) + E (I + O)) a batch on one core; without the interpreter lock."""
    stacked, edges, lr = stack(batches)
    options = (
        batches[0].negative_weight,
        np.log1p(-lr * weight_decay),
        vocab_size,
        np.zeros(1, dtype),
    )
    return Packed(*_pack(*stacked, *edges, *options))  # pyright: ignore[reportCallIssue] - it does not know how long lists are


@njit(cache=True, nogil=True)
def _pack(
    context,
    target,
    noise,
    negatives_row,
    first_example,
    first_negatives,
    negative_weight,
    log_decay,
    vocab_size,
    zero,
):
    """Count, then copy to arrays of the right size; `zero`, for the type of the floats."""
    place = np.full(vocab_size, -1, np.int32)
    counted = []
    for b in range(len(log_decay)):
        here, there = (
            slice(first_example[b], first_example[b + 1]),
            slice(first_negatives[b], first_negatives[b + 1]),
        )
        counted.append(
            count_arrays(
                context[here],
                target[here],
                noise[there],
                negatives_row[here],
                negative_weight,
                place,
            )
        )
    edges, bagged = _edges(counted)
    inputs, outputs = np.empty(edges[0, -1], np.int32), np.empty(edges[1, -1], np.int32)
    u_decay, w_decay = np.empty(edges[0, -1], zero.dtype), np.empty(edges[1, -1], zero.dtype)
    num_words, bag = (
        np.ones(edges[2, -1], zero.dtype),
        np.zeros(edges[3, -1] if bagged else 0, zero.dtype),
    )
    positives, negatives = np.zeros(edges[4, -1], zero.dtype), np.zeros(edges[4, -1], zero.dtype)
    for b in range(len(counted)):
        counts, (first_input, first_output, first_hidden, first_share, first_count) = (
            counted[b],
            edges[:, b],
        )
        inputs[first_input : edges[0, b + 1]] = counts.inputs
        outputs[first_output : edges[1, b + 1]] = counts.outputs
        u_decay[first_input : edges[0, b + 1]] = np.exp(log_decay[b] * counts.input_update_counts)
        w_decay[first_output : edges[1, b + 1]] = np.exp(log_decay[b] * counts.output_update_counts)
        if bagged:
            _fill_bag(counts, num_words[first_hidden:], bag[first_share:])
        _fill_counts(counts, positives[first_count:], negatives[first_count:])
    return edges, inputs, outputs, u_decay, w_decay, num_words, bag, positives, negatives


@njit(cache=True, nogil=True)
def _edges(counted: list[BatchCounts]) -> tuple[np.ndarray, bool]:
    """`Packed.edges`, and whether some hidden vector is a mean."""
    edges, bagged = np.zeros((5, len(counted) + 1), np.int64), False
    for b in range(len(counted)):
        counts = counted[b]
        i, o, e = len(counts.inputs), len(counts.outputs), len(counts.negatives)
        edges[0, b + 1], edges[1, b + 1], edges[2, b + 1] = (
            edges[0, b] + i,
            edges[1, b] + o,
            edges[2, b] + e,
        )
        edges[3, b + 1], edges[4, b + 1] = edges[3, b] + e * i, edges[4, b] + e * o
        bagged |= len(counts.slots) != len(counts.pair_output)
    return edges, bagged


@njit(cache=True, nogil=True)
def _fill_bag(counts, num_words, bag):
    """Shares of the inputs; a hidden vector that is an input has it whole."""
    num_inputs = len(counts.inputs)
    if len(counts.slots) == len(counts.pair_output):
        for i in range(num_inputs):
            bag[i * num_inputs + i] = 1
        return
    for e in range(len(counts.negatives)):
        words = counts.slots[counts.first_slot[e] : counts.first_slot[e + 1]]
        num_words[e] = len(words)
        for i in words:
            bag[e * num_inputs + i] += 1 / len(words)


@njit(cache=True, nogil=True)
def _fill_counts(counts, positives, negatives):
    """How often each hidden vector is drawn to and pushed from each output."""
    num_outputs, num_negatives = len(counts.outputs), counts.negatives.shape[1]
    for e in range(len(counts.negatives)):
        negatives[e * num_outputs : e * num_outputs + num_negatives] = counts.negatives[e]
    for b in range(len(counts.pair_output)):
        positives[counts.pair_hidden[b] * num_outputs + counts.pair_output[b]] += 1
