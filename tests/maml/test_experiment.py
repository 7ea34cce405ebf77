"""The comparison on planted tasks: training, hyperparameters by width, and what is stored."""

import json
from pathlib import Path

import pytest
import torch
from composed import config_of

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.maml import experiment
from w2v_inf.maml.experiment import (
    LIMIT,
    TUNED,
    Cell,
    Result,
    compare,
    estimate,
    hyperparameters,
    num_updates,
    train,
)
from w2v_inf.maml.tasks import ImageSets, planted


def small(*options: str) -> Config:
    few = ("maml.updates=300", "maml.widths=[4]", "maml.seeds=2", "maml.tasks=300")
    return config_of("maml.images=planted", *few, *options)


def test_the_limit_is_best_and_the_linear_kernel_worst(tmp_path: Path) -> None:
    table = compare(small(), planted(), tmp_path / "maml.json")
    assert [*table] == ["linear kernel", "ReLU GP", "ReLU NTK", "width 4", LIMIT]
    means = {learner: estimate(percent).mean for learner, percent in table.items()}
    assert max(means, key=means.__getitem__) == LIMIT
    assert means["linear kernel"] + 5 < means[LIMIT] and means["width 4"] + 5 < means[LIMIT]


def test_the_best_validation_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the second of three."""
    cell, validations = Cell("width 4", 4, 0), iter((50, 90, 70))
    monkeypatch.setattr(experiment, "num_right", lambda *_: next(validations))
    best, percent = train(cell, small(), planted())
    assert percent == 100 * 90 / 1500
    monkeypatch.setattr(experiment, "num_right", lambda *_: 1)
    monkeypatch.setattr(experiment, "UPDATES_PER_VALIDATION", 200)
    until_then, _ = train(cell, small("maml.updates=200"), planted())
    assert best.u.equal(until_then.u) and best.beta == 2


def test_a_width_takes_the_row_at_or_below_it() -> None:
    rows = {1: 2, 2: 2, 7: 2, 8: 8, 31: 8, 32: 32, 300: 128, 512: 512, 8192: 512}
    assert all(hyperparameters(width, None) == TUNED[row] for width, row in rows.items())
    assert hyperparameters(None, None) == TUNED[512] and TUNED[32].meta_lr == 0.4
    assert hyperparameters(32, 3.0) == TUNED[32]._replace(beta=3.0)


def test_the_number_of_updates_depends_on_the_images() -> None:
    images = torch.zeros(1, 1, 1)
    assert num_updates(config_of(), planted()) == 1000
    assert num_updates(config_of(), ImageSets("Omniglot", images, images, images)) == 10_000
    assert num_updates(config_of("maml.updates=7"), planted()) == 7


def test_the_best_validation_chooses_beta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though another one would have had the best test."""

    def result(cell: Cell, *rest) -> Result:
        return Result(90.0 - (cell.beta or 0), 10.0 + (cell.beta or 0))

    monkeypatch.setattr(experiment, "run_cell", result)
    table = compare(small("maml.betas=[1,4,2]"), planted(), tmp_path / "maml.json")
    assert table["width 4"] == table[LIMIT] == [86.0, 86.0]
    assert table["ReLU GP"] == [90.0, 90.0]
    assert compare(small(), planted(), tmp_path / "maml.json")[LIMIT] == [90.0, 90.0]


def test_an_interrupted_comparison_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell is stored when it ends, and taken again only for the same settings."""
    config, store = small("maml.updates=3", "maml.tasks=20"), tmp_path / "maml.json"
    whole, run_cell = compare(config, planted(), tmp_path / "whole.json"), experiment.run_cell
    ran: list[Cell] = []

    def interrupted(cell: Cell, *rest):
        if len(ran) == 7:
            raise KeyboardInterrupt
        ran.append(cell)
        return run_cell(cell, *rest)

    monkeypatch.setattr(experiment, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(config, planted(), store)
    assert len(json.loads(store.read_text())["cells"]) == 7
    monkeypatch.setattr(
        experiment, "run_cell", lambda *all_: ran.append(all_[0]) or run_cell(*all_)
    )
    assert compare(config, planted(), store) == whole
    assert len(ran) == len(set(ran)) == 10
    for changed, sets, again in (
        (small("maml.updates=4", "maml.tasks=20"), planted(), 4),  # kernels have no updates
        (small("maml.updates=3", "maml.tasks=21"), planted(), 10),
        (config, planted(1), 10),
    ):
        ran.clear()
        compare(changed, sets, store)
        assert len(ran) == again
    monkeypatch.setitem(TUNED, 2, TUNED[8])
    ran.clear()
    compare(config, planted(), store)
    assert {cell.learner for cell in ran} == {"width 4"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("{}", "must hold results of w2v-inf maml: move it, or change plot.out"),
        ('{"cells": [{"test": "x"}]}', "must hold results of w2v-inf maml"),
    ],
)
def test_a_damaged_store_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "maml.json").write_text(content)
    with pytest.raises(UserError, match=message):
        compare(small(), planted(), tmp_path / "maml.json")


def test_weights_that_are_not_finite_are_one_line() -> None:
    sets = planted()
    broken = ImageSets("planted", sets.train * torch.nan, sets.validation, sets.test)
    with pytest.raises(UserError, match="weights are not finite after 100 updates: lower maml.be"):
        train(Cell(LIMIT, None, 0), small(), broken)


def test_a_training_that_diverges_later_keeps_its_best_validation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def diverging(network, tasks, *rest) -> None:
        network.b += torch.inf if len(updates) == 150 else 1.0
        updates.append(None)

    updates: list[None] = []
    monkeypatch.setattr(experiment, "outer_step", diverging)
    best, percent = train(Cell(LIMIT, None, 0), small(), planted())
    assert best.b.eq(100.0).all() and percent > 0 and len(updates) == 200
    assert "muP limit: weights are not finite after 200 updates" in caplog.text
