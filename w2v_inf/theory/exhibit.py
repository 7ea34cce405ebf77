"""How a quantity goes with width: slopes on log axes with intervals, tables and panels of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import t

from w2v_inf.reporting.style import Drawing

LEVEL = 0.95


class Exhibit(NamedTuple):
    """What one item shows: a figure with its caption, and a table (the first row its header)."""

    drawing: Drawing
    table: list[list[str]]


class Estimate(NamedTuple):
    """A mean and its confidence interval; written as `mean [low, high]` with the digits asked for, two by default."""

    mean: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        mean, low, high = (format(value, form or ".2f") for value in self)
        return f"{mean} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def fit_slope(widths: Sequence[float], values: np.ndarray) -> Estimate:
    """The exponent s of value ~ width^s: least squares on log axes, seed by seed, then Student's interval over seeds.

    Seeds share nothing but the data, so their slopes are independent draws and the interval needs no model of the noise.

    Args:
      values: [seeds, widths], positive, at least two seeds.
    Raises: ValueError for another shape or values that have no logarithm.
    """
    values = np.asarray(values, float)
    if (
        values.ndim != 2
        or values.shape[1] != len(widths)
        or len(values) < 2
        or not (values > 0).all()
    ):
        raise ValueError(
            f"values must be positive, [seeds >= 2, {len(widths)}], got {list(values.shape)} from {values.min():g}"
        )
    slopes = np.polyfit(np.log(widths), np.log(values).T, 1)[0]  # [seeds]
    half = t.ppf((1 + LEVEL) / 2, len(slopes) - 1) * slopes.std(ddof=1) / np.sqrt(len(slopes))
    return Estimate(float(slopes.mean()), float(slopes.mean() - half), float(slopes.mean() + half))


def draw_against_width(
    axes: Axes, widths: Sequence[float], values: np.ndarray, label: str, look: dict[str, Any]
) -> Estimate:
    """Geometric means of `values` [seeds, widths] with every seed as a faint dot; log axes. Returns the slope."""
    slope = fit_slope(widths, values)
    axes.plot(widths, np.exp(np.log(values).mean(0)), label=f"{label}: {slope}", **look)
    for seed in values:
        axes.plot(widths, seed, ".", color=look["color"], alpha=0.35, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="width n")
    return slope


def draw_reference(
    axes: Axes, widths: Sequence[float], start: float, exponent: float, label: str
) -> None:
    """A thin line of the predicted slope through `start` at the smallest width."""
    n = np.array(widths, float)
    axes.plot(
        n,
        start * (n / n[0]) ** exponent,
        color="0.6",
        linewidth=0.9,
        linestyle=":",
        label=label,
        zorder=0,
    )
