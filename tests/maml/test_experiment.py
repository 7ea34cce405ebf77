"""The comparison on planted tasks, its table and files."""

import dataclasses
from pathlib import Path

import pytest

from w2v_inf.errors import UserError
from w2v_inf.maml.experiment import Options, compare, estimate, format_table, train, write
from w2v_inf.maml.tasks import planted

SMALL = Options(updates=300, widths=(4,), seeds=2, num_validations=3, num_tasks=300)


def test_the_limit_is_best_and_the_kernel_worst() -> None:
    table = compare(planted(), SMALL)
    kernel, narrow, limit = (estimate(accuracy) for accuracy in table)
    assert kernel.mean + 5 < limit.mean and narrow.mean + 5 < limit.mean
    assert [accuracy.name for accuracy in table] == ["linear kernel", "width 4", "muP limit"]
    assert f"muP limit       {limit.mean:.2f} [" in format_table(table)
    assert [a.percent for a in compare(planted(), SMALL)] == [a.percent for a in table]


def test_the_best_validation_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the second of three."""
    validations = iter((5, 9, 7))
    monkeypatch.setattr("w2v_inf.maml.experiment.num_right", lambda *_: next(validations))
    best = train(planted(), SMALL, 4, 0)
    monkeypatch.setattr("w2v_inf.maml.experiment.num_right", lambda *_: 1)
    until_then = dataclasses.replace(SMALL, updates=200, num_validations=1)
    assert best.u.equal(train(planted(), until_then, 4, 0).u)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": 0}, "maml: updates must be from 1 to 10,000,000, got 0"),
        ({"seeds": 1}, "maml: seeds must be from 2 to 1,000, got 1"),
        ({"updates": 5, "num_validations": 6}, "maml: num_validations must be from 1 to 5, got 6"),
        ({"widths": (4, 0)}, "maml: widths must be from 1 to 1,000,000, got 0"),
        ({"widths": (4, 4)}, r"maml: widths must differ, got \[4, 4\]"),
    ],
)
def test_bad_options_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Options(**options)


def test_a_run_without_finite_widths_draws_two_lines(tmp_path: Path) -> None:
    options = dataclasses.replace(SMALL, widths=(), updates=3, num_tasks=20)
    paths = write(compare(planted(), options), planted(), options, tmp_path)
    assert [path.name for path in paths] == ["maml.json", "maml.png", "maml.svg"]
