"""Stage 3: evaluate a finished run again, any vectors, or several of both side by side."""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from w2v_inf import distributed
from w2v_inf.config import Config, EvaluateConfig
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.finite_check import check_lengths
from w2v_inf.evaluation.format import format_comparison, format_distance, format_evaluation
from w2v_inf.evaluation.limit_distance import add_limit_distance
from w2v_inf.evaluation.similarity import evaluate_model, load_sets
from w2v_inf.files import write_json
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import Summary, finished_folder
from w2v_inf.runs.weights import open_run
from w2v_inf.vector_folders.folder import CONFIG as EXPORTED
from w2v_inf.vector_folders.read import read_file_or_folder

log = logging.getLogger(__name__)


def evaluate(config: Config) -> dict[str, Any]:
    """Evaluate `evaluate.embedding` of the run in run_dir; returns and prints the result.

    Writes evaluation-EMBEDDING.json into the run folder. With `evaluate.limit_run`, the distance to
    that run is printed too, and goes into the summary. With `evaluate.vectors`, that file is
    evaluated instead, into FILE.evaluation.json. `evaluate.out` names another file. With
    `evaluate.compare`, all that it names are evaluated, and saved only in `evaluate.out`.
    Raises: UserError for a folder without a finished run, a file without vectors, two runs of
      different vocabularies, or a result that cannot be saved; it is printed then.
    """
    with training_threads(config.num_threads):
        return _evaluate(config)


def _evaluate(config: Config) -> dict[str, Any]:
    """`evaluate` on the configured threads."""
    if config.evaluate.compare:
        return compare(config)
    if config.evaluate.vectors:
        return evaluate_vectors(Path(config.evaluate.vectors), config.evaluate)
    folder = finished_folder(config)
    model, vocab = open_run(folder, config)
    embedding = config.evaluate.embedding
    evaluation = evaluate_model(model, vocab, load_sets(vocab, config.evaluate), embedding)
    path = folder / f"evaluation-{embedding.value}.json"
    _print_and_save(evaluation, Path(config.evaluate.out or path))
    if config.evaluate.limit_run:
        limit = Path(config.evaluate.limit_run)
        if (kind := Summary.load(limit).model) != "mup_limit":
            raise UserError(
                f"evaluate.limit_run must be a run of model=mup_limit, {limit} holds model={kind}"
            )
        distance = add_limit_distance(folder, model, vocab, *open_run(limit, config))
        if distributed.is_main_process():
            print(format_distance(distance))
    return evaluation


def evaluate_vectors(path: Path, options: EvaluateConfig | None = None) -> dict[str, Any]:
    """Evaluate word vectors of a file or an exported folder, from any program.

    The result goes to `evaluate.out` or beside them.
    """
    path = Path(os.path.abspath(path))  # a folder may be `.`, which has no name
    model, vocab = open_vectors(path)
    evaluation = evaluate_model(model, vocab, load_sets(vocab, options))
    beside = path.with_name(path.name + ".evaluation.json")
    _print_and_save(evaluation, Path((options and options.out) or beside))
    return evaluation


def open_vectors(path: Path) -> tuple[Model, Vocabulary]:
    """Word vectors of a file or an exported folder, as a model.

    Raises: UserError as `read_file_or_folder`.
    """
    vocab, vectors = read_file_or_folder(path)
    table = torch.from_numpy(vectors)
    model = LinearModel(table, table)
    check_lengths(model, path)
    return model, vocab


def compare(config: Config) -> dict[str, Any]:
    """Evaluate all runs, files and folders of `evaluate.compare`; prints one table.

    Returns: {path: evaluation}, which goes to `evaluate.out` if that is given.
    """
    evaluations: dict[str, Any] = {}
    for name in config.evaluate.compare:
        if not (path := Path(name)).exists():
            raise UserError(
                f"evaluate.compare: {path.absolute()} not found: give run folders and vector files"
            )
        is_run = path.is_dir() and not (path / EXPORTED).is_file()
        model, vocab = open_run(path, config) if is_run else open_vectors(path)
        embedding = config.evaluate.embedding
        sets = load_sets(vocab, config.evaluate)
        log.info("%s: %s words", path, f"{len(vocab):,}")
        evaluations[name] = evaluate_model(model, vocab, sets, embedding)
    if distributed.is_main_process():
        print(format_comparison(evaluations), flush=True)
    if config.evaluate.out and distributed.is_main_process():
        _save(evaluations, Path(config.evaluate.out))
    return evaluations


def _print_and_save(evaluation: dict[str, Any], path: Path) -> None:
    """In this order: the folder may belong to another user."""
    if distributed.is_main_process():
        print(format_evaluation(evaluation), flush=True)
        _save(evaluation, path)


def _save(evaluation: dict[str, Any], path: Path) -> None:
    try:
        write_json(path, evaluation)
    except UserError as error:
        raise UserError(
            f"the result is printed, but not saved: {error}; or set evaluate.out"
        ) from error
