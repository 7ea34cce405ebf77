"""The update rule, in one place: a batch becomes small dense matrices over the words it touches, then GEMMs.

A batch of consecutive positions touches few distinct words: 64 positions of window 8 have about 600 context slots but
under 100 distinct context words. So rows are gathered once a batch, all logits between the batch's distinct inputs and
outputs are one GEMM, and rows are written back once. It is the same sum as example by example (reference.py), for any
batch: negatives of its own for each example, shared ones, skip-gram.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from w2v_inf.stream import Batch

TABLE_SIZE, MAX_EXP = 1000, 12
"""The authors' table of sigma: entries and range."""


@dataclass
class Interactions:
    """What a batch asks of the model, over its I distinct inputs and O distinct outputs; float32 or float64.

    inputs [I], outputs [O]: word ids, int64.
    bag [E, I]: share of each input in each hidden vector, rows sum to 1; None when hidden vector e is input e (C = 1).
    positives [E, O], negatives [E, O]: how often hidden vector e is drawn to / pushed from output o (K/S a sample).
    input_touches [I], output_touches [O]: how often weight decay acts on a row.
    num_examples: B.
    """

    inputs: Tensor
    outputs: Tensor
    bag: Tensor | None
    positives: Tensor
    negatives: Tensor
    input_touches: Tensor
    output_touches: Tensor
    num_examples: int


def interactions(batch: Batch, dtype: torch.dtype, device: torch.device) -> Interactions:
    """Count who meets whom in a batch. Cost: O(B (C + S)) sorting and counting on the CPU, [E, O] memory."""
    context, target, noise_row = batch.context.numpy(), batch.target.numpy(), batch.noise_row.numpy()
    noise = batch.noise.numpy()
    num_examples = len(target)
    example, slot = np.nonzero(context >= 0)
    inputs, input_of = np.unique(context[example, slot], return_inverse=True)
    outputs, output_of = np.unique(np.concatenate([target, noise.ravel()]), return_inverse=True)
    target_of, noise_of = output_of[:num_examples], output_of[num_examples:].reshape(noise.shape)
    num_inputs, num_outputs = len(inputs), len(outputs)

    if context.shape[1] == 1:
        # Examples with the same input share its hidden vector: count them together.
        bag, hidden_of, num_hidden = None, input_of, num_inputs
    else:
        weights = 1.0 / np.bincount(example, minlength=num_examples)[example]
        bag = _count(example, input_of, num_examples, num_inputs, weights)
        hidden_of, num_hidden = np.arange(num_examples), num_examples

    positives = _count(hidden_of, target_of, num_hidden, num_outputs)
    sampled = noise_of[noise_row]  # [B, S]
    hit, sample = np.nonzero(sampled != target_of[:, None])
    negatives = batch.noise_weight * _count(hidden_of[hit], sampled[hit, sample], num_hidden, num_outputs)

    def tensor(a: np.ndarray) -> Tensor:
        return torch.from_numpy(a).to(device, dtype)

    return Interactions(
        inputs=torch.from_numpy(inputs).to(device),
        outputs=torch.from_numpy(outputs).to(device),
        bag=None if bag is None else tensor(bag),
        positives=tensor(positives),
        negatives=tensor(negatives),
        input_touches=tensor(np.bincount(input_of, minlength=num_inputs)),
        output_touches=tensor(positives.sum(0) + negatives.sum(0)),
        num_examples=num_examples,
    )


def _count(rows: np.ndarray, columns: np.ndarray, num_rows: int, num_columns: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Weighted two-dimensional histogram of (row, column) pairs; [num_rows, num_columns] float64."""
    flat = np.bincount(rows * num_columns + columns, weights, num_rows * num_columns)
    return flat.reshape(num_rows, num_columns).astype(np.float64, copy=False)


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


def logit_gradient(f: Tensor, batch: Interactions, logit: Callable[[Tensor], Tensor]) -> tuple[Tensor, float]:
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
    batch: Interactions,
    lr: float,
    weight_decay: float,
    lr_factors: tuple[float, float] = (1.0, 1.0),
    logit: Callable[[Tensor], Tensor] = exact_logit,
) -> float:
    """One simultaneous SGD step with negative sampling; updates `u` and `w` in place.

    Mikolov et al. 2013 with TP4's decay-then-add. All gradients use the values before the step (word2vec.c updates
    token by token; the two agree to first order in lr).

    Args:
      u, w: input and output embedding, [V, D], same float dtype and device.
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
    if batch.bag is None:
        u_rows.add_(hidden_gradient, alpha=lr * lr_factors[0])
    else:
        u_rows.addmm_(batch.bag.T, hidden_gradient, alpha=lr * lr_factors[0])
    w.index_copy_(0, batch.outputs, w_rows)
    u.index_copy_(0, batch.inputs, u_rows)
    return loss
