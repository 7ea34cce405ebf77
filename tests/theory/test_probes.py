"""Linear probes: their tasks, their features, and which models are at chance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of

from w2v_inf.config import Config, Finite, MupLimit, NtkLimit, Planted, Sample
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.models.linear import LinearModel
from w2v_inf.theory.data import train_on
from w2v_inf.theory.probes import (
    CLASSES,
    PLANTED_TRAINING,
    Task,
    balanced_accuracy,
    check_tasks,
    features,
    is_correct,
    relation_task,
    training_options,
    word_task,
)


def _vocab(*words: str) -> Vocabulary:
    return Vocabulary(list(words), np.arange(len(words), 0, -1))


def test_words_get_their_class_and_ambiguous_ones_are_left_out() -> None:
    vocab = _vocab(
        "the",
        "chicago",
        "illinois",
        "athens",
        "greece",
        "georgia",
        "algeria",
        "europe",
        "walking",
        "swedish",
    )
    task = word_task(vocab)
    named = {
        vocab.words[i]: CLASSES[label] for i, label in zip(task.ids[:, 0], task.labels, strict=True)
    }
    assert named == {
        "chicago": "city",
        "athens": "city",
        "illinois": "state",
        "greece": "country",
        "algeria": "country",
        "europe": "other",
        "walking": "other",
        "swedish": "other",
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Config:
    own = training_options(
        config_of(f"data_dir={tmp_path_factory.mktemp('data')}", "num_threads=1")
    )
    assert isinstance(own.corpus, Planted) and own.train == PLANTED_TRAINING
    return own


def test_another_text_keeps_its_own_options(tmp_path: Path) -> None:
    text = tmp_path / "toy.txt"
    own = training_options(config_of("corpus=file", f"corpus.path={text}", "train.lr=0.3"))
    assert (
        not isinstance(own.corpus, Planted | Sample)
        and own.corpus.max_vocab == 8000
        and own.train.lr == 0.05
    )
    assert (
        training_options(
            config_of("corpus=file", f"corpus.path={text}", "corpus.max_vocab=99")
        ).corpus.max_vocab
        == 99
    )


def test_a_text_without_enough_question_words_is_refused() -> None:
    few = _vocab("the", "chicago", "illinois", "athens", "greece", "walking", "walked")
    for vocab in (_vocab("the", "cat"), few):
        with pytest.raises(
            UserError,
            match="corpus=toy knows too few question words to probe .*: take a longer text",
        ):
            check_tasks((word_task(vocab), relation_task(vocab)), "toy")


def test_pairs_of_one_word_share_a_cluster(planted: Config) -> None:
    vocab = load_corpus(planted)[1]
    task = relation_task(vocab)
    assert len(np.unique(task.labels)) == 13  # 14 sections, both of capitals as one
    assert len({tuple(pair) for pair in task.ids}) == len(task.ids) == 550
    cluster_of: dict[int, int] = {}
    for pair, cluster in zip(task.ids, task.clusters, strict=True):
        for word in pair.tolist():
            assert cluster_of.setdefault(word, cluster) == cluster
    assert len(set(cluster_of.values())) > 300


def test_features_have_the_inner_products_of_unit_vectors_and_their_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    unit = (u / u.norm(dim=1, keepdim=True)).numpy()
    words, pairs = np.array([[7], [2], [4], [2]]), np.array([[0, 3], [3, 8], [5, 1]])
    for ids, wanted in ((words, unit[words[:, 0]]), (pairs, unit[pairs[:, 1]] - unit[pairs[:, 0]])):
        x = features(LinearModel(u, u), Task("", ids, np.zeros(len(ids)), np.arange(len(ids))))
        np.testing.assert_allclose(x @ x.T, wanted @ wanted.T, atol=1e-12)


def test_accuracies_are_balanced_and_their_interval_is_the_clusters() -> None:
    labels = np.repeat([0, 1], [300, 20])
    task = Task("", np.arange(320)[:, None], labels, np.arange(320))
    correct = np.where(labels == 0, 1.0, np.tile([0.0, 1.0], 160))
    found = balanced_accuracy(correct, task)
    assert found.mean == 75.0
    # Half of 20 words: a standard error of 50 / sqrt(20) points; the mean of two classes halves it.
    assert found.high - found.mean == pytest.approx(1.96 * 25 / 20**0.5, rel=0.15)
    pairwise = balanced_accuracy(correct, task._replace(clusters=np.arange(320) // 4))
    assert (
        pairwise.high - pairwise.low < found.high - found.low
    )  # clusters of four are half correct each: nothing varies
    assert balanced_accuracy(np.ones(320), task) == (100, 100, 100)


@pytest.mark.slow  # trains whole models
def test_only_learnt_features_are_found(planted: Config) -> None:
    """The NTK limit is exactly at chance, an untrained network nearly; the muP limit is best."""
    vocab = load_corpus(planted)[1]
    tasks = (word_task(vocab), relation_task(vocab))
    models = {
        "untrained": (Finite(width=64), False),
        "ntk": (NtkLimit(), True),
        "mup": (Finite(width=16), True),
        "limit": (MupLimit(), True),
    }
    accuracies = {}
    for name, (model, trained) in models.items():
        network = train_on(replace(planted, model=model), trained)
        accuracies[name] = [
            balanced_accuracy(is_correct(features(network, task), task), task) for task in tasks
        ]
    for index, task in enumerate(tasks):
        untrained, ntk, mup, limit = (accuracies[name][index] for name in models)
        assert (
            ntk.mean == pytest.approx(task.chance, abs=1e-9)
            and abs(untrained.mean - task.chance) < 6
        )
        assert task.chance + 15 < mup.low and mup.high + 15 < limit.low and limit.mean > 85
