"""Who meets whom in a batch: its distinct words, and what each hidden vector is drawn to and pushed from.

A batch of consecutive positions touches few distinct words: 32 positions of window 8 have about 290 context slots but
about 40 distinct context words. Rows are therefore moved once a batch, and negatives become one dense matrix of counts
between hidden vectors and distinct noise words, whoever drew them: shared, own, repeated or masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from w2v_inf.stream import Batch


class BatchCounts(NamedTuple):
    """A batch over its I distinct inputs, O distinct outputs (the N noise words first), E hidden vectors, B examples.

    A hidden vector is an example's mean context (E = B), or, when every example has one context word, an input (E = I):
    skip-gram pairs with the same input share it.

    inputs [I], outputs [O]: word ids, int32.
    slots: context words of all examples in a row, as places in `inputs`; example b owns [first_slot[b], first_slot[b + 1]).
    pair_hidden [B], pair_output [B]: the positives, as places in the hidden vectors and in `outputs`.
    negatives [E, N]: how often hidden vector e is pushed from noise word n (K/S a sample), float64.
    input_update_counts [I], output_update_counts [O]: how often weight decay acts on a row, float64.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    slots: np.ndarray
    first_slot: np.ndarray
    pair_hidden: np.ndarray
    pair_output: np.ndarray
    negatives: np.ndarray
    input_update_counts: np.ndarray
    output_update_counts: np.ndarray


def interactions(batch: Batch) -> BatchCounts:
    """Count who meets whom. Cost: O(B (C + S)) on one CPU core, about 0.3 us a position."""
    highest = max(batch.context.max(), batch.target.max(), batch.negatives.max())
    place = np.full(highest + 1, -1, np.int32)
    return count_arrays(
        batch.context, batch.target, batch.negatives, batch.negatives_row, batch.negative_weight, place
    )


@njit(cache=True, nogil=True)
def count_arrays(
    context: np.ndarray,
    target: np.ndarray,
    noise: np.ndarray,
    negatives_row: np.ndarray,
    negative_weight: float,
    place: np.ndarray,
) -> BatchCounts:
    """`interactions` on the batch's arrays, for compiled callers.

    place: where a word is among those found so far; [V] int32, -1 everywhere before and after.
    """
    num_examples = len(target)
    inputs, slots, first_slot, input_update_counts = _count_inputs(context, place)
    outputs = np.empty(noise.size + num_examples, np.int32)
    num_outputs = 0
    noise_of = np.empty(noise.shape, np.int32)
    for row in range(len(noise)):
        for s in range(noise.shape[1]):
            noise_of[row, s] = _find(noise[row, s], place, outputs, num_outputs)
            num_outputs = max(num_outputs, noise_of[row, s] + 1)

    one_word_each = len(slots) == num_examples
    pair_hidden = slots if one_word_each else np.arange(num_examples, dtype=np.int32)
    pair_output = np.empty(num_examples, np.int32)
    negatives = np.zeros((len(inputs) if one_word_each else num_examples, num_outputs))
    output_update_counts = np.zeros(num_outputs + num_examples)
    for b in range(num_examples):
        pair_output[b] = _find(target[b], place, outputs, num_outputs)
        num_outputs = max(num_outputs, pair_output[b] + 1)
        output_update_counts[pair_output[b]] += 1
        for n in noise_of[negatives_row[b]]:
            if n != pair_output[b]:
                negatives[pair_hidden[b], n] += negative_weight
                output_update_counts[n] += negative_weight
    outputs, output_update_counts = outputs[:num_outputs], output_update_counts[:num_outputs]
    place[outputs] = -1
    return BatchCounts(
        inputs,
        outputs,
        slots,
        first_slot,
        pair_hidden,
        pair_output,
        negatives,
        input_update_counts,
        output_update_counts,
    )


@njit(cache=True, nogil=True)
def _count_inputs(
    context: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distinct context words, each slot's place among them, each example's first slot, touches."""
    num_examples, num_slots = context.shape
    inputs, slots = np.empty(context.size, np.int32), np.empty(context.size, np.int32)
    touches = np.zeros(context.size)
    first_slot = np.empty(num_examples + 1, np.int32)
    num_inputs = num_filled = 0
    for b in range(num_examples):
        first_slot[b] = num_filled
        for c in range(num_slots):
            if context[b, c] >= 0:
                i = _find(context[b, c], place, inputs, num_inputs)
                num_inputs = max(num_inputs, i + 1)
                touches[i] += 1
                slots[num_filled] = i
                num_filled += 1
    first_slot[num_examples] = num_filled
    place[inputs[:num_inputs]] = -1
    return inputs[:num_inputs], slots[:num_filled], first_slot, touches[:num_inputs]


@njit(cache=True, nogil=True)
def _find(word: int, place: np.ndarray, words: np.ndarray, num_words: int) -> int:
    """The place of `word` in `words`, where it is appended (at `num_words`) if it is new."""
    if place[word] < 0:
        place[word] = num_words
        words[num_words] = word
    return place[word]


@dataclass
class DenseBatchCounts:
    """`BatchCounts` as small dense matrices for torch, on one device; float32 or float64.

    inputs [I], outputs [O]: int64.    bag [E, I]: share of each input in each hidden vector, None when they coincide.
    whole_bag [E, I]: how often it occurs there, None with `bag`.
    positives [E, O], negatives [E, O]: counts.    input_update_counts [I], output_update_counts [O].    num_examples: B.
    """

    inputs: Tensor
    outputs: Tensor
    bag: Tensor | None
    whole_bag: Tensor | None
    positives: Tensor
    negatives: Tensor
    input_update_counts: Tensor
    output_update_counts: Tensor
    num_examples: int


def dense_batch_counts(batch: Batch, dtype: torch.dtype, device: torch.device) -> DenseBatchCounts:
    """`interactions` as matrices. Cost: [E, I] and [E, O] memory."""
    counts = interactions(batch)
    num_hidden, num_negatives = counts.negatives.shape
    num_examples, num_outputs = len(counts.pair_output), len(counts.outputs)
    one_word_each = len(counts.slots) == num_examples
    words_of = np.diff(counts.first_slot)
    example = np.repeat(np.arange(num_examples), words_of)
    bag = np.zeros((num_examples, len(counts.inputs)))
    np.add.at(bag, (example, counts.slots), 1)
    positives = np.zeros((num_hidden, num_outputs))
    np.add.at(positives, (counts.pair_hidden, counts.pair_output), 1)
    negatives = np.pad(counts.negatives, ((0, 0), (0, num_outputs - num_negatives)))

    def tensor(a: np.ndarray) -> Tensor:
        return torch.from_numpy(a).to(device, dtype)

    return DenseBatchCounts(
        inputs=torch.from_numpy(counts.inputs).to(device, torch.int64),
        outputs=torch.from_numpy(counts.outputs).to(device, torch.int64),
        bag=None if one_word_each else tensor(bag / words_of[:, None]),
        whole_bag=None if one_word_each else tensor(bag),
        positives=tensor(positives),
        negatives=tensor(negatives),
        input_update_counts=tensor(counts.input_update_counts),
        output_update_counts=tensor(counts.output_update_counts),
        num_examples=num_examples,
    )


def stack(batches: Sequence[Batch]) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Arrays of all batches one after another (context, target, noise, negatives_row), where each batch starts, and step sizes."""
    stacked = [
        np.concatenate([getattr(b, name) for b in batches])
        for name in ("context", "target", "negatives", "negatives_row")
    ]
    edges = [
        np.cumsum([0] + [len(getattr(b, name)) for b in batches]) for name in ("target", "negatives")
    ]
    return stacked, edges, np.array([b.lr for b in batches])
