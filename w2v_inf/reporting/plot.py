"""Stage 4: which figures are drawn from which runs, and where their files go."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.figure import Figure

from w2v_inf.config import Config
from w2v_inf.config import Figure as FigureName
from w2v_inf.errors import UserError
from w2v_inf.reporting.curves import plot_accuracy, plot_loss, plot_sections, plot_width
from w2v_inf.reporting.findings import format_table
from w2v_inf.reporting.lr_transfer import plot_transfer
from w2v_inf.reporting.pca import plot_pca, plot_vectors
from w2v_inf.reporting.style import Drawing, save
from w2v_inf.runs.results import (
    Group,
    Run,
    find_runs,
    folders_to_read,
    group_runs,
    group_titles,
    shared_folder,
)

log = logging.getLogger(__name__)

Plot = Callable[[list[Run]], tuple[Figure, str]]
FIGURES: dict[str, Plot] = {
    "width": plot_width,
    "accuracy": plot_accuracy,
    "pca": plot_pca,
    "loss": plot_loss,
    "sections": plot_sections,
}
SWEEPS: dict[str, tuple[str, Plot]] = {"transfer": ("train.lr", plot_transfer)}
"""Figures across groups that differ in one option: that option and the function."""


def draw(runs: list[Run], names: Iterable[str] = FIGURES) -> list[Drawing]:
    """Draw the figures `names` of every group in `runs`.

    A figure that cannot be drawn is left out with a line in the log.

    Raises: UserError if no figure can be drawn.
    """
    drawings, refusals = [], []
    for swept_option, figures in _by_swept_option(names).items():
        groups = group_runs(runs, swept_option)
        titles = group_titles(groups)
        for group, stem in zip(groups, _file_stems(list(groups)), strict=True):
            for name, plot_figure in figures.items():
                try:
                    figure, caption = plot_figure(groups[group])
                    drawings.append(Drawing(f"{name}{stem}", titles[group], figure, caption))
                except UserError as error:
                    refusals.append(str(error))
                    log.warning("%s: not drawn: %s", titles[group], error)
    if not drawings:
        raise UserError(refusals[0] if refusals else "plot.runs holds no finished run")
    return drawings


def _by_swept_option(names: Iterable[str]) -> dict[str, dict[str, Plot]]:
    """The figures `names` by the option in which their runs may differ; "" stands for none."""
    figures: dict[str, dict[str, Plot]] = {}
    for name in names:
        swept_option, plot_figure = SWEEPS[name] if name in SWEEPS else ("", FIGURES[name])
        figures.setdefault(swept_option, {})[name] = plot_figure
    return figures


def _file_stems(groups: list[Group]) -> list[str]:
    """What tells the files of one group from another's: nothing if there is one group."""
    if len(groups) == 1:
        return [""]
    stems = [f"-{group.corpus}-{group.architecture}-{group.vocab_size}" for group in groups]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{stems[: i + 1].count(stem)}"
        for i, stem in enumerate(stems)
    ]


def plot_stage(config: Config) -> None:
    """Stage 4: figures of the runs in `plot.runs`, then the table of these runs."""
    plot(config)
    if not config.evaluate.vectors:
        print(f"\n{format_table(find_runs(folders_to_read(config)))}")


def plot(config: Config) -> list[Path]:
    """Draw `plot.figure` from `plot.runs` into `plot.out`, one figure per group; prints the paths.

    With `evaluate.vectors` only the PCA map of that file or folder is drawn, by default beside it.
    """
    if config.evaluate.vectors:
        file = Path(os.path.abspath(config.evaluate.vectors))
        paths = save(plot_vectors(file), config.plot.out or file.parent, f"pca-{file.stem}")
    else:
        folders = folders_to_read(config)
        figure = config.plot.figure
        names = list(FIGURES) if figure is FigureName.all else [figure.value]
        out = Path(config.plot.out) if config.plot.out else shared_folder(folders) / "figures"
        drawings = draw(find_runs(folders), names)
        paths = [path for drawing in drawings for path in save(drawing.figure, out, drawing.name)]
    for path in paths:
        print(path)
    return paths
