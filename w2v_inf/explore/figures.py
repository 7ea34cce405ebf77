"""The figures of the page, laid out with Bokeh; static/ holds the script that fills the maps.

Decisions:
- Maps are empty here. The page's script sets their sources from compact arrays, which are a tenth
  of Bokeh's own JSON.
- The wheel and a dragging finger scroll the page: no tool is active until a reader picks it.
- Kinds of words differ in colour and shape. Colours are those of the report, which colour-blind
  readers tell apart.
"""

from typing import Any

import matplotlib.colors
from bokeh.models import ColumnDataSource, HoverTool, Range1d, TapTool
from bokeh.plotting import figure

from w2v_inf.reporting.pca import COLOURS, MARKERS
from w2v_inf.reporting.style import PURPLE, TEAL, style
from w2v_inf.runs.results import Run, by_model

FONT_SIZE = "12px"
MAP_HEIGHT, CURVE_HEIGHT = 360, 300
MAX_LOSSES = 100
"""Points of a loss curve."""
SHAPES = {"o": "circle", "^": "triangle"}
LOOKS = {
    "first": {"marker": SHAPES[MARKERS[0]], "color": COLOURS[0], "size": 8},
    "second": {"marker": SHAPES[MARKERS[1]], "color": COLOURS[1], "size": 9},
    "own": {"marker": "square", "color": TEAL, "size": 8},
    "neighbours": {"marker": "diamond", "color": PURPLE, "size": 12},
    "selected": {"marker": "star", "color": "black", "size": 17},
    "hovered": {"marker": "circle", "fill_color": None, "line_color": "black", "size": 14},
}
"""Markers of the words that stand out; `own` are those of the reader's list."""
LABEL: dict[str, Any] = {
    "text_font_size": FONT_SIZE,
    "text_baseline": "middle",
    "text_color": "black",
    "background_fill_color": "white",
    "background_fill_alpha": 0.75,
}
DOT: dict[str, Any] = {
    "size": 4,
    "fill_color": "#8a8a8a",
    "fill_alpha": 0.5,
    "nonselection_fill_alpha": 0.5,
    "line_color": None,  # thousands of outlines would double the time of drawing
}
DASHES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashdot"}


def map_figures(axes: list[str]) -> list[Any]:
    """An empty map per model; `axes` name what an axis of each is.

    All share the source `dots`, so that a hover is one in all.
    """
    dots = ColumnDataSource({"word": []}, name="dots")
    return [_map_figure(index, axis, dots) for index, axis in enumerate(axes)]


def _map_figure(index: int, axis: str, dots: ColumnDataSource) -> Any:
    plot = figure(
        name=f"map{index}",
        height=MAP_HEIGHT,
        sizing_mode="stretch_width",
        x_range=Range1d(start=-1, end=1),
        y_range=Range1d(start=-1, end=1),
        tools="pan,wheel_zoom,box_zoom,reset",
        active_drag=None,
        active_scroll=None,
        toolbar_location="above",
        x_axis_label=f"{axis} 1",
        y_axis_label=f"{axis} 2",
    )
    x, y = f"x{index}", f"y{index}"
    dots.add([], x)
    dots.add([], y)
    base = plot.scatter(x, y, source=dots, marker="circle", **DOT)
    for name, look in LOOKS.items():
        source = ColumnDataSource({"x": [], "y": []}, name=f"{name}{index}")
        plot.scatter(
            "x",
            "y",
            source=source,
            line_color=look.get("line_color", "white"),
            **{key: value for key, value in look.items() if key != "line_color"},
        )
    words = ColumnDataSource(
        {"x": [], "y": [], "word": [], "dx": [], "dy": []}, name=f"words{index}"
    )
    plot.text("x", "y", "word", x_offset="dx", y_offset="dy", source=words, **LABEL)
    plot.add_tools(
        HoverTool(renderers=[base], tooltips=None, point_policy="snap_to_data"),
        TapTool(renderers=[base]),
    )
    _finish(plot)
    plot.axis.major_label_text_color = None
    plot.axis.ticker = []
    return plot


def curve_figures(runs: list[Run]) -> list[Any]:
    """Analogy accuracy and loss by epoch, a line per run; a hover gives values and seeds.

    Without any question in the vocabulary, there is no figure of accuracy.
    """
    curves = [
        ("accuracy", "analogies solved (%)", "%", _accuracies),
        ("loss", "loss (nats per example)", "nats", _losses),
    ]
    plots, models = [], by_model(runs)
    for name, label, unit, read in curves:
        plot = _curve_figure(name, label)
        for number, (model, seeds) in enumerate(models.items()):
            look = line_look(style(model, models)) | {"name": f"curve{number}"}
            for run in seeds:
                points = read(run)
                if points:
                    epochs, values = zip(*points, strict=True)
                    line = plot.line(list(epochs), list(values), **look)
                    plot.add_tools(_hover(line, name, unit, run))
        if plot.renderers:
            plots.append(plot)
    return plots


def _hover(line: Any, name: str, unit: str, run: Run) -> HoverTool:
    """What a hover over a line says. One tool per line, since each says other constants."""
    constants = [("model", run.model.label), ("seed", str(run.seed))]
    varying = [("epoch", "@x{0.00}"), (name, f"@y{{0.00}} {unit}")]
    nearest = {"mode": "mouse", "line_policy": "nearest", "visible": False}
    return HoverTool(renderers=[line], tooltips=[*constants, *varying], **nearest)


def _curve_figure(name: str, label: str) -> Any:
    plot = figure(
        name=name,
        height=CURVE_HEIGHT,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,reset",
        active_drag=None,
        toolbar_location="above",
        x_axis_label="epoch",
        y_axis_label=label,
    )
    _finish(plot)
    return plot


def _accuracies(run: Run) -> list[tuple[float, float]]:
    """Epochs with their percentages, where a question was seen."""
    known = [
        (line["epoch"], (line["analogy"].get("total") or {}).get("accuracy"))
        for line in run.evaluations
    ]
    return [(epoch, round(value, 3)) for epoch, value in known if value is not None]


def _losses(run: Run) -> list[tuple[float, float]]:
    every = -(-len(run.progress) // MAX_LOSSES) or 1
    return [(round(line["epoch"], 3), round(line["loss"], 4)) for line in run.progress[::every]]


def line_look(look: dict[str, Any]) -> dict[str, Any]:
    """A line's look in matplotlib as Bokeh says it."""
    return {
        "line_color": matplotlib.colors.to_hex(look["color"]),
        "line_dash": DASHES[look["linestyle"]],
        "line_width": 1.25 * look["linewidth"],
    }


def _finish(plot: Any) -> None:
    """Texts of at least 12 pixels, a pale frame and grid, no logo."""
    plot.axis.axis_label_text_font_size = FONT_SIZE
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.major_label_text_font_size = FONT_SIZE
    plot.outline_line_color = "#bbb"
    plot.toolbar.logo = None
    plot.grid.grid_line_color = "#e8e8e8"
