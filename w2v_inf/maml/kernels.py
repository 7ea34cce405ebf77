"""Kernels of networks with one hidden layer and a bias, whose units never learn features.

The network of width n is f(x) = n^-1/2 v . phi(U x + b), with U, b and v standard normal. With
S(x, x') = <x, x'> + 1, the covariance of its pre-activations, and t the angle between x and x' by
S, the kernels of the limit n -> infinity are

  GP:  E phi(z) phi(z')                       the readout v learns,
  NTK: GP + S(x, x') E phi'(z) phi'(z')       every weight learns.

For phi(z) = z both give the predictor of S. For ReLU they are the arc-cosine kernels of orders 1
and 0 (Cho and Saul 2009):

  E relu relu   = sqrt(S(x, x) S(x', x')) (sin t + (pi - t) cos t) / (2 pi)
  E relu' relu' = (pi - t) / (2 pi)

Decision: a kernel fits the labels of the support images exactly, which gradient descent on the
squared loss does in the end. The paper takes SGD on cross-entropy instead, also before the test. A
kernel cannot learn from tasks whose labels are random, so we do not train it on them.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from w2v_inf.maml.network import count_right
from w2v_inf.maml.tasks import Tasks

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From S(x, x') [.., A, B], S(x, x) [.., A] and S(x', x') [.., B] to the kernel [.., A, B]."""


def linear(s: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """S itself."""
    return s


def relu_gp(s: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Arc-cosine kernel of order 1, halved as E relu relu is."""
    scale, angle = _scale_and_angle(s, left, right)
    return scale * (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)


def relu_ntk(s: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The kernel of all weights: U, b and v."""
    _, angle = _scale_and_angle(s, left, right)
    return relu_gp(s, left, right) + s * (math.pi - angle) / (2 * math.pi)


def _scale_and_angle(s: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    scale = (left[..., :, None] * right[..., None, :]).sqrt()
    return scale, (s / scale).clamp(-1, 1).acos()


KERNELS: dict[str, Kernel] = {
    "linear kernel": linear,
    "ReLU GP": relu_gp,
    "ReLU NTK": relu_ntk,
}


def kernel_right(kernel: Kernel, tasks: Tasks) -> int:
    """Query images classified rightly by least squares on the support; a tie is wrong."""
    norms = tasks.images.square().sum(1) + 1
    support, query = norms[tasks.support], norms[tasks.query]  # [T, C]
    among = kernel(tasks.among + 1, support, support)  # [T, C, C]
    across = kernel(tasks.across + 1, query, support)
    return count_right(torch.linalg.solve(among, across.mT).mT)
