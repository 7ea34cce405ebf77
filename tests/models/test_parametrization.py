"""abc-parametrizations: their scales, and the symmetry between two of them."""

import pytest
import torch
from toy import toy_batch

from w2v_inf.config import Parametrization
from w2v_inf.models.linear import LinearModel, init_finite
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import UpdateRule


def finite(width: int, parametrization: Parametrization, scale: float, decay: float) -> LinearModel:
    generator = torch.Generator().manual_seed(0)
    exponents, rule = ABC[parametrization], UpdateRule(weight_decay=decay)
    return init_finite(7, width, exponents, scale, generator, torch.float64, rule=rule)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_mfp_and_mup_coincide(scale: float) -> None:
    """For one hidden layer they are one orbit of the abc symmetry (a + t, b - t, c - 2t)."""
    batches = [toy_batch(seed, 7, 5, 4, 3, 2) for seed in range(6)]
    logits = []
    for parametrization in (Parametrization.mup, Parametrization.mfp):
        model = finite(33, parametrization, scale, decay=0.05)
        model.train_batches(batches)
        logits.append(model.u @ model.w.T)
    torch.testing.assert_close(*logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parametrization", [p for p in Parametrization if p in ABC])
def test_scales_equal_training_the_raw_parameters(parametrization: Parametrization) -> None:
    """Autograd on w_l behind W_l = n^-a_l w_l, with learning rate lr n^-c, gives our logits."""
    n, (a1, b1, a2, b2, c) = 9, ABC[parametrization]
    ours = finite(n, parametrization, scale=1.0, decay=0.0)
    u_raw, w_raw = ours.u * n**0.5 * n**a1, ours.w * n**-0.5 * n**a2
    assert float(u_raw.std() * n**b1) == pytest.approx(1, abs=0.4)
    assert float(w_raw.std() * n**b2) == pytest.approx(1, abs=0.4)
    u_raw.requires_grad_()
    w_raw.requires_grad_()
    batch = toy_batch(0, 7, 5, 4, 3, 1)
    loss = torch.zeros((), dtype=torch.float64)
    for e in range(5):
        words = batch.context[e][batch.context[e] >= 0]
        f = (n**-a2 * w_raw) @ (n**-a1 * u_raw)[words].mean(0)
        negatives = batch.negatives[e][batch.negatives[e] != batch.target[e]]
        loss = loss - torch.nn.functional.logsigmoid(f[batch.target[e]])
        loss = loss - torch.nn.functional.logsigmoid(-f[negatives]).sum()
    loss.backward()
    with torch.no_grad():
        u_raw -= batch.lr * n**-c * u_raw.grad
        w_raw -= batch.lr * n**-c * w_raw.grad
        expected = (n**-a1 * u_raw) @ (n**-a2 * w_raw).T
    ours.update(batch)
    torch.testing.assert_close(ours.u @ ours.w.T, expected, rtol=1e-10, atol=1e-12)
