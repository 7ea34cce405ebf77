"""abc-parametrizations: the theorems, our derivation beside them, and what nets do."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of

from w2v_inf.config import StreamConfig, TrainConfig
from w2v_inf.theory.coordinates import coordinates, measure
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import fit_slope
from w2v_inf.theory.parametrizations import (
    NAMED,
    ZERO_START,
    Exponents,
    Regime,
    classify,
    classify_linear,
    linear_sizes,
    regime_map,
    richness,
)


def test_named_ones() -> None:
    verdicts = {
        name: classify(exponents) for name, exponents in NAMED.items() if name != "word2vec.c"
    }
    assert verdicts == {
        "mup": Regime.feature,
        "mfp": Regime.feature,
        "ntp": Regime.kernel,
        "sp, c = 1": Regime.kernel,
        "sp, c = 0": Regime.unstable,
    }
    assert [richness(NAMED[name]) for name in ("mup", "mfp", "ntp", "sp, c = 1")] == [
        0,
        0,
        0.5,
        1.5,
    ]
    assert classify_linear(NAMED["word2vec.c"]) is Regime.trivial


def test_the_theorems_and_our_derivation_agree_on_linear_nets() -> None:
    """Wherever coordinates of h are of order one, w(0) = 0 included; every regime occurs."""
    halves = np.arange(-2, 2.25, 0.25).tolist()
    met = Counter()
    for a1, a2, b2, c in itertools.product(
        halves, halves, [*halves, ZERO_START], np.arange(-2, 2.5, 0.5).tolist()
    ):
        exponents = (a1, -a1, a2, b2, c)
        assert classify(exponents) is classify_linear(exponents), exponents
        met[classify(exponents)] += 1
        if classify(exponents) in (Regime.kernel, Regime.feature):
            assert linear_sizes(exponents).moved == -richness(exponents)
    assert len(met) == 4 and min(met.values()) >= 20


@pytest.mark.parametrize("exponents", NAMED.values())
def test_symmetries(exponents: Exponents) -> None:
    """The abc symmetry holds for all nets; rescaling h only for linear ones, and the theorems do not know it."""
    a1, b1, a2, b2, c = exponents
    for t in (-1.0, 0.25):
        shifted = (a1 + t, b1 - t, a2 + t, b2 - t, c - 2 * t)
        assert classify(shifted) is classify(exponents) and linear_sizes(shifted) == linear_sizes(
            exponents
        )
        rescaled = (a1 - t, b1, a2 + t, b2, c)
        assert (
            classify_linear(rescaled) is classify_linear(exponents)
            and classify(rescaled) is Regime.unstable
        )


def test_mup_is_the_vertex_of_the_map() -> None:
    a = np.arange(-1, 1.25, 0.25)
    regimes = np.array(list(Regime), object)[regime_map(a, a)]
    assert [(a[x], a[y]) for y, x in np.argwhere(regimes == Regime.feature)] == [(-0.5, 0.5)]
    assert [(a[x], a[y]) for y, x in np.argwhere(regimes == Regime.kernel)] == [
        (x, 0.5) for x in a if x > -0.5
    ]
    stable = regimes != Regime.unstable
    assert (stable == ((a[:, None] >= 0.5) & (a[:, None] + a >= 0))).all()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    folder: Path = tmp_path_factory.mktemp("data")
    config = config_of(f"data_dir={folder}", "num_threads=1")
    return read_text(config, 100, 6, StreamConfig(), TrainConfig(weight_decay=0))


@pytest.mark.parametrize("name", [name for name in NAMED if name != "word2vec.c"])
def test_nets_have_the_predicted_sizes(name: str, text: Text) -> None:
    widths = [256, 1024, 4096]
    values, sizes = coordinates(text, NAMED[name], widths, seeds=3), linear_sizes(NAMED[name])
    for measured, predicted in (
        (values[1], sizes.moved),
        (values[2], sizes.start),
        (values[3], sizes.logits),
    ):
        assert abs(fit_slope(widths, measured).mean - predicted) < 0.15


def test_mup_and_mfp_coincide_to_rounding(text: Text) -> None:
    one, other = (measure(text, NAMED[name], 256, 0)[1] for name in ("mup", "mfp"))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
