"""Figures from finished runs. Each takes the runs of one group and gives a Figure and its caption.

Decisions:
- Figures are built as objects and saved with a fixed salt and no date: same runs, same bytes. No pyplot, no global state.
- Colour is sequential by width, light to dark, so that the order also reads in grey; the muP limit is dashed black, the
  NTK limit dotted grey. Bands and bars are one standard deviation over seeds.
- Where the runs needed are missing, a figure shows what is there; with nothing to show it raises UserError.
"""

import logging
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
from w2v_inf.reporting.style import new_axes, style
from w2v_inf.runs.results import (
    MeanStd,
    ModelKey,
    Run,
    by_model,
    caption_of,
    check_one_group,
    mean_std,
)

log = logging.getLogger(__name__)
PAPER_NOTE = "paper's values on text8"
MAX_CURVE_POINTS = 200
CLOSE_FROM = 0.1
"""The close view of the loss is scaled to what follows this share of the training; the fall before it would flatten the rest."""


def _from_zero(axes: Axes) -> None:
    """Accuracies start at zero, which the NTK limit's line needs room at, and span 1 % at least."""
    top = max(1.0, axes.get_ylim()[1])
    axes.set_ylim(-0.02 * top, top)


def _percent(value: float) -> str:
    return "no questions" if math.isnan(value) else f"{value:.1f} %"


def plot_accuracy(runs: list[Run]) -> tuple[Figure, str]:
    """Analogy accuracy after each epoch; the upper axis counts words."""
    check_one_group(runs, "plot.figure=accuracy")
    models = by_model(runs)
    figure, (axes,) = new_axes()
    for model, own in reversed(models.items()):
        epochs, spreads = _accuracy_by_epoch(own)
        label = f"{model.label}: {_percent(spreads[-1].mean)}" if spreads else ""
        _draw_curve(axes, epochs, spreads, style(model, models), label)
    if not axes.lines:
        raise UserError(
            "plot.figure=accuracy needs runs with analogy questions inside the vocabulary; these have none"
        )
    figure.suptitle("Word analogies solved during training")
    axes.set(xlabel="epochs", ylabel="analogy accuracy, 3CosAdd (%)")
    _from_zero(axes)
    words = _words_per_epoch(runs)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper = axes.secondary_xaxis(
        "top",
        functions=(lambda epoch: np.asarray(epoch) * words, lambda seen: np.asarray(seen) / words),
    )
    upper.set_xlabel("words seen (millions)" if words >= 1e5 else "words seen")
    upper.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g}" if words >= 1e5 else f"{x:,.0f}")
    _legend_beside(axes, "after the last epoch")
    return figure, caption_of(
        runs,
        "Accuracy after each epoch, one line a model; bands are one standard deviation over seeds.",
    )


def _accuracy_by_epoch(runs: list[Run]) -> tuple[list[float], list[MeanStd]]:
    values: dict[float, list[float]] = {}
    for run in runs:
        for line in run.evaluations:
            accuracy = line["analogy"]["total"]["accuracy"]
            if accuracy is not None:
                values.setdefault(line["epoch"], []).append(accuracy)
    epochs = sorted(values)
    return epochs, [mean_std(values[epoch]) for epoch in epochs]


def _words_per_epoch(runs: list[Run]) -> float:
    ratios = [
        line["words_seen"] / line["epoch"]
        for run in runs
        for line in run.evaluations
        if line["epoch"] > 0
    ]
    return max(ratios, default=1.0) or 1.0


def _draw_curve(
    axes: Axes,
    x: list[float] | np.ndarray,
    spreads: list[MeanStd],
    look: dict[str, Any],
    label: str,
) -> None:
    if not spreads:
        return
    mean, sd = np.array([s.mean for s in spreads]), np.nan_to_num([s.sd for s in spreads])
    axes.plot(x, mean, label=label, **look)
    if sd.any():
        axes.fill_between(x, mean - sd, mean + sd, color=look["color"], alpha=0.2, linewidth=0)


def _legend_beside(axes: Axes, title: str, first: Iterable[str] = ()) -> None:
    """Legend right of the panel; labels in `first` lead, in that order."""
    by_label = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [*first, *(label for label in by_label if label not in first)]
    axes.legend(
        [by_label[label] for label in labels],
        labels,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        borderaxespad=0,
    )


def plot_width(runs: list[Run]) -> tuple[Figure, str]:
    """Final accuracy against width; limits as lines, the paper's text8 values beside ours where the corpus is comparable."""
    check_one_group(runs, "plot.figure=width")
    models = {
        m: s
        for m, own in by_model(runs).items()
        if (s := mean_std(run.accuracy() for run in own)).n
    }
    if not models:
        raise UserError(
            "plot.figure=width needs runs with analogy questions inside the vocabulary; these have none"
        )
    figure, (axes,) = new_axes()
    labels = {
        m: f"{m.label}: {_percent(s.mean)}" + ("" if math.isnan(s.sd) else f" ± {s.sd:.1f}")
        for m, s in models.items()
    }
    for model, value in models.items():
        if model.rank != 1:
            _draw_limit(axes, value, style(model, models), labels[model])
    for variant in sorted({m.variant for m in models if m.rank == 1}):
        _draw_widths(
            axes,
            {m: s for m, s in models.items() if m.rank == 1 and m.variant == variant},
            models,
            labels,
        )
    paper = comparable_with_paper(runs)
    _width_axis(axes, {m.width for m in models if m.rank == 1}, paper)
    figure.suptitle(_width_title(models))
    axes.set(xlabel="width (columns of the embedding)", ylabel="analogy accuracy, 3CosAdd (%)")
    _from_zero(axes)
    _legend_beside(axes, "after the last epoch", [labels[m] for m in reversed(models)])
    beside = (
        ["Red diamonds are the paper's own values on text8 (V = 71,291), the one at ∞ its limit."]
        if paper
        else []
    )
    return figure, caption_of(
        runs,
        "Accuracy after the last epoch against width; bars are one standard deviation over seeds.",
        *beside,
    )


def _draw_limit(axes: Axes, value: MeanStd, look: dict[str, Any], label: str) -> None:
    axes.axhline(value.mean, label=label, **look)
    if not math.isnan(value.sd):
        axes.axhspan(
            value.mean - value.sd,
            value.mean + value.sd,
            color=look["color"],
            alpha=0.12,
            linewidth=0,
        )


def _draw_widths(
    axes: Axes,
    finite: dict[ModelKey, MeanStd],
    models: Iterable[ModelKey],
    labels: dict[ModelKey, str],
) -> None:
    """One line through the widths of one parametrization, each point in the colour of its width."""
    variant = next(iter(finite)).variant
    axes.plot(
        [m.width for m in finite],
        [s.mean for s in finite.values()],
        color="0.6",
        lw=1,
        linestyle="-." if variant else "-",
        zorder=1,
    )
    for model, value in finite.items():
        sd = None if math.isnan(value.sd) else value.sd
        look = {"fmt": "s" if variant else "o", "color": style(model, models)["color"]}
        axes.errorbar(
            model.width, value.mean, yerr=sd, capsize=4, label=labels[model], zorder=3, **look
        )


def _width_axis(axes: Axes, widths: set[int], paper: bool) -> None:
    """Log axis with a tick a width; with the paper's values, its limit stands at an ∞ on the right."""
    ticks = sorted(widths | {64, 256, 1024} if paper else widths or {NARROW})
    infinity = ticks[-1] * 4
    if paper:
        values = [
            PAPER_TEXT8[label] for label in ("width 64", "width 256", "width 1,024", "muP limit")
        ]
        axes.plot(
            [64, 256, 1024, infinity],
            values,
            linestyle="",
            marker="D",
            color="tab:red",
            mfc="none",
            label=PAPER_NOTE,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([*ticks, infinity] if paper else ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: "∞" if x >= infinity else f"{x:,.0f}")
    axes.set_xlim(ticks[0] / 1.6, infinity * 1.3 if paper else ticks[-1] * 1.6)


def _width_title(models: dict[ModelKey, MeanStd]) -> str:
    limit = next((s for m, s in models.items() if m.rank == 2 and m.is_compared), None)
    widest = max(
        (m for m in models if m.rank == 1 and not m.variant), key=lambda m: m.width, default=None
    )
    if limit is None or widest is None:
        return "Word analogies solved, by width"
    return f"Word analogies solved: {limit.mean:.1f} % in the muP limit, {models[widest].mean:.1f} % at width {widest.width:,}"


def plot_loss(runs: list[Run]) -> tuple[Figure, str]:
    """Loss in nats an example against words seen."""
    check_one_group(runs, "plot.figure=loss")
    models = by_model({id(run): run for run in runs if run.progress}.values())
    if not models:
        raise UserError(
            "plot.figure=loss needs runs with progress lines in metrics.jsonl; these have none"
        )
    figure, (whole, close) = new_axes(10.0, 4.0, 2)
    shown = []
    for model, own in reversed(models.items()):
        words, losses = _loss_curves(own)
        spreads = [mean_std(column) for column in losses.T]
        for axes in (whole, close):
            _draw_curve(
                axes, words, spreads, style(model, models), f"{model.label}: {spreads[-1].mean:.3f}"
            )
        if model.rank or not any(m.rank for m in models):
            shown += [
                s.mean for w, s in zip(words, spreads, strict=True) if w >= CLOSE_FROM * words[-1]
            ]
    margin = 0.06 * (max(shown) - min(shown)) or 0.1
    close.set_ylim(min(shown) - margin, max(shown) + margin)
    whole.set(title="whole range", ylabel="training loss (nats per example)")
    close.set_title(
        f"scaled to muP, after the first {CLOSE_FROM:.0%}"
        if len(models) > 1
        else f"after the first {CLOSE_FROM:.0%}"
    )
    for axes in (whole, close):
        axes.set_xlabel("words seen")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M" if x >= 1e5 else f"{x:,.0f}")
    figure.suptitle("Training loss")
    _legend_beside(close, "at the end")
    note = "Each point is the mean over a stretch of words. Right: the same curves on an axis scaled to the finite nets and the muP limit."
    return figure, caption_of(
        runs,
        "Loss of the training examples, one line a model; bands are one standard deviation over seeds.",
        note,
    )


def _loss_curves(runs: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of equal spans of words: their middles [N], losses [runs, N].

    Lines come at intervals of time, other ones in each run. Through the running sum of loss x words any span's mean is exact.
    """
    seen = [np.array([0, *(line["words_seen"] for line in run.progress)], float) for run in runs]
    sums = [
        np.cumsum(np.diff(s, prepend=0) * [0, *(line["loss"] for line in run.progress)])
        for s, run in zip(seen, runs, strict=True)
    ]
    num = min(MAX_CURVE_POINTS, *(len(run.progress) for run in runs))
    edges = np.linspace(0, min(s[-1] for s in seen), num + 1)
    losses = np.array(
        [
            np.diff(np.interp(edges, s, total)) / np.diff(edges)
            for s, total in zip(seen, sums, strict=True)
        ]
    )
    return (edges[:-1] + edges[1:]) / 2, losses


def plot_sections(runs: list[Run]) -> tuple[Figure, str]:
    """Final accuracy in each section of the questions, a bar a model."""
    check_one_group(runs, "plot.figure=sections")
    models = by_model(runs)
    sections = _sections_seen(runs)
    if not sections:
        raise UserError(
            "plot.figure=sections needs runs with analogy questions inside the vocabulary; these have none"
        )
    figure, (axes,) = new_axes(7.0, 1.2 + len(sections) * (0.16 + 0.07 * len(models)))
    thickness = 0.84 / len(models)
    for index, (model, own) in enumerate(models.items()):
        values = [mean_std(_section_accuracy(run, name) for run in own) for name in sections]
        y = np.arange(len(sections)) + (index - (len(models) - 1) / 2) * thickness
        sd = np.nan_to_num([value.sd for value in values])
        look = style(model, models)
        bars = axes.barh(
            y,
            [value.mean for value in values],
            thickness,
            label=model.label,
            color=look["color"],
            linewidth=0.8,
        )
        if model.rank == 2:  # as it is dashed elsewhere
            for bar in bars:
                bar.set(hatch="//////", facecolor="white", edgecolor="black")
        for zero in [at for at, value in zip(y, values, strict=True) if value.mean == 0]:
            axes.text(
                0, zero, " 0", va="center_baseline", fontsize=6, color=look["color"]
            )  # a bar of no length would look like no run
        if sd.any():
            axes.errorbar(
                [value.mean for value in values],
                y,
                xerr=sd,
                fmt="none",
                ecolor="0.3",
                elinewidth=0.8,
            )
    axes.set_yticks(
        range(len(sections)),
        [f"{name} ({questions:,})" for name, questions in sections.items()],
        fontsize=8,
    )
    axes.set_ylim(len(sections) - 0.5, -0.5)  # the first section on top
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("analogy accuracy, 3CosAdd (%)")
    figure.suptitle("Word analogies solved, by section")
    _legend_beside(axes, "after the last epoch")
    return figure, caption_of(
        runs,
        "Accuracy after the last epoch by section; in brackets the questions inside the vocabulary; bars: one sd over seeds.",
    )


def _sections_seen(runs: list[Run]) -> dict[str, int]:
    sections = runs[0].tally().get("sections") or {}
    return {name: counts["questions"] for name, counts in sections.items() if counts["questions"]}


def _section_accuracy(run: Run, name: str) -> float:
    value = (run.tally().get("sections") or {}).get(name, {}).get("accuracy")
    return math.nan if value is None else float(value)
