"""TP4 Figure 1: cities and states on the first two principal components, NTK limit | narrow net | muP limit.

Decisions:
- In the NTK limit every pair of embeddings is orthogonal: all eigenvalues are equal and the PCA is arbitrary. What a finite
  net shows is a sample of its initialisation, so the panel draws one, seeded, of the width beside it, and says so.
- Labels are placed one by one where they touch neither another label nor a point nor the frame: states first, then cities,
  those far out before those in the crowd. A label that finds no place is left out.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from w2v_inf.errors import UserError
from w2v_inf.evaluation.places import Places, pca, place_gram, separation
from w2v_inf.models.linear import LinearModel
from w2v_inf.runs.results import Run, by_model, caption_of, check_one_group
from w2v_inf.word2vec_format import read_vectors

PLACES = "places.npz"
COLOURS = ("#c8640a", "#2166ac")
"""Cities, states: orange and blue, told apart by the colour-blind too, and by their markers in grey."""
LABEL_SIZE = 5.5
FONT = FontProperties(family="DejaVu Sans")
POINT_RADIUS = 2.2
"""Of the markers, in typographic points, as every size here."""
NARROW = 64
SAMPLE_SEED = 0


class Panel(NamedTuple):
    name: str
    places: Places
    is_sample: bool


def plot_pca(runs: list[Run]) -> tuple[Figure, str]:
    """Triptych of the embeddings of US cities and states; a model without a run is left out."""
    check_one_group(runs, "plot.figure=pca")
    panels = choose_panels(runs)
    if not panels:
        raise UserError(
            "plot.figure=pca needs runs whose vocabulary has US cities and states (places.npz with three places or more); none here"
        )
    return draw_panels(panels), _caption(runs, panels)


def plot_vectors(path: Path) -> Figure:
    """The map of a file of word vectors. Raises: UserError if it cannot be read or has fewer than three cities and states."""
    vocab, vectors = read_vectors(path)
    table = torch.from_numpy(vectors)
    return plot_places(place_gram(LinearModel(table, table), vocab), path.name)


def plot_places(places: Places, name: str) -> Figure:
    """One map. Raises: UserError for fewer than three places."""
    if len(places.words) < 3:
        raise UserError(
            f"{name} has {len(places.words)} of the US cities and states of city-in-state, a map needs 3"
        )
    return draw_panels([Panel(name, places, False)])


def draw_panels(panels: list[Panel]) -> Figure:
    """A map of cities and states a panel, side by side."""
    figure = Figure(figsize=(4.0 * len(panels), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_points(axes, panel)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=2,
        frameon=False,
        title="Embeddings of US cities and states",
    )
    figure.canvas.draw()  # labels are measured against the final layout
    for axes, panel in zip(all_axes, panels, strict=True):
        _label_points(axes, panel)
    return figure


def _caption(runs: list[Run], panels: list[Panel]) -> str:
    what = "First two principal components of the raw embeddings of US cities and states (TP4 Figure 1); a run a panel (its lowest seed)."
    numbers = "Silhouette (1 apart, 0 mixed) and held-out accuracy of a linear classifier, both on the two components shown"
    base = panels[0].places.is_state.mean()
    sentences = [
        what,
        f"{numbers}; always guessing the larger kind gives {100 * max(base, 1 - base):.0f} %.",
    ]
    if panels[0].is_sample:
        reason = "the NTK limit never moves the embeddings, and the exact PCA of its orthogonal embeddings is degenerate"
        sentences.append(
            f"NTK panel: a Gaussian sample of the initialisation (seed {SAMPLE_SEED}), for {reason}."
        )
    return caption_of(runs, *sentences)


def choose_panels(runs: list[Run]) -> list[Panel]:
    """NTK limit as a sample, the finite net of width 64 (else the narrowest), the muP limit: those that have a run."""
    first = {
        model: own[0]
        for model, own in by_model(runs).items()
        if model.is_compared and _num_places(own[0]) >= 3
    }
    narrowest = min((m.width for m in first if m.rank == 1), default=NARROW)
    width = NARROW if any(m.width == NARROW for m in first) else narrowest
    panels = []
    for model, run in first.items():
        places = Places.load(run.folder / PLACES)
        if model.rank == 0:
            panels.append(
                Panel(
                    f"NTK limit (sample of width {width:,})",
                    sample_initialisation(places, width),
                    True,
                )
            )
        elif model.rank == 2 or model.width == width:
            panels.append(Panel(model.label, places, False))
    return panels


def _num_places(run: Run) -> int:
    path = run.folder / PLACES
    return len(Places.load(path).words) if path.exists() else 0


def sample_initialisation(places: Places, width: int) -> Places:
    """The same places with embeddings u ~ N(0, 1/width): what an untrained net of that width shows."""
    u = np.random.default_rng(SAMPLE_SEED).standard_normal((len(places.words), width)) / math.sqrt(
        width
    )  # [P, D]
    return Places(places.words, places.is_state, u @ u.T)


def _draw_points(axes: Axes, panel: Panel) -> None:
    xy, ratio = pca(panel.places.gram)
    for name, colour, marker, mask in zip(
        ("cities", "states"),
        COLOURS,
        "o^",
        (~panel.places.is_state, panel.places.is_state),
        strict=True,
    ):
        axes.scatter(*xy[mask].T, s=16, color=colour, marker=marker, label=name, linewidth=0)
    axes.set_title(f"{panel.name}\n{_separation_text(panel.places)}", fontsize=10)
    axes.set_xlabel(f"component 1 ({100 * ratio[0]:.0f} % of the variance)", fontsize=9)
    axes.set_ylabel(f"component 2 ({100 * ratio[1]:.0f} %)", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.margins(0.1)


def _separation_text(places: Places) -> str:
    numbers = separation(places.gram, places.is_state)
    silhouette, linear = numbers["silhouette"], numbers["linear_accuracy"]
    parts = [] if silhouette is None else [f"silhouette {silhouette:.2f}"]
    return (
        ", ".join(parts if linear is None else [*parts, f"linear {linear:.0f} %"])
        or "too few places for a number"
    )


def _label_points(axes: Axes, panel: Panel) -> None:
    """Write names beside their points, each where it touches nothing yet."""
    places = panel.places
    xy = pca(places.gram)[0]
    to_points = 72 / axes.figure.dpi
    dots = axes.transData.transform(xy) * to_points
    frame = np.array(axes.get_window_extent().extents) * to_points
    taken = np.concatenate(
        [dots - POINT_RADIUS, dots + POINT_RADIUS], axis=1
    )  # boxes x0, y0, x1, y1
    for i in sorted(
        range(len(dots)), key=lambda i: (not places.is_state[i], -np.linalg.norm(xy[i]))
    ):
        box, offset = _free_place(dots[i], _text_size(places.words[i]), taken, frame)
        if box is None:
            continue
        taken = np.vstack([taken, box])
        colour = COLOURS[int(places.is_state[i])]
        axes.annotate(
            places.words[i],
            xy[i],
            offset,
            textcoords="offset points",
            fontsize=LABEL_SIZE,
            color=colour,
            va="baseline",
            ha="left",
        )


def _text_size(text: str) -> np.ndarray:
    return np.array(TextPath((0, 0), text, size=LABEL_SIZE, prop=FONT).get_extents().size)


def _free_place(
    dot: np.ndarray, size: np.ndarray, taken: np.ndarray, frame: np.ndarray
) -> tuple[np.ndarray | None, tuple[float, float]]:
    """Box and offset of a label of `size` around `dot`, in typographic points; no box if every side is taken."""
    w, h, gap = *size.tolist(), POINT_RADIUS + 0.5
    for offset in (
        (gap, -h / 2),
        (-gap - w, -h / 2),
        (-w / 2, gap),
        (-w / 2, -gap - h),
        (gap, gap),
        (gap, -gap - h),
        (-gap - w, gap),
        (-gap - w, -gap - h),
    ):
        low = dot + offset
        box = np.concatenate([low, low + size])
        inside = (box[:2] >= frame[:2]).all() and (box[2:] <= frame[2:]).all()
        touches = ((box[:2] < taken[:, 2:]) & (box[2:] > taken[:, :2])).all(axis=1)
        if inside and not touches.any():
            return box, offset
    return None, (0.0, 0.0)
