"""The best learning rate against width, at small scale."""

from pathlib import Path

import numpy as np
import pytest
from composed import config_of

from w2v_inf.config import Finite, Parametrization, StreamConfig, TrainConfig
from w2v_inf.theory.data import read_text
from w2v_inf.theory.exhibit import fit_slope
from w2v_inf.theory.lr_transfer import LAST, best_lrs, final_losses

pytestmark = pytest.mark.slow  # trains to convergence

WIDTHS, LRS = [16, 128, 1024], [2.0**k for k in range(-11, -1)]


def test_the_best_learning_rate_stays_under_mup_and_falls_under_sp(tmp_path: Path) -> None:
    text = read_text(
        config_of(f"data_dir={tmp_path}", "num_threads=1"),
        200,
        400,
        StreamConfig(),
        TrainConfig(lr=1.0),
    )
    schedule = [batch.lr for batch in text.batches]
    slopes = {}
    for parametrization in (Parametrization.mup, Parametrization.sp):
        losses = final_losses(text, parametrization, WIDTHS, LRS, seeds=2)
        assert (
            losses.shape == (2, 3, 10)
            and np.isinf(losses[:, :, -1]).all()
            and np.isfinite(losses[:, :, :6]).all()
        )
        best = best_lrs(losses, LRS)
        assert (best > LRS[0]).all() and (best < LRS[-1]).all()
        slopes[parametrization] = fit_slope(WIDTHS, best).mean
    assert abs(slopes[Parametrization.mup]) < 0.1 and -1 <= slopes[Parametrization.sp] < -0.3
    assert [batch.lr for batch in text.batches] == schedule


def test_losses_are_those_of_a_training_at_that_learning_rate(tmp_path: Path) -> None:
    config = config_of(f"data_dir={tmp_path}", "num_threads=1")
    unit, own = (
        read_text(config, 100, 50, StreamConfig(), TrainConfig(lr=lr)) for lr in (1.0, 0.05)
    )
    steps = own.build(Finite(width=8), 3).train_batches(own.batches)
    losses = final_losses(unit, Parametrization.mup, [8], [0.05], seeds=4)
    np.testing.assert_allclose(losses[3, 0, 0], np.mean(steps[-round(LAST * 50) :]), rtol=1e-5)
