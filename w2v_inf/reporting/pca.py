"""PCA figure (TP4 Figure 1): cities and states on the first two principal components.

The panels are the NTK limit, a narrow network and the muP limit.

Decisions:
- In the NTK limit every pair of embeddings is orthogonal. All eigenvalues are equal, so the PCA is
  arbitrary. A finite network shows a sample of its initialisation. The NTK panel therefore draws a
  seeded sample, of the narrow network's width, and says so.
- A label is placed where it touches no other label, no point and not the frame, or it is left out.
  States come first, then cities; outlying points come before those in the crowd.
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
from matplotlib.ticker import MaxNLocator

from w2v_inf.errors import UserError
from w2v_inf.evaluation.places import Places, pca, place_gram, separation
from w2v_inf.models.linear import LinearModel
from w2v_inf.reporting.style import SMALL, TEXT_WIDTH
from w2v_inf.runs.results import Run, by_model, caption_of, check_one_group
from w2v_inf.vector_folders.read import read_file_or_folder

PLACES = "places.npz"
MIN_PLACES = 3
COLOURS = ("#c8640a", "#2166ac")
"""Cities and states: orange and blue, which colour-blind readers tell apart."""
MARKERS = "o^"
"""Cities and states, told apart in grey."""
FONT = FontProperties(family="DejaVu Sans")
POINT_RADIUS = 2.2
"""Radius of the markers in typographic points, the unit of every size here."""
NARROW = 64
"""Width of the narrow network in TP4 Figure 1."""
SAMPLE_SEED = 0


class Panel(NamedTuple):
    """One map of the figure."""

    name: str
    places: Places
    is_sample: bool
    """Whether `places` is a sample of the initialisation."""


def plot_pca(runs: list[Run]) -> tuple[Figure, str]:
    """The maps of one group; a model without a run is left out."""
    check_one_group(runs, "plot.figure=pca")
    panels = choose_panels(runs)
    if not panels:
        needs = f"US cities and states ({PLACES} with at least {MIN_PLACES} places)"
        raise UserError(f"plot.figure=pca needs runs whose vocabulary has {needs}; none here")
    return draw_panels(panels), _caption(runs, panels)


def plot_vectors(path: Path) -> Figure:
    """The map of a file of word vectors.

    Raises: UserError if it cannot be read or has fewer than three cities and states.
    """
    vocab, vectors = read_file_or_folder(path)
    table = torch.from_numpy(vectors)
    return plot_places(place_gram(LinearModel(table, table), vocab), path.name)


def plot_places(places: Places, name: str) -> Figure:
    """One map with the title `name`. Raises: UserError for fewer than three places."""
    if len(places.words) < MIN_PLACES:
        raise UserError(
            f"{name} has {len(places.words)} of the US cities and states of city-in-state, "
            f"a map needs {MIN_PLACES}"
        )
    return draw_panels([Panel(name, places, False)])


def draw_panels(panels: list[Panel]) -> Figure:
    """Maps of cities and states, side by side."""
    figure = Figure(figsize=(TEXT_WIDTH / 3 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_points(axes, panel)
    handles, labels = all_axes[0].get_legend_handles_labels()
    title = "Embeddings of US cities and states"
    position = {"loc": "outside upper center", "ncols": 2}
    figure.legend(handles, labels, title=title, frameon=False, **position)
    figure.canvas.draw()  # labels are measured against the final layout
    for axes, panel in zip(all_axes, panels, strict=True):
        _label_points(axes, panel.places)
    return figure


def _caption(runs: list[Run], panels: list[Panel]) -> str:
    share = panels[0].places.is_state.mean()
    majority = f"{100 * max(share, 1 - share):.0f} %"
    sentences = [
        "PCA of embeddings (TP4 Figure 1). Titles: silhouette, accuracy of a linear "
        f"classifier (majority class {majority}).",
    ]
    if panels[0].is_sample:
        sentences.append(f"NTK: sampled initialisation, seed {SAMPLE_SEED}.")
    return caption_of(runs, *sentences)


def choose_panels(runs: list[Run]) -> list[Panel]:
    """NTK limit as a sample, one finite network, muP limit, others: those that have a run.

    The finite network is that of width 64, or else the narrowest.
    """
    shown = {
        model: seeds[0]
        for model, seeds in by_model(runs).items()
        if not model.variant and _num_places(seeds[0]) >= MIN_PLACES
    }
    widths = [model.width for model in shown if model.kind == "finite"]
    width = NARROW if NARROW in widths else min(widths, default=NARROW)
    panels = []
    for model, run in shown.items():
        places = Places.load(run.folder / PLACES)
        if model.kind == "ntk_limit":
            sample = sample_initialisation(places, width)
            panels.append(Panel(f"NTK limit (sample of width {width:,})", sample, True))
        elif model.kind != "finite" or model.width == width:
            panels.append(Panel(model.label, places, False))
    return panels


def _num_places(run: Run) -> int:
    path = run.folder / PLACES
    return len(Places.load(path).words) if path.exists() else 0


def sample_initialisation(places: Places, width: int) -> Places:
    """The same places with the embeddings of an untrained network: u ~ N(0, 1 / width)."""
    generator = np.random.default_rng(SAMPLE_SEED)
    u = generator.standard_normal((len(places.words), width)) / math.sqrt(width)  # [P, D]
    return Places(places.words, places.is_state, u @ u.T)


def _draw_points(axes: Axes, panel: Panel) -> None:
    xy, ratio = pca(panel.places.gram)
    is_state = panel.places.is_state
    for kind, mask in enumerate((~is_state, is_state)):
        look = {"color": COLOURS[kind], "marker": MARKERS[kind], "linewidth": 0}
        axes.scatter(*xy[mask].T, s=16, label=("cities", "states")[kind], **look)
    axes.set_title(f"{panel.name}\n{_separation_text(panel.places)}", fontsize=10)
    axes.set_xlabel(f"component 1 ({100 * ratio[0]:.0f} % of the variance)", fontsize=9)
    axes.set_ylabel(f"component 2 ({100 * ratio[1]:.0f} %)", fontsize=9)
    axes.tick_params(labelsize=SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(0.1)


def _separation_text(places: Places) -> str:
    numbers = separation(places.gram, places.is_state)
    silhouette, linear = numbers["silhouette"], numbers["linear_accuracy"]
    parts = [] if silhouette is None else [f"silhouette {silhouette:.2f}"]
    parts += [] if linear is None else [f"linear {linear:.0f} %"]
    return ", ".join(parts) or "too few places for a number"


def _label_points(axes: Axes, places: Places) -> None:
    """Write each name beside its point, where it touches nothing written before."""
    xy = pca(places.gram)[0]
    to_points = 72 / axes.figure.dpi
    centres = axes.transData.transform(xy) * to_points
    frame = np.array(axes.get_window_extent().extents) * to_points
    taken = np.concatenate([centres - POINT_RADIUS, centres + POINT_RADIUS], axis=1)  # x0 y0 x1 y1
    order = sorted(range(len(xy)), key=lambda i: (not places.is_state[i], -np.linalg.norm(xy[i])))
    for i in order:
        offset = _free_offset(centres[i], _text_size(places.words[i]), taken, frame)
        if offset is None:
            continue
        low = centres[i] + offset
        taken = np.vstack([taken, [*low, *(low + _text_size(places.words[i]))]])
        look = {"fontsize": SMALL, "color": COLOURS[int(places.is_state[i])]}
        position = {"textcoords": "offset points", "va": "baseline", "ha": "left"}
        axes.annotate(places.words[i], xy[i], offset, **position, **look)


def _text_size(text: str) -> np.ndarray:
    return np.array(TextPath((0, 0), text, size=SMALL, prop=FONT).get_extents().size)


def _free_offset(
    centre: np.ndarray, size: np.ndarray, taken: np.ndarray, frame: np.ndarray
) -> tuple[float, float] | None:
    """Offset from `centre` of a label of `size`; None if every side is taken.

    Right, left, above and below come before the diagonals.
    """
    w, h, gap = *size.tolist(), POINT_RADIUS + 0.5
    left, right, below, above = -gap - w, gap, -gap - h, gap
    for offset in (
        (right, -h / 2),
        (left, -h / 2),
        (-w / 2, above),
        (-w / 2, below),
        (right, above),
        (right, below),
        (left, above),
        (left, below),
    ):
        low, high = centre + offset, centre + offset + size
        inside = (low >= frame[:2]).all() and (high <= frame[2:]).all()
        touches = ((low < taken[:, 2:]) & (high > taken[:, :2])).all(axis=1)
        if inside and not touches.any():
            return offset
    return None
