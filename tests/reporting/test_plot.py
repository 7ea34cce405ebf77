"""The plot stage: which runs share a figure, which files are written, and where."""

import json
import subprocess
import sys

import pytest
from fake_runs import make_run

from w2v_inf.config import PROJECT_ROOT, Config, Finite, PlotConfig, Text8
from w2v_inf.config import Figure as FigureName
from w2v_inf.errors import UserError
from w2v_inf.reporting.curves import plot_accuracy
from w2v_inf.reporting.plot import draw, plot
from w2v_inf.runs.results import find_runs, group_runs, group_titles


@pytest.fixture
def folder(tmp_path):
    make_run(tmp_path / "runs" / "a", width=64)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    "changed",
    [
        {"corpus": "fil9"},
        {"vocab_size": 6000},
        {"architecture": "skipgram"},
        {"epochs": 4},
        {"lr": 0.1},
    ],
    ids=lambda c: next(iter(c)),
)
def test_runs_that_differ_never_share_a_figure(tmp_path, changed):
    make_run(tmp_path / "a", width=64)
    make_run(tmp_path / "b", width=64, seed=1, **changed)
    runs = find_runs([tmp_path])
    groups = group_runs(runs)
    assert len(groups) == 2 and len(set(group_titles(groups).values())) == 2
    assert len({drawing.name for drawing in draw(runs, ["accuracy"])}) == 2
    with pytest.raises(UserError, match="cannot be compared"):
        plot_accuracy(runs)


def test_the_other_figures_are_drawn_without_places(tmp_path, caplog):
    (make_run(tmp_path / "a", width=64) / "places.npz").write_bytes(b"")
    assert [drawing.name for drawing in draw(find_runs([tmp_path]), ["pca", "loss"])] == ["loss"]
    assert "not drawn" in caplog.text and "places.npz is missing or damaged" in caplog.text


def test_no_questions_is_an_error_that_names_the_figure(tmp_path):
    folder = make_run(tmp_path / "a", width=64)
    summary = json.loads((folder / "summary.json").read_text())
    summary["evaluation"]["analogy"]["3cosadd"]["total"] = {
        "accuracy": None,
        "correct": 0,
        "questions": 0,
        "total": 19544,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="plot.figure=width"):
        draw(find_runs([tmp_path]), ["width"])


def _config(**options):
    return Config(corpus=Text8(), model=Finite(), plot=PlotConfig(**options))


def test_stage_writes_and_prints_the_files(folder, tmp_path, capsys):
    paths = plot(_config(figure=FigureName.loss, runs=[str(folder)], out=str(tmp_path / "out")))
    assert [path.name for path in paths] == ["loss.png", "loss.svg"] and all(
        path.exists() for path in paths
    )
    assert capsys.readouterr().out.split() == [str(path) for path in paths]


def test_stage_puts_figures_beside_the_runs(tmp_path):
    make_run(tmp_path / "a", width=64)
    make_run(tmp_path / "b", width=64, seed=1)
    paths = plot(
        _config(figure=FigureName.accuracy, runs=[str(tmp_path / "a"), str(tmp_path / "b")])
    )
    assert paths[0] == tmp_path / "figures" / "accuracy.png"


def test_a_folder_of_mixed_runs_gets_one_file_per_group(tmp_path):
    for corpus, architecture in (("text8", "cbow"), ("text8", "skipgram"), ("planted", "cbow")):
        make_run(
            tmp_path / corpus / architecture / "a",
            width=64,
            corpus=corpus,
            architecture=architecture,
        )
    (tmp_path / "planted" / "cbow" / "a" / "places.npz").unlink()
    groups = ["planted-cbow", "text8-cbow", "text8-skipgram"]
    assert [
        path.name
        for path in plot(_config(figure=FigureName.width, runs=[str(tmp_path)]))
        if path.suffix == ".png"
    ] == [f"width-{group}-5000.png" for group in groups]
    assert [drawing.name for drawing in draw(find_runs([tmp_path]), ["pca"])] == [
        f"pca-{group}-5000" for group in groups[1:]
    ]


def test_unwritable_out_is_a_user_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*choose another folder"):
        plot(_config(figure=FigureName.loss, runs=[str(folder)], out=str(tmp_path / "file")))


def test_script_ends_without_a_traceback(tmp_path):
    command = [
        sys.executable,
        str(PROJECT_ROOT / "scripts" / "plot.py"),
        f"plot.runs=[{tmp_path / 'nowhere'}]",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "Traceback" not in done.stderr
        and "plot.runs" in done.stderr.splitlines()[-1]
    )
