"""Accuracy and loss of finished runs as curves, points and bars.

Decisions:
- Each function takes the runs of one group and returns a figure with its caption.
- Bands and error bars are one standard deviation over seeds.
- A figure shows the runs that are there. With nothing to show it raises UserError.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from w2v_inf.errors import UserError
from w2v_inf.reporting.findings import PAPER_TEXT8, comparable_with_paper
from w2v_inf.reporting.pca import NARROW
from w2v_inf.reporting.style import SMALL, TEXT_WIDTH, legend_beside, new_axes, style
from w2v_inf.runs.results import (
    MeanStd,
    ModelKey,
    Run,
    by_model,
    caption_of,
    check_one_group,
    mean_std,
)

PAPER_WIDTHS = (64, 256, 1024)
PAPER_LABEL = "paper's values on text8"
ACCURACY_LABEL = "analogy accuracy, 3CosAdd (%)"
MAX_CURVE_POINTS = 200
CLOSE_FROM = 0.1
"""Share of the training that the close view of the loss leaves out of its range.

The fall at the beginning would flatten everything after it.
"""


def plot_accuracy(runs: list[Run]) -> tuple[Figure, str]:
    """Analogy accuracy after each epoch; the upper axis counts words."""
    check_one_group(runs, "plot.figure=accuracy")
    models = by_model(runs)
    figure, (axes,) = new_axes()
    for model, model_runs in reversed(models.items()):
        epochs, values = _accuracy_by_epoch(model_runs)
        label = f"{model.label}: {_percent(values[-1].mean)}" if values else ""
        _draw_curve(axes, epochs, values, style(model, models), label)
    if not axes.lines:
        raise _no_questions("accuracy")
    figure.suptitle("Word analogies solved during training")
    axes.set(xlabel="epochs", ylabel=ACCURACY_LABEL)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _from_zero(axes)
    _add_words_axis(axes, _words_per_epoch(runs))
    legend_beside(axes, "after the last epoch")
    return figure, caption_of(runs, "Accuracy after each epoch, one line per model.", accuracy=True)


def _no_questions(figure: str) -> UserError:
    needs = "needs runs with analogy questions inside the vocabulary; these have none"
    return UserError(f"plot.figure={figure} {needs}")


def _percent(value: float) -> str:
    return "no questions" if math.isnan(value) else f"{value:.1f} %"


def _from_zero(axes: Axes) -> None:
    """Start the accuracy axis just below 0, where the NTK limit's line is; span at least 1 %."""
    top = max(1.0, axes.get_ylim()[1])
    axes.set_ylim(-0.02 * top, top)


def _add_words_axis(axes: Axes, words: float) -> None:
    """An upper axis of words, `words` per unit of the lower axis."""
    to_words, to_epochs = lambda x: np.asarray(x) * words, lambda x: np.asarray(x) / words
    upper = axes.secondary_xaxis("top", functions=(to_words, to_epochs))
    upper.set_xlabel("words seen (millions)" if words >= 1e5 else "words seen")
    upper.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g}" if words >= 1e5 else f"{x:,.0f}")


def _accuracy_by_epoch(runs: list[Run]) -> tuple[list[float], list[MeanStd]]:
    values: dict[float, list[float]] = {}
    for line in (line for run in runs for line in run.evaluations):
        accuracy = line["analogy"]["total"]["accuracy"]
        if accuracy is not None:
            values.setdefault(line["epoch"], []).append(accuracy)
    epochs = sorted(values)
    return epochs, [mean_std(values[epoch]) for epoch in epochs]


def _words_per_epoch(runs: list[Run]) -> float:
    lines = [line for run in runs for line in run.evaluations if line["epoch"] > 0]
    return max((line["words_seen"] / line["epoch"] for line in lines), default=1.0) or 1.0


def _draw_curve(
    axes: Axes,
    x: list[float] | np.ndarray,
    values: list[MeanStd],
    look: dict[str, Any],
    label: str,
) -> None:
    """A line of means with a band of one standard deviation; nothing without values."""
    if not values:
        return
    mean, sd = np.array([v.mean for v in values]), np.nan_to_num([v.sd for v in values])
    axes.plot(x, mean, label=label, **look)
    if sd.any():
        axes.fill_between(x, mean - sd, mean + sd, color=look["color"], alpha=0.2, linewidth=0)


def plot_width(runs: list[Run]) -> tuple[Figure, str]:
    """Final accuracy against width, with the limits as lines.

    The paper's values on text8 are added where the corpus is comparable.
    """
    check_one_group(runs, "plot.figure=width")
    means = {m: mean_std(run.accuracy() for run in seeds) for m, seeds in by_model(runs).items()}
    means = {model: value for model, value in means.items() if value.n}
    if not means:
        raise _no_questions("width")
    figure, (axes,) = new_axes()
    labels = {model: _mean_label(model, value) for model, value in means.items()}
    finite = {model: value for model, value in means.items() if model.kind == "finite"}
    for model, value in means.items():
        if model not in finite:
            _draw_limit(axes, value, style(model, means), labels[model])
    for variant in sorted({model.variant for model in finite}):
        same = {model: value for model, value in finite.items() if model.variant == variant}
        _draw_widths(axes, same, finite, labels)
    paper = comparable_with_paper(runs)
    _draw_width_axis(axes, {model.width for model in finite}, paper)
    figure.suptitle(_width_title(means))
    axes.set(xlabel="width (columns of the embedding)", ylabel=ACCURACY_LABEL)
    _from_zero(axes)
    legend_beside(axes, "after the last epoch", [labels[model] for model in reversed(means)])
    notes = ["Accuracy after the last epoch."]
    if paper:
        notes += ["Red diamonds: the paper's values on text8 (V = 71,291), its limit at ∞."]
    return figure, caption_of(runs, *notes, accuracy=True)


def _mean_label(model: ModelKey, value: MeanStd) -> str:
    return f"{model.label}: {_percent(value.mean)}" + (
        "" if math.isnan(value.sd) else f" ± {value.sd:.1f}"
    )


def _draw_limit(axes: Axes, value: MeanStd, look: dict[str, Any], label: str) -> None:
    axes.axhline(value.mean, label=label, **look)
    if not math.isnan(value.sd):
        low, high = value.mean - value.sd, value.mean + value.sd
        axes.axhspan(low, high, color=look["color"], alpha=0.12, linewidth=0)


def _draw_widths(
    axes: Axes,
    values: dict[ModelKey, MeanStd],
    finite: Iterable[ModelKey],
    labels: dict[ModelKey, str],
) -> None:
    """One line through the widths of one parametrization, each point in the colour of its width."""
    variant = next(iter(values)).variant
    line = {"color": "0.6", "linewidth": 1, "linestyle": "-." if variant else "-", "zorder": 1}
    axes.plot([m.width for m in values], [v.mean for v in values.values()], **line)
    for model, value in values.items():
        look = {"fmt": "s" if variant else "o", "color": style(model, finite)["color"]}
        bar = {"yerr": None if math.isnan(value.sd) else value.sd, "capsize": 4}
        axes.errorbar(model.width, value.mean, label=labels[model], zorder=3, **bar, **look)


def _draw_width_axis(axes: Axes, widths: set[int], paper: bool) -> None:
    """A log axis with a tick per width; with the paper's values, its limit is at ∞ on the right."""
    ticks = sorted(widths | set(PAPER_WIDTHS) if paper else widths or {NARROW})
    infinity = ticks[-1] * 4
    if paper:
        values = [
            PAPER_TEXT8[name] for name in (*(f"width {n:,}" for n in PAPER_WIDTHS), "muP limit")
        ]
        look: dict[str, Any] = {"marker": "D", "color": "tab:red", "mfc": "none"}
        axes.plot([*PAPER_WIDTHS, infinity], values, linestyle="", label=PAPER_LABEL, **look)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([*ticks, infinity] if paper else ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: "∞" if x >= infinity else f"{x:,.0f}")
    axes.set_xlim(ticks[0] / 1.6, infinity * 1.3 if paper else ticks[-1] * 1.6)


def _width_title(means: dict[ModelKey, MeanStd]) -> str:
    limits = [v for m, v in means.items() if m.kind == "mup_limit" and m.is_compared]
    finite = [m for m in means if m.kind == "finite" and not m.variant]
    if not limits or not finite:
        return "Word analogies solved, by width"
    widest = max(finite, key=lambda m: m.width)
    there = f"{means[widest].mean:.1f} % at width {widest.width:,}"
    return f"Word analogies solved: {limits[0].mean:.1f} % in the muP limit, {there}"


def plot_loss(runs: list[Run]) -> tuple[Figure, str]:
    """Training loss in nats per example against words seen: whole range and close view."""
    check_one_group(runs, "plot.figure=loss")
    models = by_model(run for run in runs if run.progress)
    if not models:
        needs = "needs runs with progress lines in metrics.jsonl; these have none"
        raise UserError(f"plot.figure=loss {needs}")
    figure, (whole, close) = new_axes(TEXT_WIDTH, 4.0, 2)
    only_ntk = all(model.kind == "ntk_limit" for model in models)
    in_view = []
    for model, model_runs in reversed(models.items()):
        words, losses = _loss_curves(model_runs)
        values = [mean_std(column) for column in losses.T]
        label = f"{model.label}: {values[-1].mean:.3f}"
        for axes in (whole, close):
            _draw_curve(axes, words, values, style(model, models), label)
        if only_ntk or model.kind != "ntk_limit":
            late = words >= CLOSE_FROM * words[-1]
            in_view += [value.mean for value, is_late in zip(values, late, strict=True) if is_late]
    margin = 0.06 * (max(in_view) - min(in_view)) or 0.1
    close.set_ylim(min(in_view) - margin, max(in_view) + margin)
    whole.set(title="whole range", ylabel="training loss (nats per example)")
    scaled = "scaled to muP, " if len(models) > 1 else ""
    close.set_title(f"{scaled}after the first {CLOSE_FROM:.0%}")
    for axes in (whole, close):
        axes.set_xlabel("words seen")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M" if x >= 1e5 else f"{x:,.0f}")
    figure.suptitle("Training loss")
    legend_beside(close, "at the end")
    note = "Mean training loss of equal spans of words; second panel: close view of the end."
    return figure, caption_of(runs, note)


def _loss_curves(runs: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss over N equal spans of words: the spans' middles, [N], and losses, [runs, N].

    Progress lines come at intervals of time, which differ between runs. The running sum of
    loss x words gives the exact mean of any span.
    """
    seen = [np.array([0, *(line["words_seen"] for line in run.progress)], float) for run in runs]
    num_spans = min(MAX_CURVE_POINTS, *(len(run.progress) for run in runs))
    edges = np.linspace(0, min(words[-1] for words in seen), num_spans + 1)
    losses = []
    for words, run in zip(seen, runs, strict=True):
        loss = np.array([0, *(line["loss"] for line in run.progress)])
        total = np.cumsum(np.diff(words, prepend=0) * loss)
        losses.append(np.diff(np.interp(edges, words, total)) / np.diff(edges))
    return (edges[:-1] + edges[1:]) / 2, np.array(losses)


def plot_sections(runs: list[Run]) -> tuple[Figure, str]:
    """Final accuracy in each section of the questions, one bar per model."""
    check_one_group(runs, "plot.figure=sections")
    models = by_model(runs)
    sections = _sections_seen(runs)
    if not sections:
        raise _no_questions("sections")
    figure, (axes,) = new_axes(7.0, 1.2 + len(sections) * (0.16 + 0.07 * len(models)))
    thickness = 0.84 / len(models)
    for index, (model, model_runs) in enumerate(models.items()):
        values = [mean_std(_section_accuracy(run, name) for run in model_runs) for name in sections]
        y = np.arange(len(sections)) + (index - (len(models) - 1) / 2) * thickness
        _draw_bars(axes, y, values, thickness, model, style(model, models)["color"])
    labels = [f"{name} ({questions:,})" for name, questions in sections.items()]
    axes.set_yticks(range(len(sections)), labels, fontsize=SMALL)
    axes.set_ylim(len(sections) - 0.5, -0.5)  # the first section on top
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("accuracy (%)")
    figure.suptitle("Word analogies solved, by section")
    legend_beside(axes, "after the last epoch")
    note = "Accuracy after the last epoch; brackets: questions inside the vocabulary."
    return figure, caption_of(runs, note, accuracy=True)


def _draw_bars(
    axes: Axes, y: np.ndarray, values: list[MeanStd], thickness: float, model: ModelKey, colour: Any
) -> None:
    """One bar per section; the muP limit's bars are hatched, as its line is dashed elsewhere."""
    means, sd = [value.mean for value in values], np.nan_to_num([value.sd for value in values])
    bars = axes.barh(y, means, thickness, label=model.label, color=colour, linewidth=0.8)
    if model.kind == "mup_limit":
        for bar in bars:
            bar.set(hatch="//////", facecolor="white", edgecolor="black")
    for at in y[np.array(means) == 0]:  # a bar of no length would look like a missing run
        axes.plot(0, at, "|", color=colour, markersize=5)
    if sd.any():
        axes.errorbar(means, y, xerr=sd, fmt="none", ecolor="0.3", elinewidth=0.8)


def _sections_seen(runs: list[Run]) -> dict[str, int]:
    sections = runs[0].analogy_counts().get("sections") or {}
    return {name: counts["questions"] for name, counts in sections.items() if counts["questions"]}


def _section_accuracy(run: Run, name: str) -> float:
    value = (run.analogy_counts().get("sections") or {}).get(name, {}).get("accuracy")
    return math.nan if value is None else float(value)
