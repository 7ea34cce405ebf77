"""First-order MAML task by task, with autograd on adapted weights; see w2v_inf/maml/network.py."""

import torch
from torch.nn.functional import cross_entropy


def adapt_one(weights, support, lr, steps):
    """The adapted U [n, d], V [C, n], b [n] after SGD on one task's support images [C, d]."""
    for _ in range(steps):
        weights = [w.detach().requires_grad_() for w in weights]
        gradients = torch.autograd.grad(loss_of(weights, support), weights)
        weights = [w - lr * g for w, g in zip(weights, gradients, strict=True)]
    return [w.detach() for w in weights]


def logits_of(weights, images):
    """V (U x + b) for each image; [C, C]."""
    u, v, b = weights
    return torch.stack([v @ (u @ x + b) for x in images])


def loss_of(weights, images):
    """Mean cross-entropy of images [C, d], where image c has label c."""
    return cross_entropy(logits_of(weights, images), torch.arange(len(images)))


def outer_gradients(weights, tasks, lr, steps):
    """Gradients of the query losses at the adapted weights, summed over tasks (support, query)."""
    total = [torch.zeros_like(w) for w in weights]
    for support, query in tasks:
        adapted = [w.requires_grad_() for w in adapt_one(weights, support, lr, steps)]
        gradients = torch.autograd.grad(loss_of(adapted, query), adapted)
        total = [sum_ + g for sum_, g in zip(total, gradients, strict=True)]
    return total
