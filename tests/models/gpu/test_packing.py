"""Packed batches against the dense counts of each."""

import numpy as np
import pytest
import torch
from toy import SHAPES, toy_batch

from w2v_inf.models.dense_batch_counts import dense_batch_counts
from w2v_inf.models.gpu.packing import pack


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_counts_are_the_dense_ones(shape: tuple[int, ...]) -> None:
    batches = [toy_batch(seed, *shape) for seed in range(3)]
    packed = pack(batches, 0.2, shape[0], np.float64)
    sizes = []
    for b, batch in enumerate(batches):
        counts = dense_batch_counts(batch, torch.float64, torch.device("cpu"))
        inputs, outputs, hidden, bag, pairs = (
            slice(edges[b], edges[b + 1]) for edges in packed.edges
        )
        np.testing.assert_array_equal(packed.inputs[inputs], counts.inputs)
        np.testing.assert_array_equal(packed.outputs[outputs], counts.outputs)
        u_decay = (1 - batch.lr * 0.2) ** counts.input_update_counts.numpy()
        w_decay = (1 - batch.lr * 0.2) ** counts.output_update_counts.numpy()
        np.testing.assert_allclose(packed.u_decay[inputs], u_decay, rtol=1e-12)
        np.testing.assert_allclose(packed.w_decay[outputs], w_decay, rtol=1e-12)
        positives, negatives = packed.positive_counts[pairs], packed.negative_counts[pairs]
        np.testing.assert_array_equal(positives, counts.positive_counts.ravel())
        np.testing.assert_array_equal(negatives, counts.negative_counts.ravel())
        if counts.whole_bag is not None and counts.bag is not None:
            num_words = counts.whole_bag.sum(1)
            np.testing.assert_array_equal(packed.num_words[hidden], num_words)
            np.testing.assert_allclose(packed.bag[bag], counts.bag.ravel(), rtol=1e-15)
        elif len(packed.bag):  # beside a batch with means
            identity = np.eye(len(counts.inputs)).ravel()
            np.testing.assert_array_equal(packed.bag[bag], identity)
        sizes.append((len(counts.inputs), len(counts.outputs), len(counts.positive_counts)))
    assert packed.max_sizes() == tuple(np.max(sizes, axis=0))
    assert bool(len(packed.bag)) == (shape[2] > 1)
