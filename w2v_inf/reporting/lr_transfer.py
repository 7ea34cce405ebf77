"""Learning-rate transfer: the final loss against width and step size, one map a parametrization.

Decisions:
- A map needs at least two widths and two step sizes of one parametrization. A point is blank if it diverged, was not run, or
  lacks a seed that others have: a mean over the seeds that survived would look too good.
- Colour is nats above the best point of all maps, up to `SPAN`; every cell says its loss as well.
- The best step size of a width is read off a parabola through the lowest point and its neighbours on a log axis: finer than the grid.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from w2v_inf.errors import UserError
from w2v_inf.runs.results import Run

SPAN = 1.0
"""Nats above the best loss at which the colours end."""
COLOURS = "viridis_r"
Cells = dict[tuple[int, float], list[float]]
"""Losses of each seed by width and step size."""


def best_lr(lrs: Sequence[float], losses: np.ndarray) -> float:
    """The step size of the lowest loss; `lrs` ascend, losses [L] may hold nan or infinity.

    Between its neighbours the lowest point is refined by the parabola through the three in log lr; at the grid's end, or beside a
    point without a loss, it is returned as it is.
    """
    lowest = int(np.nanargmin(losses))
    near = slice(lowest - 1, lowest + 2)
    if lowest in (0, len(lrs) - 1) or not np.isfinite(losses[near]).all():
        return lrs[lowest]
    curvature, slope, _ = np.polyfit(np.log(lrs[near]) - math.log(lrs[lowest]), losses[near], 2)
    return lrs[lowest] if curvature <= 0 else lrs[lowest] * math.exp(-slope / (2 * curvature))


def draw_maps(
    names: Sequence[str], widths: Sequence[int], lrs: Sequence[float], losses: np.ndarray
) -> Figure:
    """Maps of `losses` [maps, widths, lrs] with the best step size of each width as a ring, and one colour bar."""
    figure = Figure(
        figsize=(1.8 + 0.8 * len(widths) * len(names), 1.8 + 0.3 * len(lrs)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    lowest = float(np.nanmin(losses))
    norm = Normalize(lowest, lowest + SPAN)
    for axes, name, table in zip(panels, names, losses, strict=True):
        _draw_map(axes, widths, lrs, table, norm)
        axes.set(title=name, xlabel="width n")
    panels[0].set_ylabel("train.lr")
    figure.colorbar(
        ScalarMappable(norm, COLOURS), ax=panels, extend="max", label="loss (nats per example)"
    )
    return figure


def _draw_map(
    axes: Axes, widths: Sequence[int], lrs: Sequence[float], losses: np.ndarray, norm: Normalize
) -> None:
    shown = np.where(np.isfinite(losses), losses, math.nan)
    axes.imshow(
        np.ma.masked_invalid(shown.T), origin="lower", aspect="auto", cmap=COLOURS, norm=norm
    )
    for (x, y), loss in np.ndenumerate(shown):
        text = "" if math.isnan(loss) else f"{loss:.2f}" if loss < 100 else ">100"
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=7,
            color="white" if norm(loss) > 0.5 else "black",
        )
    places = [x for x, row in enumerate(shown) if not np.isnan(row).all()]
    best = [
        np.interp(math.log(best_lr(lrs, shown[x])), np.log(lrs), np.arange(len(lrs)))
        for x in places
    ]
    axes.plot(
        places,
        best,
        "o--",
        color="#d6604d",
        markerfacecolor="none",
        markersize=15,
        markeredgewidth=1.5,
    )
    axes.set_xticks(range(len(widths)), [f"{width:,}" for width in widths])
    axes.set_yticks(range(len(lrs)), [f"{lr:.3g}" for lr in lrs])


def plot_transfer(runs: list[Run]) -> tuple[Figure, str]:
    """Maps of the last epoch's loss of the finite nets among `runs`, which differ in width, parametrization, seed and train.lr only.

    Raises: UserError if no parametrization has two widths and two step sizes.
    """
    losses: dict[str, Cells] = {}
    for run in runs:
        if run.model.rank == 1:
            cells = losses.setdefault(run.model.variant or "mup", {})
            cells.setdefault((run.model.width, run.config.train.lr), []).append(
                run.number("loss_nats")
            )
    maps = {name: cells for name, cells in losses.items() if min(map(len, _axes_of(cells))) > 1}
    if not maps:
        raise UserError(
            "plot.figure=transfer needs nets of two widths and two train.lr at least, of one parametrization: "
            "sweep both, as conf/experiment/figure-transfer.yaml does"
        )
    widths, lrs = _axes_of(
        {point: cell for cells in maps.values() for point, cell in cells.items()}
    )
    seeds = max(len(cell) for cells in maps.values() for cell in cells.values())
    tables = [
        [[_mean(cells.get((n, lr), []), seeds) for lr in lrs] for n in widths]
        for cells in maps.values()
    ]
    figure = draw_maps(list(maps), widths, lrs, np.array(tables))
    figure.suptitle("Loss by width and step size")
    epochs, title = runs[0].summary["epochs"], runs[0].group.title
    return figure, (
        f"Loss of the last epoch; rings: the best step size of each width. Colours end {SPAN:g} nat above the best loss; blank: diverged, "
        f"or not run. {title}; {epochs} {'epoch' if epochs == 1 else 'epochs'}; {seeds} {'seed' if seeds == 1 else 'seeds'} a point."
    )


def _axes_of(cells: Cells) -> tuple[list[int], list[float]]:
    """Widths and step sizes, ascending."""
    return sorted({width for width, _ in cells}), sorted({lr for _, lr in cells})


def _mean(losses: list[float], seeds: int) -> float:
    return float(np.mean(losses)) if len(losses) == seeds else math.nan
