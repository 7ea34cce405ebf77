"""The NTK limit: the reference, the muP limit with u frozen, and wide NTP networks."""

import numpy as np
import pytest
import torch
from toy import SHAPES, arrays, toy_batch

from w2v_inf.config import ContextGradient, Embedding, Parametrization
from w2v_inf.models import ntk_limit
from w2v_inf.models.linear import init_finite, init_mup_limit
from w2v_inf.models.ntk_limit import NtkLimit, init_ntk_limit
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import UpdateRule
from w2v_inf.reference import updates as reference


def make(vocab_size: int, scale: float, rule: UpdateRule = UpdateRule(0.2)) -> NtkLimit:
    generator = torch.Generator().manual_seed(0)
    return init_ntk_limit(vocab_size, scale, generator, torch.float64, rule=rule)


def rule_of(weight_decay: float, whole: bool) -> UpdateRule:
    gradient = ContextGradient.whole if whole else ContextGradient.divided
    return UpdateRule(weight_decay, context_gradient=gradient)


def z_table(model: NtkLimit) -> torch.Tensor:
    return model.z.full(torch.arange(len(model.s))).T


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("scale", "whole"), [(0.0, False), (0.7, False), (0.7, True)])
def test_step_equals_the_reference(
    shape: tuple[int, ...], scale: float, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a high floor, scales are multiplied into their rows within the test.
    monkeypatch.setattr(ntk_limit, "MIN_SCALE", 0.9)
    model = make(shape[0], scale, rule_of(0.2, whole))
    z, s = np.zeros((shape[0], shape[0])), np.ones(shape[0])
    random = None
    if model.random_output is not None:
        e = model.random_output.e.numpy().copy()
        random = (e, np.ones(shape[0]), np.zeros_like(z), scale)
    for seed in range(4):
        batch = toy_batch(seed, *shape)
        z, s, random, loss = reference.ntk_update(
            z, s, **arrays(batch), weight_decay=0.2, random_output=random, whole=whole
        )
        assert model.update(batch) == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(z_table(model), z, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(model.s, s, rtol=1e-12)
        if model.random_output is not None and random is not None:
            np.testing.assert_allclose(model.random_output.t, random[1], rtol=1e-12)
            p = model.random_output.p.full(torch.arange(shape[0]))
            np.testing.assert_allclose(p, random[2], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_dense_limit_with_frozen_u(shape: tuple[int, ...]) -> None:
    """Switching off u's gradient (not its decay) turns the muP limit into the NTK limit."""
    frozen = UpdateRule(0.2, lr_factors=(0.0, 1.0))
    dense, ntk = init_mup_limit(shape[0], 0.0, torch.float64, rule=frozen), make(shape[0], 0.0)
    for seed in range(5):
        batch = toy_batch(seed, *shape)
        assert ntk.update(batch) == pytest.approx(dense.update(batch), rel=1e-12)
    torch.testing.assert_close(z_table(ntk), dense.w.T, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(ntk.s, dense.u.diagonal(), rtol=1e-12, atol=0)


def logits(model: NtkLimit) -> torch.Tensor:
    table = model.s[:, None] * z_table(model)
    if (random := model.random_output) is not None:
        p = random.p.full(torch.arange(len(model.s)))
        table = table + random.t * (p + model.s[:, None] * random.e)
    return table


@pytest.mark.parametrize(("scale", "whole"), [(0.0, False), (1.0, False), (1.0, True)])
def test_wide_ntp_networks_approach_it(scale: float, whole: bool) -> None:
    """Slope about -1/2 in the width.

    The limit takes its random initial logits from the network that it is compared with.
    """
    widths, distances, rule = [64, 512, 4096], [], rule_of(0.05, whole)
    batches = [toy_batch(step, 7, 5, 4, 3, 2) for step in range(6)]
    for width in widths:
        errors = []
        for seed in range(8):
            generator = torch.Generator().manual_seed(seed)
            exponents = ABC[Parametrization.ntp]
            network = init_finite(
                7, width, exponents, scale, generator, torch.float64, rule=rule
            )
            limit = make(7, scale, rule)
            if limit.random_output is not None:
                limit.random_output.e.copy_(network.u @ network.w.T)
            network.train_batches(batches)
            limit.train_batches(batches)
            errors.append(float((network.u @ network.w.T - logits(limit)).norm()))
        distances.append(np.mean(errors))
    slope = np.polyfit(np.log(widths), np.log(distances), 1)[0]
    assert -0.6 < slope < -0.4


def test_grams() -> None:
    model = make(7, 0.0)
    for seed in range(5):
        model.update(toy_batch(seed, 7, 5, 4, 3, 2))
    rows, everything = torch.tensor([4, 0]), torch.arange(7)
    assert torch.equal(model.gram(rows), torch.eye(7, dtype=torch.float64)[rows])
    w = z_table(model).T
    torch.testing.assert_close(model.gram(rows, None, Embedding.output), w[rows] @ w.T)
    total = w + torch.diag(model.s)
    torch.testing.assert_close(model.gram(everything, rows, Embedding.sum), total @ total[rows].T)
    torch.testing.assert_close(model.squared_norms(Embedding.sum), total.square().sum(1))


def test_decay_leaves_directions_but_not_lengths() -> None:
    model = make(7, 0.0)
    model.update(toy_batch(0, 7, 5, 4, 3, 2))
    assert float(model.s.min()) < 1
    assert torch.equal(model.squared_norms(), torch.ones(7, dtype=torch.float64))


def test_state_round_trip() -> None:
    one, other = make(7, 1.0), make(7, 1.0)
    one.update(toy_batch(0, 7, 5, 4, 3, 2))
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    assert torch.equal(logits(one), logits(other)) and not torch.equal(
        logits(one), logits(make(7, 1.0))
    )
