"""The kernel regime: the limit's logits, and how finite networks approach it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from toy import arrays, toy_batch

from w2v_inf.config import StreamConfig, TrainConfig
from w2v_inf.models.ntk_limit import init_ntk_limit
from w2v_inf.models.step import UpdateRule
from w2v_inf.reference import updates as reference
from w2v_inf.theory.data import read_text
from w2v_inf.theory.exhibit import fit_slope
from w2v_inf.theory.ntk import CASES, limit_logits, measures, predicted


@pytest.mark.parametrize("scale", [0.0, 0.7])
def test_logits_of_the_limit_are_those_of_the_reference_implementation(scale: float) -> None:
    generator, rule = torch.Generator().manual_seed(0), UpdateRule(weight_decay=0.1)
    network = init_ntk_limit(7, scale, generator, torch.float64, rule=rule)
    z, s, ones = np.zeros((7, 7)), np.ones(7), np.ones(7)
    e = (
        np.zeros((7, 7))
        if network.random_output is None
        else network.random_output.e.numpy().copy()
    )
    start = (e, ones, np.zeros((7, 7)), scale)
    np.testing.assert_array_equal(limit_logits(network).numpy(), e)
    for seed in range(3):
        batch = toy_batch(seed, 7, 5, 4, 3, 1)
        network.update(batch)
        z, s, start, _ = reference.ntk_update(
            z, s, **arrays(batch), weight_decay=0.1, random_output=start
        )
        assert start is not None
    e, t, p, _ = start
    np.testing.assert_allclose(
        limit_logits(network).numpy(),
        s[:, None] * z + t * p + s[:, None] * t * e,
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize(("scale", "weight_decay"), CASES)
def test_finite_networks_have_the_predicted_slopes(
    scale: float, weight_decay: float, tmp_path: Path
) -> None:
    config, widths = config_of(f"data_dir={tmp_path}", "num_threads=1"), [256, 1024, 4096]
    text = read_text(config, 150, 15, StreamConfig(), TrainConfig(weight_decay=weight_decay))
    for values, exponent in zip(
        measures(text, scale, widths, seeds=3), predicted(scale, weight_decay), strict=True
    ):
        assert abs(fit_slope(widths, values).mean - exponent) < 0.1
