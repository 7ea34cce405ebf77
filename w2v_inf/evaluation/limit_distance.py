"""How far a run lies from the infinite-width limit: cosines and neighbours of the commonest words."""

from pathlib import Path

import torch
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.files import read_json, write_json
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import SUMMARY

COMMONEST = 2000
"""Words among which two runs are compared."""
NEIGHBOURS = 10


def add_limit_distance(
    folder: Path, model: Model, vocab: Vocabulary, limit: Model, limit_vocab: Vocabulary
) -> None:
    """Put the distance to the limit's run into the summary of `folder`."""
    if vocab.words != limit_vocab.words:
        raise UserError(
            f"evaluate.limit_run must have the vocabulary of {folder} ({len(vocab):,} words), has another of {len(limit_vocab):,}"
        )
    summary = read_json(folder / SUMMARY)
    ids = torch.arange(min(COMMONEST, len(vocab)))
    summary["limit_distance"] = limit_distance(
        *(cosine_table(m, ids, ids).double().cpu() for m in (model, limit))
    )
    if distributed.is_main_process():
        write_json(folder / SUMMARY, summary)


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
    return {
        "gram_error": error,
        "neighbour_overlap": float(common) / (k * len(limit)),
        "words": len(limit),
    }
