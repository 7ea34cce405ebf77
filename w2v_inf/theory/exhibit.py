"""How a quantity depends on width: measurements on a grid, slopes on log axes, drawing."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import t
from torch import Tensor

from w2v_inf.reporting.style import Drawing

LEVEL = 0.95
"""Of the confidence intervals."""


class Exhibit(NamedTuple):
    """What one claim shows: a figure with a caption, a table, and notes on both.

    The first row of the table is its header. Cells and notes with formulas are `typeset`; others
    are plain text, as are captions, which are the figures' alternative texts too.
    """

    drawing: Drawing
    table: list[list[str]]
    notes: list[str]


class Estimate(NamedTuple):
    """A mean and its confidence interval, formatted as `mean [low, high]`, by default with .2f."""

    mean: float
    low: float
    high: float

    def __format__(self, digits: str) -> str:
        mean, low, high = (format(value, digits or ".2f") for value in self)
        return f"{mean} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def relative_distance(value: Tensor, exact: Tensor) -> float:
    """|value - exact| / |exact| in the Frobenius norm."""
    return float((value - exact).norm() / exact.norm())


def measure_grid(
    measure: Callable[[Any, int], Iterable[float]], widths: Sequence[float], seeds: int
) -> np.ndarray:
    """The quantities that `measure(width, seed)` returns, [quantities, seeds, widths]."""
    values = [[tuple(measure(width, seed)) for width in widths] for seed in range(seeds)]
    return np.moveaxis(np.array(values), 2, 0)


def fit_slope(widths: Sequence[float], values: np.ndarray) -> Estimate:
    """The exponent s of value ~ width^s, by least squares on log axes.

    Each seed gives a slope; Student's interval is taken over seeds. Seeds share nothing but the
    data, so their slopes are independent and the interval needs no model of the noise.

    Args:
      widths: [N].
      values: [seeds, N], positive, at least two seeds.
    Raises: ValueError for another shape, or values that are not positive.
    """
    values = np.asarray(values, float)
    fits = values.ndim == 2 and values.shape[1] == len(widths) and len(values) >= 2
    if not fits or not (values > 0).all():
        wanted = f"values must be positive, [seeds >= 2, {len(widths)}]"
        raise ValueError(f"{wanted}, got {list(values.shape)} from {values.min():g}")
    slopes = np.polyfit(np.log(widths), np.log(values).T, 1)[0]  # [seeds]
    return estimate_mean(slopes)


def estimate_mean(values: np.ndarray) -> Estimate:
    """The mean of independent values, [at least 2], with Student's interval."""
    half = t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(*(float(values.mean() + side * half) for side in (0, -1, 1)))


def draw_against_width(
    axes: Axes, widths: Sequence[float], values: np.ndarray, label: str, look: dict[str, Any]
) -> Estimate:
    """Draw `values`, [seeds, widths], on log axes and return their slope.

    The line is the geometric mean; every seed is a faint dot.
    """
    slope = fit_slope(widths, values)
    axes.plot(widths, np.exp(np.log(values).mean(0)), label=f"{label}: {slope}", **look)
    for seed in values:
        axes.plot(widths, seed, ".", color=look["color"], alpha=0.35, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="width n")
    return slope


def draw_predicted_slope(axes: Axes, widths: Sequence[float], height: float) -> None:
    """A thin line of slope -1/2 through `height` at the smallest width."""
    n = np.array(widths, float)
    look = {"color": "0.6", "linewidth": 0.9, "linestyle": ":", "zorder": 0}
    axes.plot(n, height * (n / n[0]) ** -0.5, label="slope $-1/2$", **look)
