"""Finite muP networks on real text: how the distance to the limit falls."""

from pathlib import Path

import pytest
from composed import config_of

from w2v_inf.config import Architecture, TrainConfig
from w2v_inf.theory.convergence import STREAMS, distances
from w2v_inf.theory.data import read_text
from w2v_inf.theory.exhibit import fit_slope


@pytest.mark.parametrize("architecture", list(Architecture))
def test_the_distance_falls_with_the_root_of_the_width(
    architecture: Architecture, tmp_path: Path
) -> None:
    config, widths = config_of(f"data_dir={tmp_path}", "num_threads=1"), [64, 512, 4096]
    text = read_text(config, 100, 150, STREAMS[architecture], TrainConfig())
    assert len(text.batches) == 150 and "sample, V = 100" in text.label
    for values in distances(text, widths, seeds=4):
        assert values.shape == (4, 3) and values.max() < 0.5
        assert -0.6 < fit_slope(widths, values).mean < -0.4
