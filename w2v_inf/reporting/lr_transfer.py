"""Learning-rate transfer: maps of the final loss by width and learning rate, per parametrization.

Decisions:
- A map needs at least two widths and two learning rates of one parametrization.
- A cell is blank if its training diverged or was not run, or if it lacks a seed that others have.
  The mean of the seeds that survived would look too good.
- The colour is nats above the best cell of all maps, up to `COLOUR_RANGE`; each cell says its loss.
- The best learning rate of a width is the minimum of a parabola through the lowest point and its
  neighbours on a log axis. That is finer than the grid.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from w2v_inf.errors import UserError
from w2v_inf.reporting.style import RED, SMALL
from w2v_inf.runs.results import Run

COLOUR_RANGE = 1.0
"""Nats above the best loss at which the colours end."""
COLOUR_MAP = "viridis_r"
Cells = dict[tuple[int, float], list[float]]
"""Losses of the seeds, by width and learning rate."""


def best_lr(lrs: Sequence[float], losses: np.ndarray) -> float:
    """The learning rate of the lowest loss, refined by a parabola in log lr.

    At an end of the grid, or beside a point without a loss, the lowest point itself is returned.

    Args:
      lrs: learning rates, ascending.
      losses: [len(lrs)]; nan or infinity where there is no loss.
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
    """Maps of `losses`, [maps, widths, lrs]; rings mark the best learning rate of each width."""
    size = (1.8 + 0.8 * len(widths) * len(names), 1.8 + 0.3 * len(lrs))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    lowest = float(np.nanmin(losses))
    norm = Normalize(lowest, lowest + COLOUR_RANGE)
    for axes, name, table in zip(panels, names, losses, strict=True):
        _draw_map(axes, widths, lrs, table, norm)
        axes.set(title=name, xlabel="width n")
    panels[0].set_ylabel("learning rate (train.lr)")
    colours = ScalarMappable(norm, COLOUR_MAP)
    figure.colorbar(colours, ax=panels, extend="max", label="loss (nats per example)")
    return figure


def _draw_map(
    axes: Axes, widths: Sequence[int], lrs: Sequence[float], losses: np.ndarray, norm: Normalize
) -> None:
    shown = np.where(np.isfinite(losses), losses, math.nan)
    image = np.ma.masked_invalid(shown.T)
    axes.imshow(image, origin="lower", aspect="auto", cmap=COLOUR_MAP, norm=norm)
    for (x, y), loss in np.ndenumerate(shown):
        text = "" if math.isnan(loss) else f"{loss:.2f}" if loss < 100 else ">100"
        colour = "white" if norm(loss) > 0.5 else "black"
        axes.text(x, y, text, ha="center", va="center", fontsize=SMALL, color=colour)
    known = [x for x, row in enumerate(shown) if not np.isnan(row).all()]
    best = [math.log(best_lr(lrs, shown[x])) for x in known]
    y = np.interp(best, np.log(lrs), np.arange(len(lrs)))
    ring = {"markerfacecolor": "none", "markersize": 15, "markeredgewidth": 1.5}
    axes.plot(known, y, "o--", color=RED, **ring)
    axes.set_xticks(range(len(widths)), [f"{width:,}" for width in widths])
    axes.set_yticks(range(len(lrs)), [f"{lr:.3g}" for lr in lrs])


def plot_transfer(runs: list[Run]) -> tuple[Figure, str]:
    """Maps of the last epoch's loss of the finite networks among `runs`.

    The runs differ in width, parametrization, seed and train.lr only.

    Raises: UserError if no parametrization has two widths and two learning rates.
    """
    losses: dict[str, Cells] = {}
    for run in runs:
        if run.model.kind == "finite":
            cells = losses.setdefault(run.model.variant or "mup", {})
            point = run.model.width, run.config.train.lr
            cells.setdefault(point, []).append(run.number("loss_nats"))
    maps = {name: cells for name, cells in losses.items() if min(map(len, _axes_of([cells]))) > 1}
    if not maps:
        raise UserError(
            "plot.figure=transfer needs networks of one parametrization with at least two widths "
            "and two train.lr: sweep both, as conf/experiment/figure-transfer.yaml does"
        )
    widths, lrs = _axes_of(maps.values())
    num_seeds = max(len(cell) for cells in maps.values() for cell in cells.values())
    tables = [
        [[_mean(cells.get((width, lr), []), num_seeds) for lr in lrs] for width in widths]
        for cells in maps.values()
    ]
    figure = draw_maps(list(maps), widths, lrs, np.array(tables))
    figure.suptitle("Loss by width and learning rate")
    epochs, title = runs[0].summary.epochs, runs[0].group.title
    facts = [
        title,
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'}",
        f"{num_seeds} {'seed' if num_seeds == 1 else 'seeds'} per cell",
    ]
    note = "Loss of the last epoch; rings: best learning rate per width"
    blank = f"Colours end {COLOUR_RANGE:g} nat above the best loss; blank: diverged, or not run"
    return figure, f"{note}. {blank}. {'; '.join(facts)}."


def _axes_of(maps: Iterable[Cells]) -> tuple[list[int], list[float]]:
    """Widths and learning rates of all cells, ascending."""
    points = [point for cells in maps for point in cells]
    return sorted({width for width, _ in points}), sorted({lr for _, lr in points})


def _mean(losses: list[float], num_seeds: int) -> float:
    return float(np.mean(losses)) if len(losses) == num_seeds else math.nan
