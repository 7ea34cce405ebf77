"""The stage: table, files, exit codes."""

import json
import sys
from pathlib import Path

import pytest

from w2v_inf import cli
from w2v_inf.maml.stage import draw

SMALL = "maml.images=planted maml.updates=4 maml.tasks=20 maml.seeds=2".split()


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """The exit code of `w2v-inf maml OPTIONS`."""
    monkeypatch.setattr(sys, "argv", ["w2v-inf", "maml", "num_threads=1", *options])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("widths", ["[]", "[2,8]"])
def test_the_stage_prints_a_table_and_writes_the_figure(
    widths: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [*SMALL, f"runs_dir={tmp_path}", f"maml.widths={widths}"]
    assert run(monkeypatch, *options) == 0
    printed = capsys.readouterr().out
    assert ("width 2 " in printed) == (widths != "[]") and f"{tmp_path}/maml/maml.png\n" in printed
    cells = json.loads((tmp_path / "maml" / "maml.json").read_text())["cells"]
    assert {cell["images"] for cell in cells} == {"planted"}
    assert len(cells) == (8 if widths == "[]" else 12)
    assert (tmp_path / "maml" / "maml.svg").stat().st_size > 1000
    assert run(monkeypatch, *options) == 0
    assert capsys.readouterr().out == printed


def test_the_figure_shows_every_learner() -> None:
    names = ("muP limit", "ReLU NTK", "ReLU GP", "linear kernel", "width 2", "width 1,024")
    table = {name: [10.0 * i, 10.0 * i + 1] for i, name in enumerate(names)}
    (axes,) = draw(table, [1024, 2], "title").axes
    assert axes.get_xscale() == "log"
    (points,) = (
        line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"
    )
    assert [*points.get_xdata()] == [2, 1024] and [*points.get_ydata()] == [40.5, 50.5]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("maml.updates=0", "maml.updates must be from 1 to 10,000,000, or null"),
        ("maml.seeds=1", "maml.seeds must be from 2 to 1,000, got 1"),
        ("maml.tasks=0", "maml.tasks must be from 1 to 1,000,000, got 0"),
        ("maml.betas=[-1]", "maml.betas must be a list of numbers from 0 to 1,000, got [-1.0]"),
        ("maml.betas=[nan]", "maml.betas must be a list of numbers"),
        ("maml.widths=[4,0]", "maml.widths must be from 1 to 1,000,000, got 0"),
        ("maml.widths=[4,4]", "maml.widths must be different widths, got [4, 4]"),
        ("maml.path=/nowhere", "maml.path: /nowhere must hold images_background.zip, images_eval"),
        ("maml.images=mnist", "maml.images"),
    ],
)
def test_a_mistake_is_one_line(
    option: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, option) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"w2v-inf maml: {message}") and error.count("\n") == 1
