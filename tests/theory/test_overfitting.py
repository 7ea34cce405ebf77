"""Overfitting: held-out text stays held out, and weight decay flattens the turn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from composed import config_of

from w2v_inf.config import Config, Finite, MupLimit, Sample, TrainConfig
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.models.build import build_model
from w2v_inf.models.linear import LinearModel
from w2v_inf.theory.overfitting import SmallText, learn, mean_loss, split_text

pytestmark = pytest.mark.slow  # trains to convergence

TEXT = SmallText(Sample(max_vocab=500), 0.2, (20, 120))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return replace(
        config_of(f"data_dir={tmp_path_factory.mktemp('data')}", "num_threads=1"),
        corpus=TEXT.corpus,
    )


def test_training_and_held_out_text_do_not_overlap(config: Config) -> None:
    train, held_out, _ = split_text(config, TEXT)
    tokens = np.asarray(load_corpus(config)[0].tokens)
    assert np.array_equal(train.tokens, tokens[: len(train.tokens)]) and np.array_equal(
        held_out.tokens, tokens[-len(held_out.tokens) :]
    )
    assert (
        0.1 < len(train.tokens) / len(tokens) < 0.25
        and 0.05 < len(held_out.tokens) / len(tokens) < 0.15
    )
    for stream in (train, held_out):
        assert stream.documents[0] == 0 and stream.documents[-1] == len(stream.tokens)
    known = train.tokens[train.tokens < len(train.counts)]
    np.testing.assert_array_equal(train.counts, np.bincount(known, minlength=500).clip(min=1))
    np.testing.assert_array_equal(held_out.counts, train.counts)


@pytest.mark.parametrize("model", [Finite(width=8), MupLimit()], ids=["finite", "limit"])
def test_measuring_the_held_out_loss_changes_nothing(
    model: Finite | MupLimit, config: Config
) -> None:
    train, held_out, _ = split_text(config, TEXT)
    network = build_model(replace(config, model=model, train=TrainConfig(weight_decay=0.1)), 500)
    assert isinstance(network, LinearModel)
    first = mean_loss(network, train.epoch(0))
    u, w = network.u.clone(), network.w.clone()
    losses = [mean_loss(network, held_out.epoch(0)) for _ in range(2)]
    torch.testing.assert_close((network.u, network.w), (u, w), rtol=0, atol=0)
    assert losses[0] == losses[1] < first


def test_the_held_out_loss_turns_and_decay_flattens_the_turn(config: Config) -> None:
    free, decayed = (
        learn(replace(config, model=MupLimit(), train=TrainConfig(weight_decay=wd, lr=0.1)), TEXT)
        for wd in (0.0, 3e-3)
    )
    assert (
        free.held_out_loss[1] - free.held_out_loss[0] > 0.1
        and free.train_loss[1] < free.train_loss[0] - 0.1
    )
    assert (
        decayed.held_out_loss[1] < decayed.held_out_loss[0]
        and decayed.held_out_loss[1] < free.held_out_loss[1] - 0.2
    )
    assert free.train_loss[1] < decayed.train_loss[1]


def test_evaluations_are_after_their_epochs(config: Config) -> None:
    """An evaluation does not change later ones."""
    often, once = (
        learn(config, TEXT._replace(evaluate_after=epochs)) for epochs in ((1, 2, 3), (3,))
    )
    assert len(often.accuracy) == 3
    for a, b in zip(often, once, strict=True):
        assert a[-1] == b[0]
