"""Vectors of any trained model, limits included, at any number of columns.

A limit has V columns; programs that compare words by cosines want a few hundred. Let u [V, D] be
the embeddings, L the diagonal matrix of their lengths, G = u u^T the Gram matrix, C = L^-1 G L^-1
the cosines, and k the columns wanted. Three methods reduce u to k columns:
- principal: the k leading eigenvectors of G times the roots of their eigenvalues. This is the
  nearest to G (Eckart & Young 1936). But the direction of each word that no other shares is lost,
  and some length with it: cosines come out too large.
- sample: u Omega / sqrt(k) with Omega ~ N(0, 1), the network of width k with the initial rows
  Omega, moved like the limit. Every inner product is right on average, with a deviation of about
  1 / sqrt(k) of the lengths.
- fit: unit vectors X with the least |X X^T - C|^2, then scaled by L: the nearest correlation matrix
  of rank k (Pietersz & Groenen 2004). Each step of the majorization replaces X by the unit rows of
  X - (X X^T - C) X / lambda, lambda the largest eigenvalue of X^T X. No step raises the sum. Since
  cosines are fitted, no length is lost.

Decisions:
- G enters only as a product G X (`Model.gram_matmul`): no V x V matrix is made.
- The leading eigenvectors come from subspace iteration (Halko, Martinsson & Tropp 2011), with
  `EXTRA_COLUMNS` more columns than wanted.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2v_inf.config import Config, Embedding, Finite, ModelConfig, NtkLimit, VectorMethod
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import inverse_lengths
from w2v_inf.models.linear import row_blocks
from w2v_inf.models.protocol import Model

DEFAULT_DIMENSION = 300
EXTRA_COLUMNS, POWER_STEPS = 10, 4
FIT_STEPS = 50
LOSES = {
    VectorMethod.own: "nothing: these are all columns of the model",
    VectorMethod.fit: "part of the direction that each word shares with no other; "
    "lengths are kept, and cosines are the closest that so few columns allow",
    VectorMethod.principal: "the direction that each word shares with no other, and length with "
    "it: cosines come out too large",
    VectorMethod.sample: "accuracy: inner products are right on average, with a random error that "
    "falls with the square root of the number of columns",
}
"""What the vectors of a method lack beside the model's own."""


def choose(model: Model, trained: ModelConfig, config: Config) -> tuple[VectorMethod, int]:
    """The method and the dimension that the options mean for this model.

    Raises: UserError if the model has no such vectors.
    """
    wanted, dimension, embedding = (
        config.export.method,
        config.export.dimension,
        config.evaluate.embedding,
    )
    if isinstance(trained, NtkLimit) and (
        embedding is Embedding.input or trained.output_init_scale
    ):
        coefficients = ", or its coefficients with evaluate.embedding=output"
        raise UserError(
            "model=ntk_limit has no vectors to export (its embeddings stay at their random "
            "initialisation: every cosine is 0, and the file would be noise): "
            f"export another model{'' if trained.output_init_scale else coefficients}"
        )
    columns = model.vectors(slice(0, 1), embedding).shape[1]
    own = wanted is VectorMethod.own or (
        wanted is VectorMethod.auto and isinstance(trained, Finite)
    )
    if own and (not dimension or dimension == columns):
        return VectorMethod.own, columns
    if wanted is VectorMethod.own:
        raise UserError(
            f"export.dimension must be null or {columns:,} with export.method=own, "
            f"got {dimension:,}"
        )
    largest = min(columns, len(model.squared_norms(embedding)))
    dimension = dimension or min(DEFAULT_DIMENSION, largest)
    if dimension > largest and wanted is not VectorMethod.sample:
        raise UserError(
            f"export.dimension must be at most {largest:,}, the columns of the model, "
            f"got {dimension:,}"
        )
    return VectorMethod.fit if wanted is VectorMethod.auto else wanted, dimension


@torch.no_grad()
def reduce(
    model: Model, method: VectorMethod, dimension: int, embedding: Embedding, steps: int = FIT_STEPS
) -> Tensor:
    """Vectors of all words by one of the methods above, [V, dimension]; `own` has all columns.

    steps: of the majorization, for `fit`. Deterministic: random matrices have a fixed seed.
    """
    squared = model.squared_norms(embedding)
    one = torch.ones_like(squared)
    generator = torch.Generator().manual_seed(0)
    if method is VectorMethod.own:
        return torch.cat(
            [model.vectors(rows, embedding).clone() for rows in row_blocks(len(squared))]
        )
    if method is VectorMethod.principal:
        return principal_factor(model, one, dimension, embedding, generator)
    if method is VectorMethod.sample:
        columns = model.vectors(slice(0, 1), embedding).shape[1]
        omega = torch.randn(columns, dimension, generator=generator, dtype=squared.dtype)
        omega = omega.to(squared.device) / dimension**0.5
        return torch.cat(
            [model.vectors(rows, embedding) @ omega for rows in row_blocks(len(squared))]
        )
    inverse = inverse_lengths(squared)
    x = normalize(principal_factor(model, inverse, dimension, embedding, generator))
    for _ in range(steps):
        inner = x.T @ x  # [k, k]
        excess = x @ inner - gram_times(model, inverse, x, embedding)  # (X X^T - C) X, [V, k]
        x = normalize(x - excess / torch.linalg.eigvalsh(inner)[-1])
    return x * squared.sqrt()[:, None]


def gram_times(model: Model, scale: Tensor, x: Tensor, embedding: Embedding) -> Tensor:
    """S G S x, with the Gram matrix G and S = diag(scale [V]); x [V, k] -> [V, k]."""
    return scale[:, None] * model.gram_matmul(scale[:, None] * x, embedding)


def principal_factor(
    model: Model, scale: Tensor, dimension: int, embedding: Embedding, generator: torch.Generator
) -> Tensor:
    """The factor F [V, dimension] with the least |F F^T - S G S|, S = diag(scale [V]).

    By randomized subspace iteration.
    """
    columns = min(len(scale), dimension + EXTRA_COLUMNS)
    basis = torch.randn(len(scale), columns, generator=generator, dtype=scale.dtype).to(
        scale.device
    )
    for _ in range(POWER_STEPS):
        basis = torch.linalg.qr(gram_times(model, scale, basis, embedding)).Q
    values, rotation = torch.linalg.eigh(basis.T @ gram_times(model, scale, basis, embedding))
    leading = slice(-dimension, None)
    return (basis @ rotation[:, leading].flip(1)) * values[leading].flip(0).clamp(min=0).sqrt()
