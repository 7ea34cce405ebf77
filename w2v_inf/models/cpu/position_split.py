"""The step of `cpu/step.py` by threads that share the positions of a batch, each with whole rows.

Half a row costs far more than half the time of a row: the hardware fetches memory ahead, into the
other thread's half. So narrow rows stay whole. A batch has two phases:
1. Each thread takes some hidden vectors, and finds the gradients of their logits and their own.
2. Each thread takes some rows of u and w, and adds to each what all hidden vectors give, in order.
After each phase the threads wait for each other. No row is written by two, or while another reads.
"""

import numpy as np
from numba import njit

from w2v_inf.models.batch_counts import count_together, counts_of
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.column_split import keep_gradients, split_logits
from w2v_inf.models.cpu.row_steps import NO_SCALES, decay_of_updates, has_means, input_shares
from w2v_inf.models.cpu.rows import (
    add_dots,
    add_parts,
    add_rows,
    add_to_row,
    compiled,
    load_rows,
    mean_rows,
    multiply_table_rows,
    update_rows,
)
from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.models.cpu.threads import column_slice, unowned

NO_SCALE = NO_SCALES[0]


@njit(cache=True, nogil=True)
def train_positions(
    thread_id, num_threads, sync, shared, u, w, batches, stored, rule, losses, gradients,
    num_gradients,
):  # fmt: skip
    """The steps of all batches, one thread's share.

    shared: memory that all threads see, for one batch: logits, then their gradients; hidden vectors
      [E, D]; their gradients [E, D]; what each thread's hidden vectors add to the negatives,
      [threads, N, D]; a loss per thread.
    """
    stored = count_together(thread_id, num_threads, sync, batches, stored, len(u))
    arrivals = num_threads
    logits_memory, hidden_memory, gradient_memory, part_memory, loss_parts = (
        unowned(shared[0]), unowned(shared[1]), unowned(shared[2]), unowned(shared[3]),
        unowned(shared[4]),
    )  # fmt: skip
    u, w = unowned(u), unowned(w)
    width, zero = u.shape[1], logits_memory[:1]
    negatives_memory = np.empty(stored.sizes[:, 5].max() * width, zero.dtype)
    for b in range(len(batches.lr)):
        counts = counts_of(stored, b)
        num_hidden, num_negatives = counts.negative_counts.shape
        g, pair_g = split_logits(logits_memory, counts)
        hidden = rows_of(hidden_memory, num_hidden, width)
        hidden_gradient = rows_of(gradient_memory, num_hidden, width)
        parts = rows_of(part_memory, num_threads * num_negatives, width)

        loss_parts[thread_id] = hidden_phase(
            u, w, counts, thread_id, num_threads, rows_of(negatives_memory, num_negatives, width),
            g, pair_g, hidden, hidden_gradient, parts, rule.tp4,
        )  # fmt: skip
        arrivals += num_threads
        threads.barrier(sync, arrivals, num_threads)

        log_decay = np.log1p(-batches.lr[b] * rule.weight_decay)
        w_lr = zero.dtype.type(batches.lr[b] * rule.w_lr_factor)
        output_phase(w, counts, thread_id, num_threads, log_decay, w_lr, pair_g, hidden, parts)
        u_lr = zero.dtype.type(batches.lr[b] * rule.u_lr_factor)
        shares = input_shares(counts, u_lr, num_hidden, rule.whole_gradient)
        input_phase(u, counts, thread_id, num_threads, log_decay, shares, hidden_gradient)
        if thread_id == 0:
            losses[b] = loss_parts.sum() / len(pair_g)
            if len(gradients):
                keep_gradients(gradients, num_gradients, g.ravel(), pair_g)
        arrivals += num_threads
        threads.barrier(sync, arrivals, num_threads)


@compiled
def rows_of(memory, num_rows, width):
    """The first numbers of `memory`, as rows."""
    return memory[: num_rows * width].reshape(num_rows, width)


@compiled
def hidden_phase(
    u, w, counts, thread_id, num_threads, negatives, g, pair_g, hidden, hidden_gradient, parts, tp4
):
    """One thread's hidden vectors, the gradients of their logits and their own; returns the loss.

    Writes their rows of g [E, N], `hidden` and `hidden_gradient` [E, D], the entries of pair_g [B]
    of their pairs, and this thread's part of the negatives' gradients in `parts`.
    negatives: memory for the rows of w, [N, D].
    """
    first, last = share_of_hidden(thread_id, num_threads, counts)
    num_negatives = len(negatives)
    part = parts[thread_id * num_negatives : (thread_id + 1) * num_negatives]
    if first == last:
        part[:] = 0
        return 0.0
    own, own_g, own_gradient = hidden[first:last], g[first:last], hidden_gradient[first:last]
    if has_means(counts):
        first_slot = counts.first_slot[first : last + 1]
        mean_rows(u, counts.inputs, NO_SCALE, counts.slots, first_slot, 0, own)
    else:
        load_rows(u, counts.inputs[first:last], 0, own)
    load_rows(w, counts.outputs[:num_negatives], 0, negatives)
    np.dot(own, negatives.T, own_g)

    pairs = np.flatnonzero((counts.pair_hidden >= first) & (counts.pair_hidden < last))
    pair_hidden, targets = counts.pair_hidden[pairs], counts.outputs[counts.pair_output[pairs]]
    own_pair_g = np.zeros(len(pairs), g.dtype)
    add_dots(hidden, pair_hidden, w, targets, own_pair_g)
    own_counts = counts.negative_counts[first:last].ravel()
    loss = logit_gradients(own_g.ravel(), own_pair_g, own_counts, tp4)
    pair_g[pairs] = own_pair_g

    np.dot(own_g, negatives, own_gradient)
    add_rows(g.dtype.type(1), own_pair_g, w, targets, hidden_gradient, pair_hidden)
    np.dot(own_g.T, own, part)
    return loss


@compiled
def output_phase(w, counts, thread_id, num_threads, log_decay, lr, pair_g, hidden, parts):
    """w_o <- decay w_o + lr sum_e g_eo h_e, for one thread's share of the negatives and others."""
    num_negatives, num_outputs = counts.negative_counts.shape[1], len(counts.outputs)
    first, last = column_slice(thread_id, num_threads, num_negatives)
    decay = decay_of_updates(counts.output_update_counts[first:last], log_decay, pair_g)
    add_parts(w, counts.outputs[first:last], decay, lr, parts[first:], num_negatives)

    first_other, last_other = column_slice(thread_id, num_threads, num_outputs - num_negatives)
    first_other, last_other = first_other + num_negatives, last_other + num_negatives
    others = slice(first_other, last_other)
    decay = decay_of_updates(counts.output_update_counts[others], log_decay, pair_g)
    multiply_table_rows(w, counts.outputs[others], decay)
    for b in range(len(pair_g)):
        o = counts.pair_output[b]
        if first <= o < last or first_other <= o < last_other:
            add_to_row(w, counts.outputs[o], lr * pair_g[b], hidden, counts.pair_hidden[b])


@compiled
def input_phase(u, counts, thread_id, num_threads, log_decay, shares, hidden_gradient):
    """u_i <- decay u_i + sum of shares[e] x the gradient of e over its users, for a share of i."""
    first, last = share_of_inputs(thread_id, num_threads, counts)
    decay = decay_of_updates(counts.input_update_counts[first:last], log_decay, shares)
    update_rows(
        u, counts.inputs[first:last], decay, NO_SCALE, shares, hidden_gradient,
        counts.first_use[first : last + 1], counts.users, 0, 0,
    )  # fmt: skip


@compiled
def share_of_hidden(thread_id, num_threads, counts):
    """The hidden vectors [first, last) of one thread; about as many context words for each."""
    if not has_means(counts):
        return share_of_inputs(thread_id, num_threads, counts)
    return _share(thread_id, num_threads, counts.first_slot)


@compiled
def share_of_inputs(thread_id, num_threads, counts):
    """The inputs [first, last) of one thread; about as many uses for each."""
    return _share(thread_id, num_threads, counts.first_use)


@compiled
def _share(thread_id, num_threads, ends):
    """Cut where `ends`, which ascends from 0, passes equal parts of its last entry."""
    first = np.searchsorted(ends, ends[-1] * thread_id / num_threads)
    return first, np.searchsorted(ends, ends[-1] * (thread_id + 1) / num_threads)
