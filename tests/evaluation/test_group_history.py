"""The groups' inner products by epoch: their words, their file, and what resuming keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_embeddings import Identity, Vectors, Vocab, full_vocab

from w2v_inf.config import Embedding
from w2v_inf.errors import UserError
from w2v_inf.evaluation.group_history import GROUPS, GroupHistory
from w2v_inf.evaluation.places import place_gram


def vectors(vocab: Vocab, seed: int) -> Vectors:
    return Vectors(torch.randn(len(vocab), 7, generator=torch.Generator().manual_seed(seed)))


def history_of(vocab: Vocab, num_epochs: int) -> GroupHistory:
    history = GroupHistory.start(vocab)
    for epoch in range(num_epochs + 1):
        history.add(epoch, vectors(vocab, epoch), vocab, Embedding.input)
    return history


def test_groups_are_those_of_the_questions() -> None:
    history = history_of(vocab := full_vocab(), 0)
    assert list(history.words) == list(GROUPS)
    places = place_gram(vectors(vocab, 0), vocab)
    assert history.words["states and cities"] == places.words
    assert np.array_equal(history.is_second["states and cities"], places.is_state)
    assert np.array_equal(history.grams["states and cities"][0], places.gram.astype(np.float32))
    nouns = history.words["inflections of nouns"], history.is_second["inflections of nouns"]
    kinds = dict(zip(*nouns, strict=True))
    assert kinds["cats"] and not kinds["cat"]


def test_words_are_spelled_as_in_the_vocabulary() -> None:
    vocab = Vocab(["Paris", "France", "other"])
    history = history_of(vocab, 1)
    assert history.words["countries and capitals"] == ["Paris", "France"]
    assert history.words["gender pairs"] == []
    assert history.grams["gender pairs"][1].shape == (0, 0)


def test_the_file_gives_back_what_it_got(tmp_path: Path) -> None:
    history = history_of(full_vocab(), 2)
    history.save(tmp_path / "groups.npz")
    loaded = GroupHistory.load(tmp_path / "groups.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["groups.npz"]
    assert loaded.epochs == [0, 1, 2] and loaded.words == history.words
    for name in GROUPS:
        assert np.array_equal(loaded.is_second[name], history.is_second[name])
        assert np.array_equal(loaded.grams[name], history.grams[name])


def test_resuming_drops_later_epochs_and_makes_them_again(tmp_path: Path) -> None:
    vocab, path, again = full_vocab(), tmp_path / "groups.npz", tmp_path / "again.npz"
    history_of(vocab, 3).save(path)
    resumed = GroupHistory.start(vocab).resume(path, 1)
    assert resumed.epochs == [0, 1]
    for epoch in (2, 3):
        resumed.add(epoch, vectors(vocab, epoch), vocab, Embedding.input)
    resumed.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_resuming_without_a_file_begins_an_empty_history(tmp_path: Path) -> None:
    assert GroupHistory.start(full_vocab()).resume(tmp_path / "groups.npz", 1).epochs == []


def test_a_history_of_other_words_is_refused(tmp_path: Path) -> None:
    history_of(full_vocab(), 0).save(tmp_path / "groups.npz")
    with pytest.raises(UserError, match="groups.npz is of another vocabulary: delete it"):
        GroupHistory.start(Vocab(["paris", "france"])).resume(tmp_path / "groups.npz", 0)


@pytest.mark.parametrize("content", [b"", b"PK damaged", b"\x93NUMPY"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "groups.npz").write_bytes(content)
    with pytest.raises(UserError, match="groups.npz is missing or damaged .*: delete it"):
        GroupHistory.load(path)


def test_parts_that_do_not_fit_are_damage(tmp_path: Path) -> None:
    history = history_of(full_vocab(), 1)
    history.epochs.append(2)
    history.save(path := tmp_path / "groups.npz")
    with pytest.raises(UserError, match="its epochs do not fit together"):
        GroupHistory.load(path)


def test_in_the_ntk_limit_nothing_moves() -> None:
    vocab = full_vocab()
    history = GroupHistory.start(vocab)
    history.add(0, Identity(len(vocab)), vocab, Embedding.input)
    for name, words in history.words.items():
        assert np.array_equal(history.grams[name][0], np.eye(len(words)))
