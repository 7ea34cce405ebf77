"""What all figures share: colours, axes, files."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from w2v_inf.files import write_atomically
from w2v_inf.runs.results import (
    ModelKey,
)


class Drawing(NamedTuple):
    name: str
    title: str
    figure: Figure
    caption: str


def style(model: ModelKey, models: Iterable[ModelKey]) -> dict[str, Any]:
    """Colour and line style of one model beside the others."""
    if model.rank == 0:
        return {"color": "0.45", "linestyle": ":", "linewidth": 1.8}
    if model.rank == 2:
        return {"color": "black", "linestyle": "--", "linewidth": 1.8}
    logs = [math.log2(m.width) for m in models if m.rank == 1]
    place = (
        (math.log2(model.width) - min(logs)) / (max(logs) - min(logs))
        if max(logs) > min(logs)
        else 0.5
    )
    # the pale end of the map is left out: it vanishes on white paper
    return {
        "color": matplotlib.colormaps["viridis"](0.82 - 0.72 * place),
        "linestyle": "-." if model.variant else "-",
        "linewidth": 1.6,
    }


def new_axes(
    width: float = 6.4, height: float = 4.2, num_panels: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side; size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, num_panels, i + 1) for i in range(num_panels)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, panels


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write NAME.png (150 dots an inch) and NAME.svg; same figure, same bytes. Returns their paths."""
    png, svg = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    with matplotlib.rc_context({"svg.hashsalt": name}):
        write_atomically(
            png, lambda draft: figure.savefig(draft, dpi=150, metadata={"Software": None})
        )
        write_atomically(
            svg, lambda draft: figure.savefig(draft, metadata={"Date": None, "Creator": None})
        )
    return [png, svg]
