"""The update rule in torch, on any device: a batch as small dense matrices over the words it touches, then GEMMs.

All logits between the batch's distinct inputs and outputs are one GEMM, and rows are written back once. It is the same
sum as example by example (reference.py), for any batch. On the CPU `fused.py` does the same faster.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from w2v_inf.models.interactions import DenseInteractions

TABLE_SIZE, MAX_EXP = 1000, 12
"""The authors' table of sigma: entries and range."""


def exact_logit(f: Tensor) -> Tensor:
    """The logit whose sigma is used: f itself."""
    return f


def tp4_logit(f: Tensor) -> Tensor:
    """The logit whose sigma the authors' program looks up: about f - 0.19 within +-12, and +-infinity outside.

    Their index (f + 12) x 41 has an integer division where 1000 / 24 = 41.67 was meant.
    """
    index = ((f + MAX_EXP) * (TABLE_SIZE // MAX_EXP // 2)).floor()
    looked_up = (2 * index / TABLE_SIZE - 1) * MAX_EXP
    return torch.where(f.abs() < MAX_EXP, looked_up, torch.copysign(torch.full_like(f, torch.inf), f))


def logit_gradient(f: Tensor, batch: DenseInteractions, logit: Callable[[Tensor], Tensor]) -> tuple[Tensor, float]:
    """Minus the gradient of the batch's loss in its logits, and the loss in nats per example.

    With label 1 for positives and 0 for negatives: g = count x (label - sigma(f)).   f: [E, O] -> g: [E, O].
    """
    x = logit(f)
    p = torch.sigmoid(x)
    g = batch.positives - (batch.positives + batch.negatives) * p  # [E, O]
    # -log sigma(x) = softplus(-x) = softplus(x) - x. Looked-up logits can be infinite; their loss is taken at f.
    x = torch.where(torch.isinf(x), f, x)
    loss = ((batch.positives + batch.negatives) * softplus(x) - batch.positives * x).sum()
    return g, float(loss) / batch.num_examples


def row_decay(touches: Tensor, lr: float, weight_decay: float) -> Tensor:
    """TP4's weight decay of rows touched m times: (1 - lr wd)^m; [rows, 1]."""
    return torch.pow(1 - lr * weight_decay, touches)[:, None]


def sgd_step(
    u: Tensor,
    w: Tensor,
    batch: DenseInteractions,
    lr: float,
    weight_decay: float,
    lr_factors: tuple[float, float] = (1.0, 1.0),
    logit: Callable[[Tensor], Tensor] = exact_logit,
    whole_gradient: bool = False,
) -> float:
    """One simultaneous SGD step with negative sampling; updates `u` and `w` in place.

    Mikolov et al. 2013 with TP4's decay-then-add. All gradients use the values before the step (word2vec.c updates
    token by token; the two agree to first order in lr).

    Args:
      u, w: input and output embedding, [V, D], same float dtype and device.
      whole_gradient: give each context word the hidden vector's whole gradient, not its share (word2vec.c, gensim).
      lr: step size; row updates of u and w are further multiplied by `lr_factors` (the parametrization's), decay is not.
    Returns: loss before the step, nats per example.
    Cost: O((E + I) O D) FLOP; temporaries of (E + I + O) D.
    """
    u_rows, w_rows = u.index_select(0, batch.inputs), w.index_select(0, batch.outputs)  # [I, D], [O, D]
    hidden = u_rows if batch.bag is None else batch.bag @ u_rows  # [E, D]
    g, loss = logit_gradient(hidden @ w_rows.T, batch, logit)  # [E, O]
    hidden_gradient = g @ w_rows  # [E, D]

    # In place from here on: `hidden` may be `u_rows` itself, so the outputs are moved first.
    w_rows.mul_(row_decay(batch.output_touches, lr, weight_decay)).addmm_(g.T, hidden, alpha=lr * lr_factors[1])
    u_rows.mul_(row_decay(batch.input_touches, lr, weight_decay))
    spread = batch.whole_bag if whole_gradient else batch.bag
    if spread is None:
        u_rows.add_(hidden_gradient, alpha=lr * lr_factors[0])
    else:
        u_rows.addmm_(spread.T, hidden_gradient, alpha=lr * lr_factors[0])
    w.index_copy_(0, batch.outputs, w_rows)
    u.index_copy_(0, batch.inputs, u_rows)
    return loss
