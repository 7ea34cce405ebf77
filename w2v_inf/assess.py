"""Stage 3: ask a finished run again: other embeddings, or its distance to the infinite-width limit's run."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2v_inf import config as options
from w2v_inf import ranks, records
from w2v_inf.analogy import load_questions
from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.evaluate import cosine_table, evaluate_model
from w2v_inf.files import read_json, write_json
from w2v_inf.models import LinearModel, Model, build_model
from w2v_inf.training import set_threads
from w2v_inf.vectors import read_vectors
from w2v_inf.vocab import Vocabulary

log = logging.getLogger(__name__)

COMMONEST = 2000
"""Words among which two runs are compared."""
NEIGHBOURS = 10


def evaluate(config: Config) -> dict[str, Any]:
    """Evaluate the run in run_dir with `evaluate.embedding`; writes evaluation-EMBEDDING.json there and prints a table.

    With `evaluate.limit_run` its distance to that run is put in its summary as well. With `evaluate.vectors` that file is
    evaluated instead, into FILE.evaluation.json.
    Raises: UserError for a folder that is not a finished run, a file that has no vectors, or two runs of different vocabularies.
    """
    set_threads(config)
    if config.evaluate.vectors:
        return evaluate_vectors(Path(config.evaluate.vectors))
    folder = records.run_folder(config)
    model, vocab = open_run(folder, config)
    embedding = config.evaluate.embedding
    evaluation = evaluate_model(model, vocab, load_questions(vocab), embedding)
    if ranks.is_first():
        write_json(folder / f"evaluation-{embedding.value}.json", evaluation)
    if config.evaluate.limit_run:
        limit = Path(config.evaluate.limit_run)
        if (kind := read_json(limit / records.SUMMARY).get("model")) != "mup_limit":
            raise UserError(f"evaluate.limit_run must be a run of model=mup_limit, {limit} holds model={kind}")
        add_limit_distance(folder, model, vocab, *open_run(limit, config))
    if ranks.is_first():
        print(format_evaluation(evaluation))
    return evaluation


def evaluate_vectors(path: Path) -> dict[str, Any]:
    """Evaluate a file of word vectors, whoever made it."""
    vocab, vectors = read_vectors(path)
    table = torch.from_numpy(vectors)
    evaluation = evaluate_model(LinearModel(table, table), vocab, load_questions(vocab))
    if ranks.is_first():
        write_json(path.with_name(path.name + ".evaluation.json"), evaluation)
        print(format_evaluation(evaluation))
    return evaluation


def open_run(folder: Path, machine: Config) -> tuple[Model, Vocabulary]:
    """The trained model of a finished run on the device of `machine`, and its vocabulary."""
    read_json(folder / records.SUMMARY)
    config = options.read(folder / records.CONFIG)
    config.device = machine.device
    vocab = Vocabulary.load(folder / records.VOCABULARY)
    model = build_model(config, len(vocab))
    records.load_state(folder, model)
    return model, vocab


def add_limit_distance(folder: Path, model: Model, vocab: Vocabulary, limit: Model, limit_vocab: Vocabulary) -> None:
    """Put the distance to the limit's run into the summary of `folder`."""
    if vocab.words != limit_vocab.words:
        raise UserError(
            f"evaluate.limit_run must have the vocabulary of {folder} ({len(vocab):,} words), has another of {len(limit_vocab):,}"
        )
    summary = read_json(folder / records.SUMMARY)
    ids = torch.arange(min(COMMONEST, len(vocab)))
    summary["limit_distance"] = limit_distance(*(cosine_table(m, ids, ids).double().cpu() for m in (model, limit)))
    if ranks.is_first():
        write_json(folder / records.SUMMARY, summary)


def limit_distance(cosines: Tensor, limit: Tensor) -> dict[str, float | None]:
    """How far one [N, N] table of cosines lies from the limit's.

    gram_error: Frobenius distance relative to the limit, off the diagonal and with each table's mean taken out (a
    common component makes all raw cosines large). neighbour_overlap: mean share of the 10 nearest neighbours in common.
    """
    off = ~torch.eye(len(limit), dtype=torch.bool)
    ours, theirs = (table[off] - table[off].mean() for table in (cosines, limit))
    norm = float(theirs.norm())
    error = float((ours - theirs).norm()) / norm if norm else None
    k = min(NEIGHBOURS, len(limit) - 1)
    nearest = [table.masked_fill(~off, -torch.inf).topk(k).indices for table in (cosines, limit)]
    common = (nearest[0][:, :, None] == nearest[1][:, None, :]).sum()
    return {"gram_error": error, "neighbour_overlap": float(common) / (k * len(limit)), "words": len(limit)}


def format_evaluation(evaluation: dict[str, Any]) -> str:
    """A plain table: accuracy by section under both rules, then the similarities."""
    protocol = evaluation["protocol"]
    head = f"vocabulary {protocol['vocabulary']:,}, {protocol['questions_seen']:,} of {protocol['questions_total']:,} questions"
    lines = [
        f"{head}, embedding={protocol['embedding']}, chance {evaluation['chance']:.3g} %",
        f"{'':30}{'3CosAdd %':>10}{'3CosMul %':>10}{'asked':>8}",
    ]
    add, mul = evaluation["analogy"]["3cosadd"], evaluation["analogy"]["3cosmul"]
    rows = [(name, add["sections"][name], mul["sections"][name]) for name in add["sections"]]
    rows += [(part, add[part], mul[part]) for part in ("semantic", "syntactic", "total")]
    for name, one, other in rows:
        lines.append(f"{name:30}{_percent(one['accuracy'])}{_percent(other['accuracy'])}{one['questions']:>8,}")
    for name, result in evaluation["similarity"].items():
        rho = "-" if result["spearman"] is None else f"{result['spearman']:.3f}"
        lines.append(f"{name:30}{rho:>10}  (Spearman, {result['pairs']} of {result['total']} pairs)")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.2f}':>10}"
