"""What all figures share: colours, axes, legends and files.

Decisions:
- A figure is an object. There is no pyplot and no global state.
- SVG is written with a fixed salt and without a date, so the same runs give the same bytes.
- Colours run from light to dark as width grows, so the order also reads in grey. The muP limit is
  dashed black, the NTK limit dotted grey, any model of your own orange.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from w2v_inf.files import write_atomically
from w2v_inf.runs.results import ModelKey

PURPLE, TEAL, GREEN = "#443a83", "#21908d", "#8fd744"
ORANGE, RED, BLUE = "#e08214", "#d6604d", "#3b6fb6"


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
    """A figure with panels side by side; its size is in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, num_panels, i + 1) for i in range(num_panels)]
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
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        borderaxespad=0,
    )


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
