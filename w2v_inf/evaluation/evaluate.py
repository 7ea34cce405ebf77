"""Stage 3: evaluate a finished run again: other vectors, or its distance to the limit."""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from w2v_inf import distributed
from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import load_questions
from w2v_inf.evaluation.finite_check import check_lengths
from w2v_inf.evaluation.limit_distance import add_limit_distance
from w2v_inf.evaluation.similarity import evaluate_model
from w2v_inf.files import write_json
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel
from w2v_inf.runs.folder import Summary, finished_folder
from w2v_inf.runs.weights import open_run
from w2v_inf.vector_folders.read import read_file_or_folder

log = logging.getLogger(__name__)


def evaluate(config: Config) -> dict[str, Any]:
    """Evaluate `evaluate.embedding` of the run in run_dir; returns and prints the result.

    Writes evaluation-EMBEDDING.json into the run folder. With `evaluate.limit_run`, the distance to
    that run is printed too, and goes into the summary. With `evaluate.vectors`, that file is
    evaluated instead, into FILE.evaluation.json. `evaluate.out` names another file.
    Raises: UserError for a folder without a finished run, a file without vectors, two runs of
      different vocabularies, or a result that cannot be saved; it is printed then.
    """
    with training_threads(config.num_threads):
        return _evaluate(config)


def _evaluate(config: Config) -> dict[str, Any]:
    """`evaluate` on the configured threads."""
    if config.evaluate.vectors:
        return evaluate_vectors(Path(config.evaluate.vectors), config.evaluate.out)
    folder = finished_folder(config)
    model, vocab = open_run(folder, config)
    embedding = config.evaluate.embedding
    evaluation = evaluate_model(model, vocab, load_questions(vocab), embedding)
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


def evaluate_vectors(path: Path, out: str = "") -> dict[str, Any]:
    """Evaluate word vectors of a file or an exported folder; the result goes to `out` or beside."""
    path = Path(os.path.abspath(path))  # a folder may be `.`, which has no name
    vocab, vectors = read_file_or_folder(path)
    table = torch.from_numpy(vectors)
    model = LinearModel(table, table)
    check_lengths(model, path)
    evaluation = evaluate_model(model, vocab, load_questions(vocab))
    beside = path.with_name(path.name + ".evaluation.json")
    _print_and_save(evaluation, Path(out or beside))
    return evaluation


def _print_and_save(evaluation: dict[str, Any], path: Path) -> None:
    """In this order: the folder may belong to another user."""
    if not distributed.is_main_process():
        return
    print(format_evaluation(evaluation), flush=True)
    try:
        write_json(path, evaluation)
    except UserError as error:
        raise UserError(
            f"the result is printed, but not saved: {error}; or set evaluate.out"
        ) from error


def format_evaluation(evaluation: dict[str, Any]) -> str:
    """A plain table: accuracy by section under both rules, then the similarities."""
    protocol = evaluation["protocol"]
    questions = f"{protocol['questions_seen']:,} of {protocol['questions_total']:,} questions"
    lines = [
        f"vocabulary {protocol['vocabulary']:,}, {questions}, "
        f"embedding={protocol['embedding']}, chance {evaluation['chance']:.3g} %",
        f"{'':30}{'3CosAdd %':>10}{'3CosMul %':>10}{'asked':>8}",
    ]
    add, mul = evaluation["analogy"]["3cosadd"], evaluation["analogy"]["3cosmul"]
    rows = [(name, add["sections"][name], mul["sections"][name]) for name in add["sections"]]
    rows += [(part, add[part], mul[part]) for part in ("semantic", "syntactic", "total")]
    for name, first, second in rows:
        accuracies = _percent(first["accuracy"]) + _percent(second["accuracy"])
        lines.append(f"{name:30}{accuracies}{first['questions']:>8,}")
    for name, result in evaluation["similarity"].items():
        rho = _three_digits(result["spearman"])
        lines.append(
            f"{name:30}{rho:>10}  (Spearman, {result['pairs']} of {result['total']} pairs)"
        )
    return "\n".join(lines)


def format_distance(distance: dict[str, float | None]) -> str:
    """The last line of the table: how far a run lies from the limit."""
    error, overlap = distance["gram_error"], distance["neighbour_overlap"]
    numbers = f"cosine-Gram error {_three_digits(error)}, neighbour overlap {overlap:.3f}"
    return f"{'distance to the limit':30}{numbers} (the {distance['words']:,} commonest words)"


def _three_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.2f}':>10}"
