"""The basis of the low-rank engine: the directions that training amplifies most, from one training there and back.

Given the gradients of the logits a step is linear, and the same for every column of u and w:
  [u; w] <- S [u; w],   S = [[D_u, A], [A^T, D_w]],   A_io = lr sum_e bag_ei g_eo,   D: what weight decay leaves of each row.
With P = S_T ... S_1 the limit ends at P [I; 0]. The leading right singular vectors of P's first V columns, less the identity, are the
directions along which it has learnt most. `find_basis` takes one step of randomized subspace iteration (Halko, Martinsson & Tropp 2011,
section 4.5) towards them:
- P times a random matrix, at [I; 0], is what a finite net learns that starts there: train it, keeping the gradients of its logits.
- S is symmetric, so that P^T is the same steps in the opposite order: `go_back` takes them, with the gradients that were kept.
docs/lowrank.md derives it and says how good it is.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from w2v_inf.errors import UserError
from w2v_inf.models.batch_counts import stack
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.rows import multiply
from w2v_inf.models.cpu.step import (
    NO_SCALES,
    TILE,
    compiled_rule,
    load_scratch,
    num_threads_for,
    plan_step,
    scratch_rows,
    sgd_steps,
    split_logits,
    update_rows,
)
from w2v_inf.models.lowrank.step import Factors
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch, Stream

log = logging.getLogger(__name__)
REHEARSED_EPOCHS = 2
"""What the first epochs amplify is what the whole training amplifies, nearly: docs/lowrank.md has the figures."""
RANK_STEP = 16
"""Columns that a tolerance takes at a time: rows of whole vector registers."""
OVERSAMPLING = 128
"""Columns of the net beside those of the basis."""
NUMBERS_AT_ONCE = 1 << 18
"""Gradients of the batches that are taken at once: some hundred default batches."""
SAID_EVERY_S = 30.0
NEARLY_ALL = 1e-3
"""Below this share of e_i outside the basis its own direction is not followed."""


def own_weights(b: np.ndarray) -> np.ndarray:
    """1 / |(I - B B^T) e_i|^2 for each word, 0 where next to nothing is left; [V]."""
    outside = 1 - np.square(b).sum(1)
    return np.where(outside > NEARLY_ALL, 1 / np.maximum(outside, NEARLY_ALL), 0).astype(b.dtype)


def first_factors(vocab_size: int, rank: int, dtype: type = np.float32) -> Factors:
    """The start of training, u = I and w = 0, on the directions of the `rank` commonest words."""
    return factors_on(np.eye(vocab_size, rank, dtype=dtype))


def factors_on(b: np.ndarray) -> Factors:
    """The start of training, u = I and w = 0, on the basis `b` [V, r] with orthonormal columns."""
    return Factors(
        b.copy(),
        np.zeros(b.shape, b.dtype),
        np.zeros(b.shape, b.dtype),
        b,
        np.ones(len(b), b.dtype),
        own_weights(b),
    )


class Basis(NamedTuple):
    """What a rehearsal found."""

    b: np.ndarray
    """Orthonormal columns, [V, rank], float32."""
    missed: float
    """Share of the energy of P - E outside them, by `_missed`."""


def find_basis(
    stream: Stream,
    rank: int,
    rule: UpdateRule,
    most_bytes: int = 1 << 31,
    interrupted: Callable[[], bool] = lambda: False,
    tolerance: float = 0.0,
) -> Basis | None:
    """A basis of what the first epochs of `stream` amplify most; None if it was interrupted.

    Args: rule as in `cpu.step.sgd_steps`; most_bytes: of kept gradients, which end the rehearsal early if
      they are more; tolerance: above 0, as few columns (in steps of 16) as miss no more, at most `rank`.
    Raises: UserError if the net diverges.
    Cost: two steps of a finite net of width rank + OVERSAMPLING for each batch; three tables of that width, and 34 bytes a position
      (CBOW) or about 250 (skip-gram) of gradients with default batches. Its random start is the same for every seed.
    """
    vocab_size = len(stream.counts)
    start = _random_start(vocab_size, min(vocab_size, rank + OVERSAMPLING))
    u, w = start.clone(), torch.zeros_like(start)
    kept = _there(stream, partial(sgd_steps, u, w, rule=rule), most_bytes, interrupted)
    if kept is None:
        return None
    own = ((u * start).sum(1) / start.square().sum(1))[
        :, None
    ]  # what each word has along its own direction
    learnt = u.sub_(own * start)
    gram = learnt.T @ learnt + w.T @ w
    u = learnt.clone()
    del start
    if not _back(stream, partial(go_back, u, w, rule=rule), kept, interrupted):
        return None
    u -= own * learnt  # and so twice without the identity: (P - E)^T (P - E)
    del learnt, w
    if not torch.isfinite(u).all():
        raise _diverged(stream, "on the way back")
    b = _leading(u, rank)
    missed = _missed(_random_start(*u.shape).T @ b, gram)
    if tolerance:
        enough = int((missed > tolerance).sum()) + 1
        rank = min(rank, -(-enough // RANK_STEP) * RANK_STEP)
    return Basis(np.ascontiguousarray(b[:, :rank].numpy()), float(missed[rank - 1]))


def _random_start(vocab_size: int, width: int) -> torch.Tensor:
    """Rows of length about 1; the same numbers each time."""
    return torch.randn(vocab_size, width, generator=torch.Generator().manual_seed(0)) / math.sqrt(
        width
    )


Kept = list[tuple[tuple[int, int], np.ndarray]]
"""Of each piece of the stream that was trained on: its block, and its gradients, float16."""


def _there(
    stream: Stream,
    step: Callable[..., np.ndarray],
    most_bytes: int,
    interrupted: Callable[[], bool],
) -> Kept | None:
    """Take `step` with the first epochs, piece by piece; what was kept on the way, or None if it was interrupted."""
    kept: Kept = []
    num_bytes, loss = 0, math.nan
    places = list(islice(stream.blocks(), REHEARSED_EPOCHS * stream.num_blocks))
    for place, piece in (
        (at, piece) for at in _saying("rehearsing", places) for piece in _pieces(stream, at)
    ):
        gradients: list[np.ndarray] = []
        loss = step(piece, kept=gradients).mean()
        if not math.isfinite(loss):
            raise _diverged(stream, f"in block {place[1] + 1} of epoch {place[0] + 1}")
        kept.append((place, np.concatenate(gradients).astype(np.float16)))
        num_bytes += kept[-1][1].nbytes
        if interrupted():
            return None
        if num_bytes > most_bytes:
            log.info("%.1f GiB of gradients are as many as are kept", num_bytes / 2**30)
            break
    epochs = len({place for place, _ in kept}) / max(1, stream.num_blocks)
    log.info("%.2g epochs of a finite net: loss %.3f nats; now back", epochs, loss)
    return kept


def _back(
    stream: Stream, step_back: Callable[..., None], kept: Kept, interrupted: Callable[[], bool]
) -> bool:
    """Take `step_back` with every piece that was kept, the last first; False if it was interrupted."""
    blocks = {
        place: [gradients for _, gradients in group]
        for place, group in groupby(kept, key=itemgetter(0))
    }
    for place in _saying("going back", list(reversed(blocks))):
        pieces = list(islice(_pieces(stream, place), len(blocks[place])))
        for piece, gradients in zip(reversed(pieces), reversed(blocks[place]), strict=True):
            step_back(piece, gradients)
            if interrupted():
                return False
    return True


def _diverged(stream: Stream, where: str) -> UserError:
    advice = (
        f"lower train.lr (now {stream.lr:g}) or stream.batch_size (now {stream.config.batch_size})"
    )
    return UserError(f"the rehearsal of model.engine=lowrank diverged {where}: {advice}")


def _pieces(stream: Stream, place: tuple[int, int]) -> Iterator[list[Batch]]:
    """The batches of a block, in stretches that take a moment, and little room for their gradients whatever the batch size."""
    piece: list[Batch] = []
    numbers = 0
    for batch in stream.block(*place):
        piece.append(batch)
        numbers += len(batch.target) * (min(batch.negatives.size, len(stream.counts)) + 1)
        if numbers > NUMBERS_AT_ONCE:
            yield piece
            piece, numbers = [], 0
    if piece:
        yield piece


def _saying(what: str, places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The places, with a line in the log now and then."""
    due = time.monotonic() + SAID_EVERY_S
    for number, place in enumerate(places):
        if time.monotonic() >= due:
            log.info("%s: block %d of %d", what, number, len(places))
            due = time.monotonic() + SAID_EVERY_S
        yield place


def _leading(table: torch.Tensor, rank: int) -> torch.Tensor:
    """The leading left singular vectors of table [V, columns]: [V, rank]."""
    # QR first: its columns are orthonormal to rounding, however unequal the singular values of the table.
    spanned = torch.linalg.qr(table)
    return spanned.Q @ torch.linalg.svd(spanned.R)[0][:, :rank]


def _missed(seen: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Share of the energy of X = P - E outside the first 1, 2, ... directions of a basis B, [rank] float64.

    Args: seen: Omega^T B, [columns, rank], of the random start Omega [V, columns]; gram: (X Omega)^T X Omega, [columns, columns].
    X Omega is X B (B^T Omega), of rank r, plus what X does outside B to random columns. Taking out the r directions B^T Omega of its
    columns leaves columns - r degrees of freedom of the latter. B was chosen by these very columns, so this is too low: by 10 to 20 % where
    r is a third of the columns, 25 to 30 % at two thirds, half at five sixths (power-law spectra).
    """
    columns, rank = seen.shape
    q = torch.linalg.qr(seen.double()).Q
    energy = gram.double().trace()
    left = energy - ((gram.double() @ q) * q).sum(0).cumsum(0)
    freedom = (columns - torch.arange(1, rank + 1)).clamp(min=1)
    return (left / energy * columns / freedom).clamp(min=0)


def go_back(
    u: torch.Tensor,
    w: torch.Tensor,
    batches: Sequence[Batch],
    kept: np.ndarray,
    rule: UpdateRule,
    tile: int = TILE,
) -> None:
    """Multiply [u; w] by the transposed steps of `batches`, the last first, in place: with P for all of them, by P^T.

    Args: u, w, float32 or float64, and the rest as in `cpu.step.sgd_steps`; kept: the gradients that it kept, of all batches, one array.
    Cost: a finite net's updates, without its logits; threads do not meet.
    """
    num_threads = num_threads_for(u.shape[1])
    gradients = kept.astype(u.numpy().dtype)
    options = compiled_rule(rule), tile, gradients
    threads.run(_go_back, num_threads, u.numpy(), w.numpy(), stack(batches), *options)


@njit(cache=True, nogil=True)
def _go_back(rank, num_threads, sync, u, w, batches, rule, tile, kept):
    """The share of thread `rank` in the transposed steps: its columns."""
    start, stop = threads.column_slice(rank, num_threads, u.shape[1])
    index_of = np.full(len(u), -1, np.int32)
    end = len(kept)
    for b in range(len(batches.lr) - 1, -1, -1):
        rows, negatives, u_steps, w_steps = plan_step(batches, b, index_of, NO_SCALES, rule, kept)
        num_examples = len(rows.pair_output)
        size = negatives.size + num_examples
        g, pair_g = split_logits(kept[end - size : end], negatives, num_examples)
        end -= size
        for c in range(start, stop, tile):
            width = min(tile, stop - c)
            scratch = np.empty(scratch_rows(rows, negatives) * width, kept.dtype)
            hidden, mean = load_scratch(u, w, rows, u_steps, w_steps, negatives, c, width, scratch)
            if (
                rule.whole_gradient and mean
            ):  # each word gets what the mean gets: transposed, w gets their sum, and they the mean's share
                for e in range(len(hidden)):
                    multiply(kept.dtype.type(rows[3][e + 1] - rows[3][e]), hidden[e])
            update_rows(
                u, w, rows, u_steps, w_steps, c, c + width, width, scratch, g, pair_g, False, 0
            )
