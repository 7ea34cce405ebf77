"""Reduction to few columns: the guarantees of the methods, and what the options mean."""

import numpy as np
import pytest
import torch
from composed import config_of

from w2v_inf.config import Embedding, Finite, MupLimit, NtkLimit, VectorMethod
from w2v_inf.errors import UserError
from w2v_inf.export.reduce import choose, gram_times, reduce
from w2v_inf.models.linear import LinearModel
from w2v_inf.models.ntk_limit import init_ntk_limit


def table(rows: int = 6, columns: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def limit_like(vocab_size: int = 60, seed: int = 0) -> LinearModel:
    """Like the limit: the identity, a learnt part of low rank, and a common component."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(vocab_size, 4, generator=generator) for _ in range(2))
    u = torch.eye(vocab_size) + 0.1 * a @ b.T + 0.1
    return LinearModel(u, torch.zeros_like(u))


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(vectors)
    return unit @ unit.T


def test_principal_is_the_best_factor_of_the_gram_matrix() -> None:
    model = limit_like()
    gram = model.u @ model.u.T
    values, vectors = torch.linalg.eigh(gram.double())
    for k in (1, 3, 10):
        best = (vectors[:, -k:] * values[-k:]) @ vectors[:, -k:].T
        x = reduce(model, VectorMethod.principal, k, Embedding.input)
        error = float((x @ x.T - gram).norm()), float((best - gram).norm())
        assert x.shape == (60, k) and error[0] == pytest.approx(error[1], rel=1e-3)


def test_principal_at_full_rank_is_the_model() -> None:
    model = LinearModel(torch.from_numpy(table()), torch.from_numpy(table(seed=1)))
    for embedding in Embedding:
        x = reduce(model, VectorMethod.principal, 5, embedding)
        torch.testing.assert_close(
            x @ x.T, model.gram(torch.arange(6), None, embedding), atol=1e-5, rtol=1e-5
        )


def test_sample_is_right_on_average_and_halves_its_error_with_four_times_the_columns() -> None:
    model = limit_like()
    gram = model.u @ model.u.T
    errors = {}
    for k in (50, 200, 800, 3200):
        x = reduce(model, VectorMethod.sample, k, Embedding.input)
        errors[k] = float((x @ x.T - gram).norm() / gram.norm())
    slope = np.polyfit(np.log(list(errors)), np.log(list(errors.values())), 1)[0]
    assert -0.6 < slope < -0.4, errors


def test_fit_keeps_lengths_and_never_gets_worse() -> None:
    model = limit_like()
    target, lengths = cosines(model.u), model.u.norm(dim=1)
    errors = []
    for steps in (0, 1, 2, 5, 20, 100):
        x = reduce(model, VectorMethod.fit, 12, Embedding.input, steps)
        torch.testing.assert_close(x.norm(dim=1), lengths, rtol=1e-5, atol=0)
        errors.append(float((cosines(x) - target).norm()))
    assert errors == sorted(errors, reverse=True)
    others = [
        reduce(model, method, 12, Embedding.input)
        for method in (VectorMethod.principal, VectorMethod.sample)
    ]
    assert all(errors[-1] < 0.9 * float((cosines(other) - target).norm()) for other in others)


def test_gram_products_block_by_block() -> None:
    """2,100 rows are three blocks."""
    u, x, column = (torch.from_numpy(table(2100, columns)).double() for columns in (5, 3, 1))
    scale = column[:, 0]
    model = LinearModel(u, u)
    expected = scale[:, None] * (model.u @ (model.u.T @ (scale[:, None] * x)))
    torch.testing.assert_close(gram_times(model, scale, x, Embedding.input), expected)


@pytest.mark.parametrize(
    ("options", "trained", "chosen"),
    [
        ([], Finite(), (VectorMethod.own, 5)),
        (["export.dimension=5"], Finite(), (VectorMethod.own, 5)),
        (["export.dimension=3"], Finite(), (VectorMethod.fit, 3)),
        ([], MupLimit(), (VectorMethod.fit, 5)),
        (["export.method=own"], MupLimit(), (VectorMethod.own, 5)),
        (["export.method=sample", "export.dimension=100"], MupLimit(), (VectorMethod.sample, 100)),
        (
            ["export.method=own", "export.dimension=3"],
            Finite(),
            "export.dimension must be null or 5 with export.method=own",
        ),
        (["export.dimension=6"], MupLimit(), "export.dimension must be at most 5"),
        (
            [],
            NtkLimit(),
            "model=ntk_limit has no vectors .* or its coefficients with evaluate.embedding=output",
        ),
        (
            ["evaluate.embedding=output"],
            NtkLimit(output_init_scale=1.0),
            "model=ntk_limit has no vectors to export",
        ),
    ],
)
def test_the_choice_of_auto_and_what_is_refused(options, trained, chosen) -> None:
    model = LinearModel(torch.from_numpy(table()), torch.from_numpy(table()))
    if isinstance(chosen, tuple):
        assert choose(model, trained, config_of(*options)) == chosen
    else:
        with pytest.raises(UserError, match=chosen):
            choose(model, trained, config_of(*options))


@pytest.mark.parametrize("embedding", list(Embedding))
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_the_ntk_limits_vectors_have_its_inner_products(embedding: Embedding, scale: float) -> None:
    model = init_ntk_limit(6, scale, torch.Generator().manual_seed(0))
    model.z.rows.normal_(generator=torch.Generator().manual_seed(1))
    vectors = model.vectors(slice(0, 6), embedding)
    torch.testing.assert_close(vectors @ vectors.T, model.gram(torch.arange(6), None, embedding))
