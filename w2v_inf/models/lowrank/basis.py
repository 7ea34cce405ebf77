"""The basis B of the low-rank engine: the directions that training amplifies most.

Given the gradients g of its logits, a step is linear, and the same for every column of u and w:
  [u; w] <- S [u; w],    S = [[D_u, A], [A^T, D_w]],    A_io = lr sum_e x_ei g_eo,
where x_ei is the share of word i in the context of example e, and D is what weight decay leaves of
each row. With P = S_T ... S_1, the limit ends at P [I; 0]. Let P_1 be the first V columns of P, and
E its diagonal, with zeros elsewhere. The best directions are the leading right singular vectors of
P_1 - E. A pilot run takes one step of randomized subspace iteration towards them (Halko,
Martinsson & Tropp 2011, section 4.5), over the first epochs:
- Forward pass: P_1 times a random matrix is what a finite network learns that is initialised at
  it. Train that network, and keep the gradients of its logits.
- Transpose pass: S is symmetric, so P^T is the same steps in reverse order, with those gradients.
docs/lowrank.md derives this and says how accurate it is.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from w2v_inf.errors import UserError
from w2v_inf.models.batch_counts import (
    count_together,
    counts_of,
    stack,
    stored_counts,
)
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.column_split import (
    load_scratch,
    most_scratch_rows,
    split_logits,
    update_rows,
)
from w2v_inf.models.cpu.row_steps import NO_SCALES, has_means, row_steps
from w2v_inf.models.cpu.rows import multiply
from w2v_inf.models.cpu.step import TILE, compiled_rule, num_threads_for, sgd_steps
from w2v_inf.models.cpu.threads import unowned
from w2v_inf.models.lowrank.step import Factors
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch, Stream

log = logging.getLogger(__name__)
PILOT_EPOCHS = 2
"""The first epochs amplify nearly what the whole training does: docs/lowrank.md has figures."""
RANK_STEP = 16
"""A tolerance takes so many columns at a time: rows then fill whole vector registers."""
OVERSAMPLING = 128
"""Columns of the pilot run's network beyond those of the basis."""
MAX_GRADIENTS = 1 << 18
"""Gradients of the batches that one call takes: some hundred default batches."""
LOG_INTERVAL_S = 30.0
MIN_OWN_ENERGY = 1e-3
"""Where less than this share of e_i is outside the basis, the engine does not train s_i."""


def inverse_own_energy(b: np.ndarray) -> np.ndarray:
    """1 / |(I - B B^T) e_i|^2 for each word i, or 0 below MIN_OWN_ENERGY; [V]."""
    energy = 1 - np.square(b).sum(1)
    inverse = 1 / np.maximum(energy, MIN_OWN_ENERGY)
    return np.where(energy > MIN_OWN_ENERGY, inverse, 0).astype(b.dtype)


def start_on_commonest_words(vocab_size: int, rank: int, dtype: type = np.float32) -> Factors:
    """u = I and w = 0 on the directions of the `rank` commonest words."""
    return start_on(np.eye(vocab_size, rank, dtype=dtype))


def start_on(b: np.ndarray) -> Factors:
    """u = I and w = 0 on the basis `b` [V, r], whose columns are orthonormal."""
    w, n = np.zeros(b.shape, b.dtype), np.zeros(b.shape, b.dtype)
    return Factors(b.copy(), w, n, b, s=np.ones(len(b), b.dtype), own=inverse_own_energy(b))


class Basis(NamedTuple):
    """The result of a pilot run."""

    b: np.ndarray
    """Orthonormal columns, [V, rank], float32."""
    residual_energy: float
    """Share of the energy of P_1 - E outside B, as `_residual_energy` estimates it."""


def find_basis(
    stream: Stream,
    rank: int,
    rule: UpdateRule = UpdateRule(),
    max_bytes: int = 1 << 31,
    interrupted: Callable[[], bool] = lambda: False,
    tolerance: float = 0.0,
) -> Basis | None:
    """The directions that the first epochs of `stream` amplify most; None if interrupted.

    Args:
      rank: of the basis; with `tolerance` the largest allowed.
      rule: of the training.
      max_bytes: of kept gradients, at which the pilot run ends.
      tolerance: if above 0, take the fewest columns, a multiple of RANK_STEP, whose residual energy
        is at most this.
    Raises: UserError if the pilot run diverges.
    Cost: two steps per batch of a finite network of width rank + OVERSAMPLING; three tables of that
      width; gradients of 34 bytes per position (CBOW) or about 520 (skip-gram) with default
      batches. The random matrix is the same for every seed.
    """
    vocab_size = len(stream.counts)
    omega = _random_matrix(vocab_size, min(vocab_size, rank + OVERSAMPLING))
    u, w = omega.clone(), torch.zeros_like(omega)
    gradients = _forward_pass(stream, u, w, rule, max_bytes, interrupted)
    if gradients is None:
        return None
    diagonal = ((u * omega).sum(1) / omega.square().sum(1))[:, None]  # of P_1, estimated
    learned = u.sub_(diagonal * omega)
    gram = learned.T @ learned + w.T @ w
    u = learned.clone()
    del omega
    if not _transpose_pass(stream, u, w, rule, gradients, interrupted):
        return None
    u -= diagonal * learned  # (P_1 - E)^T (P_1 - E) omega
    del learned, w
    if not torch.isfinite(u).all():
        raise _diverged(stream, "in the transpose pass")
    b = _leading_directions(u, rank)
    residual = _residual_energy(_random_matrix(*u.shape).T @ b, gram)
    if tolerance:
        sufficient = int((residual > tolerance).sum()) + 1
        rank = min(rank, -(-sufficient // RANK_STEP) * RANK_STEP)
    return Basis(np.ascontiguousarray(b[:, :rank].numpy()), float(residual[rank - 1]))


def _random_matrix(vocab_size: int, width: int) -> torch.Tensor:
    """Omega [V, width], with rows of length about 1; the same numbers in every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(vocab_size, width, generator=generator) / math.sqrt(width)


Gradients = list[tuple[tuple[int, int], np.ndarray]]
"""(epoch, block) of some consecutive batches, and the gradients of their logits, float16."""


def _forward_pass(
    stream: Stream,
    u: torch.Tensor,
    w: torch.Tensor,
    rule: UpdateRule,
    max_bytes: int,
    interrupted: Callable[[], bool],
) -> Gradients | None:
    """Train u, w on the first epochs; the gradients of all logits, or None if interrupted."""
    gradients: Gradients = []
    num_bytes, loss = 0, math.nan
    blocks = list(islice(stream.blocks(), PILOT_EPOCHS * stream.num_blocks))
    steps = (
        (block, batches)
        for block in _logged("pilot run, forward pass", blocks)
        for batches in _some_batches(stream, block)
    )
    for (epoch, number), batches in steps:
        kept: list[np.ndarray] = []
        loss = sgd_steps(u, w, batches, rule, kept=kept).mean()
        if not math.isfinite(loss):
            raise _diverged(stream, f"in block {number + 1} of epoch {epoch + 1}")
        gradients.append(((epoch, number), np.concatenate(kept).astype(np.float16)))
        num_bytes += gradients[-1][1].nbytes
        if interrupted():
            return None
        if num_bytes > max_bytes:
            log.info("pilot run: ends early, at %.1f GiB of gradients", num_bytes / 2**30)
            break
    epochs = len({block for block, _ in gradients}) / max(1, stream.num_blocks)
    log.info("pilot run: %.2g epochs, loss %.3f nats; now the transpose pass", epochs, loss)
    return gradients


def _transpose_pass(
    stream: Stream,
    u: torch.Tensor,
    w: torch.Tensor,
    rule: UpdateRule,
    gradients: Gradients,
    interrupted: Callable[[], bool],
) -> bool:
    """Multiply [u; w] by P^T in place; False if interrupted."""
    by_block = {
        block: [kept for _, kept in group] for block, group in groupby(gradients, itemgetter(0))
    }
    for block in _logged("pilot run, transpose pass", list(reversed(by_block))):
        kept = by_block[block]
        some = list(islice(_some_batches(stream, block), len(kept)))
        for batches, its_gradients in zip(reversed(some), reversed(kept), strict=True):
            transpose_steps(u, w, batches, its_gradients, rule)
            if interrupted():
                return False
    return True


def _diverged(stream: Stream, where: str) -> UserError:
    return UserError(
        f"the pilot run of model.engine=lowrank diverged {where}: lower train.lr "
        f"(now {stream.lr:g}) or stream.batch_size (now {stream.config.batch_size})"
    )


def _some_batches(stream: Stream, block: tuple[int, int]) -> Iterator[list[Batch]]:
    """The batches of a block, in lists of about MAX_GRADIENTS logits, whatever the batch size."""
    batches: list[Batch] = []
    num_gradients = 0
    for batch in stream.block(*block):
        batches.append(batch)
        num_negatives = min(batch.negatives.size, len(stream.counts))
        num_gradients += len(batch.target) * (num_negatives + 1)
        if num_gradients > MAX_GRADIENTS:
            yield batches
            batches, num_gradients = [], 0
    if batches:
        yield batches


def _logged(name: str, blocks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The blocks, with a line in the log every LOG_INTERVAL_S."""
    due = time.monotonic() + LOG_INTERVAL_S
    for number, block in enumerate(blocks):
        if time.monotonic() >= due:
            log.info("%s: block %d of %d", name, number, len(blocks))
            due = time.monotonic() + LOG_INTERVAL_S
        yield block


def _leading_directions(table: torch.Tensor, rank: int) -> torch.Tensor:
    """The leading left singular vectors of table [V, columns]; [V, rank]."""
    # QR first: its columns are orthonormal to rounding, however unequal the singular values are.
    qr = torch.linalg.qr(table)
    return qr.Q @ torch.linalg.svd(qr.R)[0][:, :rank]


def _residual_energy(omega_b: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Share of the energy of X = P_1 - E outside the first 1, 2, ... columns of B; [rank] float64.

    X Omega is X B (B^T Omega), of rank r, plus what X maps outside B to random columns. Removing
    the r directions B^T Omega from its columns leaves columns - r degrees of freedom of the latter.
    B was chosen by the same columns, so the estimate is too low: by 10 to 20 % where r is a third
    of the columns, by 25 to 30 % at two thirds, by half at five sixths (power-law spectra).

    Args:
      omega_b: Omega^T B, [columns, rank], of the random matrix Omega [V, columns].
      gram: (X Omega)^T X Omega, [columns, columns].
    """
    columns, rank = omega_b.shape
    q = torch.linalg.qr(omega_b.double()).Q
    energy = gram.double().trace()
    left = energy - ((gram.double() @ q) * q).sum(0).cumsum(0)
    freedom = (columns - torch.arange(1, rank + 1)).clamp(min=1)
    return (left / energy * columns / freedom).clamp(min=0)


def transpose_steps(
    u: torch.Tensor,
    w: torch.Tensor,
    batches: Sequence[Batch],
    gradients: np.ndarray,
    rule: UpdateRule = UpdateRule(),
    tile: int = TILE,
) -> None:
    """Multiply [u; w] by the transposed steps of `batches`, the last first, in place.

    Args:
      u, w: [V, D], float32 or float64, C-contiguous on the CPU.
      gradients: of all logits of `batches`, as `cpu.step.sgd_steps` keeps them, in one array.
      rule, tile: as there.
    Cost: the updates of a finite network, without logits. Threads need no barrier but the first.
    """
    num_threads, kept = num_threads_for(u.shape[1]), gradients.astype(u.numpy().dtype)
    stacked, stored = stack(batches), stored_counts(batches, len(u))
    arguments = u.numpy(), w.numpy(), stacked, stored, compiled_rule(rule), tile, kept
    threads.run(_transpose, num_threads, *arguments)


@njit(cache=True, nogil=True)
def _transpose(thread_id, num_threads, sync, u, w, batches, stored, rule, tile, kept):
    """The transposed steps of all batches on the columns of one thread."""
    stored = count_together(thread_id, num_threads, sync, batches, stored, len(u))
    u, w = unowned(u), unowned(w)
    start, stop = threads.column_slice(thread_id, num_threads, u.shape[1])
    scratch = np.empty(most_scratch_rows(stored) * min(tile, stop - start), kept.dtype)
    end = len(kept)
    for k in range(len(batches.lr) - 1, -1, -1):
        counts = counts_of(stored, k)
        u_steps, w_steps = row_steps(counts, batches.lr[k], NO_SCALES, rule, kept)
        size = counts.negative_counts.size + len(counts.pair_output)
        g, pair_g = split_logits(kept[end - size : end], counts)
        end -= size
        for c in range(start, stop, tile):
            width = min(tile, stop - c)
            hidden = load_scratch(u, w, counts, u_steps, w_steps, c, width, scratch)
            # With the whole gradient S is not symmetric: each word gets the gradient of the mean.
            # Transposed, w gets the words' sum, and words their share of its gradient.
            if rule.whole_gradient and has_means(counts):
                for e in range(len(hidden)):
                    num_words = counts.first_slot[e + 1] - counts.first_slot[e]
                    multiply(kept.dtype.type(num_words), hidden[e])
            update_rows(
                u, w, counts, u_steps, w_steps, c, c + width, width, scratch, g, pair_g, False, 0
            )
