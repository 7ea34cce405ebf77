"""The distance of a run to the infinite-width limit, in cosines and neighbours of common words."""

from pathlib import Path

import torch
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import Summary

COMMONEST = 2000
"""Number of common words on which two runs are compared."""
NUM_NEIGHBOURS = 10


def add_limit_distance(
    folder: Path, model: Model, vocab: Vocabulary, limit: Model, limit_vocab: Vocabulary
) -> dict[str, float | None]:
    """Write the distance to a run of the limit into the summary of `folder`, and return it.

    Raises: UserError if the two vocabularies differ.
    """
    if vocab.words != limit_vocab.words:
        raise UserError(
            f"evaluate.limit_run must have the vocabulary of {folder} ({len(vocab):,} words), "
            f"has another of {len(limit_vocab):,}"
        )
    ids = torch.arange(min(COMMONEST, len(vocab)))
    tables = (cosine_table(m, ids, ids).double().cpu() for m in (model, limit))
    summary = Summary.load(folder)
    summary.limit_distance = limit_distance(*tables)
    if distributed.is_main_process():
        summary.save(folder)
    return summary.limit_distance


def limit_distance(cosines: Tensor, limit: Tensor) -> dict[str, float | None]:
    """Compare a table of cosines [N, N] with the limit's, [N, N].

    Returns: a dictionary of
      'gram_error': Frobenius distance relative to the limit's norm, off the diagonal. Each table's
        mean is subtracted first, because a common component makes all raw cosines large. None if
        the limit's table is constant.
      'neighbour_overlap': mean share of the 10 nearest neighbours in common.
      'words': N.
    """
    off = ~torch.eye(len(limit), dtype=torch.bool)
    ours, theirs = (table[off] - table[off].mean() for table in (cosines, limit))
    norm = float(theirs.norm())
    error = float((ours - theirs).norm()) / norm if norm else None
    k = min(NUM_NEIGHBOURS, len(limit) - 1)
    nearest = [table.masked_fill(~off, -torch.inf).topk(k).indices for table in (cosines, limit)]
    common = (nearest[0][:, :, None] == nearest[1][:, None, :]).sum()
    return {
        "gram_error": error,
        "neighbour_overlap": float(common) / (k * len(limit)),
        "words": len(limit),
    }
