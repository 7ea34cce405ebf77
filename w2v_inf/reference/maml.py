"""First-order MAML task by task, with autograd on adapted weights; see w2v_inf/maml/network.py.

`scales` are the multipliers alpha and beta.
"""

import torch
from torch.nn.functional import cross_entropy


def adapt_one(weights, scales, support, lr, steps):
    """The adapted U [n, d], V [C, n], b [n] after SGD on one task's support images [C, d]."""
    for _ in range(steps):
        weights = [w.detach().requires_grad_() for w in weights]
        gradients = torch.autograd.grad(loss_of(weights, scales, support), weights)
        weights = [w - lr * g for w, g in zip(weights, gradients, strict=True)]
    return [w.detach() for w in weights]


def logits_of(weights, scales, images):
    """alpha V (U x + beta b) for each image; [C, C]."""
    (u, v, b), (alpha, beta) = weights, scales
    return torch.stack([alpha * v @ (u @ x + beta * b) for x in images])


def loss_of(weights, scales, images):
    """Mean cross-entropy of images [C, d], where image c has label c."""
    return cross_entropy(logits_of(weights, scales, images), torch.arange(len(images)))


def outer_gradients(weights, scales, tasks, lr, steps):
    """Gradients of the query losses at the adapted weights, summed over tasks (support, query)."""
    total = [torch.zeros_like(w) for w in weights]
    for support, query in tasks:
        adapted = [w.requires_grad_() for w in adapt_one(weights, scales, support, lr, steps)]
        gradients = torch.autograd.grad(loss_of(adapted, scales, query), adapted)
        total = [sum_ + g for sum_, g in zip(total, gradients, strict=True)]
    return total
