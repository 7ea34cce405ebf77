"""Maps of losses by width and learning rate: best points, cells, and refused sweeps."""

import math
from pathlib import Path

import numpy as np
import pytest
from fake_runs import make_run
from matplotlib.figure import Figure

from w2v_inf.errors import UserError
from w2v_inf.reporting.lr_transfer import best_lr, plot_transfer
from w2v_inf.reporting.plot import draw
from w2v_inf.runs.results import find_runs, group_runs

LRS = [0.01, 0.02, 0.04, 0.08]


def test_the_best_learning_rate_is_the_minimum_of_a_parabola() -> None:
    for exact in (0.021, 0.03, 0.038):
        losses = 3 + (np.log(LRS) - math.log(exact)) ** 2
        assert best_lr(LRS, losses) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([1.0, 2.0, 3.0, 4.0], 0.01),
        ([4.0, 3.0, 2.0, 1.0], 0.08),
        ([3.0, 2.0, 1.0, math.inf], 0.04),
        ([3.0, 2.0, math.nan, 4.0], 0.02),
        ([2.0, 1.0, 1.0, 1.0], 0.02),
    ],
    ids=["first", "last", "beside a divergence", "beside a gap", "flat"],
)
def test_without_two_neighbours_it_is_the_lowest_point(losses: list[float], best: float) -> None:
    found = best_lr(LRS, np.array(losses))
    assert found == best if losses[1] != losses[2] else 0.02 <= found < 0.04


def _sweep(folder: Path) -> Path:
    """Widths 64 and 256 at three learning rates, mup and sp.

    The wider sp network diverged at the largest learning rate.
    """
    for parametrization in ("mup", "sp"):
        for width in (64, 256):
            for lr in LRS[:3]:
                run = make_run(
                    folder / f"{parametrization}-{width}-{lr}",
                    width=width,
                    lr=lr,
                    parametrization=parametrization,
                )
                if (parametrization, width, lr) == ("sp", 256, 0.04):
                    (run / "summary.json").unlink()
    return folder


def _cells(figure: Figure) -> list[list[str]]:
    return [[text.get_text() for text in axes.texts] for axes in figure.axes[:2]]


def test_a_sweep_is_one_map_per_parametrization(tmp_path: Path) -> None:
    runs = find_runs([_sweep(tmp_path)])
    assert len(group_runs(runs)) == 3 and len(group_runs(runs, "train.lr")) == 1
    (drawing,) = draw(runs, ["transfer"])
    assert drawing.name == "transfer" and [
        axes.get_title() for axes in drawing.figure.axes[:2]
    ] == ["mup", "sp"]
    by_key = {
        (run.model.variant or "mup", run.model.width, run.config.train.lr): run.number("loss_nats")
        for run in runs
    }
    for name, cells in zip(("mup", "sp"), _cells(drawing.figure), strict=True):
        wanted = [by_key.get((name, width, lr)) for width in (64, 256) for lr in LRS[:3]]
        assert cells == ["" if loss is None else f"{loss:.2f}" for loss in wanted]
    assert "V = 5,000; 3 epochs; 1 seed per cell" in drawing.caption


def test_seeds_are_averaged(tmp_path: Path) -> None:
    for width, lr, seed in (
        (64, 0.01, 0),
        (64, 0.01, 1),
        (64, 0.02, 0),
        (256, 0.01, 0),
        (256, 0.01, 1),
    ):
        make_run(tmp_path / f"{width}-{lr}-{seed}", width=width, lr=lr, seed=seed)
    runs = find_runs([tmp_path])
    figure, caption = plot_transfer(runs)
    mean = np.mean(
        [
            run.number("loss_nats")
            for run in runs
            if (run.model.width, run.config.train.lr) == (64, 0.01)
        ]
    )
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert (
        cells[0] == f"{mean:.2f}" and cells[1] == "" and "2 seeds per cell" in caption
    )  # one seed of two: no mean


@pytest.mark.parametrize(
    "swept", [{"lr": 0.02}, {"width": 256}], ids=["one width", "one learning rate"]
)
def test_a_map_needs_both_axes(swept: dict, tmp_path: Path) -> None:
    make_run(tmp_path / "a", **{"width": 64, "lr": 0.01})
    make_run(tmp_path / "b", **({"width": 64, "lr": 0.01} | swept))
    make_run(tmp_path / "limit", model="mup_limit", lr=0.04)
    make_run(tmp_path / "other", width=512, lr=0.08, parametrization="sp")
    with pytest.raises(UserError, match="at least two widths and two train.lr"):
        draw(find_runs([tmp_path]), ["transfer"])
