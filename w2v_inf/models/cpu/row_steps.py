"""How the rows of a batch change: their decay, learning rates and scales, compiled."""

import math
from typing import NamedTuple

import numpy as np

from w2v_inf.models.cpu.rows import compiled
from w2v_inf.models.step import MIN_SCALE

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
    decay = decay_of_updates(update_counts, log_decay, zero)
    before = np.empty(len(ids) if len(scale) else 0, zero.dtype)
    unscale = np.empty_like(before)
    for k in range(len(before)):
        before[k] = scale[ids[k]]
        after = before[k] * decay[k]
        unscale[k] = 1 / after if after > MIN_SCALE else 1.0
    return RowSteps(before, decay, zero.dtype.type(lr), unscale)


@compiled
def decay_of_updates(update_counts, log_decay, zero):
    """exp(log_decay x number of updates) of each row, [R], of the type of the array `zero`."""
    decay, once = np.empty(len(update_counts), zero.dtype), math.exp(log_decay)
    for k in range(len(decay)):  # most rows are updated once
        decay[k] = once if update_counts[k] == 1 else math.exp(log_decay * update_counts[k])
    return decay


@compiled
def store_scales(scale, ids, steps):
    """Write the scales of the rows `ids` after their step."""
    for k in range(len(steps.unscale)):
        scale[ids[k]] = 1 / steps.unscale[k]


@compiled
def has_means(counts):
    """Are hidden vectors means of contexts? Otherwise they are the input rows."""
    return len(counts.slots) != len(counts.first_slot) - 1


@compiled
def input_shares(counts, lr, num_hidden, whole_gradient):
    """lr x the share of a hidden vector's gradient that its context words get, [E]."""
    shares = np.full(num_hidden, lr)
    if has_means(counts) and not whole_gradient:
        for e in range(num_hidden):
            shares[e] /= counts.first_slot[e + 1] - counts.first_slot[e]
    return shares
