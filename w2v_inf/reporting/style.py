"""What all figures share: colours, axes, legends and files.

Decisions:
- A figure is an object. There is no pyplot and no global state.
- No figure is wider than the text of a page, and no letter smaller than 9 points. So a page shows
  figures at their own size, and letters of 12 pixels. For a phone, `stacked` puts panels below
  each other.
- SVG is written with a fixed salt and without a date, so the same runs give the same bytes.
- Colours run from light to dark as width grows, so the order also reads in grey. The muP limit is
  dashed black, the NTK limit dotted grey, any model of your own orange.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.transforms import ScaledTranslation

from w2v_inf.files import write_atomically
from w2v_inf.runs.results import ModelKey

PURPLE, TEAL, GREEN = "#443a83", "#21908d", "#8fd744"
ORANGE, RED, BLUE = "#e08214", "#d6604d", "#3b6fb6"
TEXT_WIDTH, PHONE_WIDTH = 10.0, 3.7
"""Of a page's text in inches, on a desk and on a phone; a browser has 96 pixels to the inch."""
BESIDE = (1.01, 1.0)
"""The upper left corner of a legend right of its panel, in units of the panel."""
SMALL = 9
"""Points of the smallest letters."""


class Drawing(NamedTuple):
    """A figure with the name of its file, its title and its caption."""

    name: str
    title: str
    figure: Figure
    caption: str


def style(model: ModelKey, models: Iterable[ModelKey]) -> dict[str, Any]:
    """Colour and line style of `model` in a figure of `models`."""
    if model.kind == "ntk_limit":
        return {"color": "0.45", "linestyle": ":", "linewidth": 1.8}
    if model.kind == "mup_limit":
        return {"color": "black", "linestyle": "--", "linewidth": 1.8}
    if model.other:
        return {"color": ORANGE, "linestyle": "-.", "linewidth": 1.8}
    logs = [math.log2(m.width) for m in models if m.kind == "finite"]
    low, high = min(logs), max(logs)
    position = (math.log2(model.width) - low) / (high - low) if high > low else 0.5
    return {
        # The pale end of the colour map is left out: it vanishes on white paper.
        "color": matplotlib.colormaps["viridis"](0.82 - 0.72 * position),
        "linestyle": "-." if model.variant else "-",
        "linewidth": 1.6,
    }


def new_axes(
    width: float = 6.4, height: float = 4.2, num_panels: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure with rows of up to two panels; `width` and the `height` of a row are in inches."""
    columns = min(num_panels, 2)
    rows = math.ceil(num_panels / columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(num_panels)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, panels


def legend_beside(axes: Axes, title: str, first: Iterable[str] = ()) -> None:
    """Put the legend right of the panel; the labels in `first` lead, in that order."""
    by_label = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [*first, *(label for label in by_label if label not in first)]
    axes.legend(
        [by_label[label] for label in labels],
        labels,
        title=title,
        loc="upper left",
        bbox_to_anchor=BESIDE,
        frameon=False,
        fontsize=SMALL,
        title_fontsize=SMALL,
        borderaxespad=0,
    )


@contextmanager
def stacked(figure: Figure) -> Iterator[None]:
    """Within the block, `figure` fits a phone: panels and their legends lie below each other."""
    figure.draw_without_rendering()  # lays out
    size, height = tuple(figure.get_size_inches()), 0.3
    panels = [(axes, spec) for axes in figure.axes if (spec := axes.get_subplotspec())]
    beside = [legend for axes, _ in panels if (legend := _legend_beside(axes))]
    grid = GridSpec(len(panels), 1, figure=figure)
    for row, (axes, spec) in enumerate(panels):
        height += size[1] / spec.get_gridspec().nrows
        axes.set_subplotspec(grid[row, 0])
    for legend in beside:
        height += legend.get_window_extent().height / figure.dpi
        below_labels = ScaledTranslation(0, -0.55, figure.dpi_scale_trans)
        legend.set_bbox_to_anchor((0, 0), _axes_of(legend).transAxes + below_labels)
    figure.set_size_inches(PHONE_WIDTH, height)
    yield
    for axes, spec in panels:
        axes.set_subplotspec(spec)
    for legend in beside:
        legend.set_bbox_to_anchor(BESIDE, _axes_of(legend).transAxes)
    figure.set_size_inches(size)


def _legend_beside(axes: Axes) -> Legend | None:
    """The legend of a panel if it lies right of the panel."""
    legend = axes.get_legend()
    right = axes.get_window_extent().x1
    return legend if legend and legend.get_window_extent().x0 > right else None


def _axes_of(legend: Legend) -> Axes:
    assert legend.axes
    return legend.axes


def write_svg(figure: Figure, name: str, file: Path | IO[bytes]) -> None:
    """Write `figure` as SVG; `name` salts its ids."""
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write NAME.png (150 dots per inch) and NAME.svg into `folder`; returns their paths."""
    png, svg = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    write_atomically(png, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))
    write_atomically(svg, lambda file: write_svg(figure, name, file))
    return [png, svg]
