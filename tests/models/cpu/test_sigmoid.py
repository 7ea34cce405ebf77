"""Compiled gradients of logits against the reference's sigmoid and loss."""

import numpy as np
import pytest

from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.reference.updates import example_loss, sigmoid


@pytest.mark.parametrize("tp4", [False, True])
def test_gradients_and_loss_are_the_references(tp4: bool) -> None:
    """Near zero, across the table's edges, and where sigma is flat."""
    logits = np.array([-700, -41, -12, -11.99, -3, -1e-9, 0, 1e-9, 0.02, 3, 11.99, 12, 41, 700.0])
    counts = np.linspace(0, 3, len(logits))
    f, pair_f = logits.copy(), logits.copy()
    loss = logit_gradients(f, pair_f, counts, tp4)
    p = np.array([sigmoid(x, tp4) for x in logits])
    np.testing.assert_allclose(f, -counts * p, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(pair_f, 1 - p, rtol=1e-12, atol=1e-16)
    expected = sum(c * example_loss(x, 0, tp4) for x, c in zip(logits, counts, strict=True))
    expected += sum(example_loss(x, 1, tp4) for x in logits)
    assert loss == pytest.approx(expected, rel=1e-13)
