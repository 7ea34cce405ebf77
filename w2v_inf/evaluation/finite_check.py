"""Whether a model has diverged: tables or lengths of embeddings that no float32 holds.

A loss is of the tables before a step. The last steps of an epoch can therefore ruin a table while
every loss was finite.
"""

import numpy as np
import torch

from w2v_inf import distributed
from w2v_inf.config import Embedding
from w2v_inf.errors import UserError
from w2v_inf.models.protocol import Model
from w2v_inf.stream import Stream

LARGEST_SQUARE = torch.finfo(torch.float32).max / 16
"""Of a length. Inner products, of the sum of both embeddings too, are then finite in float32."""
ROWS_CHECKED = 1024


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all entries are finite; by slices of rows, which keeps the mask small."""
    return all(bool(torch.isfinite(rows).all()) for rows in tensor.split(ROWS_CHECKED))


def lengths_fit(model: Model) -> bool:
    """Whether all inner products of the model's embeddings are finite in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [model.squared_norms(embedding) for embedding in Embedding]
    return all(bool((square <= LARGEST_SQUARE).all()) for square in squares)  # false for nan


def check_lengths(model: Model, path: object) -> None:
    """Raises: UserError if the vectors of a file are too long to compare."""
    if not lengths_fit(model):
        limit = LARGEST_SQUARE**0.5
        raise UserError(
            f"{path} has vectors longer than {limit:.0e} or not finite: scale them down"
        )


def check_not_diverged(model: Model, stream: Stream, when: str) -> None:
    """All processes call this together, before anything of the model is evaluated or saved.

    Raises: UserError if a table or a length is not finite.
    """
    # The lengths first: they refuse infinities too, and make no copy of a pair table.
    ok = lengths_fit(model) and all(map(is_finite, model.state().values()))
    [is_diverged] = distributed.all_reduce_max(not ok)
    if is_diverged:
        raise UserError(
            f"the embeddings are infinite or too long for float32 {when}: lower train.lr "
            f"(now {stream.lr:g}), stream.batch_size (now {stream.config.batch_size}) or "
            "model.output_init_scale"
        )
