"""The step of `cpu/step.py` by threads that share the columns of a batch, in tiles of columns.

Columns are independent given the gradients of the logits. So a step sums logits over tiles of
columns, takes their gradients, and updates tile by tile. Hidden vectors and output rows of a tile
stay in the second-level cache. Input rows, most of a batch, are read and updated in the table.
Threads wait for each other once per batch, to add their partial logits, always in the same order.
No entry of a table is touched by two.
"""

import numpy as np
from numba import njit

from w2v_inf.models.batch_counts import count_together, counts_of
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.row_steps import has_means, input_shares, row_steps, store_scales
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
from w2v_inf.models.cpu.threads import unowned


@njit(cache=True, nogil=True)
def train_columns(
    thread_id, num_threads, sync, parts, scales, seeds, tile, u, w, batches, stored, rule, losses,
    gradients, num_gradients,
):  # fmt: skip
    """The steps of all batches on the columns of one thread."""
    stored = count_together(thread_id, num_threads, sync, batches, stored, len(u))
    arrivals = num_threads
    u, w, parts = unowned(u), unowned(w), unowned(parts)
    zero = parts[0, 0, :1]  # for its type, that of the computation
    start, stop = threads.column_slice(thread_id, num_threads, u.shape[1])
    tile = min(tile, stop - start)
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
                keep_gradients(gradients, num_gradients, g.ravel(), pair_g)
            store_scales(scales[0], counts.inputs, u_steps)
            store_scales(scales[1], counts.outputs, w_steps)
        if len(scales[0]):  # nobody reads the scales before they are written
            arrivals += num_threads
            threads.barrier(sync, arrivals, num_threads)


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
def keep_gradients(gradients, num_gradients, g, pair_g):
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
    shares = input_shares(counts, u_steps.lr, len(g), whole_gradient)
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
