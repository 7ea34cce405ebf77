"""First-order MAML of a linear network with one hidden layer, at any width and in the limit.

TP4 Section 7. The network is f(x) = alpha V (U x + beta b), with U [n, d], V [C, n], b [n]. A task
has one support and one query image per class. With the loss l, cross-entropy averaged over images:

  inner steps: (U, V, b) -= inner_lr grad l(support),     from the same weights for every task,
  outer step:  the gradients of l(query) at the adapted weights, summed over tasks, clipped, SGD.

Decision: an adapted U is never formed. A step subtracts lr A^T X from U and lr beta sum_j A_j from
b. Here X [C, d] are a task's support images, and A [C, n] the gradients of their hidden vectors
h = U x + beta b. So h of an image x moves by -lr A^T (X x + beta^2). All tasks take their steps
together.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from w2v_inf.maml.tasks import Tasks


@dataclass
class Network:
    """Weights U [n, d], V [C, n], b [n] of a finite network or of the limit; multipliers."""

    u: Tensor
    v: Tensor
    b: Tensor
    alpha: float = 1.0
    beta: float = 1.0

    def copy(self) -> "Network":
        """The same with weights of its own."""
        return replace(self, u=self.u.clone(), v=self.v.clone(), b=self.b.clone())


class Adapted(NamedTuple):
    """Query images after the inner steps: hidden vectors and adapted V [T, C, n], logits f."""

    hidden: Tensor
    v: Tensor
    f: Tensor


def init_limit(
    d: int, num_classes: int, sigma1: float, sigma2: float, alpha: float = 1.0, beta: float = 1.0
) -> Network:
    """The muP limit: U = sigma1 [I; 0], V = sigma2 [0, I], b = 0; width d + C, float64."""
    eye = torch.eye(d + num_classes, dtype=torch.float64)
    u, v = sigma1 * eye[:, :d], sigma2 * eye[d:]
    return Network(u.contiguous(), v, torch.zeros(len(eye), dtype=torch.float64), alpha, beta)


def sample(limit: Network, width: int, generator: torch.Generator) -> Network:
    """A finite network of the limit: n^-1/2 Omega U, n^-1/2 V Omega^T, with Gaussian Omega."""
    omega = torch.randn(width, len(limit.u), generator=generator, dtype=torch.float64)
    omega /= width**0.5
    return replace(limit, u=omega @ limit.u, v=limit.v @ omega.T, b=omega @ limit.b)


def adapt(network: Network, tasks: Tasks, lr: float, steps: int) -> Adapted:
    """Take `steps` steps of SGD on the support images of each task; changes nothing.

    Cost: one GEMM of [N, d] x [d, n] for the N images of all tasks; then O(T C^2 n) FLOP per step.
    """
    return _adapt(network, _hidden(network, tasks.images), tasks, lr, steps)


def _hidden(network: Network, images: Tensor) -> Tensor:
    """Hidden vectors of images [N, d]: [N, n]."""
    return images @ network.u.T + network.beta * network.b


def _adapt(network: Network, all_hidden: Tensor, tasks: Tasks, lr: float, steps: int) -> Adapted:
    """`adapt`, given the hidden vectors of all images, [N, n]."""
    alpha, beta = network.alpha, network.beta
    hidden, query_hidden = all_hidden[tasks.support], all_hidden[tasks.query]  # [T, C, n]
    # How much a gradient of each support image moves a hidden vector, [T, C, C].
    among, across = tasks.among + beta**2, tasks.across + beta**2
    v = network.v.expand(len(hidden), -1, -1)
    for _ in range(steps):
        g = logit_gradient(alpha * hidden @ v.mT)  # [T, C, C]
        hidden_gradient = alpha * g @ v  # [T, C, n]
        v = v - lr * alpha * g.mT @ hidden
        hidden = hidden - lr * among @ hidden_gradient
        query_hidden = query_hidden - lr * across @ hidden_gradient
    return Adapted(query_hidden, v, alpha * query_hidden @ v.mT)


def logit_gradient(f: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy of each task by the logits f [T, C, C]."""
    eye = torch.eye(f.shape[-1], dtype=f.dtype)
    return (f.softmax(-1) - eye) / f.shape[-2]


def outer_gradients(
    network: Network, tasks: Tasks, lr: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the query losses at the adapted weights, summed over tasks; of U, V and b."""
    adapted = adapt(network, tasks, lr, steps)
    g = network.alpha * logit_gradient(adapted.f)
    hidden_gradient = (g @ adapted.v).flatten(0, 1)  # [T C, n]
    u = hidden_gradient.T @ tasks.images[tasks.query.flatten()]
    v = g.flatten(0, 1).T @ adapted.hidden.flatten(0, 1)
    return u, v, network.beta * hidden_gradient.sum(0)


def outer_step(
    network: Network, tasks: Tasks, inner_lr: float, meta_lr: float, max_norm: float
) -> None:
    """One step of first-order MAML in place, with one inner step; clips all gradients together."""
    gradients = outer_gradients(network, tasks, inner_lr, 1)
    norm = math.hypot(*(float(torch.linalg.vector_norm(gradient)) for gradient in gradients))
    factor = meta_lr * min(1.0, max_norm / max(norm, 1e-300))
    for weights, gradient in zip((network.u, network.v, network.b), gradients, strict=True):
        weights.sub_(gradient, alpha=factor)


def num_right(network: Network, tasks: Tasks, lr: float, steps: int) -> int:
    """Query images of all tasks whose largest logit is the right one; a tie is wrong."""
    hidden = _hidden(network, tasks.images)
    parts = (_adapt(network, hidden, part, lr, steps).f for part in tasks.parts)
    return sum(map(count_right, parts))


def count_right(f: Tensor) -> int:
    """Rows c of f [T, C, C] whose entry c is larger than every other."""
    own = f.diagonal(dim1=-2, dim2=-1)
    others = f.masked_fill(torch.eye(f.shape[-1], dtype=torch.bool), -torch.inf).amax(-1)
    return int((own > others).sum())
