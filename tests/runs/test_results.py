"""Runs are read back, grouped and ordered; damaged files are named."""

import numpy as np
import pytest
from fake_runs import make_family, make_run

from w2v_inf.errors import UserError
from w2v_inf.runs.results import ModelKey, by_model, find_runs, mean_std


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_family(tmp_path_factory.mktemp("family") / "runs")


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs([folder])


def test_models_come_in_table_order(runs):
    assert [(model.label, len(own)) for model, own in by_model(runs).items()] == [
        ("NTK limit", 1),
        ("width 64", 3),
        ("width 256", 3),
        ("width 1,024", 3),
        ("muP limit", 1),
    ]
    assert ModelKey(1, "sp", 64).label == "width 64 (sp)"


def test_spread():
    assert mean_std([1.0, 3.0, float("nan")]) == (2.0, pytest.approx(2**0.5), 2)
    assert np.isnan(mean_std([5.0]).sd) and mean_std([]).n == 0


def test_a_run_named_twice_counts_once(folder):
    assert len(find_runs([folder, folder / "mup_limit-seed0"])) == 11


def test_of_two_runs_with_one_seed_the_newer_counts(tmp_path):
    make_run(tmp_path / "a", width=64, accuracy=10.0)
    make_run(tmp_path / "b", width=64, accuracy=20.0, date="2024-02-01T00:00:00")
    (run,) = find_runs([tmp_path])
    assert run.folder.name == "b"


def test_unfinished_runs_are_left_out(tmp_path):
    make_run(tmp_path / "done", width=64)
    (make_run(tmp_path / "half", width=256) / "summary.json").unlink()
    assert [run.folder.name for run in find_runs([tmp_path])] == ["done"]
    with pytest.raises(UserError, match="no finished run"):
        find_runs([tmp_path / "half"])


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="not a folder.*plot.runs"):
        find_runs([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    "line", ['{"event": "progress", "st', "[1]", "3", '{"event": "evaluation", "words_seen": 5}']
)
def test_damaged_metrics_line_is_named(tmp_path, line):
    path = make_run(tmp_path / "a", width=64) / "metrics.jsonl"
    path.write_text(path.read_text() + line + "\n")
    number = len(path.read_text().splitlines())
    with pytest.raises(UserError, match=rf"metrics.jsonl, line {number} is damaged"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", "{"),
        ("summary.json", '{"model": "finite"}'),
        ("config.yaml", "a: ["),
        ("environment.json", "[]"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text):
    (make_run(tmp_path / "a", width=64) / name).write_text(text)
    with pytest.raises(UserError, match=name):
        find_runs([tmp_path])
