"""The counts of a batch as small dense matrices, for models in torch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from w2v_inf.models.batch_counts import batch_counts
from w2v_inf.stream import Batch


@dataclass
class DenseBatchCounts:
    """`BatchCounts` as small dense matrices for torch, on one device; float32 or float64.

    inputs [I], outputs [O]: word ids, int64.
    bag [E, I]: share of each input in each hidden vector; None where they are the same vectors.
    whole_bag [E, I]: how often each input occurs in it; None with `bag`.
    positive_counts [E, O], negative_counts [E, O]: how often e has o as its target, as a negative.
    input_update_counts [I], output_update_counts [O].  num_examples: B.
    """

    inputs: Tensor
    outputs: Tensor
    bag: Tensor | None
    whole_bag: Tensor | None
    positive_counts: Tensor
    negative_counts: Tensor
    input_update_counts: Tensor
    output_update_counts: Tensor
    num_examples: int


def dense_batch_counts(batch: Batch, dtype: torch.dtype, device: torch.device) -> DenseBatchCounts:
    """Count one batch into matrices. Cost: [E, I] and [E, O] memory."""
    counts = batch_counts(batch)
    num_hidden, num_negatives = counts.negative_counts.shape
    num_examples, num_outputs = len(counts.pair_output), len(counts.outputs)
    one_word_each = len(counts.slots) == num_examples
    num_words = np.diff(counts.first_slot)
    bag = np.zeros((num_examples, len(counts.inputs)))
    np.add.at(bag, (np.repeat(np.arange(num_examples), num_words), counts.slots), 1)
    positives = np.zeros((num_hidden, num_outputs))
    np.add.at(positives, (counts.pair_hidden, counts.pair_output), 1)
    negatives = np.pad(counts.negative_counts, ((0, 0), (0, num_outputs - num_negatives)))

    def tensor(a: np.ndarray) -> Tensor:
        return torch.from_numpy(a).to(device, dtype)

    return DenseBatchCounts(
        inputs=torch.from_numpy(counts.inputs).to(device, torch.int64),
        outputs=torch.from_numpy(counts.outputs).to(device, torch.int64),
        bag=None if one_word_each else tensor(bag / num_words[:, None]),
        whole_bag=None if one_word_each else tensor(bag),
        positive_counts=tensor(positives),
        negative_counts=tensor(negatives),
        input_update_counts=tensor(counts.input_update_counts),
        output_update_counts=tensor(counts.output_update_counts),
        num_examples=num_examples,
    )
