"""The update rule of the low-rank engine on the CPU: the fused step of a narrow net, and a memory of word pairs beside it.

docs/lowrank.md derives it. In short, with B [V, r] orthonormal and R = (I - B B^T) M:
  u_i = B U_i + s_i (I - B B^T) e_i,   w_o = B W_o + R[:, o],   f_io = U_i . W_o + s_i R_io,   R_io = M_io - B_i . N_o,   N_o = B^T M[:, o].
U and W step as the rows of a finite net of width r (`fused.py` does it). M takes what positives add to w, s_i e_i x their
gradient; s_i takes the gradient of u_i along its own direction. What w is outside B moves u_i in no other direction.

Threads share out the columns of U, W, B and N, and the words whose memory they keep. Each holds its own copy of s, and all
change it alike, so that they meet once a batch only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf.models.batch_counts import stack
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.rows import add, compiled, dot, load_rows, mean_rows, multiply, store_rows
from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.models.cpu.step import (
    NO_SCALES,
    TILE,
    compiled_rule,
    num_threads_for,
    partial_logits,
    plan_step,
    scratch_rows,
    split_logits,
    update_rows,
)
from w2v_inf.models.lowrank.pair_table import PairTable, decay, recall, remember
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch


class Factors(NamedTuple):
    """The engine's tables, on the CPU, of one float type; a step changes all but `b` and `own`.

    u, w, n, b [V, r]; s [V]; own [V]: 1 / (1 - |B_i|^2), or 0 where B holds nearly all of e_i.
    """

    u: np.ndarray
    w: np.ndarray
    n: np.ndarray
    b: np.ndarray
    s: np.ndarray
    own: np.ndarray


def lowrank_steps(
    factors: Factors,
    memory: PairTable,
    batches: Sequence[Batch],
    rule: UpdateRule,
    tile: int = TILE,
) -> np.ndarray:
    """An SGD step with negative sampling for each batch; updates `factors` and `memory` in place.

    Args: as `fused.fused_steps`; `tile`: columns at a time.
    Returns: loss before each step, nats per example, [batches] float64.
    Cost: O((8 N + 2 I + 6 C) r) FLOP a position, I / B x (N + B) look-ups and C entries of the memory.
    """
    losses = np.empty(len(batches))
    num_threads = min(num_threads_for(factors.u.shape[1]), len(memory.free))
    most = max(
        _part_size(len(b.target), min(b.negatives.size, len(factors.s)), b.context.size)
        for b in batches
    )
    parts = np.empty((2, num_threads, most), factors.u.dtype)
    copies = np.tile(factors.s, (num_threads, 1))
    options = compiled_rule(rule), tile, losses
    threads.run(
        _train, num_threads, parts, factors, copies, memory, stack(batches), *options
    )
    factors.s[:] = copies[0]
    return losses


def _part_size(num_examples: int, num_negatives: int, num_slots: int) -> int:
    """Numbers that a thread adds to the others': logits of negatives and positives, and as many residuals as words can meet in."""
    return num_examples * (num_negatives + 1) + num_slots * (num_negatives + 1)


@njit(cache=True, nogil=True)
def _train(
    rank, num_threads, sync, parts, factors, copies, memory, batches, rule, tile, losses
):
    """The share of thread `rank` in the steps of all batches: its columns, and the memory of its words."""
    u, w, s = factors.u, factors.w, copies[rank]
    zero = parts[0, 0, :1]
    start, stop = threads.column_slice(rank, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    index_of = np.full(len(u), -1, np.int32)
    met = 0
    for k in range(len(batches.lr)):
        rows, negatives, u_steps, w_steps = plan_step(batches, k, index_of, NO_SCALES, rule, zero)
        inputs, outputs, num_examples = rows.inputs, rows.outputs, len(rows.pair_output)
        scratch = np.empty(scratch_rows(rows, negatives) * tile, zero.dtype)
        side = np.empty((len(inputs) + len(outputs)) * tile, zero.dtype)

        mine = parts[k % 2, rank]
        logits, pair_logits = split_logits(mine, negatives, num_examples)
        partial_logits(
            u, w, rows, u_steps, w_steps, start, stop, tile, scratch, logits, pair_logits
        )
        residuals, pair_residuals = _residuals_of(mine, negatives, rows)
        _partial_residuals(
            factors,
            memory,
            rows,
            rank,
            num_threads,
            start,
            stop,
            tile,
            side,
            residuals,
            pair_residuals,
        )
        met += num_threads
        threads.barrier(sync, met, num_threads)

        total = _add_up(parts[k % 2], negatives, rows)
        g, pair_g = split_logits(total, negatives, num_examples)
        residuals, pair_residuals = _residuals_of(total, negatives, rows)
        s_rows = s[inputs]
        shares = _shares(rows, len(negatives), zero)
        _add_residual_logits(shares, s_rows, residuals, pair_residuals, rows, g, pair_g)
        loss = logit_gradients(g.ravel(), pair_g, negatives.ravel(), rule.tp4)
        update_rows(
            u, w, rows, u_steps, w_steps, start, stop, tile, scratch, g, pair_g, rule.whole_gradient, 0
        )
        _store_pairs(memory, rows, s_rows, w_steps, pair_g, rank, num_threads)
        _update_projection(factors, rows, s_rows, w_steps, pair_g, start, stop, tile, side)
        gradient = _own_gradient(shares, residuals, pair_residuals, rows, g, pair_g, rule.whole_gradient)
        for i in range(len(inputs)):
            s[inputs[i]] = (
                u_steps[1][i] * s_rows[i] + u_steps[2] * factors.own[inputs[i]] * gradient[i]
            )
        if rank == 0:
            losses[k] = loss / num_examples


@compiled
def _residuals_of(part, negatives, rows):
    """The residuals in a thread's part, behind its logits: of inputs and noise words [I, N], of each context slot and its target."""
    first, num_negatives = negatives.size + len(rows[4]), negatives.shape[1]
    behind = first + len(rows[0]) * num_negatives
    return part[first:behind].reshape(len(rows[0]), num_negatives), part[
        behind : behind + len(rows[2])
    ]


@compiled
def _add_up(parts, negatives, rows):
    """Logits and residuals, summed over threads in their order, in new memory."""
    size = negatives.size + len(rows[4]) + len(rows[0]) * negatives.shape[1] + len(rows[2])
    total = parts[0, :size].copy()
    for rank in range(1, len(parts)):
        add(total.dtype.type(1), parts[rank, :size], total)
    return total


@compiled
def _partial_residuals(
    factors, memory, rows, rank, num_threads, start, stop, tile, side, residuals, pair_residuals
):
    """Write this thread's share of R_io = M_io - B_i . N_o: its columns of B and N, its words of M."""
    inputs, outputs, slots, first_slot, _, pair_output = rows
    num_negatives = residuals.shape[1]
    remembered = np.zeros((num_negatives, len(inputs)), residuals.dtype)
    for n in range(num_negatives):
        if outputs[n] % num_threads == rank:
            recall(memory, outputs[n], inputs, remembered[n])
    residuals[:] = remembered.T
    pair_residuals[:] = 0
    for b in range(len(pair_output)):
        if outputs[pair_output[b]] % num_threads == rank:
            here = slice(first_slot[b], first_slot[b + 1])
            recall(memory, outputs[pair_output[b]], inputs[slots[here]], pair_residuals[here])
    partial = np.empty_like(residuals)
    for c in range(start, stop, tile):
        b_rows, n_rows = _load_side(factors, inputs, outputs, c, min(tile, stop - c), side)
        np.dot(b_rows, n_rows[:num_negatives].T, partial)
        add(partial.dtype.type(-1), partial.ravel(), residuals.ravel())
        for b in range(len(pair_output)):
            for slot in range(first_slot[b], first_slot[b + 1]):
                pair_residuals[slot] -= dot(b_rows[slots[slot]], n_rows[pair_output[b]])


@compiled
def _load_side(factors, inputs, outputs, start, width, side):
    """Rows of B and of N, columns from `start`, in the scratch memory `side`."""
    b_rows, n_rows = _side_of(side, inputs, outputs, width)
    load_rows(factors.b, inputs, start, b_rows)
    load_rows(factors.n, outputs, start, n_rows)
    return b_rows, n_rows


@compiled
def _side_of(side, inputs, outputs, width):
    """The scratch memory as rows of B and rows of N."""
    b_size, n_size = len(inputs) * width, len(outputs) * width
    return side[:b_size].reshape(len(inputs), width), side[b_size : b_size + n_size].reshape(
        len(outputs), width
    )


@compiled
def _shares(rows, num_hidden, zero):
    """Share of each input in each hidden vector, [E, I]: a mean's words, or the identity."""
    _, _, slots, first_slot, _, _ = rows
    shares = np.zeros((num_hidden, len(rows[0])), zero.dtype)
    if len(slots) == len(first_slot) - 1:
        for e in range(num_hidden):
            shares[e, e] = 1
        return shares
    for e in range(num_hidden):
        for slot in range(first_slot[e], first_slot[e + 1]):
            shares[e, slots[slot]] += zero.dtype.type(1 / (first_slot[e + 1] - first_slot[e]))
    return shares


@compiled
def _add_residual_logits(shares, s_rows, residuals, pair_residuals, rows, logits, pair_logits):
    """f_eo += sum_i x_i s_i R_io, for negatives [E, N] and positives [B]."""
    _, _, slots, first_slot, _, _ = rows
    add(s_rows.dtype.type(1), np.dot(shares * s_rows, residuals).ravel(), logits.ravel())
    for b in range(len(pair_logits)):
        share = s_rows.dtype.type(1 / (first_slot[b + 1] - first_slot[b]))
        for slot in range(first_slot[b], first_slot[b + 1]):
            pair_logits[b] += share * s_rows[slots[slot]] * pair_residuals[slot]


@compiled
def _store_pairs(memory, rows, s_rows, w_steps, pair_g, rank, num_threads):
    """Decay the memory of this thread's output words, then add what positives give: M_io += lr g x_i s_i."""
    inputs, outputs, slots, first_slot, _, pair_output = rows
    _, decays, lr, _ = w_steps
    for o in range(len(outputs)):
        if outputs[o] % num_threads == rank:
            decay(memory, outputs[o], decays[o])
    for b in range(len(pair_g)):
        word, words = outputs[pair_output[b]], slots[first_slot[b] : first_slot[b + 1]]
        if word % num_threads == rank:
            remember(memory, word, inputs, words, lr * pair_g[b] / len(words), s_rows, rank)


@compiled
def _update_projection(factors, rows, s_rows, w_steps, pair_g, start, stop, tile, side):
    """N_o = B^T M[:, o] follows the memory: decay, then += lr g sum_i x_i s_i B_i."""
    inputs, outputs, slots, first_slot, _, pair_output = rows
    _, decays, lr, _ = w_steps
    for c in range(start, stop, tile):
        width = min(tile, stop - c)
        if stop - start > tile:
            b_rows, n_rows = _load_side(factors, inputs, outputs, c, width, side)
        else:  # the one tile is still there
            b_rows, n_rows = _side_of(side, inputs, outputs, width)
        for i in range(len(inputs)):
            multiply(s_rows[i], b_rows[i])
        for o in range(len(outputs)):
            multiply(decays[o], n_rows[o])
        mean = np.empty(width, n_rows.dtype)
        for b in range(len(pair_g)):
            mean_rows(b_rows, slots[first_slot[b] : first_slot[b + 1]], mean)
            add(lr * pair_g[b], mean, n_rows[pair_output[b]])
        store_rows(n_rows, factors.n, outputs, c, 0)


@compiled
def _own_gradient(shares, residuals, pair_residuals, rows, g, pair_g, whole_gradient):
    """Gradient of each input along its own direction, less its length: sum_e x_ei sum_o g_eo R_io; [I].

    With `whole_gradient` x counts words where it is otherwise their share.
    """
    _, _, slots, first_slot, _, _ = rows
    is_mean = len(slots) != len(first_slot) - 1
    weighted = g.copy()
    if whole_gradient and is_mean:
        for e in range(len(g)):
            multiply(g.dtype.type(first_slot[e + 1] - first_slot[e]), weighted[e])
    gradient = (np.dot(shares.T, weighted) * residuals).sum(axis=1)
    for b in range(len(pair_g)):
        share = pair_g[b] * g.dtype.type(
            1 if whole_gradient else 1 / (first_slot[b + 1] - first_slot[b])
        )
        for slot in range(first_slot[b], first_slot[b + 1]):
            gradient[slots[slot]] += share * pair_residuals[slot]
    return gradient
