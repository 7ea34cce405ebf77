"""The text of the checks: its first batches, and models trained on it."""

from pathlib import Path

import torch
from composed import config_of

from w2v_inf.config import Finite, StreamConfig, TrainConfig
from w2v_inf.models.linear import LinearModel
from w2v_inf.theory.data import read_text, train_on


def test_a_text_is_the_first_batches_of_the_commonest_words(tmp_path: Path) -> None:
    config = config_of(f"data_dir={tmp_path}", "num_threads=1")
    text = read_text(config, 100, 5, StreamConfig(), TrainConfig())
    assert len(text.batches) == 5 and len(text.vocab) == 100 and "sample, V = 100" in text.label
    seeds = [text.build_linear(Finite(width=8), seed).u for seed in (0, 0, 1)]
    assert torch.equal(seeds[0], seeds[1]) and not torch.equal(seeds[0], seeds[2])


def test_a_model_is_trained_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "toy.txt"
    path.write_text("the cat sat on the mat and the dog sat on the cat\n" * 40)
    config = config_of(
        "corpus=file",
        f"corpus.path={path}",
        "corpus.min_count=1",
        f"data_dir={tmp_path}",
        "model.width=4",
        "num_threads=1",
    )
    trained, untrained = (train_on(config, trained) for trained in (True, False))
    assert isinstance(trained, LinearModel) and isinstance(untrained, LinearModel)
    assert untrained.w.abs().max() == 0 and trained.w.abs().max() > 0
