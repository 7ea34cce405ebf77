"""Slopes and their confidence intervals; grids of measurements."""

import numpy as np
import pytest

from w2v_inf.theory.exhibit import fit_slope, measure_grid


def test_slopes_are_the_exponents_and_intervals_hold_them() -> None:
    rng = np.random.default_rng(0)
    widths = [64, 256, 1024]
    inside = 0
    for _ in range(200):
        values = np.array(widths) ** -0.5 * np.exp(0.2 * rng.standard_normal((5, 3)))
        slope = fit_slope(widths, values)
        inside += slope.low < -0.5 < slope.high
    assert 180 <= inside <= 199
    with pytest.raises(ValueError, match="positive"):
        fit_slope(widths, np.zeros((5, 3)))


def test_a_grid_has_quantities_first() -> None:
    grid = measure_grid(lambda width, seed: (width, width + seed), [4, 8, 16], seeds=2)
    np.testing.assert_array_equal(grid, [[[4, 8, 16]] * 2, [[4, 8, 16], [5, 9, 17]]])
