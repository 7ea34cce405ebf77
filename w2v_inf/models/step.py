"""The SGD step of word2vec with negative sampling, in torch. Read this first.

A batch has examples e with context words i, and outputs o: its targets and its negatives. Mikolov
et al. 2013 train the logits f by logistic regression; TP4 adds weight decay, decay before gradient:

  h_e  = sum_i bag_ei u_i                       mean input embedding of the context       [E, D]
  f_eo = <h_e, w_o>                             logits                                    [E, O]
  g_eo = positive_eo - (positive_eo + negative_eo) sigma(f_eo)    minus dloss/df          [E, O]
  w_o <- (1 - lr wd)^m_o w_o + lr sum_e g_eo h_e                                          [O, D]
  u_i <- (1 - lr wd)^m_i u_i + lr sum_e bag_ei sum_o g_eo w_o                             [I, D]

Here positive and negative count how often e has o as its target and as a negative, and m counts
the updates of a row: each context slot, each target, each negative that is not the target (K/S
times if S shared samples stand for K).

Decisions:
- All gradients are taken before the step, and summed. word2vec.c updates token by token instead;
  the two agree to first order in lr.
- Each step is a few GEMMs over the distinct words of the batch (batch_counts.py), for any batch.
- This step runs on any device. cpu/step.py and gpu/step.py take the same step faster, and
  reference/updates.py takes it example by example; tests compare all four.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from w2v_inf import distributed
from w2v_inf.config import ContextGradient, Sigmoid
from w2v_inf.models.dense_batch_counts import DenseBatchCounts

TABLE_SIZE, MAX_EXP = 1000, 12
"""Entries and range of the sigmoid table in the authors' program; the names are theirs."""
TABLE_STEP = TABLE_SIZE // MAX_EXP // 2
"""Entries per unit of the logit as their index counts: 41, where 1000 / 24 = 41.67 was meant."""
MIN_SCALE = 1e-3
"""A row scale below it is multiplied into its row."""


@dataclass(frozen=True)
class UpdateRule:
    """The choices in a step that do not depend on the batch; every model holds them as `rule`."""

    weight_decay: float = 0.0
    """wd above; dimensionless."""
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


def sgd_step(
    u: Tensor,
    w: Tensor,
    counts: DenseBatchCounts,
    lr: float,
    rule: UpdateRule,
    scales: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
    all_reduce: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """One simultaneous SGD step; updates `u`, `w` and `scales` in place.

    Mikolov et al. 2013 (equation 4) with the weight decay of TP4; see the module's docstring.

    Args:
      u, w: input and output embedding, [V, D], on one device: float32, float64, or bfloat16 with
        `scales` (the step is then computed in float32).
      counts: the batch, in the type of the computation, on the same device.
      lr: learning rate per example, dimensionless.
      scales: of the rows of u and w, [V] float32 each: the embeddings are scale x row.
      generator: draws the random bits of bfloat16 rounding, on the same device.
      all_reduce: sums partial logits over processes in place, where each holds some columns.
    Returns: loss before the step, nats per example, [], on the device: reading it would wait for
      the device.
    Cost: O((E + I) O D) FLOP; temporaries of (E + I + O) D numbers.
    """
    u_scale, w_scale = scales or (None, None)
    u_rows = load_rows(u, counts.inputs, u_scale)  # [I, D]
    w_rows = load_rows(w, counts.outputs, w_scale)  # [O, D]
    hidden = u_rows if counts.bag is None else counts.bag @ u_rows  # [E, D]
    f = hidden @ w_rows.T  # [E, O]
    g, loss = logit_gradient(all_reduce(f) if all_reduce else f, counts, rule)  # [E, O]
    hidden_gradient = g @ w_rows  # [E, D]

    # In place from here on. The outputs go first, since `hidden` may be `u_rows` itself.
    u_lr, w_lr = lr * rule.lr_factors[0], lr * rule.lr_factors[1]
    w_decay = row_decay(counts.output_update_counts, lr, rule)  # [O, 1]
    w_rows.mul_(w_decay).addmm_(g.T, hidden, alpha=w_lr)
    u_decay = row_decay(counts.input_update_counts, lr, rule)  # [I, 1]
    u_rows.mul_(u_decay)
    bag = counts.whole_bag if rule.whole_gradient else counts.bag
    if bag is None:
        u_rows.add_(hidden_gradient, alpha=u_lr)
    else:
        u_rows.addmm_(bag.T, hidden_gradient, alpha=u_lr)
    store_rows(w_rows, w, counts.outputs, w_scale, w_decay, generator)
    store_rows(u_rows, u, counts.inputs, u_scale, u_decay, generator)
    return loss


def logit_gradient(f: Tensor, counts: DenseBatchCounts, rule: UpdateRule) -> tuple[Tensor, Tensor]:
    """g and the loss in nats per example, from the logits f; both [E, O], the loss []."""
    x = tp4_logit(f) if rule.tp4 else f
    both = counts.positive_counts + counts.negative_counts
    g = counts.positive_counts - both * torch.sigmoid(x)
    # -log sigma(x) = softplus(x) - x for positives, -log sigma(-x) = softplus(x) for negatives.
    # A looked-up logit can be infinite; the loss is then taken at f.
    x = torch.where(torch.isinf(x), f, x)
    loss = (both * softplus(x) - counts.positive_counts * x).sum()
    return g, loss / counts.num_examples


def tp4_logit(f: Tensor) -> Tensor:
    """The logit whose sigmoid the authors' program looks up for f, of the same shape.

    It is about f - 0.19 within +-12 (see `TABLE_STEP`), and +-infinity outside.
    """
    index = ((f + MAX_EXP) * TABLE_STEP).floor()
    looked_up = (2 * index / TABLE_SIZE - 1) * MAX_EXP
    infinite = torch.copysign(torch.full_like(f, torch.inf), f)
    return torch.where(f.abs() < MAX_EXP, looked_up, infinite)


def row_decay(update_counts: Tensor, lr: float, rule: UpdateRule) -> Tensor:
    """TP4's weight decay of rows with m = `update_counts` [R]: (1 - lr wd)^m; [R, 1]."""
    return torch.pow(1 - lr * rule.weight_decay, update_counts)[:, None]


def load_rows(table: Tensor, ids: Tensor, scale: Tensor | None) -> Tensor:
    """Copies of the rows `ids` [R] to compute with, times their scale; [R, D]."""
    rows = table.index_select(0, ids)
    return rows if scale is None else rows.float().mul_(scale[ids, None])


def store_rows(
    rows: Tensor,
    table: Tensor,
    ids: Tensor,
    scale: Tensor | None,
    decay: Tensor,
    generator: torch.Generator | None,
) -> None:
    """Write rows back into `table`; with `scale` [V], also decay the scales of these rows.

    A bfloat16 table gets rows / scale, rounded up or down at random: to nearest, steps below half
    a unit in the last place would be lost. Scales take the decay, which is smaller still.

    decay: of the rows, [R, 1].  generator: draws the random bits, on the table's device.
    """
    if scale is None:
        table.index_copy_(0, ids, rows)
        return
    after = scale[ids] * decay[:, 0]
    after = torch.where(after > MIN_SCALE, after, 1.0)
    scale[ids] = after
    bits = (rows / after[:, None]).view(torch.int32)
    bits += torch.randint(
        1 << 16, bits.shape, generator=generator, dtype=torch.int32, device=rows.device
    )
    # bfloat16 is the upper half of float32: the lower 16 bits are cut off.
    table.index_copy_(0, ids, (bits & -(1 << 16)).view(torch.float32).bfloat16())


def rounding_seed(words_seen: int) -> int:
    """Seed of a step's random rounding. Processes differ in it: each counts its columns from 0."""
    return words_seen + (distributed.rank() << 20)
