"""Vectors for other programs: a trained model, the infinite-width limit too, at any number of columns.

The limit has V columns; programs that compare words by cosines want a few hundred. Three ways to cut it down, with Gram matrix
G = u u^T and cosines C = L^-1 G L^-1, L the lengths of the embeddings:
- principal: the k leading eigenvectors of G times the roots of their eigenvalues, nearest to G itself (Eckart & Young 1936).
  Each word's own direction, which others do not share, is lost, and with it length: cosines come out too large.
- sample: u Omega / sqrt(k) with Omega ~ N(0, 1). The net of width k whose initial rows came out as Omega, moved as the limit's:
  every inner product is right on average, with deviation about 1 / sqrt(k) of the lengths.
- fit: unit vectors x with the least |X X^T - C|^2, then given the lengths L. The nearest correlation matrix of rank k (Pietersz &
  Groenen 2004): majorization replaces X by the unit rows of X - (X X^T - C) X / lambda, lambda the largest eigenvalue of
  X^T X, which never raises the sum. Lengths are no longer lost, since it is cosines that are fitted.

Decisions:
- G meets vectors only as G X (`Model.gram_matmul`): no V x V matrix is made.
- The leading eigenvectors come from subspace iteration (Halko, Martinsson & Tropp 2011) with a few more columns than asked.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2v_inf import compose
from w2v_inf.config import Config, Embedding, Finite, ModelConfig, NtkLimit, VectorMethod
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import analogy_accuracy, inverse_lengths, load_questions
from w2v_inf.evaluation.limit_distance import COMMONEST, limit_distance
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.files import write_json
from w2v_inf.models.cpu.threads import set_threads
from w2v_inf.models.linear import LinearModel, row_blocks
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import CONFIG, run_folder
from w2v_inf.runs.weights import open_run
from w2v_inf.word2vec_format import SUFFIXES, write_vectors

log = logging.getLogger(__name__)
DEFAULT_DIMENSION = 300
EXTRA_COLUMNS, POWER_STEPS = 10, 4
FIT_STEPS = 50


def export(config: Config) -> Path:
    """Write the vectors of the run in run_dir to `export.out`, and beside them OUT.json: what they lost; prints it as a table.

    Raises: UserError for a folder that is not a finished run, a dimension that the model does not have, or the NTK limit.
    Cost: for `fit` about 60 products G X of 4 V D k FLOP each; V = D = 8,000, k = 300: 2 minutes of one core. For the low-rank limit
      D counts as 2 r.
    """
    set_threads(config)
    folder = run_folder(config)
    model, vocab = open_run(folder, config)
    embedding = config.evaluate.embedding
    method, dimension = choose(model, compose.read(folder / CONFIG).model, config)
    vectors = reduce(model, method, dimension, embedding)
    name = f"vectors-{method.value}-{vectors.shape[1]}{SUFFIXES[config.export.format]}"
    path = Path(config.export.out) if config.export.out else folder / name
    write_vectors(path, vocab, vectors.cpu().numpy(), config.export.format)
    loss = compare(model, vectors, vocab, embedding)
    write_json(
        path.with_name(path.name + ".json"),
        {"run": str(folder), "method": method.value, "embedding": embedding.value} | loss,
    )
    print(format_comparison(loss))
    log.info(
        "%s: %s words, %d columns, %s", path, f"{len(vocab):,}", vectors.shape[1], method.value
    )
    return path


def choose(model: Model, trained: ModelConfig, config: Config) -> tuple[VectorMethod, int]:
    """The method and the dimension that the options mean for a model."""
    wanted, dimension, embedding = (
        config.export.method,
        config.export.dimension,
        config.evaluate.embedding,
    )
    if isinstance(trained, NtkLimit) and (
        embedding is Embedding.input or trained.output_init_scale
    ):
        reason = "its embeddings never leave their random start: every cosine is 0, and a file of them would be noise"
        other = (
            ""
            if trained.output_init_scale
            else ", or its coefficients with evaluate.embedding=output"
        )
        raise UserError(
            f"model=ntk_limit has no vectors to export ({reason}): export another model{other}"
        )
    columns = model.vectors(slice(0, 1), embedding).shape[1]
    own = wanted is VectorMethod.own or (
        wanted is VectorMethod.auto and isinstance(trained, Finite)
    )
    if own and dimension in (None, columns):
        return VectorMethod.own, columns
    if wanted is VectorMethod.own:
        raise UserError(
            f"export.dimension must be null or {columns:,} with export.method=own, got {dimension:,}"
        )
    most = min(columns, len(model.squared_norms(embedding)))
    if dimension and dimension > most and wanted is not VectorMethod.sample:
        raise UserError(
            f"export.dimension must be at most {most:,}, the columns of the model, got {dimension:,}"
        )
    method = VectorMethod.fit if wanted is VectorMethod.auto else wanted
    return method, dimension or min(DEFAULT_DIMENSION, most)


@torch.no_grad()
def reduce(
    model: Model, method: VectorMethod, dimension: int, embedding: Embedding, steps: int = FIT_STEPS
) -> Tensor:
    """Vectors of all words by one of the methods above, [V, dimension] float32; `own` has all columns."""
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
        omega = (
            torch.randn(columns, dimension, generator=generator, dtype=squared.dtype).to(
                squared.device
            )
            / dimension**0.5
        )
        return torch.cat(
            [model.vectors(rows, embedding) @ omega for rows in row_blocks(len(squared))]
        )
    inverse = inverse_lengths(squared)
    x = normalize(principal_factor(model, inverse, dimension, embedding, generator))
    for _ in range(steps):
        inner = x.T @ x  # [k, k]
        away = x @ inner - gram_times(model, inverse, x, embedding)
        x = normalize(x - away / torch.linalg.eigvalsh(inner)[-1])
    return x * squared.sqrt()[:, None]


def gram_times(model: Model, scale: Tensor, x: Tensor, embedding: Embedding) -> Tensor:
    """S G S x with G the Gram matrix and S = diag(scale [V]); x [V, k] -> [V, k]."""
    return scale[:, None] * model.gram_matmul(scale[:, None] * x, embedding)


def principal_factor(
    model: Model, scale: Tensor, dimension: int, embedding: Embedding, generator: torch.Generator
) -> Tensor:
    """The [V, dimension] factor F with the least |F F^T - S G S|, by randomized subspace iteration."""
    columns = min(len(scale), dimension + EXTRA_COLUMNS)
    basis = torch.randn(len(scale), columns, generator=generator, dtype=scale.dtype).to(
        scale.device
    )
    for _ in range(POWER_STEPS):
        basis = torch.linalg.qr(gram_times(model, scale, basis, embedding)).Q
    values, rotation = torch.linalg.eigh(basis.T @ gram_times(model, scale, basis, embedding))
    leading = slice(-dimension, None)
    return (basis @ rotation[:, leading].flip(1)) * values[leading].flip(0).clamp(min=0).sqrt()


def compare(
    model: Model, vectors: Tensor, vocab: Vocabulary, embedding: Embedding
) -> dict[str, Any]:
    """What vectors lost of their model: the distance of their Gram matrix and cosines, and both accuracies.

    gram_error: relative Frobenius distance of inner products; cosines: see `assess.limit_distance`; of the 2,000 commonest words.
    """
    ids = torch.arange(min(COMMONEST, len(vocab)), device=vectors.device)
    ours = LinearModel(vectors, vectors)
    gram = model.gram(ids, ids, embedding)
    questions = load_questions(vocab)
    return {
        "dimension": vectors.shape[1],
        "gram_error": float((ours.gram(ids, ids) - gram).norm() / gram.norm()),
        "cosines": limit_distance(
            cosine_table(ours, ids, ids).cpu(), cosine_table(model, ids, ids, embedding).cpu()
        ),
        "analogy": analogy_accuracy(ours, questions)["3cosadd"]["total"],
        "analogy_of_model": analogy_accuracy(model, questions, embedding=embedding)["3cosadd"][
            "total"
        ],
    }


def format_comparison(loss: dict[str, Any]) -> str:
    """The table that `export` prints."""
    rows = {
        "Gram error": f"{loss['gram_error']:.4f}",
        "cosine error": "-"
        if loss["cosines"]["gram_error"] is None
        else f"{loss['cosines']['gram_error']:.4f}",
        "10 neighbours kept": f"{100 * loss['cosines']['neighbour_overlap']:.1f} %",
        "analogies": _accuracy(loss["analogy"]),
        "analogies of the model": _accuracy(loss["analogy_of_model"]),
    }
    return "\n".join(f"{name:26}{value}" for name, value in rows.items())


def _accuracy(tally: dict[str, Any]) -> str:
    return (
        "no question in the vocabulary"
        if tally["accuracy"] is None
        else f"{tally['accuracy']:.2f} % of {tally['questions']:,}"
    )
