"""abc-parametrizations: the theorems, and our own derivation beside them."""

import itertools
from collections import Counter

import numpy as np
import pytest

from w2v_inf.theory.parametrizations import (
    NAMED,
    ZERO_INIT,
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


def test_the_theorems_and_our_derivation_agree_on_linear_networks() -> None:
    """They agree where coordinates of h are of order one, and for w(0) = 0; every regime occurs."""
    halves = np.arange(-2, 2.25, 0.25).tolist()
    seen = Counter()
    for a1, a2, b2, c in itertools.product(
        halves, halves, [*halves, ZERO_INIT], np.arange(-2, 2.5, 0.5).tolist()
    ):
        exponents = (a1, -a1, a2, b2, c)
        assert classify(exponents) is classify_linear(exponents), exponents
        seen[classify(exponents)] += 1
        if classify(exponents) in (Regime.kernel, Regime.feature):
            assert linear_sizes(exponents).movement == -richness(exponents)
    assert len(seen) == 4 and min(seen.values()) >= 20


@pytest.mark.parametrize("exponents", NAMED.values())
def test_symmetries(exponents: Exponents) -> None:
    """The abc symmetry holds for all networks, rescaling h only for linear ones.

    The theorems do not know the latter.
    """
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
