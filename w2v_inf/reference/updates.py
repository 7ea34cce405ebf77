"""The slow, obvious twin of every numeric core: loops over examples, in float64. Tests compare; nothing else calls it.

Written to be read beside the paper: one example at a time, every gradient taken at the values before the batch. It
never calls the fast code.
"""

import math

import numpy as np


def table_logit(f: float) -> float:
    """The logit that the authors' program looks up: their table has 1,001 entries over +-12; outside it is certain."""
    if abs(f) >= 12:
        return math.copysign(math.inf, f)
    i = math.floor((f + 12) * 41)
    return (2 * i / 1000 - 1) * 12


def sigmoid(f: float, tp4: bool = False) -> float:
    """sigma(f), or sigma of the looked-up logit."""
    x = table_logit(f) if tp4 else f
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def example_loss(f: float, label: int, tp4: bool = False) -> float:
    """-log of the probability given to `label`, in nats; where the table is certain, that of the true sigma."""
    x = table_logit(f) if tp4 and abs(f) < 12 else f
    wrong_way = -x if label else x
    return math.log1p(math.exp(-abs(wrong_way))) + max(wrong_way, 0.0)


def words_in(context: np.ndarray) -> list[int]:
    """The filled slots of one context row."""
    return [int(i) for i in context if i >= 0]


def samples_of(target: int, noise: np.ndarray, weight: float) -> list[tuple[int, int, float]]:
    """(output, label, weight) of one example: its target and its negatives; a negative equal to the target is skipped."""
    return [(target, 1, 1.0)] + [(int(o), 0, weight) for o in noise if o != target]


def linear_update(
    u,
    w,
    context,
    target,
    noise,
    negatives_row,
    negative_weight,
    lr,
    weight_decay,
    lr_factors=(1.0, 1.0),
    tp4=False,
    whole=False,
):
    """One step of word2vec with negative sampling on copies of u, w [V, D]; returns (u, w, loss in nats per example).

    Mikolov et al. 2013 (CBOW, mean of context) with TP4's per-touch weight decay, decay then add. Skip-gram is C = 1.
    whole: each context word gets the hidden vector's whole gradient, as in word2vec.c and gensim.
    """
    u_gradient, w_gradient = np.zeros_like(u), np.zeros_like(w)
    u_touches, w_touches = np.zeros(len(u)), np.zeros(len(w))
    loss = 0.0
    for e in range(len(target)):
        words = words_in(context[e])
        h = sum(u[i] for i in words) / len(words)
        for o, label, weight in samples_of(
            int(target[e]), noise[negatives_row[e]], negative_weight
        ):
            f = float(h @ w[o])
            g = weight * (label - sigmoid(f, tp4))
            loss += weight * example_loss(f, label, tp4)
            w_gradient[o] += g * h
            w_touches[o] += weight
            for i in words:
                u_gradient[i] += g * w[o] * (1 if whole else 1 / len(words))
        for i in words:
            u_touches[i] += 1
    u_decay = (1 - lr * weight_decay) ** u_touches[:, None]
    w_decay = (1 - lr * weight_decay) ** w_touches[:, None]
    new_u = u_decay * u + lr * lr_factors[0] * u_gradient
    new_w = w_decay * w + lr * lr_factors[1] * w_gradient
    return new_u, new_w, loss / len(target)


def step_matrix(
    u,
    w,
    context,
    target,
    noise,
    negatives_row,
    negative_weight,
    lr,
    weight_decay,
    tp4=False,
    whole=False,
):
    """S [2 V, 2 V] with which `linear_update` takes [u; w] to S [u; w]: what the step at u, w [V, D] does to every column."""
    vocab_size = len(u)
    matrix, touches = np.zeros((2 * vocab_size, 2 * vocab_size)), np.zeros(2 * vocab_size)
    for e in range(len(target)):
        words = words_in(context[e])
        h = sum(u[i] for i in words) / len(words)
        for o, label, weight in samples_of(
            int(target[e]), noise[negatives_row[e]], negative_weight
        ):
            g = weight * (label - sigmoid(float(h @ w[o]), tp4))
            touches[vocab_size + o] += weight
            for i in words:
                matrix[vocab_size + o, i] += lr * g / len(words)
                matrix[i, vocab_size + o] += lr * g * (1 if whole else 1 / len(words))
        for i in words:
            touches[i] += 1
    return matrix + np.diag((1 - lr * weight_decay) ** touches)


def token_by_token(u, w, context, target, noise, lr, weight_decay, tp4=False):
    """One CBOW position in the original program's order, on copies of u, w [V, D]; returns (u, w, loss in nats).

    Outputs one after another, each row updated at once: a negative drawn twice meets the row it has just moved. Without
    repeated ids in the position this equals `linear_update`; with them the two agree to first order in lr.
    """
    u, w, decay = u.copy(), w.copy(), 1 - lr * weight_decay
    words = words_in(context)
    h = sum(u[i] for i in words) / len(words)
    h_gradient, loss = np.zeros_like(h), 0.0
    for o, label, _ in samples_of(target, noise, 1.0):
        f = float(h @ w[o])
        g = label - sigmoid(f, tp4)
        loss += example_loss(f, label, tp4)
        h_gradient += g * w[o]
        w[o] = decay * w[o] + lr * g * h
    for i in words:
        u[i] = decay * u[i] + lr * h_gradient / len(words)
    return u, w, loss


def ntk_update(
    z,
    s,
    context,
    target,
    noise,
    negatives_row,
    negative_weight,
    lr,
    weight_decay,
    start=None,
    tp4=False,
    whole=False,
):
    """One step of the NTK limit on copies of z [V_in, V_out], s [V]; returns (z, s, start, loss in nats per example).

    f = sum_i x_i s_i z_io; with `start` = (e, t, p, scale): + t_o p_io + s_i t_o e_io. See models/ntk_limit.py.
    """
    vocab_size = len(s)
    e0, t, p, scale = (
        start if start else (np.zeros_like(z), np.zeros(vocab_size), np.zeros_like(z), 0.0)
    )
    z_gradient, p_gradient = np.zeros_like(z), np.zeros_like(z)
    in_touches, out_touches = np.zeros(vocab_size), np.zeros(vocab_size)
    loss = 0.0
    for e in range(len(target)):
        words = words_in(context[e])
        for o, label, weight in samples_of(
            int(target[e]), noise[negatives_row[e]], negative_weight
        ):
            f = sum(s[i] * z[i, o] + t[o] * p[i, o] + s[i] * t[o] * e0[i, o] for i in words) / len(
                words
            )
            g = weight * (label - sigmoid(f, tp4))
            loss += weight * example_loss(f, label, tp4)
            out_touches[o] += weight
            for i in words:
                z_gradient[i, o] += g * s[i] / len(words)
                p_gradient[i, o] += g * t[o] * scale**2 * (1 if whole else 1 / len(words))
        for i in words:
            in_touches[i] += 1
    in_decay = (1 - lr * weight_decay) ** in_touches
    out_decay = (1 - lr * weight_decay) ** out_touches
    new_z = z * out_decay[None, :] + lr * z_gradient
    new_start = (
        (e0, t * out_decay, p * in_decay[:, None] + lr * p_gradient, scale) if start else None
    )
    return new_z, s * in_decay, new_start, loss / len(target)


def lowrank_update(
    u,
    w,
    b,
    s,
    m,
    context,
    target,
    noise,
    negatives_row,
    negative_weight,
    lr,
    weight_decay,
    tp4=False,
    whole=False,
):
    """One step of the low-rank engine on copies of u, w [V, r], s [V], m [V_in, V_out]; returns (u, w, s, m, loss in nats per example).

    b [V, r], orthonormal columns: u_i = b u[i] + s_i (I - b b^T) e_i, w_o = b w[o] + (I - b b^T) m[:, o]. See docs/lowrank.md.
    """
    outside = np.eye(len(b)) - b @ b.T
    rest = outside @ m  # what w is outside the basis, [V_in, V_out]
    u_gradient, w_gradient, s_gradient, m_gradient = (
        np.zeros_like(u),
        np.zeros_like(w),
        np.zeros_like(s),
        np.zeros_like(m),
    )
    in_touches, out_touches = np.zeros(len(u)), np.zeros(len(w))
    loss = 0.0
    for e in range(len(target)):
        words = words_in(context[e])
        for o, label, weight in samples_of(
            int(target[e]), noise[negatives_row[e]], negative_weight
        ):
            f = sum(u[i] @ w[o] + s[i] * rest[i, o] for i in words) / len(words)
            g = weight * (label - sigmoid(f, tp4))
            loss += weight * example_loss(f, label, tp4)
            out_touches[o] += weight
            for i in words:
                share = 1 if whole else 1 / len(words)
                w_gradient[o] += g * u[i] / len(words)
                m_gradient[i, o] += label * g * s[i] / len(words)  # negatives stay in the basis
                u_gradient[i] += share * g * w[o]
                s_gradient[i] += (
                    share * g * rest[i, o] / outside[i, i] if outside[i, i] > 1e-3 else 0.0
                )
        for i in words:
            in_touches[i] += 1
    in_decay, out_decay = (
        (1 - lr * weight_decay) ** in_touches,
        (1 - lr * weight_decay) ** out_touches,
    )
    new_u, new_w = in_decay[:, None] * u + lr * u_gradient, out_decay[:, None] * w + lr * w_gradient
    return (
        new_u,
        new_w,
        in_decay * s + lr * s_gradient,
        out_decay * m + lr * m_gradient,
        loss / len(target),
    )
