"""The SGD step on the CPU, compiled: `step.sgd_step` for many batches, in tiles of columns.

Decisions:
- Columns are independent given the gradients of the logits. So a step sums logits over tiles of
  columns, takes their gradients, and updates tile by tile. Hidden vectors and output rows of a tile
  stay in the second-level cache. Input rows, most of a batch, are read and updated in the table.
- Negatives are GEMMs, [E, D] x [D, N], by the BLAS that numba calls. Positives and context means
  are sparse, and cost less row by row.
- Threads count the batches of a call together. Then each keeps its own columns. Threads wait for
  each other once per batch, to add their partial logits, always in the same order. So training
  repeats bit for bit at a fixed number of threads, and no entry of a table is touched by two. See
  threads.py.
- bfloat16 tables have a float32 scale per row. It takes the weight decay, which is far below the
  precision of 8 bits.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from w2v_inf.models.batch_counts import (
    count_share,
    counts_of,
    counts_sizes,
    stack,
    stored_counts,
)
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.rows import (
    add,
    add_dots,
    add_rows,
    compiled,
    decay_and_add_rows,
    load_rows,
    mean_rows,
    multiply_rows,
    store_rows,
)
from w2v_inf.models.cpu.rows import update_rows as update_table_rows
from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.models.step import MIN_SCALE, UpdateRule, rounding_seed
from w2v_inf.stream import Batch

TILE = 1024
"""Most columns in a tile: hidden vectors and outputs of 4 KiB, about 150 of them."""
MIN_COLUMNS = 64
"""Columns that are worth a thread."""
COLUMNS_AT_ONCE = 1 << 19
"""Batches x columns per compiled call: about 0.2 s, after which Python can answer Ctrl-C."""
COUNTS_AT_ONCE = 1 << 21
"""Numbers in the counts of the batches of one compiled call: 16 MiB."""
NO_SCALES = (np.empty(0, np.float32), np.empty(0, np.float32))
"""For tables without row scales."""


class CompiledRule(NamedTuple):
    """`UpdateRule` for compiled code."""

    weight_decay: float
    u_lr_factor: float
    w_lr_factor: float
    tp4: bool
    whole_gradient: bool


class RowSteps(NamedTuple):
    """How a step changes its rows [R] of one table, besides their gradient.

    scale: before the step, [R]; empty without row scales.  decay: (1 - lr wd)^m, [R].
    lr: with the table's factor.  unscale: 1 / scale after the step, [R]; empty without row scales.
    """

    scale: np.ndarray
    decay: np.ndarray
    lr: float
    unscale: np.ndarray


def sgd_steps(
    u: torch.Tensor,
    w: torch.Tensor,
    batches: Sequence[Batch],
    rule: UpdateRule,
    scales: tuple[torch.Tensor, torch.Tensor] | None = None,
    tile: int = TILE,
    kept: list[np.ndarray] | None = None,
) -> np.ndarray:
    """One SGD step per batch, as `step.sgd_step`; updates `u`, `w` and `scales` in place.

    Args:
      u, w: input and output embedding, [V, D], C-contiguous on the CPU: float32, float64, or
        bfloat16 with `scales`.
      batches: of one stream.
      scales: of the rows of u and w, [V] float32 each: the embeddings are scale x row.
      tile: columns at a time.
      kept: if given, gets arrays of the gradients of the logits, for `lowrank.basis`.
    Returns: loss before each step, nats per example, [batches] float64.
    Cost: O((6 N + 4 C + 6) D) FLOP per position; about 3 (I + O) D numbers moved per batch.
    """
    at_once = batches_at_once(batches, u.shape)
    parts = [batches[k : k + at_once] for k in range(0, len(batches), at_once)]
    return np.concatenate([_steps(u, w, part, rule, scales, tile, kept) for part in parts])


def batches_at_once(batches: Sequence[Batch], shape: tuple[int, ...]) -> int:
    """Batches per compiled call on tables of shape [V, D]: little work, and memory for counts."""
    num_ints, num_floats = counts_sizes(batches, shape[0])
    return max(1, min(COLUMNS_AT_ONCE // shape[1], COUNTS_AT_ONCE // (num_ints + num_floats)))


def _steps(u, w, batches, rule, scales, tile, kept) -> np.ndarray:
    """`sgd_steps` in one compiled call per thread."""
    num_threads = num_threads_for(u.shape[1])
    # Per batch, logits of hidden vectors x distinct negatives, and of positives. There is room for
    # two batches, so that a thread may be one ahead.
    most = max(len(b.target) * (min(b.negatives.size, len(u)) + 1) for b in batches)
    parts = np.empty((2, num_threads, most), np.float64 if u.dtype is torch.float64 else np.float32)
    losses = np.empty(len(batches))
    gradients = np.empty(len(batches) * most if kept is not None else 0, parts.dtype)
    num_gradients = np.zeros(1, np.int64)
    threads.run(
        _train,
        num_threads,
        parts,
        *numpy_tables(u, w, scales),
        stack(batches),
        stored_counts(batches, len(u)),
        np.array([rounding_seed(b.words_seen) for b in batches]),
        compiled_rule(rule),
        tile,
        losses,
        gradients,
        num_gradients,
    )
    if kept is not None:
        kept.append(gradients[: num_gradients[0]])
    return losses


def numpy_tables(
    u: torch.Tensor, w: torch.Tensor, scales: tuple[torch.Tensor, torch.Tensor] | None
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """u, w (bfloat16 as uint16) and the scales of their rows, as numpy arrays; not copies."""
    u_table, w_table = (
        t.view(torch.uint16).numpy() if t.dtype is torch.bfloat16 else t.numpy() for t in (u, w)
    )
    return u_table, w_table, (scales[0].numpy(), scales[1].numpy()) if scales else NO_SCALES


def compiled_rule(rule: UpdateRule) -> CompiledRule:
    """The rule as plain numbers."""
    u_factor, w_factor = map(float, rule.lr_factors)
    return CompiledRule(float(rule.weight_decay), u_factor, w_factor, rule.tp4, rule.whole_gradient)


def num_threads_for(num_columns: int) -> int:
    """Threads that so many columns are worth, of those to train on."""
    return max(1, min(threads.size(), num_columns // MIN_COLUMNS))


@njit(cache=True, nogil=True)
def _train(
    thread_id, num_threads, sync, parts, u, w, scales, batches, stored, seeds, rule, tile, losses,
    gradients, num_gradients,
):  # fmt: skip
    """The steps of all batches on the columns of one thread."""
    zero = parts[0, 0, :1]  # for its type, that of the computation
    start, stop = threads.column_slice(thread_id, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    count_share(thread_id, num_threads, batches, stored, len(u))
    arrivals = num_threads
    threads.barrier(sync, arrivals, num_threads)
    scratch = np.empty(most_scratch_rows(stored) * tile, zero.dtype)
    for b in range(len(batches.lr)):
        counts = counts_of(stored, b)
        u_steps, w_steps = row_steps(counts, batches.lr[b], scales, rule, zero)

        logits, pair_logits = split_logits(parts[b % 2, thread_id], counts)
        partial_logits(
            u, w, counts, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits
        )
        arrivals += num_threads
        threads.barrier(sync, arrivals, num_threads)
        g, pair_g = sum_parts(parts[b % 2], counts)
        loss = logit_gradients(g.ravel(), pair_g, counts.negative_counts.ravel(), rule.tp4)
        update_rows(
            u, w, counts, u_steps, w_steps, start, stop, tile, scratch, g, pair_g,
            rule.whole_gradient, seeds[b],
        )  # fmt: skip

        if thread_id == 0:
            losses[b] = loss / len(pair_g)
            if len(gradients):
                _keep_gradients(gradients, num_gradients, g.ravel(), pair_g)
            store_scales(scales[0], counts.inputs, u_steps)
            store_scales(scales[1], counts.outputs, w_steps)
        if len(scales[0]):  # nobody reads the scales before they are written
            arrivals += num_threads
            threads.barrier(sync, arrivals, num_threads)


@compiled
def row_steps(counts, lr, scales, rule, zero):
    """`RowSteps` of u and of w, for one batch.

    Args: counts: `BatchCounts`; scales: of the rows of u and w, [V] each, or `NO_SCALES`;
      rule: `CompiledRule`; zero: an array of the type of the computation.
    """
    log_decay = math.log1p(-lr * rule.weight_decay)
    u_lr, w_lr = lr * rule.u_lr_factor, lr * rule.w_lr_factor
    u_counts, w_counts = counts.input_update_counts, counts.output_update_counts
    u_steps = _row_steps(scales[0], counts.inputs, u_counts, log_decay, u_lr, zero)
    w_steps = _row_steps(scales[1], counts.outputs, w_counts, log_decay, w_lr, zero)
    return u_steps, w_steps


@compiled
def _row_steps(scale, ids, update_counts, log_decay, lr, zero):
    """`RowSteps` of the rows `ids` of a table; log_decay: the logarithm of one update's decay."""
    decay, once = np.empty(len(ids)), math.exp(log_decay)
    for k in range(len(ids)):  # most rows are updated once
        decay[k] = once if update_counts[k] == 1 else math.exp(log_decay * update_counts[k])
    before = np.empty(len(ids) if len(scale) else 0, zero.dtype)
    unscale = np.empty_like(before)
    for k in range(len(before)):
        before[k] = scale[ids[k]]
        after = before[k] * decay[k]
        unscale[k] = 1 / after if after > MIN_SCALE else 1.0
    return RowSteps(before, decay.astype(zero.dtype), zero.dtype.type(lr), unscale)


@compiled
def store_scales(scale, ids, steps):
    """Write the scales of the rows `ids` after their step."""
    for k in range(len(steps.unscale)):
        scale[ids[k]] = 1 / steps.unscale[k]


@compiled
def split_logits(part, counts):
    """One thread's logits: of the negatives [E, N], of the positives [B]."""
    size = counts.negative_counts.size
    negatives = part[:size].reshape(counts.negative_counts.shape)
    return negatives, part[size : size + len(counts.pair_output)]


@compiled
def sum_parts(parts, counts):
    """The logits, summed over threads in their order, in new memory."""
    total = parts[0, : counts.negative_counts.size + len(counts.pair_output)].copy()
    for thread_id in range(1, len(parts)):
        add(total.dtype.type(1), parts[thread_id, : len(total)], total)
    return split_logits(total, counts)


@compiled
def _keep_gradients(gradients, num_gradients, g, pair_g):
    """Append the gradients of a batch's logits."""
    for part in (g, pair_g):
        gradients[num_gradients[0] : num_gradients[0] + len(part)] = part
        num_gradients[0] += len(part)


@compiled
def most_scratch_rows(stored):
    """Rows of scratch memory that suffice for the step of each batch of `StoredCounts`."""
    most = 0
    for b in range(len(stored.sizes)):
        num_hidden, num_negatives = stored.sizes[b, 4], stored.sizes[b, 5]
        most = max(most, stored.sizes[b, 1] + 2 * num_hidden + num_negatives)
    return most


@compiled
def has_means(counts):
    """Are hidden vectors means of contexts? Otherwise they are the input rows."""
    return len(counts.slots) != len(counts.first_slot) - 1


@compiled
def load_scratch(u, w, counts, u_steps, w_steps, start, width, scratch):
    """Load one tile for `update_rows`; returns its hidden vectors [E, width]."""
    w_rows, hidden, _, _ = _split_scratch(scratch, counts, width)
    _load_tile(u, w, counts, u_steps, w_steps, start, w_rows, hidden)
    return hidden


@compiled
def _split_scratch(scratch, counts, width):
    """Scratch memory for output rows, hidden vectors, their and the negatives' gradients."""
    num_hidden, num_negatives = counts.negative_counts.shape
    num_outputs = len(counts.outputs)
    ends = np.cumsum(np.array((num_outputs, num_hidden, num_hidden, num_negatives))) * width
    w_rows = scratch[: ends[0]].reshape(num_outputs, width)
    hidden = scratch[ends[0] : ends[1]].reshape(num_hidden, width)
    hidden_gradient = scratch[ends[1] : ends[2]].reshape(num_hidden, width)
    negative_gradient = scratch[ends[2] : ends[3]].reshape(num_negatives, width)
    return w_rows, hidden, hidden_gradient, negative_gradient


@compiled
def _load_tile(u, w, counts, u_steps, w_steps, start, w_rows, hidden):
    """Load the output rows and average the contexts, columns from `start`."""
    load_rows(w, counts.outputs, start, w_rows)
    multiply_rows(w_steps.scale, w_rows)
    if has_means(counts):
        mean_rows(u, counts.inputs, u_steps.scale, counts.slots, counts.first_slot, start, hidden)
    else:
        load_rows(u, counts.inputs, start, hidden)
        multiply_rows(u_steps.scale, hidden)


@compiled
def partial_logits(u, w, counts, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits):
    """Write the logits of negatives [E, N] and positives [B] over columns [start, stop)."""
    logits[:] = 0
    pair_logits[:] = 0
    num_negatives = logits.shape[1]
    partial = np.empty_like(logits)
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        w_rows, hidden, _, _ = _split_scratch(scratch, counts, width)
        _load_tile(u, w, counts, u_steps, w_steps, c, w_rows, hidden)
        np.dot(hidden, w_rows[:num_negatives].T, partial)
        add(partial.dtype.type(1), partial.ravel(), logits.ravel())
        add_dots(hidden, counts.pair_hidden, w_rows, counts.pair_output, pair_logits)


@compiled
def update_rows(
    u, w, counts, u_steps, w_steps, start, stop, tile, scratch, g, pair_g, whole_gradient, seed
):
    """w_o += lr sum_e g_eo h_e and u_i += lr sum_e bag_ei sum_o g_eo w_o, after their decay.

    Only columns [start, stop) are updated. If that is one tile, `partial_logits` has left it in
    the scratch memory.
    """
    outputs, pair_hidden, pair_output = counts.outputs, counts.pair_hidden, counts.pair_output
    num_negatives = g.shape[1]
    shares = _input_shares(counts, u_steps.lr, len(g), whole_gradient)
    factor = u_steps.decay * u_steps.scale if len(u_steps.scale) else u_steps.decay
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        w_rows, hidden, hidden_gradient, negative_gradient = _split_scratch(scratch, counts, width)
        if stop - start > tile:  # otherwise the one tile is still there
            _load_tile(u, w, counts, u_steps, w_steps, c, w_rows, hidden)
        np.dot(g, w_rows[:num_negatives], hidden_gradient)
        np.dot(g.T, hidden, negative_gradient)
        one = g.dtype.type(1)
        add_rows(one, pair_g, w_rows, pair_output, hidden_gradient, pair_hidden)

        decay_and_add_rows(w_steps.decay, w_rows, w_steps.lr, negative_gradient)
        multiply_rows(w_steps.decay[num_negatives:], w_rows[num_negatives:])
        add_rows(w_steps.lr, pair_g, hidden, pair_hidden, w_rows, pair_output)
        multiply_rows(w_steps.unscale, w_rows)
        store_rows(w_rows, w, outputs, c, 2 * seed)
        update_table_rows(
            u, counts.inputs, factor, u_steps.unscale, shares, hidden_gradient, counts.first_use,
            counts.users, c, 2 * seed + 1,
        )  # fmt: skip


@compiled
def _input_shares(counts, lr, num_hidden, whole_gradient):
    """lr x the share of a hidden vector's gradient that its context words get, [E]."""
    shares = np.full(num_hidden, lr)
    if has_means(counts) and not whole_gradient:
        for e in range(num_hidden):
            shares[e] /= counts.first_slot[e + 1] - counts.first_slot[e]
    return shares
