"""Counts of a batch against a plain count of its examples."""

import numpy as np
import pytest
import torch
from toy import SHAPES, arrays, toy_batch

from w2v_inf.models.batch_counts import batch_counts, stack
from w2v_inf.models.dense_batch_counts import dense_batch_counts
from w2v_inf.reference.updates import examples
from w2v_inf.stream import Batch


def counted(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bag [B, V], positives and negatives [B, V], update counts of inputs and outputs [V]."""
    fields = arrays(batch)
    fields.pop("lr")
    shape = len(batch.target), 1 + max(ids.max() for ids in (batch.context, batch.target))
    shape = shape[0], max(shape[1], batch.negatives.max() + 1)
    bag, positives, negatives = (np.zeros(shape) for _ in range(3))
    for e, (words, samples) in enumerate(examples(**fields)):
        for i in words:
            bag[e, i] += 1
        for o, label, weight in samples:
            (positives if label else negatives)[e, o] += weight
    return bag, positives, negatives, bag.sum(0), (positives + negatives).sum(0)


@pytest.mark.parametrize("shape", SHAPES)
def test_dense_counts_are_those_of_the_examples(shape: tuple[int, ...]) -> None:
    """Skip-gram pairs with the same input share a hidden vector, and their counts add up."""
    batch = toy_batch(0, *shape)
    bag, positives, negatives, input_updates, output_updates = counted(batch)
    counts = dense_batch_counts(batch, torch.float64, torch.device("cpu"))
    inputs, outputs = counts.inputs.numpy(), counts.outputs.numpy()
    assert len(set(inputs)) == len(inputs) and len(set(outputs)) == len(outputs)
    if counts.bag is None:
        positives, negatives = (bag[:, inputs].T @ table for table in (positives, negatives))
    else:
        assert counts.whole_bag is not None
        np.testing.assert_array_equal(counts.whole_bag, bag[:, inputs])
        share = bag[:, inputs] / bag.sum(1, keepdims=True)
        np.testing.assert_allclose(counts.bag, share, rtol=1e-15)
    np.testing.assert_allclose(counts.positive_counts, positives[:, outputs], rtol=1e-12)
    np.testing.assert_allclose(counts.negative_counts, negatives[:, outputs], rtol=1e-12)
    np.testing.assert_array_equal(counts.input_update_counts, input_updates[inputs])
    np.testing.assert_allclose(counts.output_update_counts, output_updates[outputs], rtol=1e-12)
    assert counts.num_examples == len(batch.target)
    assert input_updates.sum() == counts.input_update_counts.sum()
    assert output_updates.sum() == pytest.approx(float(counts.output_update_counts.sum()))


def test_counts_hold_the_negatives_first() -> None:
    batch = toy_batch(0, 13, 9, 6, 4, 3)
    counts = batch_counts(batch)
    num_negatives = counts.negative_counts.shape[1]
    assert set(counts.outputs[:num_negatives]) == set(batch.negatives.ravel())
    np.testing.assert_array_equal(counts.outputs[counts.pair_output], batch.target)
    filled = batch.context[batch.context >= 0]
    np.testing.assert_array_equal(counts.inputs[counts.slots], filled)


def test_a_stack_is_its_batches_one_after_another() -> None:
    batches = [toy_batch(seed, 13, 4 + seed, 6, 4, 3) for seed in range(3)]
    stacked = stack(batches)
    for b, batch in enumerate(batches):
        examples = slice(stacked.first_example[b], stacked.first_example[b + 1])
        rows = slice(stacked.first_negatives[b], stacked.first_negatives[b + 1])
        np.testing.assert_array_equal(stacked.context[examples], batch.context)
        np.testing.assert_array_equal(stacked.target[examples], batch.target)
        np.testing.assert_array_equal(stacked.negatives_row[examples], batch.negatives_row)
        np.testing.assert_array_equal(stacked.negatives[rows], batch.negatives)
        assert stacked.lr[b] == batch.lr
    assert stacked.negative_weight == batches[0].negative_weight
