"""The SGD step on the CPU, compiled: `step.sgd_step` for many batches, in tiles of columns.

Decisions:
- Columns are independent given the gradients of the logits. So a step sums logits over tiles of
  columns, takes their gradients, and updates tile by tile. A tile of all rows of a batch stays in
  the second-level cache.
- Negatives are GEMMs, [E, D] x [D, N], by the BLAS that numba calls. Positives and context means
  are sparse, and cost less row by row.
- Each thread keeps its own columns through many batches. Threads wait for each other once per
  batch, to add their partial logits, always in the same order. So training repeats bit for bit at
  a fixed number of threads, and no entry of a table is touched by two. See threads.py.
- bfloat16 tables have a float32 scale per row. It takes the weight decay, which is far below the
  precision of 8 bits.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from w2v_inf.models.batch_counts import count_stacked, stack
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.rows import (
    add,
    add_to_rows,
    compiled,
    decay_and_add,
    dot,
    load_rows,
    mean_rows,
    multiply,
    store_rows,
)
from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.models.step import MIN_SCALE, UpdateRule, rounding_seed
from w2v_inf.stream import Batch

TILE = 512
"""Most columns in a tile: about 300 rows of 2 KiB."""
MIN_COLUMNS = 64
"""Columns that are worth a thread."""
COLUMNS_AT_ONCE = 1 << 19
"""Batches x columns per compiled call: about 0.2 s, after which Python can answer Ctrl-C."""
NO_SCALES = (np.empty(0, np.float32), np.empty(0, np.float32))
"""For tables without row scales."""


class CompiledRule(NamedTuple):
    """`UpdateRule` for compiled code."""

    weight_decay: float
    u_lr_factor: float
    w_lr_factor: float
    tp4: bool
    whole_gradient: bool


class BatchRows(NamedTuple):
    """The rows that a batch updates, and how they are paired: fields of `BatchCounts`."""

    inputs: np.ndarray
    outputs: np.ndarray
    slots: np.ndarray
    first_slot: np.ndarray
    pair_hidden: np.ndarray
    pair_output: np.ndarray


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
    at_once = max(1, COLUMNS_AT_ONCE // u.shape[1])
    parts = [batches[k : k + at_once] for k in range(0, len(batches), at_once)]
    return np.concatenate([_steps(u, w, part, rule, scales, tile, kept) for part in parts])


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
    thread_id, num_threads, sync, parts, u, w, scales, batches, seeds, rule, tile, losses,
    gradients, num_gradients,
):  # fmt: skip
    """The steps of all batches on the columns of one thread."""
    zero = parts[0, 0, :1]  # for its type, that of the computation
    start, stop = threads.column_slice(thread_id, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    index_of = np.full(len(u), -1, np.int32)
    arrivals = 0
    for b in range(len(batches.lr)):
        rows, negative_counts, u_steps, w_steps = plan_step(
            batches, b, index_of, scales, rule, zero
        )
        num_examples = len(rows.pair_output)
        scratch = np.empty(scratch_rows(rows, negative_counts) * tile, zero.dtype)

        logits, pair_logits = split_logits(parts[b % 2, thread_id], negative_counts, num_examples)
        partial_logits(
            u, w, rows, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits
        )
        arrivals += num_threads
        threads.barrier(sync, arrivals, num_threads)
        g, pair_g = sum_parts(parts[b % 2], negative_counts, num_examples)
        loss = logit_gradients(g.ravel(), pair_g, negative_counts.ravel(), rule.tp4)
        update_rows(
            u, w, rows, u_steps, w_steps, start, stop, tile, scratch, g, pair_g,
            rule.whole_gradient, seeds[b],
        )  # fmt: skip

        if thread_id == 0:
            losses[b] = loss / num_examples
            if len(gradients):
                _keep_gradients(gradients, num_gradients, g.ravel(), pair_g)
            store_scales(scales[0], rows.inputs, u_steps)
            store_scales(scales[1], rows.outputs, w_steps)
        if len(scales[0]):  # nobody reads the scales before they are written
            arrivals += num_threads
            threads.barrier(sync, arrivals, num_threads)


@njit(cache=True, nogil=True)
def plan_step(batches, b, index_of, scales, rule, zero):
    """All that a step knows before it loads a row, for every engine on the CPU.

    Args: batches: `StackedBatches`, of which `b` is taken; index_of: as in `count_arrays`;
      scales: of the rows of u and w, [V] each, or `NO_SCALES`; rule: `CompiledRule`;
      zero: an array of the type of the computation.
    Returns: `BatchRows`, negative counts [E, N] float64, `RowSteps` of u and of w.
    """
    counts = count_stacked(batches, b, index_of)
    rows = BatchRows(
        counts.inputs,
        counts.outputs,
        counts.slots,
        counts.first_slot,
        counts.pair_hidden,
        counts.pair_output,
    )
    lr = batches.lr[b]
    log_decay = math.log1p(-lr * rule.weight_decay)
    u_steps = _row_steps(
        scales[0],
        rows.inputs,
        log_decay * counts.input_update_counts,
        lr * rule.u_lr_factor,
        zero,
    )
    w_steps = _row_steps(
        scales[1],
        rows.outputs,
        log_decay * counts.output_update_counts,
        lr * rule.w_lr_factor,
        zero,
    )
    return rows, counts.negative_counts, u_steps, w_steps


@compiled
def _row_steps(scale, ids, log_decay, lr, zero):
    """`RowSteps` of the rows `ids` of a table; log_decay [R]: the logarithms of their decay."""
    decay = np.exp(log_decay)
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
def split_logits(part, negative_counts, num_examples):
    """One thread's logits: of the negatives [E, N], of the positives [B]."""
    size = negative_counts.size
    return part[:size].reshape(negative_counts.shape), part[size : size + num_examples]


@compiled
def sum_parts(parts, negative_counts, num_examples):
    """The logits, summed over threads in their order, in new memory."""
    total = parts[0, : negative_counts.size + num_examples].copy()
    for thread_id in range(1, len(parts)):
        add(total.dtype.type(1), parts[thread_id, : len(total)], total)
    return split_logits(total, negative_counts, num_examples)


@compiled
def _keep_gradients(gradients, num_gradients, g, pair_g):
    """Append the gradients of a batch's logits."""
    for part in (g, pair_g):
        gradients[num_gradients[0] : num_gradients[0] + len(part)] = part
        num_gradients[0] += len(part)


@compiled
def scratch_rows(rows, negative_counts):
    """Most rows of scratch memory that a step takes."""
    num_hidden, num_negatives = negative_counts.shape
    return len(rows.inputs) + len(rows.outputs) + 2 * num_hidden + num_negatives


@compiled
def load_scratch(u, w, rows, u_steps, w_steps, negative_counts, start, width, scratch):
    """Load one tile for `update_rows`; returns its hidden vectors, and whether they are means."""
    num_hidden, num_negatives = negative_counts.shape
    u_rows, w_rows, hidden, _, _, mean = _split_scratch(
        scratch, rows, num_hidden, num_negatives, width
    )
    _load_tile(u, w, rows, u_steps, w_steps, start, u_rows, w_rows, hidden, mean)
    return hidden, mean


@compiled
def _split_scratch(scratch, rows, num_hidden, num_negatives, width):
    """Scratch memory for input and output rows, hidden vectors, their and the negatives' gradients.

    The last value says whether hidden vectors are means. Otherwise they are the input rows.
    """
    num_inputs, num_outputs = len(rows.inputs), len(rows.outputs)
    mean = len(rows.slots) != len(rows.first_slot) - 1
    sizes = (num_inputs, num_outputs, num_hidden if mean else 0, num_hidden, num_negatives)
    ends = np.cumsum(np.array(sizes)) * width
    u_rows = scratch[: ends[0]].reshape(num_inputs, width)
    w_rows = scratch[ends[0] : ends[1]].reshape(num_outputs, width)
    hidden = scratch[ends[1] : ends[2]].reshape(num_hidden, width) if mean else u_rows
    hidden_gradient = scratch[ends[2] : ends[3]].reshape(num_hidden, width)
    negative_gradient = scratch[ends[3] : ends[4]].reshape(num_negatives, width)
    return u_rows, w_rows, hidden, hidden_gradient, negative_gradient, mean


@compiled
def _load_tile(u, w, rows, u_steps, w_steps, start, u_rows, w_rows, hidden, mean):
    """Load the batch's rows, columns from `start`, and average the contexts."""
    load_rows(u, rows.inputs, start, u_rows)
    _multiply_rows(u_steps.scale, u_rows)
    load_rows(w, rows.outputs, start, w_rows)
    _multiply_rows(w_steps.scale, w_rows)
    if mean:
        for e in range(len(hidden)):
            words = rows.slots[rows.first_slot[e] : rows.first_slot[e + 1]]
            mean_rows(u_rows, words, hidden[e])


@compiled
def partial_logits(u, w, rows, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits):
    """Write the logits of negatives [E, N] and positives [B] over columns [start, stop)."""
    logits[:] = 0
    pair_logits[:] = 0
    num_hidden, num_negatives = logits.shape
    partial = np.empty_like(logits)
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        u_rows, w_rows, hidden, _, _, mean = _split_scratch(
            scratch, rows, num_hidden, num_negatives, width
        )
        _load_tile(u, w, rows, u_steps, w_steps, c, u_rows, w_rows, hidden, mean)
        np.dot(hidden, w_rows[:num_negatives].T, partial)
        add(partial.dtype.type(1), partial.ravel(), logits.ravel())
        for b in range(len(pair_logits)):
            pair_logits[b] += dot(hidden[rows.pair_hidden[b]], w_rows[rows.pair_output[b]])


@compiled
def update_rows(
    u, w, rows, u_steps, w_steps, start, stop, tile, scratch, g, pair_g, whole_gradient, seed
):
    """w_o += lr sum_e g_eo h_e and u_i += lr sum_e bag_ei sum_o g_eo w_o, after their decay.

    Only columns [start, stop) are updated. The scratch memory holds the tile if `partial_logits` needed only one.
    """
    inputs, outputs, slots, first_slot, pair_hidden, pair_output = rows
    num_hidden, num_negatives = g.shape
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        u_rows, w_rows, hidden, hidden_gradient, negative_gradient, mean = _split_scratch(
            scratch, rows, num_hidden, num_negatives, width
        )
        if stop - start > tile:  # otherwise the one tile is still there
            _load_tile(u, w, rows, u_steps, w_steps, c, u_rows, w_rows, hidden, mean)
        np.dot(g, w_rows[:num_negatives], hidden_gradient)
        np.dot(g.T, hidden, negative_gradient)
        for b in range(len(pair_g)):
            add(pair_g[b], w_rows[pair_output[b]], hidden_gradient[pair_hidden[b]])

        # The outputs first: `hidden` may be the input rows themselves.
        for n in range(num_negatives):
            decay_and_add(w_steps.decay[n], w_rows[n], w_steps.lr, negative_gradient[n])
        _multiply_rows(w_steps.decay[num_negatives:], w_rows[num_negatives:])
        for b in range(len(pair_g)):
            add(w_steps.lr * pair_g[b], hidden[pair_hidden[b]], w_rows[pair_output[b]])
        _multiply_rows(w_steps.unscale, w_rows)
        store_rows(w_rows, w, outputs, c, 2 * seed)

        _multiply_rows(u_steps.decay, u_rows)
        for e in range(num_hidden):
            if mean:
                words = slots[first_slot[e] : first_slot[e + 1]]
                share = g.dtype.type(u_steps.lr if whole_gradient else u_steps.lr / len(words))
                add_to_rows(share, hidden_gradient[e], words, u_rows)
            else:
                add(u_steps.lr, hidden_gradient[e], u_rows[e])
        _multiply_rows(u_steps.unscale, u_rows)
        store_rows(u_rows, u, inputs, c, 2 * seed + 1)


@compiled
def _multiply_rows(factor, rows):
    """rows[k] *= factor[k]; nothing where `factor` is empty."""
    for k in range(len(factor)):
        multiply(factor[k], rows[k])
