"""The reference implementation of every model's step: loops over examples, in numpy float64.

Read it beside the paper. It takes one example at a time, and every gradient at the values before
the batch. It never calls the fast code, and only tests and benchmarks call it.

All steps have these arguments, and return copies:
  context [B, C], target [B], negatives [N, S], negatives_row [B], negative_weight, lr: those of
    `stream.Batch`.
  weight_decay: a row with m update counts is first multiplied by (1 - lr weight_decay)^m.
  tp4: look sigma up in the table of the authors' program.
  whole: give each context word the hidden vector's whole gradient, as word2vec.c and gensim do,
    and not its share.
"""

import math

import numpy as np


def table_logit(f: float) -> float:
    """The logit whose sigmoid the authors' program looks up: +-infinity outside +-12.

    Their table has 1,000 entries over +-12, but the index counts 41 per unit.
    """
    if abs(f) >= 12:
        return math.copysign(math.inf, f)
    i = math.floor((f + 12) * 41)
    return (2 * i / 1000 - 1) * 12


def sigmoid(f: float, tp4: bool = False) -> float:
    """sigma(f), or sigma of the looked-up logit."""
    x = table_logit(f) if tp4 else f
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def example_loss(f: float, label: int, tp4: bool = False) -> float:
    """-log of the probability of `label`, in nats; outside the table that of the exact sigma."""
    x = table_logit(f) if tp4 and abs(f) < 12 else f
    wrong_way = -x if label else x
    return math.log1p(math.exp(-abs(wrong_way))) + max(wrong_way, 0.0)


def words_in(context: np.ndarray) -> list[int]:
    """The filled slots of one context row."""
    return [int(i) for i in context if i >= 0]


def samples_of(target: int, negatives: np.ndarray, weight: float) -> list[tuple[int, int, float]]:
    """(output, label, weight) of the target, then of the negatives that are not the target."""
    return [(target, 1, 1.0)] + [(int(o), 0, weight) for o in negatives if o != target]


def examples(context, target, negatives, negatives_row, negative_weight):
    """Context words and samples of each example."""
    for e in range(len(target)):
        own_negatives = negatives[negatives_row[e]]
        yield words_in(context[e]), samples_of(int(target[e]), own_negatives, negative_weight)


def linear_update(
    u, w, context, target, negatives, negatives_row, negative_weight, lr, weight_decay,
    lr_factors=(1.0, 1.0), tp4=False, whole=False,
):  # fmt: skip
    """One step of word2vec with negative sampling on u, w [V, D].

    Mikolov et al. 2013, equation 4 (CBOW, mean of the context), with the weight decay of TP4:
    decay, then add. Skip-gram is C = 1.
    Returns: u, w, loss in nats per example.
    """
    u_gradient, w_gradient = np.zeros_like(u), np.zeros_like(w)
    u_update_counts, w_update_counts = np.zeros(len(u)), np.zeros(len(w))
    loss = 0.0
    for words, samples in examples(context, target, negatives, negatives_row, negative_weight):
        h = sum(u[i] for i in words) / len(words)
        for o, label, weight in samples:
            f = float(h @ w[o])
            g = weight * (label - sigmoid(f, tp4))
            loss += weight * example_loss(f, label, tp4)
            w_gradient[o] += g * h
            w_update_counts[o] += weight
            for i in words:
                u_gradient[i] += g * w[o] * (1 if whole else 1 / len(words))
        for i in words:
            u_update_counts[i] += 1
    u_decay = (1 - lr * weight_decay) ** u_update_counts[:, None]
    w_decay = (1 - lr * weight_decay) ** w_update_counts[:, None]
    new_u = u_decay * u + lr * lr_factors[0] * u_gradient
    new_w = w_decay * w + lr * lr_factors[1] * w_gradient
    return new_u, new_w, loss / len(target)


def step_matrix(
    u, w, context, target, negatives, negatives_row, negative_weight, lr, weight_decay,
    tp4=False, whole=False,
):  # fmt: skip
    """S [2 V, 2 V] with which `linear_update` takes [u; w] to S [u; w], for every column alike."""
    vocab_size = len(u)
    matrix = np.zeros((2 * vocab_size, 2 * vocab_size))
    update_counts = np.zeros(2 * vocab_size)
    for words, samples in examples(context, target, negatives, negatives_row, negative_weight):
        h = sum(u[i] for i in words) / len(words)
        for o, label, weight in samples:
            g = weight * (label - sigmoid(float(h @ w[o]), tp4))
            update_counts[vocab_size + o] += weight
            for i in words:
                matrix[vocab_size + o, i] += lr * g / len(words)
                matrix[i, vocab_size + o] += lr * g * (1 if whole else 1 / len(words))
        for i in words:
            update_counts[i] += 1
    return matrix + np.diag((1 - lr * weight_decay) ** update_counts)


def token_by_token(u, w, context, target, negatives, lr, weight_decay, tp4=False):
    """One CBOW position in the order of the original program, on u, w [V, D].

    It updates one output after another, so a negative drawn twice meets the row that it has just
    changed. Without repeated ids this equals `linear_update`; with them the two agree to first
    order in lr.
    Args: context [C], target, negatives [K]: of the position.
    Returns: u, w, loss in nats.
    """
    u, w, decay = u.copy(), w.copy(), 1 - lr * weight_decay
    words = words_in(context)
    h = sum(u[i] for i in words) / len(words)
    h_gradient, loss = np.zeros_like(h), 0.0
    for o, label, _ in samples_of(target, negatives, 1.0):
        f = float(h @ w[o])
        g = label - sigmoid(f, tp4)
        loss += example_loss(f, label, tp4)
        h_gradient += g * w[o]
        w[o] = decay * w[o] + lr * g * h
    for i in words:
        u[i] = decay * u[i] + lr * h_gradient / len(words)
    return u, w, loss


def ntk_update(
    z, s, context, target, negatives, negatives_row, negative_weight, lr, weight_decay,
    random_output=None, tp4=False, whole=False,
):  # fmt: skip
    """One step of the NTK limit on z [V_in, V_out], s [V]; see models/ntk_limit.py.

    f = sum_i x_i s_i z_io, and with `random_output` = (e, t, p, scale) also
    sum_i x_i (t_o p_io + s_i t_o e_io).
    Returns: z, s, random_output, loss in nats per example.
    """
    vocab_size = len(s)
    nothing = np.zeros_like(z), np.zeros(vocab_size), np.zeros_like(z), 0.0
    e0, t, p, scale = random_output or nothing
    z_gradient, p_gradient = np.zeros_like(z), np.zeros_like(z)
    in_counts, out_counts = np.zeros(vocab_size), np.zeros(vocab_size)
    loss = 0.0
    for words, samples in examples(context, target, negatives, negatives_row, negative_weight):
        for o, label, weight in samples:
            f = sum(s[i] * z[i, o] + t[o] * p[i, o] + s[i] * t[o] * e0[i, o] for i in words)
            f /= len(words)
            g = weight * (label - sigmoid(f, tp4))
            loss += weight * example_loss(f, label, tp4)
            out_counts[o] += weight
            for i in words:
                z_gradient[i, o] += g * s[i] / len(words)
                p_gradient[i, o] += g * t[o] * scale**2 * (1 if whole else 1 / len(words))
        for i in words:
            in_counts[i] += 1
    in_decay = (1 - lr * weight_decay) ** in_counts
    out_decay = (1 - lr * weight_decay) ** out_counts
    new_z = z * out_decay[None, :] + lr * z_gradient
    new_p = p * in_decay[:, None] + lr * p_gradient
    new_random_output = (e0, t * out_decay, new_p, scale) if random_output else None
    return new_z, s * in_decay, new_random_output, loss / len(target)


def lowrank_update(
    u, w, b, s, m, context, target, negatives, negatives_row, negative_weight, lr, weight_decay,
    tp4=False, whole=False,
):  # fmt: skip
    """One step of the low-rank engine on u, w [V, r], s [V], m [V_in, V_out]; docs/lowrank.md.

    b [V, r] has orthonormal columns. The embeddings are u_i = b u[i] + s_i (I - b b^T) e_i and
    w_o = b w[o] + (I - b b^T) m[:, o].
    Returns: u, w, s, m, loss in nats per example.
    """
    outside = np.eye(len(b)) - b @ b.T
    rest = outside @ m  # the part of w outside the basis, [V_in, V_out]
    u_gradient, w_gradient = np.zeros_like(u), np.zeros_like(w)
    s_gradient, m_gradient = np.zeros_like(s), np.zeros_like(m)
    in_counts, out_counts = np.zeros(len(u)), np.zeros(len(w))
    loss = 0.0
    for words, samples in examples(context, target, negatives, negatives_row, negative_weight):
        share = 1 if whole else 1 / len(words)
        for o, label, weight in samples:
            f = sum(u[i] @ w[o] + s[i] * rest[i, o] for i in words) / len(words)
            g = weight * (label - sigmoid(f, tp4))
            loss += weight * example_loss(f, label, tp4)
            out_counts[o] += weight
            for i in words:
                w_gradient[o] += g * u[i] / len(words)
                m_gradient[i, o] += label * g * s[i] / len(words)  # negatives stay in the basis
                u_gradient[i] += share * g * w[o]
                if outside[i, i] > 1e-3:
                    s_gradient[i] += share * g * rest[i, o] / outside[i, i]
        for i in words:
            in_counts[i] += 1
    in_decay = (1 - lr * weight_decay) ** in_counts
    out_decay = (1 - lr * weight_decay) ** out_counts
    new_u = in_decay[:, None] * u + lr * u_gradient
    new_w = out_decay[:, None] * w + lr * w_gradient
    new_s = in_decay * s + lr * s_gradient
    new_m = out_decay * m + lr * m_gradient
    return new_u, new_w, new_s, new_m, loss / len(target)
