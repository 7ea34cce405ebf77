"""The gradients of the logits, compiled, with the exact sigmoid or the authors' table."""

import math

import numpy as np
from numba import njit

from w2v_inf.models.cpu.rows import compiled
from w2v_inf.models.step import MAX_EXP, TABLE_SIZE, TABLE_STEP


@compiled
def logit_gradients(f, pair_f, counts, tp4):
    """Overwrite logits by g, minus the gradient of the loss; returns the loss in nats, summed.

    f, counts [k]: logits of negatives, and how often each counts; g = -counts sigma(f).
    pair_f [B]: logits of positives; g = 1 - sigma(pair_f).  tp4: look sigma up in the table.
    """
    if tp4:
        return _table_gradients(f, pair_f, counts)
    loss = 0.0
    for k in range(len(f)):
        p, softplus = _sigmoid(np.float64(f[k]))
        f[k] = -counts[k] * p
        loss += counts[k] * softplus
    for b in range(len(pair_f)):
        p, softplus = _sigmoid(-np.float64(pair_f[b]))
        pair_f[b] = p
        loss += softplus
    return loss


@njit(inline="always", error_model="numpy")
def _sigmoid(x):
    """sigma(x) and softplus(x) = -log(1 - sigma(x)), to about 1e-14.

    It has no branches, so that loops over it vectorise.
    """
    magnitude = abs(x)
    # exp(-|x|) by Taylor at |x| / 256, then eight squarings; beyond 40 it no longer changes 1 + z.
    y = min(magnitude, 40.0) * (-1 / 256)
    z = 1 + y * (
        1
        + y / 2 * (1 + y / 3 * (1 + y / 4 * (1 + y / 5 * (1 + y / 6 * (1 + y / 7 * (1 + y / 8))))))
    )
    z *= z
    z *= z
    z *= z
    z *= z
    z *= z
    z *= z
    z *= z
    z *= z
    # log(1 + z) = 2 artanh(z / (2 + z)), whose argument is at most 1/3.
    s = z / (2 + z)
    q = s * s
    series = 1 / 17 + q * (
        1 / 19 + q * (1 / 21 + q * (1 / 23 + q * (1 / 25 + q * (1 / 27 + q * (1 / 29 + q / 31)))))
    )
    series = 1 + q * (
        1 / 3
        + q
        * (
            1 / 5
            + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15 + q * series)))))
        )
    )
    return (1.0 if x >= 0 else z) / (1 + z), 0.5 * (x + magnitude) + 2 * s * series


@compiled
def _table_gradients(f, pair_f, counts):
    """`logit_gradients` with the table of `step.tp4_logit`.

    Outside the table sigma is 0 or 1, and the loss is taken at the logit itself.
    """
    loss = 0.0
    for k in range(len(f)):
        p, softplus, _ = _table_sigmoid(np.float64(f[k]))
        f[k] = -counts[k] * p
        loss += counts[k] * softplus
    for b in range(len(pair_f)):
        p, softplus, x = _table_sigmoid(np.float64(pair_f[b]))
        pair_f[b] = 1 - p
        loss += softplus - x
    return loss


@compiled
def _table_sigmoid(f):
    """Looked-up sigma, and softplus of the logit that the loss is taken at, with that logit."""
    outside = abs(f) >= MAX_EXP
    x = f
    if not outside:
        x = (2 * math.floor((f + MAX_EXP) * TABLE_STEP) / TABLE_SIZE - 1) * MAX_EXP
    p, softplus = _sigmoid(x)
    return (1.0 if f > 0 else 0.0) if outside else p, softplus, x
