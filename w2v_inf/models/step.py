"""The update rule in torch, on any device: a batch as small dense matrices over the words it touches, then GEMMs.

All logits between the batch's distinct inputs and outputs are one GEMM, and rows are written back once. It is the same
sum as example by example (reference.py), for any batch. On the CPU `fused.py` does the same faster.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from w2v_inf import distributed
from w2v_inf.config import ContextGradient, Sigmoid
from w2v_inf.models.batch_counts import DenseBatchCounts

TABLE_SIZE, MAX_EXP = 1000, 12
"""The authors' table of sigma: entries and range."""
MIN_SCALE = 1e-3
"""Scales of rows below it are multiplied into their rows."""


@dataclass(frozen=True)
class UpdateRule:
    """What an SGD step does besides following the gradient; every model holds one as `rule`."""

    weight_decay: float = 0.0
    """A row with m update counts in a step is first multiplied by (1 - lr weight_decay)^m."""
    lr_factors: tuple[float, float] = (1.0, 1.0)
    """Multiply the gradients of u and w (the parametrization sets them), but not the decay."""
    sigmoid: Sigmoid = Sigmoid.exact
    """The exact sigmoid, or the lookup table of the authors' program."""
    context_gradient: ContextGradient = ContextGradient.divided
    """Divide the hidden vector's gradient among the context words, or give each the whole."""

    @property
    def tp4(self) -> bool:
        """Whether sigma comes from the authors' table."""
        return self.sigmoid is Sigmoid.tp4

    @property
    def whole_gradient(self) -> bool:
        """Whether each context word gets the hidden vector's whole gradient."""
        return self.context_gradient is ContextGradient.whole


def exact_logit(f: Tensor) -> Tensor:
    """The logit whose sigma is used: f itself."""
    return f


def tp4_logit(f: Tensor) -> Tensor:
    """The logit whose sigma the authors' program looks up: about f - 0.19 within +-12, and +-infinity outside.

    Their index (f + 12) x 41 has an integer division where 1000 / 24 = 41.67 was meant.
    """
    index = ((f + MAX_EXP) * (TABLE_SIZE // MAX_EXP // 2)).floor()
    looked_up = (2 * index / TABLE_SIZE - 1) * MAX_EXP
    return torch.where(
        f.abs() < MAX_EXP, looked_up, torch.copysign(torch.full_like(f, torch.inf), f)
    )


def logit_gradient(
    f: Tensor, batch: DenseBatchCounts, logit: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Minus the gradient of the batch's loss in its logits, and the loss in nats per example.

    With label 1 for positives and 0 for negatives: g = count x (label - sigma(f)).   f: [E, O] -> g: [E, O].
    """
    x = logit(f)
    p = torch.sigmoid(x)
    g = batch.positives - (batch.positives + batch.negatives) * p  # [E, O]
    # -log sigma(x) = softplus(-x) = softplus(x) - x. Looked-up logits can be infinite; their loss is taken at f.
    x = torch.where(torch.isinf(x), f, x)
    loss = ((batch.positives + batch.negatives) * softplus(x) - batch.positives * x).sum()
    return g, loss / batch.num_examples


def row_decay(touches: Tensor, lr: float, weight_decay: float) -> Tensor:
    """TP4's weight decay of rows touched m times: (1 - lr wd)^m; [rows, 1]."""
    return torch.pow(1 - lr * weight_decay, touches)[:, None]


def rounding_seed(words_seen: int) -> int:
    """What the random bits of a step's rounding are made from. Columns count from 0 on every rank, and must not be rounded alike."""
    return words_seen + (distributed.rank() << 20)


def load_rows(table: Tensor, ids: Tensor, scale: Tensor | None) -> Tensor:
    """Copies of rows to compute with: float32 of a bfloat16 table, whose rows are scale [V] x row; [R, D]."""
    rows = table.index_select(0, ids)
    return rows if scale is None else rows.float().mul_(scale[ids, None])


def store_rows(
    rows: Tensor,
    table: Tensor,
    ids: Tensor,
    scale: Tensor | None,
    decay: Tensor,
    bits: torch.Generator | None,
) -> None:
    """Write rows back. A bfloat16 table takes them over their decayed scale, rounded up or down at random, so that no step is lost.

    decay: of the rows, [R, 1].    bits: draws the rounding's random bits, on the table's device.
    """
    if scale is None:
        table.index_copy_(0, ids, rows)
        return
    after = scale[ids] * decay[:, 0]
    after = torch.where(after > MIN_SCALE, after, 1.0)
    scale[ids] = after
    as_bits = (rows / after[:, None]).view(torch.int32)
    as_bits += torch.randint(
        1 << 16, as_bits.shape, generator=bits, dtype=torch.int32, device=rows.device
    )
    # What is left below bfloat16's 16 bits is cut off.
    table.index_copy_(0, ids, (as_bits & -(1 << 16)).view(torch.float32).bfloat16())


def sgd_step(
    u: Tensor,
    w: Tensor,
    batch: DenseBatchCounts,
    lr: float,
    weight_decay: float,
    lr_factors: tuple[float, float] = (1.0, 1.0),
    logit: Callable[[Tensor], Tensor] = exact_logit,
    whole_gradient: bool = False,
    scales: tuple[Tensor, Tensor] | None = None,
    bits: torch.Generator | None = None,
    add_up: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """One simultaneous SGD step with negative sampling; updates `u`, `w` and `scales` in place.

    Mikolov et al. 2013 with TP4's decay-then-add. All gradients use the values before the step (word2vec.c updates
    token by token; the two agree to first order in lr).

    Args:
      u, w: input and output embedding, [V, D], same device: float32, float64, or bfloat16 with `scales` (computed in float32).
      whole_gradient: give each context word the hidden vector's whole gradient, not its share (word2vec.c, gensim).
      lr: step size; row updates of u and w are further multiplied by `lr_factors` (the parametrization's), decay is not.
      scales, bits: see `load_rows` and `store_rows`.
      add_up: where u and w are some columns of a net, sums partial logits over all shards, in place.
    Returns: loss before the step, nats per example, on the device: reading it would wait for the device.
    Cost: O((E + I) O D) FLOP; temporaries of (E + I + O) D.
    """
    u_scale, w_scale = scales or (None, None)
    u_rows, w_rows = (
        load_rows(u, batch.inputs, u_scale),
        load_rows(w, batch.outputs, w_scale),
    )  # [I, D], [O, D]
    hidden = u_rows if batch.bag is None else batch.bag @ u_rows  # [E, D]
    f = hidden @ w_rows.T  # [E, O]
    g, loss = logit_gradient(add_up(f) if add_up else f, batch, logit)  # [E, O]
    hidden_gradient = g @ w_rows  # [E, D]

    # In place from here on: `hidden` may be `u_rows` itself, so the outputs are moved first.
    output_decay, input_decay = (
        row_decay(touches, lr, weight_decay)
        for touches in (batch.output_update_counts, batch.input_update_counts)
    )
    w_rows.mul_(output_decay).addmm_(g.T, hidden, alpha=lr * lr_factors[1])
    u_rows.mul_(input_decay)
    spread = batch.whole_bag if whole_gradient else batch.bag
    if spread is None:
        u_rows.add_(hidden_gradient, alpha=lr * lr_factors[0])
    else:
        u_rows.addmm_(spread.T, hidden_gradient, alpha=lr * lr_factors[0])
    store_rows(w_rows, w, batch.outputs, w_scale, output_decay, bits)
    store_rows(u_rows, u, batch.inputs, u_scale, input_decay, bits)
    return loss
