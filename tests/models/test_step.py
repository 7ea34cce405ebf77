"""The torch step: its sigmoid table, its rule, and tables with row scales."""

import pytest
import torch
from toy import RULES, SHAPES, References, toy_batch

from w2v_inf.config import ContextGradient, Sigmoid
from w2v_inf.models.dense_batch_counts import dense_batch_counts
from w2v_inf.models.step import (
    MIN_SCALE,
    UpdateRule,
    load_rows,
    sgd_step,
    store_rows,
    tp4_logit,
)
from w2v_inf.reference import updates as reference

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_reference(shape: tuple[int, ...], rule: UpdateRule) -> None:
    generator = torch.Generator().manual_seed(0)
    u, w = torch.randn(2, shape[0], 7, generator=generator, dtype=torch.float64).mul_(0.6)
    references = References(u, w, rule)
    for seed in range(3):
        batch = toy_batch(seed, *shape)
        counts = dense_batch_counts(batch, torch.float64, CPU)
        references.step(batch, float(sgd_step(u, w, counts, batch.lr, rule)), rel=1e-12)
        references.compare(u, w, atol=1e-12)


def test_a_rule_is_one_value() -> None:
    whole = UpdateRule(0.1, sigmoid=Sigmoid.tp4, context_gradient=ContextGradient.whole)
    assert whole.tp4 and whole.whole_gradient
    assert not UpdateRule().tp4 and not UpdateRule().whole_gradient
    assert whole == UpdateRule(0.1, (1.0, 1.0), Sigmoid.tp4, ContextGradient.whole)


def test_looked_up_logits_are_the_references() -> None:
    f = torch.tensor([-30, -12, -11.99, -1, 0, 0.01, 3, 11.99, 12, 30], dtype=torch.float64)
    expected = torch.tensor([reference.table_logit(x) for x in f.tolist()], dtype=torch.float64)
    torch.testing.assert_close(tp4_logit(f), expected, rtol=1e-15, atol=1e-15)


def test_partial_logits_are_summed() -> None:
    """Two halves of the columns, each with the other's part of the logits: the whole step."""
    generator, batch = torch.Generator().manual_seed(0), toy_batch(0, 13, 9, 6, 4, 3)
    u, w = torch.randn(2, 13, 8, generator=generator, dtype=torch.float64)
    counts = dense_batch_counts(batch, torch.float64, CPU)
    halves = [[table[:, part].clone() for table in (u, w)] for part in (slice(4), slice(4, 8))]
    partial = []
    for half in halves:
        tables = [table.clone() for table in half]
        sgd_step(*tables, counts, 0.1, RULES[0], all_reduce=lambda f: partial.append(f) or f)
    for half, other in zip(halves, reversed(partial), strict=True):
        sgd_step(*half, counts, 0.1, RULES[0], all_reduce=lambda f, other=other: f.add_(other))
    sgd_step(u, w, counts, 0.1, RULES[0])
    torch.testing.assert_close(torch.cat([half[0] for half in halves], 1), u)
    torch.testing.assert_close(torch.cat([half[1] for half in halves], 1), w)


def test_rows_with_scales_are_stored_over_their_decayed_scale() -> None:
    """Each entry lands on one of its two neighbours; a small scale goes into its row."""
    table, ids = torch.zeros(4, 3, dtype=torch.bfloat16), torch.tensor([2, 0])
    scale, decay = torch.tensor([1.0, 1.0, 0.5, 1.0]), torch.tensor([[0.9], [MIN_SCALE / 2]])
    rows = torch.tensor([[0.3, -1.7, 5.0], [1.0, 2.0, 1e-3]])
    store_rows(rows, table, ids, scale, decay, torch.Generator().manual_seed(0))
    torch.testing.assert_close(scale, torch.tensor([1.0, 1.0, 0.45, 1.0]))
    torch.testing.assert_close(load_rows(table, ids, scale), rows, rtol=2**-7, atol=0)
    assert not table[1].any() and not table[3].any()
