"""Which runs and words the page takes, and what it says about them."""

from pathlib import Path

import numpy as np
import pytest
from fake_runs import make_family, make_run

from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.explore.choose import choose_runs, choose_words, notes_on
from w2v_inf.runs.results import find_runs


def labels(*folders: Path) -> list[str]:
    return [run.model.label for run in choose_runs(find_runs(folders))]


def vocabulary(*words: str) -> Vocabulary:
    return Vocabulary(list(words), np.arange(len(words), 0, -1))


def test_of_many_runs_one_of_each_kind(tmp_path: Path) -> None:
    runs = find_runs([make_family(tmp_path)])
    chosen = choose_runs(runs)
    assert [run.model.label for run in chosen] == ["NTK limit", "width 1,024", "muP limit"]
    assert [run.seed for run in chosen] == [0, 0, 0]


def test_three_runs_are_all_shown(tmp_path: Path) -> None:
    make_family(tmp_path, widths=(256, 64), seeds=(0,))
    folders = [tmp_path / name for name in ("finite-256-seed0", "finite-64-seed0")]
    assert labels(*folders) == ["width 64", "width 256"]


def test_variants_do_not_stand_for_the_widest(tmp_path: Path) -> None:
    make_family(tmp_path, widths=(64,), seeds=(0,))
    make_run(tmp_path / "sp", width=4096, parametrization="sp")
    assert labels(tmp_path) == ["NTK limit", "width 64", "muP limit"]


def test_another_vocabulary_fills_the_gap(tmp_path: Path) -> None:
    """An NTK limit that did not fit at the size of the others."""
    for seed in (0, 1):
        make_run(tmp_path / f"w{seed}", width=64, seed=seed)
    make_run(tmp_path / "limit", model="mup_limit")
    make_run(tmp_path / "ntk", model="ntk_limit", vocab_size=800)
    runs = choose_runs(find_runs([tmp_path]))
    assert [run.model.label for run in runs] == ["NTK limit", "width 64", "muP limit"]
    notes = notes_on(runs, choose_words([vocabulary("a", "b", "c")], 3))
    assert notes[0] == (
        "The runs have different vocabularies (800, 5,000 words): "
        "the page has words that all of them share (3)."
    )


def test_many_runs_on_two_texts_are_refused(tmp_path: Path) -> None:
    make_family(tmp_path / "a", widths=(64,))
    make_family(tmp_path / "b", widths=(64,), corpus="planted")
    with pytest.raises(UserError, match=r"runs on 2 texts \(planted, text8\): name the folder"):
        labels(tmp_path)


def test_synthetic_text_is_said(tmp_path: Path) -> None:
    runs = find_runs([make_run(tmp_path / "a", width=64, corpus="planted", synthetic=True)])
    assert "SYNTHETIC" in notes_on(runs, choose_words([vocabulary("a", "b")], 2))[0]


def test_words_are_those_of_groups_and_the_commonest_others() -> None:
    vocab = vocabulary("the", "of", "and", "paris", "rare", "france")
    assert choose_words([vocab], 4).shown == ["the", "of", "paris", "france"]
    assert choose_words([vocab], 100).shown == vocab.words


def test_words_must_be_in_every_vocabulary() -> None:
    one, two = vocabulary("the", "of", "paris", "and"), vocabulary("and", "the", "rome")
    words = choose_words([one, two], 10)
    assert words.shown == ["the", "and"] and words.num_common == 2
    with pytest.raises(UserError, match="share no words: name runs on one text"):
        choose_words([one, vocabulary("le", "la")], 10)
