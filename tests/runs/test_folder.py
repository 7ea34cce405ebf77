"""The run folder: its name, its lock, its summary, and which runs are the same."""

import errno
import fcntl
import json
import re
from pathlib import Path
from typing import Any

import pytest
from composed import config_of
from fake_runs import make_run
from hydra.core.override_parser.overrides_parser import OverridesParser

from w2v_inf.errors import UserError
from w2v_inf.overrides import quote
from w2v_inf.runs import folder as folder_module
from w2v_inf.runs.folder import (
    Summary,
    check_same_run,
    corpus_label,
    lock,
    run_folder,
    trained_options,
)


def test_default_run_folders_differ_whenever_options_do() -> None:
    points = [
        [],
        ["train.lr=0.1"],
        ["stream.architecture=skipgram"],
        ["model.width=64"],
        ["seed=1"],
        ["corpus.max_vocab=99"],
        ["model.parametrization=sp"],
        ["model=mup_limit"],
        ["model=mup_limit", "model.dtype=bfloat16"],
        ["model=mup_limit", "model.output_init_scale=1"],
        ["model=mup_limit", "model.engine=lowrank", "model.rank=2"],
        ["model=mup_limit", "model.engine=lowrank", "model.rank=8"],
        ["evaluate.embedding=sum"],
        ["corpus=file", "corpus.path=/x/wiki.txt.xz"],
        ["model.parametrization=custom", "model.exponents=[0,0,1,0,-1]"],
    ]
    folders = [run_folder(config_of(*point)) for point in points]
    assert len(set(folders)) == len(points)
    assert [f.name for f in folders[:3]] == [
        "mup-256-seed0",
        "mup-256-seed0-lr_0.1",
        "mup-256-seed0",
    ]
    assert folders[11].name == "mup_limit-seed0-engine_lowrank-rank_8"
    assert re.fullmatch("wiki-[0-9a-f]{6}-cbow", folders[-2].parent.name)
    for folder in folders:  # as typed, without quotes
        parsed = OverridesParser.create().parse_override(f"run_dir={folder}").value()
        assert parsed == str(folder)


def test_texts_of_one_name_have_folders_of_their_own() -> None:
    """Also the points of a sweep over them, and names of which no shell needs quotes."""
    paths = [
        "train.txt",
        "en/train.txt",
        "de/train.txt",
        "/en/train.txt",
        "train.txt.gz",
        "train.v2",
    ]
    paths += ["it's.txt", "it_s.txt", "é" * 200 + ".txt", "é" * 201 + ".txt", ".txt", "\udcff.txt"]
    folders = [run_folder(config_of("corpus=file", f"corpus.path={quote(path)}")) for path in paths]
    assert len(set(folders)) == len(paths)
    assert folders[0].parent.name == "train-cbow"  # the mark only where it is needed
    same = ["corpus=file", "corpus.path=./en/train.txt"]
    assert run_folder(config_of(*same)) == folders[1]
    for folder in folders:
        assert re.fullmatch(r"[\w.+-]+", folder.parent.name) and len(folder.parent.name) < 80
    wikipedia = [["corpus=wikipedia", f"corpus.path={path}"] for path in ("", "a", "b")]
    assert len({run_folder(config_of(*options)) for options in wikipedia}) == 3


def test_phrases_are_told_by_the_name_of_the_corpus() -> None:
    def parts(*options: str) -> tuple[str, str]:
        folder = run_folder(config_of(*options))
        return folder.parent.name, folder.name

    assert parts("corpus.phrases=1") == ("sample-phrases1-cbow", "mup-256-seed0")
    changed = parts("corpus.phrases=2", "corpus.phrase_threshold=50")
    assert changed == ("sample-phrases2-cbow", "mup-256-seed0-phrase_threshold_50.0")
    assert corpus_label(config_of("corpus=text8", "corpus.phrases=2")) == "text8-phrases2"
    text, same = ["corpus=file", "corpus.path=x.txt"], ["corpus=file", "corpus.path=x-phrases1.txt"]
    assert parts(*text, "corpus.phrases=1")[0] == "x-phrases1-cbow" != parts(*same)[0]


def test_a_name_is_no_longer_than_a_file_system_takes() -> None:
    many = ["stream.window=3", "stream.num_negatives=7", "stream.subsample_threshold=0.001"]
    many += ["stream.batch_size=64", "stream.interleave=16", "stream.group_size=8", "train.lr=0.1"]
    many += ["stream.shared_negatives=9", "train.epochs=17", "train.weight_decay=0.01"]
    many += ["train.context_gradient=whole", "train.sigmoid=tp4", "evaluate.embedding=output"]
    first, second = (run_folder(config_of(*many, f"corpus.min_count={n}")) for n in (2, 3))
    assert first != second and len(first.name) < 200


def test_options_that_change_no_result_do_not_change_the_run() -> None:
    other = config_of("train.log=tensorboard", "train.resume=never")
    assert run_folder(other) == run_folder(config_of())
    assert trained_options(other) == trained_options(config_of())


def test_an_option_is_left_out_in_its_own_group_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "NOT_TRAINED", ("train.lr", "train.name"))
    options = trained_options(config_of())
    assert "train.lr" not in options and {"model.name", "corpus.name"} <= options.keys()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BlockingIOError(errno.EWOULDBLOCK, "Busy"), "another process is training in run_dir="),
        (OSError(errno.ENOLCK, "No locks available"), r"cannot be locked \(No locks available\)"),
    ],
)
def test_a_lock_names_the_reason_that_it_cannot_be_had(
    error: OSError, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(UserError, match=message), lock(tmp_path / "run"):
            pytest.fail("locked")
    with lock(tmp_path / "run"):  # nothing of the failure stays
        pass


def test_a_summary_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", width=64)
    summary = Summary.load(folder)
    assert (summary.model, summary.width, summary.num_processes) == ("finite", 64, 1)
    summary.limit_distance = None
    summary.save(folder)
    assert Summary.load(folder) == summary


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": None}, "seed"),
        ({"wall_s": "long"}, "wall_s"),
        ({"evaluation": [], "epochs": "5"}, "epochs, evaluation"),
        ({"model": "transformer"}, "model=transformer"),
    ],
)
def test_a_damaged_summary_names_its_fields(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = make_run(tmp_path / "a", width=64) / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=rf"summary.json is damaged \({named}\): train the run"):
        Summary.load(path.parent)


def test_differences_between_runs_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", width=64)
    same = ["corpus=text8", "corpus.max_vocab=5000", "model.width=64", "train.epochs=3"]
    check_same_run(folder, config_of(*same), "x", "x", "")
    with pytest.raises(UserError, match=r"\(model.width: 64 there, 32 here\).* or give up"):
        check_same_run(folder, config_of(*same, "model.width=32"), "x", "x", "give up")
    others = ["train.lr=0.1", "stream.window=3", "seed=1", "train.epochs=9", "train.sigmoid=tp4"]
    with pytest.raises(UserError) as caught:
        check_same_run(folder, config_of("corpus=planted", "model=mup_limit", *others), "", "", "")
    # Another corpus and model come first. Options that only one of them has are left out.
    assert (
        "(corpus.name: text8 there, planted here; model.name: finite there, mup_limit here; "
        "corpus.max_vocab: 5000 there, 0 here; seed: 0 there, 1 here; and 4 more)"
    ) in str(caught.value)
    with pytest.raises(UserError, match=r"on another text \(checksum abc there, xyz here\)"):
        check_same_run(folder, config_of(*same), "xyz", "abc", "give up")
