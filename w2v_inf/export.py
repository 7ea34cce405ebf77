"""Vectors for other programs: any trained model, limits included, at any number of columns.

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
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel, row_blocks
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import CONFIG, finished_folder
from w2v_inf.runs.weights import open_run
from w2v_inf.word2vec_format import SUFFIXES, write_vectors

log = logging.getLogger(__name__)
DEFAULT_DIMENSION = 300
EXTRA_COLUMNS, POWER_STEPS = 10, 4
FIT_STEPS = 50


def export(config: Config) -> Path:
    """Write the vectors of the run in run_dir to `export.out`, and their errors to OUT.json.

    The errors are printed as a table too.
    Raises: UserError for a folder without a finished run, a dimension that the model does not have,
      or the NTK limit.
    Cost: for `fit`, about 60 products G X of 4 V D k FLOP each; 2 minutes of one core at
      V = D = 8,000, k = 300. In the low-rank limit D counts as 2 r.
    """
    with training_threads(config.num_threads):
        return _export(config)


def _export(config: Config) -> Path:
    """`export` on the configured threads."""
    folder = finished_folder(config)
    model, vocab = open_run(folder, config)
    embedding = config.evaluate.embedding
    method, dimension = choose(model, compose.read(folder / CONFIG).model, config)
    name = f"vectors-{method.value}-{dimension}{SUFFIXES[config.export.format]}"
    path = Path(config.export.out) if config.export.out else folder / name
    _announce(path, method, dimension, len(vocab))
    vectors = reduce(model, method, dimension, embedding)
    write_vectors(path, vocab, vectors.cpu().numpy(), config.export.format)
    errors = compare(model, vectors, vocab, embedding)
    origin = {"run": str(folder), "method": method.value, "embedding": embedding.value}
    write_json(path.with_name(path.name + ".json"), origin | errors)
    print(format_comparison(errors))
    log.info(
        "%s: %s words, %d columns, %s", path, f"{len(vocab):,}", vectors.shape[1], method.value
    )
    return path


def _announce(path: Path, method: VectorMethod, dimension: int, num_words: int) -> None:
    """Say what begins: it may take minutes, and may cost an older file."""
    if path.exists():
        log.info("%s exists and will be overwritten", path)
    if method is not VectorMethod.own:
        log.info("reducing %s words to %d columns (%s)", f"{num_words:,}", dimension, method.value)


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


def compare(
    model: Model, vectors: Tensor, vocab: Vocabulary, embedding: Embedding
) -> dict[str, Any]:
    """The errors of vectors [V, k] beside their model, and the accuracy of both.

    Returns: {'dimension', 'gram_error', 'cosines', 'analogy', 'analogy_of_model'}, with
      'gram_error' the relative Frobenius distance of inner products, and 'cosines' the numbers of
      `limit_distance`, its 'gram_error' as 'error'. Both are on the 2,000 commonest words.
    """
    ids = torch.arange(min(COMMONEST, len(vocab)), device=vectors.device)
    ours = LinearModel(vectors, vectors)
    gram = model.gram(ids, ids, embedding)
    questions = load_questions(vocab)
    reference = analogy_accuracy(model, questions, embedding=embedding)
    cosines = limit_distance(
        cosine_table(ours, ids, ids).cpu(), cosine_table(model, ids, ids, embedding).cpu()
    )
    cosines["error"] = cosines.pop("gram_error")
    return {
        "dimension": vectors.shape[1],
        "gram_error": float((ours.gram(ids, ids) - gram).norm() / gram.norm()),
        "cosines": cosines,
        "analogy": analogy_accuracy(ours, questions)["3cosadd"]["total"],
        "analogy_of_model": reference["3cosadd"]["total"],
    }


def format_comparison(errors: dict[str, Any]) -> str:
    """The table that `export` prints."""
    cosines = errors["cosines"]
    error = "-" if cosines["error"] is None else f"{cosines['error']:.4f}"
    rows = {
        "Gram error": f"{errors['gram_error']:.4f}",
        "cosine error": error,
        "10 neighbours kept": f"{100 * cosines['neighbour_overlap']:.1f} %",
        "analogies": _accuracy(errors["analogy"]),
        "analogies of the model": _accuracy(errors["analogy_of_model"]),
    }
    return "\n".join(f"{name:26}{value}" for name, value in rows.items())


def _accuracy(counts: dict[str, Any]) -> str:
    if counts["accuracy"] is None:
        return "no question in the vocabulary"
    return f"{counts['accuracy']:.2f} % of {counts['questions']:,}"
