"""The update rule on the CPU, fused over tiles of columns; `step.sgd_step` is its twin in torch.

Decisions:
- Columns are independent given the logits' gradients. So a step is: logits, summed over tiles of columns; their
  gradients; updates, tile by tile. A tile of all rows that the batch touches stays in the second-level cache.
- Negatives are GEMMs [E, D] x [D, N] (BLAS, called from compiled code); positives and context bags are sparse, and cost
  less row by row than as GEMMs.
- Threads share out the columns, each keeping its own through many batches: they meet once a batch, to add their partial
  logits, always in the same order. So training repeats bit for bit at a fixed number of threads, and no row's part is
  touched by two threads. They are Python threads in compiled code without the interpreter lock; see team.py.
- Tables in bfloat16 carry a float32 scale a row, which takes the weight decay: it is far below the precision of 8 bits.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numba import njit

from w2v_inf.models.batch_counts import count_arrays, stack
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
from w2v_inf.models.step import MIN_SCALE
from w2v_inf.stream import Batch

TILE = 512
"""Columns in a tile at most: about 300 rows of 2 KiB."""
MIN_COLUMNS = 64
"""Columns that are worth a thread."""
COLUMNS_AT_ONCE = 1 << 19
"""Batches x columns in one compiled call: about 0.2 s, after which Python can answer Ctrl-C."""
NO_SCALE = np.empty(0, np.float32)


def fused_steps(
    u: torch.Tensor,
    w: torch.Tensor,
    batches: Sequence[Batch],
    weight_decay: float,
    lr_factors: tuple[float, float] = (1.0, 1.0),
    tp4: bool = False,
    whole_gradient: bool = False,
    scales: tuple[torch.Tensor, torch.Tensor] | None = None,
    tile: int = TILE,
    kept: list[np.ndarray] | None = None,
) -> np.ndarray:
    """An SGD step with negative sampling for each batch; updates `u`, `w` and `scales` in place. As `step.sgd_step`.

    Args:
      u, w: input and output embedding, [V, D], C-contiguous on the CPU: float32, float64, or bfloat16 with `scales`.
      batches: of one stream.
      lr_factors: multiply the gradients of u and w (the parametrization's); decay is not multiplied.
      tp4: use the authors' table of sigma.    whole_gradient: as in `step.sgd_step`.
      scales: of the rows of u and w, [V] float32 each; the embeddings are scale x row.    tile: columns at a time.
      kept: gets arrays of the gradients of the logits, for `basis.go_back`.
    Returns: loss before each step, nats per example, [batches] float64.
    Cost: O((6 N + 4 C + 6) D) FLOP a position; about 3 (I + O) D numbers moved a batch.
    """
    at_once = max(1, COLUMNS_AT_ONCE // u.shape[1])
    return np.concatenate(
        [
            _steps(
                u,
                w,
                batches[k : k + at_once],
                weight_decay,
                lr_factors,
                tp4,
                whole_gradient,
                scales,
                tile,
                kept,
            )
            for k in range(0, len(batches), at_once)
        ]
    )


def _steps(
    u, w, batches, weight_decay, lr_factors, tp4, whole_gradient, scales, tile, kept
) -> np.ndarray:
    """`fused_steps` in one compiled call a thread."""
    u_table, w_table, u_scale, w_scale = numpy_tables(u, w, scales)
    stacked, edges, lr = stack(batches)
    salt = np.array([b.words_seen for b in batches])
    losses = np.empty(len(batches))

    num_threads = num_threads_for(u.shape[1])
    # Logits of a batch: hidden vectors x distinct noise words, and positives. Two of each, so that a thread may be a batch ahead.
    most = max(len(b.target) * (min(b.negatives.size, len(u)) + 1) for b in batches)
    parts = np.empty((2, num_threads, most), np.float64 if u.dtype is torch.float64 else np.float32)
    options = batches[0].negative_weight, weight_decay, *lr_factors, tp4, whole_gradient, tile
    room, kept_end = (
        np.empty(len(batches) * most if kept is not None else 0, parts.dtype),
        np.zeros(1, np.int64),
    )
    threads.run(
        _train,
        num_threads,
        parts,
        u_table,
        w_table,
        u_scale,
        w_scale,
        *stacked,
        *edges,
        lr,
        salt,
        *options,
        losses,
        room,
        kept_end,
    )
    if kept is not None:
        kept.append(room[: kept_end[0]])
    return losses


def numpy_tables(u, w, scales) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The tables, bfloat16 as uint16, and the scales of their rows, empty if there are none; not copies."""
    u_table, w_table = (
        t.view(torch.uint16).numpy() if t.dtype is torch.bfloat16 else t.numpy() for t in (u, w)
    )
    u_scale, w_scale = (scale.numpy() for scale in scales) if scales else (NO_SCALE, NO_SCALE)
    return u_table, w_table, u_scale, w_scale


def num_threads_for(num_columns: int) -> int:
    """Threads that so many columns are worth, of those there are."""
    return max(1, min(threads.size(), num_columns // MIN_COLUMNS))


@njit(cache=True, nogil=True)
def _train(
    rank, num_threads, sync, parts, u, w, u_scale, w_scale, context, target, noise, negatives_row, first_example, first_negatives,
    lrs, salts, negative_weight, weight_decay, u_factor, w_factor, tp4, whole_gradient, tile, losses, room, kept_end,
):  # fmt: skip
    """The share of thread `rank` in the steps of all batches: its columns."""
    zero = parts[0, 0, :1]  # for its type: what is computed in
    start, stop = threads.column_slice(rank, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    place = np.full(len(u), -1, np.int32)
    met = 0
    for b in range(len(lrs)):
        here, there = (
            slice(first_example[b], first_example[b + 1]),
            slice(first_negatives[b], first_negatives[b + 1]),
        )
        rows, negatives, touches = plan(
            context[here], target[here], noise[there], negatives_row[here], negative_weight, place
        )
        log_decay = math.log1p(-lrs[b] * weight_decay)
        u_steps = row_steps(u_scale, rows[0], log_decay, touches[0], lrs[b] * u_factor, zero)
        w_steps = row_steps(w_scale, rows[1], log_decay, touches[1], lrs[b] * w_factor, zero)
        scratch = np.empty(scratch_rows(rows, negatives) * tile, zero.dtype)

        logits, pair_logits = part_of(parts[b % 2, rank], negatives, len(target[here]))
        partial_logits(
            u, w, rows, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits
        )
        met += num_threads
        threads.barrier(sync, met, num_threads)
        g, pair_g = sum_parts(parts[b % 2], negatives, len(target[here]))
        loss = logit_gradients(g.ravel(), pair_g, negatives.ravel(), tp4)
        update_rows(
            u,
            w,
            rows,
            u_steps,
            w_steps,
            start,
            stop,
            tile,
            scratch,
            g,
            pair_g,
            whole_gradient,
            salts[b],
        )

        if rank == 0:
            losses[b] = loss / len(target[here])
            if len(room):
                _keep_gradients(room, kept_end, g.ravel(), pair_g)
            keep_scales(u_scale, rows[0], u_steps)
            keep_scales(w_scale, rows[1], w_steps)
        if len(u_scale):  # nobody reads the scales before they are written
            met += num_threads
            threads.barrier(sync, met, num_threads)


@compiled
def part_of(part, negatives, num_examples):
    """A thread's share of the logits: of the negatives [E, N], of the positives [B]."""
    size = negatives.size
    return part[:size].reshape(negatives.shape), part[size : size + num_examples]


@compiled
def sum_parts(parts, negatives, num_examples):
    """The logits, summed over threads in their order, in new memory."""
    total = parts[0, : negatives.size + num_examples].copy()
    for rank in range(1, len(parts)):
        add(total.dtype.type(1), parts[rank, : len(total)], total)
    return part_of(total, negatives, num_examples)


@compiled
def plan(context, target, noise, negatives_row, negative_weight, place):
    """`interactions` with what moves rows in a plain tuple."""
    counts = count_arrays(context, target, noise, negatives_row, negative_weight, place)
    rows = (
        counts.inputs,
        counts.outputs,
        counts.slots,
        counts.first_slot,
        counts.pair_hidden,
        counts.pair_output,
    )
    return rows, counts.negatives, (counts.input_update_counts, counts.output_update_counts)


@compiled
def row_steps(scale, ids, log_decay, touches, lr, zero):
    """What happens to each touched row: its scale on the way in, decay, step size, and one over its scale on the way out.

    Rows without scales have empty ones.
    """
    decay = np.exp(log_decay * touches)
    before = np.empty(len(ids) if len(scale) else 0, zero.dtype)
    unscale = np.empty_like(before)
    for k in range(len(before)):
        before[k] = scale[ids[k]]
        after = before[k] * decay[k]
        unscale[k] = 1 / after if after > MIN_SCALE else 1.0
    return before, decay.astype(zero.dtype), zero.dtype.type(lr), unscale


@compiled
def _keep_gradients(room, kept_end, g, pair_g):
    """Append the gradients of a batch's logits."""
    for part in (g, pair_g):
        room[kept_end[0] : kept_end[0] + len(part)] = part
        kept_end[0] += len(part)


@compiled
def keep_scales(scale, ids, steps):
    """Write the scales of touched rows back."""
    for k in range(len(steps[3])):
        scale[ids[k]] = 1 / steps[3][k]


@compiled
def scratch_rows(rows, negatives):
    """Rows of scratch memory that a step takes at most."""
    return len(rows[0]) + len(rows[1]) + 2 * len(negatives) + negatives.shape[1]


@compiled
def load_scratch(u, w, rows, u_steps, w_steps, negatives, start, width, scratch):
    """Load one tile for `update_rows`; returns the hidden vectors in it, and whether they are means."""
    u_rows, w_rows, hidden, _, _, mean = _carve(
        scratch, rows, negatives.shape[0], negatives.shape[1], width
    )
    _load_tile(u, w, rows, u_steps, w_steps, start, u_rows, w_rows, hidden, mean)
    return hidden, mean


@compiled
def _carve(scratch, rows, num_hidden, num_negatives, tile):
    """The scratch memory as input rows, output rows, hidden vectors, their gradients and the noise words' gradients.

    Hidden vectors that are the inputs themselves share their memory; the last value says whether they are means.
    """
    inputs, outputs, slots, first_slot, _, _ = rows
    mean = len(slots) != len(first_slot) - 1
    ends = (
        np.cumsum(
            np.array(
                (len(inputs), len(outputs), num_hidden if mean else 0, num_hidden, num_negatives)
            )
        )
        * tile
    )
    u_rows = scratch[: ends[0]].reshape(len(inputs), tile)
    w_rows = scratch[ends[0] : ends[1]].reshape(len(outputs), tile)
    hidden = scratch[ends[1] : ends[2]].reshape(num_hidden, tile) if mean else u_rows
    hidden_gradient = scratch[ends[2] : ends[3]].reshape(num_hidden, tile)
    negative_gradient = scratch[ends[3] : ends[4]].reshape(num_negatives, tile)
    return u_rows, w_rows, hidden, hidden_gradient, negative_gradient, mean


@compiled
def _load_tile(u, w, rows, u_steps, w_steps, start, u_rows, w_rows, hidden, mean):
    """Gather the batch's rows, columns from `start`, and average the contexts."""
    inputs, outputs, slots, first_slot, _, _ = rows
    load_rows(u, inputs, start, u_rows)
    _multiply_rows(u_steps[0], u_rows)
    load_rows(w, outputs, start, w_rows)
    _multiply_rows(w_steps[0], w_rows)
    if mean:
        for b in range(len(hidden)):
            mean_rows(u_rows, slots[first_slot[b] : first_slot[b + 1]], hidden[b])


@compiled
def _multiply_rows(scale, rows):
    """rows[k] *= scale[k], where there are scales."""
    for k in range(len(scale)):
        multiply(scale[k], rows[k])


@compiled
def partial_logits(u, w, rows, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits):
    """Write the logits of negatives [E, N] and positives [B] over columns [start, stop)."""
    pair_hidden, pair_output = rows[4:]
    logits[:] = 0
    pair_logits[:] = 0
    num_hidden, num_negatives = logits.shape
    partial = np.empty_like(logits)
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        u_rows, w_rows, hidden, _, _, mean = _carve(scratch, rows, num_hidden, num_negatives, width)
        _load_tile(u, w, rows, u_steps, w_steps, c, u_rows, w_rows, hidden, mean)
        np.dot(hidden, w_rows[:num_negatives].T, partial)
        add(partial.dtype.type(1), partial.ravel(), logits.ravel())
        for b in range(len(pair_logits)):
            pair_logits[b] += dot(hidden[pair_hidden[b]], w_rows[pair_output[b]])


@compiled
def update_rows(
    u, w, rows, u_steps, w_steps, start, stop, tile, scratch, g, pair_g, whole_gradient, salt
):
    """Decay, then add: w_o += lr sum_e g_eo h_e and u_i += lr sum_e bag_ei sum_o g_eo w_o, over columns [start, stop)."""
    inputs, outputs, slots, first_slot, pair_hidden, pair_output = rows
    (_, u_decay, u_lr, u_unscale), (_, w_decay, w_lr, w_unscale) = u_steps, w_steps
    num_hidden, num_negatives = g.shape
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        u_rows, w_rows, hidden, hidden_gradient, negative_gradient, mean = _carve(
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
            decay_and_add(w_decay[n], w_rows[n], w_lr, negative_gradient[n])
        _multiply_rows(w_decay[num_negatives:], w_rows[num_negatives:])
        for b in range(len(pair_g)):
            add(w_lr * pair_g[b], hidden[pair_hidden[b]], w_rows[pair_output[b]])
        _multiply_rows(w_unscale, w_rows)
        store_rows(w_rows, w, outputs, c, 2 * salt)

        _multiply_rows(u_decay, u_rows)
        for e in range(num_hidden):
            if mean:
                words = slots[first_slot[e] : first_slot[e + 1]]
                share = g.dtype.type(u_lr if whole_gradient else u_lr / len(words))
                add_to_rows(share, hidden_gradient[e], words, u_rows)
            else:
                add(u_lr, hidden_gradient[e], u_rows[e])
        _multiply_rows(u_unscale, u_rows)
        store_rows(u_rows, u, inputs, c, 2 * salt + 1)
