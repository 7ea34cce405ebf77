"""The SGD step of the low-rank engine on the CPU: that of a network of width r, and a pair table.

docs/lowrank.md derives it. In short, with B [V, r] orthonormal and R = (I - B B^T) M:
  u_i = B U_i + s_i (I - B B^T) e_i,    w_o = B W_o + R[:, o],    N_o = B^T M[:, o],
  f_io = U_i . W_o + s_i R_io,          R_io = M_io - B_i . N_o.

Decisions:
- U and W step as the rows of a finite network of width r, by the functions of cpu/step.py.
- M takes what positives add to w: s_i e_i x their gradient. s_i takes the gradient of u_i along
  its own direction. The part of w outside B moves u_i in no other direction.
- Threads share the columns of U, W, B and N, and the columns of M. Each has its own copy of s, and
  all change it alike. So one barrier per batch suffices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf.models.batch_counts import (
    count_together,
    counts_of,
    stack,
    stored_counts,
)
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.column_split import (
    most_scratch_rows,
    partial_logits,
    split_logits,
    update_rows,
)
from w2v_inf.models.cpu.row_steps import NO_SCALES, has_means, row_steps
from w2v_inf.models.cpu.rows import (
    add,
    compiled,
    dot,
    load_rows,
    multiply,
    multiply_rows,
    store_rows,
)
from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.models.cpu.step import TILE, batches_at_once, compiled_rule, num_threads_for
from w2v_inf.models.cpu.threads import unowned
from w2v_inf.models.lowrank import pair_table
from w2v_inf.models.lowrank.pair_table import PairTable
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch


class Factors(NamedTuple):
    """The tables U, W, N, B [V, r] and s, own [V], on the CPU, of one float type.

    A step changes all but `b` and `own`. own_i is 1 / (1 - |B_i|^2), or 0 where B holds nearly all
    of e_i.
    """

    u: np.ndarray
    w: np.ndarray
    n: np.ndarray
    b: np.ndarray
    s: np.ndarray
    own: np.ndarray


def lowrank_steps(
    factors: Factors,
    pairs: PairTable,
    batches: Sequence[Batch],
    rule: UpdateRule = UpdateRule(),
    tile: int = TILE,
) -> np.ndarray:
    """One SGD step with negative sampling per batch; updates `factors` and `pairs` in place.

    Args: as `cpu.step.sgd_steps`. `rule.lr_factors` are those of the limit, 1.
    Returns: loss before each step, nats per example, [batches] float64. A full pair table shows in
      `pairs.end`.
    Cost: O((8 N + 2 I + 6 C) r) FLOP per position; I / B x (N + B) look-ups in M and C additions.
    """
    at_once = batches_at_once(batches, factors.u.shape)
    parts = [batches[k : k + at_once] for k in range(0, len(batches), at_once)]
    return np.concatenate([_steps(factors, pairs, part, rule, tile) for part in parts])


def _steps(factors, pairs, batches, rule, tile) -> np.ndarray:
    """`lowrank_steps` in one compiled call per thread."""
    losses = np.empty(len(batches))
    num_threads = min(num_threads_for(factors.u.shape[1]), len(pairs.free_lists))
    max_size = max(
        _part_size(len(b.target), min(b.negatives.size, len(factors.s)), b.context.size)
        for b in batches
    )
    parts = np.empty((2, num_threads, max_size), factors.u.dtype)
    copies = np.tile(factors.s, (num_threads, 1))
    stacked, stored = stack(batches), stored_counts(batches, len(factors.s))
    arguments = parts, factors, copies, pairs, stacked, stored, compiled_rule(rule), tile, losses
    threads.run(_train, num_threads, *arguments)
    factors.s[:] = copies[0]
    return losses


def _part_size(num_examples: int, num_negatives: int, num_slots: int) -> int:
    """Numbers that threads sum: logits of negatives and positives, and at most as many residuals
    as there are context words and negatives or positives to them."""
    return (num_examples + num_slots) * (num_negatives + 1)


@njit(cache=True, nogil=True)
def _train(
    thread_id, num_threads, sync, parts, factors, copies, pairs, batches, stored, rule, tile, losses
):
    """One thread's share of the steps of all batches: its columns of U, W, B, N and of M."""
    factors = Factors(
        unowned(factors.u), unowned(factors.w), unowned(factors.n), unowned(factors.b),
        factors.s, factors.own,
    )  # fmt: skip
    parts = unowned(parts)
    u, w, s = factors.u, factors.w, copies[thread_id]
    stored = count_together(thread_id, num_threads, sync, batches, stored, len(u))
    arrivals = num_threads
    zero = parts[0, 0, :1]
    start, stop = threads.column_slice(thread_id, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    scratch = np.empty(most_scratch_rows(stored) * tile, zero.dtype)
    most_rows = (stored.sizes[:, 0] + stored.sizes[:, 1]).max()
    bn_scratch = np.empty(most_rows * tile, zero.dtype)
    for k in range(len(batches.lr)):
        counts = counts_of(stored, k)
        u_steps, w_steps = row_steps(counts, batches.lr[k], NO_SCALES, rule, zero)
        inputs = counts.inputs

        part = parts[k % 2, thread_id]
        logits, pair_logits = split_logits(part, counts)
        partial_logits(
            u, w, counts, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits
        )
        residuals, pair_residuals = _split_residuals(part, counts)
        _partial_residuals(
            factors, pairs, counts, thread_id, num_threads, start, stop, tile, bn_scratch,
            residuals, pair_residuals,
        )  # fmt: skip
        arrivals += num_threads
        threads.barrier(sync, arrivals, num_threads)

        total = _sum_parts(parts[k % 2], counts)
        g, pair_g = split_logits(total, counts)
        residuals, pair_residuals = _split_residuals(total, counts)
        s_rows = s[inputs]
        shares = _shares(counts, zero)
        _add_residual_logits(shares, s_rows, residuals, pair_residuals, counts, g, pair_g)
        loss = logit_gradients(g.ravel(), pair_g, counts.negative_counts.ravel(), rule.tp4)
        update_rows(
            u, w, counts, u_steps, w_steps, start, stop, tile, scratch, g, pair_g,
            rule.whole_gradient, 0,
        )  # fmt: skip
        _update_pairs(pairs, counts, s_rows, w_steps, pair_g, thread_id, num_threads)
        _update_n(factors, counts, s_rows, w_steps, pair_g, start, stop, tile, bn_scratch)
        gradient = _own_gradient(
            shares, residuals, pair_residuals, counts, g, pair_g, rule.whole_gradient
        )
        for i in range(len(inputs)):
            lr_own = u_steps.lr * factors.own[inputs[i]]
            s[inputs[i]] = u_steps.decay[i] * s_rows[i] + lr_own * gradient[i]
        if thread_id == 0:
            losses[k] = loss / len(pair_g)


@compiled
def _split_residuals(part, counts):
    """Residuals R in a thread's part, behind its logits.

    Of inputs and negatives [I, N]; of each context slot and its target [slots].
    """
    num_inputs, num_negatives = len(counts.inputs), counts.negative_counts.shape[1]
    first = counts.negative_counts.size + len(counts.pair_output)
    end = first + num_inputs * num_negatives
    return part[first:end].reshape(num_inputs, num_negatives), part[end : end + len(counts.slots)]


@compiled
def _sum_parts(parts, counts):
    """Logits and residuals, summed over the threads in their order; a new array."""
    num_logits = counts.negative_counts.size + len(counts.pair_output)
    num_residuals = len(counts.inputs) * counts.negative_counts.shape[1] + len(counts.slots)
    size = num_logits + num_residuals
    total = parts[0, :size].copy()
    for thread_id in range(1, len(parts)):
        add(total.dtype.type(1), parts[thread_id, :size], total)
    return total


@compiled
def _partial_residuals(
    factors, pairs, counts, thread_id, num_threads, start, stop, tile, bn_scratch, residuals,
    pair_residuals,
):  # fmt: skip
    """Write this thread's part of R_io = M_io - B_i . N_o: its columns of B and N, and of M."""
    inputs, outputs, pair_output = counts.inputs, counts.outputs, counts.pair_output
    slots, first_slot = counts.slots, counts.first_slot
    num_negatives = residuals.shape[1]
    m = np.zeros((num_negatives, len(inputs)), residuals.dtype)
    for n in range(num_negatives):
        if outputs[n] % num_threads == thread_id:
            pair_table.lookup(pairs, outputs[n], inputs, m[n])
    residuals[:] = m.T
    pair_residuals[:] = 0
    for b in range(len(pair_output)):
        word = outputs[pair_output[b]]
        if word % num_threads == thread_id:
            own = slice(first_slot[b], first_slot[b + 1])
            pair_table.lookup(pairs, word, inputs[slots[own]], pair_residuals[own])
    partial = np.empty_like(residuals)
    for c in range(start, stop, tile):
        b_rows, n_rows = _load_bn(factors, inputs, outputs, c, min(tile, stop - c), bn_scratch)
        np.dot(b_rows, n_rows[:num_negatives].T, partial)
        add(partial.dtype.type(-1), partial.ravel(), residuals.ravel())
        for b in range(len(pair_output)):
            for slot in range(first_slot[b], first_slot[b + 1]):
                pair_residuals[slot] -= dot(b_rows[slots[slot]], n_rows[pair_output[b]])


@compiled
def _load_bn(factors, inputs, outputs, start, width, bn_scratch):
    """Copies of the rows of B and N, columns from `start`, in `bn_scratch`."""
    b_rows, n_rows = _split_bn(bn_scratch, inputs, outputs, width)
    load_rows(factors.b, inputs, start, b_rows)
    load_rows(factors.n, outputs, start, n_rows)
    return b_rows, n_rows


@compiled
def _split_bn(bn_scratch, inputs, outputs, width):
    """The scratch memory as rows of B and rows of N."""
    b_size, n_size = len(inputs) * width, len(outputs) * width
    b_rows = bn_scratch[:b_size].reshape(len(inputs), width)
    return b_rows, bn_scratch[b_size : b_size + n_size].reshape(len(outputs), width)


@compiled
def _shares(counts, zero):
    """x, the share of each input in each hidden vector, [E, I]: of a mean, or the identity."""
    slots, first_slot = counts.slots, counts.first_slot
    num_hidden = len(counts.negative_counts)
    shares = np.zeros((num_hidden, len(counts.inputs)), zero.dtype)
    if not has_means(counts):
        for e in range(num_hidden):
            shares[e, e] = 1
        return shares
    for e in range(num_hidden):
        for slot in range(first_slot[e], first_slot[e + 1]):
            shares[e, slots[slot]] += zero.dtype.type(1 / (first_slot[e + 1] - first_slot[e]))
    return shares


@compiled
def _add_residual_logits(shares, s_rows, residuals, pair_residuals, counts, logits, pair_logits):
    """f_eo += sum_i x_ei s_i R_io, for negatives [E, N] and positives [B]."""
    slots, first_slot = counts.slots, counts.first_slot
    add(s_rows.dtype.type(1), np.dot(shares * s_rows, residuals).ravel(), logits.ravel())
    for b in range(len(pair_logits)):
        share = s_rows.dtype.type(1 / (first_slot[b + 1] - first_slot[b]))
        for slot in range(first_slot[b], first_slot[b + 1]):
            pair_logits[b] += share * s_rows[slots[slot]] * pair_residuals[slot]


@compiled
def _update_pairs(pairs, counts, s_rows, w_steps, pair_g, thread_id, num_threads):
    """M_io: decay, then += lr g_o x_i s_i for positives; the columns of this thread."""
    inputs, outputs, pair_output = counts.inputs, counts.outputs, counts.pair_output
    slots, first_slot = counts.slots, counts.first_slot
    for o in range(len(outputs)):
        if outputs[o] % num_threads == thread_id:
            pair_table.decay(pairs, outputs[o], w_steps.decay[o])
    for b in range(len(pair_g)):
        word, words = outputs[pair_output[b]], slots[first_slot[b] : first_slot[b + 1]]
        if word % num_threads == thread_id:
            factor = w_steps.lr * pair_g[b] / len(words)
            pair_table.add(pairs, word, inputs, words, factor, s_rows, thread_id)


@compiled
def _update_n(factors, counts, s_rows, w_steps, pair_g, start, stop, tile, bn_scratch):
    """N_o = B^T M[:, o] follows M: decay, then += lr g_o sum_i x_i s_i B_i for positives."""
    inputs, outputs, pair_output = counts.inputs, counts.outputs, counts.pair_output
    slots, first_slot = counts.slots, counts.first_slot
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        if stop - start > tile:
            b_rows, n_rows = _load_bn(factors, inputs, outputs, c, width, bn_scratch)
        else:  # `_partial_residuals` has loaded the only tile
            b_rows, n_rows = _split_bn(bn_scratch, inputs, outputs, width)
        multiply_rows(s_rows, b_rows)
        multiply_rows(w_steps.decay, n_rows)
        for b in range(len(pair_g)):
            share = w_steps.lr * pair_g[b] / (first_slot[b + 1] - first_slot[b])
            for i in slots[first_slot[b] : first_slot[b + 1]]:
                add(n_rows.dtype.type(share), b_rows[i], n_rows[pair_output[b]])
        store_rows(n_rows, factors.n, outputs, c, 0)


@compiled
def _own_gradient(shares, residuals, pair_residuals, counts, g, pair_g, whole_gradient):
    """Gradient of each s_i times (1 - |B_i|^2): sum_e x_ei sum_o g_eo R_io; [I].

    With `whole_gradient`, x_ei is the number of times that i occurs in e, not its share.
    """
    slots, first_slot = counts.slots, counts.first_slot
    weighted = g.copy()
    if whole_gradient and has_means(counts):
        for e in range(len(g)):
            multiply(g.dtype.type(first_slot[e + 1] - first_slot[e]), weighted[e])
    gradient = (np.dot(shares.T, weighted) * residuals).sum(axis=1)
    for b in range(len(pair_g)):
        num_words = first_slot[b + 1] - first_slot[b]
        share = pair_g[b] * g.dtype.type(1 if whole_gradient else 1 / num_words)
        for slot in range(first_slot[b], first_slot[b + 1]):
            gradient[slots[slot]] += share * pair_residuals[slot]
    return gradient
