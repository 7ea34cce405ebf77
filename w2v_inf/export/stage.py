"""Stage: write the vectors of a finished run for other programs.

The methods are in reduce.py. Files are written by word2vec_format.py, folders by vector_folders/.
"""

import logging
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2v_inf import compose
from w2v_inf.config import Config, Embedding, VectorFormat, VectorMethod
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import analogy_accuracy, load_questions
from w2v_inf.evaluation.limit_distance import COMMONEST, limit_distance
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.export.card import render_card
from w2v_inf.export.facts import gather_facts
from w2v_inf.export.push import check_name, push_folder
from w2v_inf.export.reduce import choose, reduce
from w2v_inf.files import write_json
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import CONFIG, finished_folder
from w2v_inf.runs.weights import open_run
from w2v_inf.vector_folders.folder import DATA, LIBRARY, check_replaceable
from w2v_inf.vector_folders.hub import write_hub
from w2v_inf.vector_folders.projector import write_projector
from w2v_inf.word2vec_format import SUFFIXES, write_vectors

log = logging.getLogger(__name__)


def export(config: Config) -> Path:
    """Write the vectors of the run in run_dir to `export.out`, a file or a folder; returns it.

    What they are and lose goes to OUT.json, or to config.json in the folder, and is printed as a
    table. With `export.push` the folder is uploaded too.
    Raises: UserError for a folder without a finished run, a dimension that the model does not have,
      the NTK limit, something else at `export.out`, or an upload that fails.
    Cost: for `fit`, about 60 products G X of 4 V D k FLOP each; 2 minutes of one core at
      V = D = 8,000, k = 300. In the low-rank limit D counts as 2 r.
    """
    with training_threads(config.num_threads):
        return _export(config)


def _export(config: Config) -> Path:
    """`export` on the configured threads."""
    if config.export.push:
        check_name(config.export.push)
    folder = finished_folder(config)
    model, vocab = open_run(folder, config)
    embedding, format = config.evaluate.embedding, config.export.format
    method, dimension = choose(model, compose.read(folder / CONFIG).model, config)
    end = f"-{format.value}" if format in DATA else SUFFIXES[format]
    name = f"vectors-{method.value}-{dimension}{end}"
    path = Path(config.export.out) if config.export.out else folder / name
    if format in DATA:
        path = Path(os.path.realpath(path))  # a folder is renamed: not a link, nor `.`
        check_replaceable(path)
    _announce(path, method, dimension, len(vocab))
    vectors = reduce(model, method, dimension, embedding)
    measured = compare(model, vectors, vocab, embedding)
    facts = gather_facts(folder, method, embedding, measured)
    if format in DATA:
        _write_folder(path, config, vocab, vectors.cpu().numpy(), facts)
    else:
        write_vectors(path, vocab, vectors.cpu().numpy(), format)
        write_json(path.with_name(path.name + ".json"), facts | {"run": str(folder)})
    print(format_comparison(measured))
    log.info("%s: %s words, %d columns, %s", path, f"{len(vocab):,}", dimension, method.value)
    if config.export.push:
        push_folder(path, config.export.push)
    return path


def _write_folder(
    path: Path, config: Config, vocab: Vocabulary, vectors: np.ndarray, facts: dict[str, Any]
) -> None:
    """Write vectors [V, D] as the folder that the options want, with their facts."""
    if config.export.format is VectorFormat.projector:
        write_projector(path, vocab, vectors, facts)
        return
    version = metadata.version(LIBRARY)
    card = render_card(facts, vocab, vectors.shape[1], version, config.export.push)
    write_hub(path, vocab, vectors, facts, card)


def _announce(path: Path, method: VectorMethod, dimension: int, num_words: int) -> None:
    """Say what begins: it may take minutes, and may cost an older file."""
    if path.exists():
        log.info("%s exists and will be overwritten", path)
    if method is not VectorMethod.own:
        log.info("reducing %s words to %d columns (%s)", f"{num_words:,}", dimension, method.value)


def compare(
    model: Model, vectors: Tensor, vocab: Vocabulary, embedding: Embedding
) -> dict[str, Any]:
    """The errors of vectors [V, k] beside their model, and the accuracy of both.

    Returns: {'dimension', 'gram_error', 'cosines', 'analogy', 'analogy_of_model', 'approximation'},
      with 'gram_error' the relative Frobenius distance of inner products, and 'cosines' the numbers
      of `limit_distance`, its 'gram_error' as 'error'. Both are on the 2,000 commonest words.
      'approximation' has the model's own diagnostics.
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
        "approximation": model.diagnostics(),
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
