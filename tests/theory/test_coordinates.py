"""Coordinate check: networks have the predicted sizes."""

from pathlib import Path

import pytest
import torch
from composed import config_of

from w2v_inf.config import StreamConfig, TrainConfig
from w2v_inf.theory.coordinates import coordinates, measure
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import fit_slope
from w2v_inf.theory.parametrizations import NAMED, linear_sizes


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    folder: Path = tmp_path_factory.mktemp("data")
    config = config_of(f"data_dir={folder}", "num_threads=1")
    return read_text(config, 100, 6, StreamConfig(), TrainConfig(weight_decay=0))


@pytest.mark.parametrize("name", [name for name in NAMED if name != "word2vec.c"])
def test_networks_have_the_predicted_sizes(name: str, text: Text) -> None:
    widths = [256, 1024, 4096]
    values, sizes = coordinates(text, NAMED[name], widths, seeds=3), linear_sizes(NAMED[name])
    for measured, predicted in (
        (values[1], sizes.movement),
        (values[2], sizes.initial_logits),
        (values[3], sizes.logit_movement),
    ):
        assert abs(fit_slope(widths, measured).mean - predicted) < 0.15


def test_mup_and_mfp_coincide_to_rounding(text: Text) -> None:
    one, other = (measure(text, NAMED[name], 256, 0)[1] for name in ("mup", "mfp"))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
