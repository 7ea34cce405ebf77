"""Finished runs: which are found, which are compared, and which count as seeds of one model."""

import numpy as np
import pytest
from composed import config_of
from fake_runs import make_family, make_run

from w2v_inf import compose
from w2v_inf.errors import UserError
from w2v_inf.reporting.style import ORANGE, style
from w2v_inf.runs.results import (
    ModelKey,
    by_model,
    caption_of,
    check_one_group,
    find_runs,
    folders_to_read,
    group_runs,
    group_titles,
    load_run,
    mean_std,
    shared_folder,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_family(tmp_path_factory.mktemp("family") / "runs")


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs([folder])


def make_limit(folder, *overrides, seed=0):
    """A fake run of the muP limit with these options."""
    make_run(folder, model="mup_limit", seed=seed)
    same = ["corpus=text8", "corpus.max_vocab=5000", "model=mup_limit", "train.epochs=3"]
    config = config_of(*same, f"seed={seed}", *overrides)
    compose.save(config, folder / "config.yaml")


def test_models_come_in_table_order(runs):
    assert [(model.label, len(own)) for model, own in by_model(runs).items()] == [
        ("NTK limit", 1),
        ("width 64", 3),
        ("width 256", 3),
        ("width 1,024", 3),
        ("muP limit", 1),
    ]
    assert ModelKey(1, "sp", 64).label == "width 64 (sp)"
    assert not ModelKey(1, "sp", 64).is_compared and ModelKey(2, "", 0, "lowrank").is_compared


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (["model.dtype=bfloat16"], "muP limit (bfloat16)"),
        (["model.engine=lowrank"], "muP limit (lowrank)"),
        (["model.engine=lowrank", "model.rank=8"], "muP limit (lowrank, rank=8)"),
        (["model.engine=lowrank", "model.tolerance=0.1"], "muP limit (lowrank, tolerance=0.1)"),
        (["model.output_init_scale=0.5"], "muP limit (output_init_scale=0.5)"),
        (["model.engine=lowrank", "model.pair_table_gib=2"], "muP limit (lowrank)"),
    ],
)
def test_every_option_of_a_model_makes_a_row(tmp_path, overrides, label):
    """The pair table's size changes no result."""
    make_limit(tmp_path / "changed", *overrides)
    make_limit(tmp_path / "default", seed=1)
    models = by_model(find_runs([tmp_path]))
    assert [model.label for model in models] == ["muP limit", label]
    assert [model.is_compared for model in models] == [True, "output" not in label]
    assert len(group_runs(find_runs([tmp_path]))) == 1


def test_another_model_comes_last_by_its_name(folder):
    runs = [load_run(path) for path in folder.iterdir()]
    next(run for run in runs if run.summary.model == "ntk_limit").summary.model = "count"
    *known, other = by_model(runs)
    assert (other.label, other.kind) == ("count", "count") and not other.is_compared
    assert [model.kind for model in known] == ["finite"] * 3 + ["mup_limit"]
    assert style(other, [other])["color"] == ORANGE


def test_two_ranks_are_not_two_seeds(tmp_path):
    make_limit(tmp_path / "a", "model.engine=lowrank", "model.rank=2", seed=0)
    make_limit(tmp_path / "b", "model.engine=lowrank", "model.rank=8", seed=1)
    assert [len(own) for own in by_model(find_runs([tmp_path])).values()] == [1, 1]


@pytest.mark.parametrize(
    "option",
    ["train.weight_decay=0.1", "train.sigmoid=tp4", "stream.window=3", "evaluate.embedding=sum"],
)
def test_every_other_trained_option_makes_a_group(tmp_path, option):
    make_limit(tmp_path / "a", option)
    make_limit(tmp_path / "b", "train.resume=never", "train.log=tensorboard", seed=1)
    runs = find_runs([tmp_path])
    titles = group_titles(group_runs(runs)).values()
    assert len(titles) == 2 and sum(option in title for title in titles) == 1
    assert len(group_runs(runs, over=option.split("=")[0])) == 1


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
def test_runs_that_differ_are_not_compared(tmp_path, changed):
    make_run(tmp_path / "a", width=64)
    make_run(tmp_path / "b", width=64, seed=1, **changed)
    runs = find_runs([tmp_path])
    groups = group_runs(runs)
    assert len(groups) == 2 and len(set(group_titles(groups).values())) == 2
    with pytest.raises(UserError, match="figure got runs that cannot be compared: .*text8, CBOW"):
        check_one_group(runs, "figure")
    with pytest.raises(UserError, match="figure needs at least one finished run"):
        check_one_group([], "figure")


def test_mean_and_deviation():
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


def test_numbers_of_a_run(tmp_path):
    run = load_run(make_run(tmp_path / "a", width=64, accuracy=50.0))
    assert run.accuracy() == 50 and run.accuracy("syntactic") == pytest.approx(70, abs=0.1)
    assert run.similarity("wordsim353") == pytest.approx(50 / 60)
    assert run.pairs_accuracy() == pytest.approx(45, abs=0.1)
    assert run.number("wall_s") == 61 and np.isnan(run.number("licence"))
    assert run.limit_distance("gram_error") == 0.25


def test_captions_say_corpus_epochs_questions_and_seeds(runs):
    assert caption_of(runs, "A figure.", accuracy=True) == (
        "A figure. text8, CBOW, V = 5,000; 3 epochs; 1,918 of 19,544 questions; "
        "1 to 3 seeds per model."
    )
    assert "questions" not in caption_of(runs)
    assert "; 1 seed per model." in caption_of(runs[:1])


def test_folders_to_read(tmp_path):
    named = config_of(f"plot.runs=[{tmp_path}/a,{tmp_path}/b]")
    assert folders_to_read(named) == [tmp_path / "a", tmp_path / "b"]
    assert folders_to_read(config_of(f"run_dir={tmp_path}/a")) == [tmp_path / "a"]
    with pytest.raises(UserError, match="no run in .*: run w2v-inf train first"):
        folders_to_read(config_of(f"runs_dir={tmp_path}"))
    assert shared_folder([tmp_path / "a" / "b", tmp_path / "a" / "c"]) == tmp_path.resolve() / "a"
